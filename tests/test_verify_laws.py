"""The laws: each alone, without the oracle's results, sees a planted bug."""

from types import SimpleNamespace

import numpy as np
import planted
import pytest

import ebm_ref
from ebm_fast.verify import laws
from ebm_fast.verify.case import export
from ebm_fast.verify.close import Failure, references
from ebm_fast.verify.judge import search

BROKEN_LAWS = [
    (laws.chains_have_addresses, "noise_bits", planted.noise.bits_by_position),
    (laws.words_are_known, "noise_philox", planted.noise.philox_with_a_digit_off),
    (laws.counters_are_their_own, "noise_philox", planted.noise.philox_of_the_first_counter),
    (laws.every_index_has_its_share, "noise_index", planted.noise.index_by_remainder),
    (laws.every_index_has_its_share, "noise_index", planted.noise.index_up_to_n),
    (laws.each_number_stands_once, "noise_permutation", planted.noise.permutation_with_gaps),
    (laws.words_are_in_order, "noise_permutation", planted.noise.permutation_turns_equals_round),
    (laws.words_are_in_order, "noise_permutation", planted.noise.permutation_is_the_rank),
    (laws.uniforms_are_positive, "noise_uniform", lambda *args, dtype: np.zeros((len(args[3]), args[4]), dtype)),
    (laws.no_noise_is_descent, "langevin_step", planted.langevin.step_climbs),
    (laws.stays_in_the_box, "langevin_step", planted.langevin.step_box_before_noise),
    (laws.nan_is_not_hidden, "langevin_step", planted.langevin.step_replaces_nan),
    (laws.no_steps_return_the_start, "langevin_run", planted.langevin.run_one_step_more),
    (laws.steps_add_up, "langevin_run", planted.langevin.run_same_noise),
    (laws.chains_are_their_own, "langevin_run", planted.langevin.run_by_position),
    (laws.sick_chains_stop, "langevin_run", planted.langevin.run_stops_together),
    (laws.every_slot_is_drawn, "buffer_draw", planted.buffer.draw_leaves_out_the_tail),
    (laws.restarts_are_fresh, "buffer_draw", planted.buffer.draw_jitters_the_old),
    (laws.two_pushes_are_one, "buffer_push", planted.buffer.push_from_slot_zero),
    (laws.last_of_equals_wins, "buffer_push", planted.buffer.push_first_wins),
    (laws.conv2d_is_adjoint, "conv2d_backward", planted.layers.backward_flips_dw),
    (laws.group_norm_is_adjoint, "group_norm_backward", planted.layers.norm_backward_fixed_statistics),
    (laws.group_norm_is_standard, "group_norm_forward", planted.layers.norm_unbiased),
    (laws.samples_are_their_own, "mlp_energy", planted.energies.CentredBatch),
    (laws.gradients_are_slopes, "mlp_energy", planted.energies.HalfCurvature),
    (laws.gradients_are_slopes, "mlp_energy", planted.energies.AscentGradient),
    (laws.class_gradients_are_slopes, "classifier_energy", planted.classifiers.MarginalSlope),
    (laws.logits_are_negative_energies, "classifier_energy", planted.classifiers.LogitsOfEnergies),
    (laws.marginal_lies_below_every_class, "classifier_energy", planted.classifiers.MeanOverClasses),
    (laws.constant_shifts_the_marginal, "classifier_energy", planted.classifiers.Temperature),
    (laws.marginal_gradient_is_the_mean_of_the_classes, "classifier_energy", planted.classifiers.SoftmaxOfMinusF),
    (laws.logits_backward_sums_over_classes, "classifier_energy", planted.classifiers.OneGradientForTwo),
    (laws.samples_are_their_own, "classifier_energy", planted.classifiers.FirstLabel),
    (laws.gradients_are_slopes, "classifier_energy", planted.classifiers.FixedPosterior),
    (laws.jacobian_has_one_transpose, "mlp_field", planted.fields.TransposedJacobian),
    (laws.jacobian_has_one_transpose, "conv_field", planted.fields.EveryOtherPixel),
    (laws.along_nothing_is_the_gradient, "mlp_field", planted.fields.MeanOverBatch),
    (laws.field_derivatives_are_slopes, "mlp_field", planted.fields.SecondOrderForgotten),
    (laws.field_derivatives_are_slopes, "conv_field", planted.fields.ForgetsTheLastBias),
    (laws.samples_are_their_own, "mlp_field", planted.fields.MeanOverBatch),
    (laws.gradients_are_slopes, "field_energy", planted.fields.RawField),
    (laws.cost_is_a_distance, "coupling_cost", planted.flow.cost_by_products),
    (laws.a_pair_costs_what_it_costs, "coupling_cost", planted.flow.cost_of_the_first_tile),
    (laws.each_datum_is_taken_once, "coupling_assign", planted.flow.assign_with_replacement),
    (laws.no_exchange_is_cheaper, "coupling_assign", planted.flow.assign_greedily),
    (laws.forces_add_to_nothing, "repulsion", planted.flow.repulsion_leaves_one_alone),
    (laws.no_steps_stay, "descent_run", planted.flow.descent_one_step_more),
    (laws.a_sample_goes_its_own_way, "descent_run", planted.flow.descent_of_the_mean),
    (laws.who_has_stopped_stays, "descent_run", planted.flow.descent_keeps_the_velocity),
    (laws.any_energy_descends, "descent_run", planted.flow.descent_of_its_own),
]
SLOW = ("conv_field", "field_energy", "descent_run")  # of the oracle; a planted bug shows in the first cases


@pytest.mark.parametrize(("law", "name", "wrong"), BROKEN_LAWS, ids=[law.__name__ for law, _, _ in BROKEN_LAWS])
def test_law__fails_without_any_oracle_s_result(law, name, wrong):
    """Each law alone, with no result compared to the oracle's, rejects a planted bug and lets the oracle pass."""

    def trial(fn):
        def judge_by_law(case):
            budget = references(case, np.float64)[1]
            with np.errstate(all="ignore"):
                law(laws.Trial(case, fn, ebm_ref, case.run(fn), budget, np.float64))
            return 0.0

        return search(name, np.float64, judge_by_law, 10 if name in SLOW else 40, 0).failure

    assert law in laws.LAWS[name]
    assert str(trial(wrong)).startswith("law: ")
    assert trial(getattr(ebm_ref, export(name))) is None


def test_check_cd__sees_a_step_too_many():
    assert laws.contrastive.check_cd(ebm_ref, np.float64)[1] == 16
    wrong = SimpleNamespace(**(vars(ebm_ref) | {"langevin_run": planted.langevin.run_one_step_more}))
    with pytest.raises(Failure, match="CD without steps has loss 0"):
        laws.contrastive.check_cd(wrong, np.float64)
