"""Right functions pass the kit, and each planted bug fails it."""

import numpy as np
import planted
import pytest

from ebm_fast import verify
from ebm_fast.verify.close import Failure
from ebm_fast.verify.judge import judge

PLANTED = [
    ("langevin_step", planted.langevin.step_noise_too_loud),
    ("langevin_step", planted.langevin.step_climbs),
    ("langevin_step", planted.langevin.step_clips_the_move),
    ("langevin_step", planted.langevin.step_box_before_noise),
    ("langevin_step", planted.langevin.step_noise_in_the_gradient),
    ("langevin_step", planted.langevin.step_clip_shrinks_small),
    ("langevin_step", planted.langevin.step_norm_of_the_batch),
    ("langevin_step", planted.langevin.step_norm_before_clip),
    ("langevin_step", planted.langevin.step_replaces_nan),
    ("langevin_step", planted.langevin.step_in_place),
    ("langevin_step", planted.langevin.step_widens),
    ("langevin_step", planted.langevin.step_norm_of_squares),
    ("langevin_step", planted.langevin.step_hands_back_its_input),
    ("langevin_step", planted.langevin.step_in_half_precision),
    ("langevin_step", planted.langevin.step_in_single),
    ("langevin_jitter", planted.langevin.jitter_unboxed),
    ("langevin_run", planted.langevin.run_same_noise),
    ("langevin_run", planted.langevin.run_seed_plus_step),
    ("langevin_run", planted.langevin.run_by_position),
    ("langevin_run", planted.langevin.run_one_order),
    ("langevin_run", planted.langevin.run_replaces_nan),
    ("langevin_run", planted.langevin.run_stops_together),
    ("langevin_run", planted.langevin.run_one_step_more),
    ("langevin_run", planted.langevin.run_half_a_step),
    ("langevin_run", planted.langevin.run_forgets_the_stream),
    ("langevin_run", planted.langevin.run_revives),
    ("noise_philox", planted.noise.philox_with_a_digit_off),
    ("noise_philox", planted.noise.philox_of_nine_rounds),
    ("noise_philox", planted.noise.philox_of_the_first_counter),
    ("noise_index", planted.noise.index_by_remainder),
    ("noise_index", planted.noise.index_in_double),
    ("noise_index", planted.noise.index_up_to_n),
    ("noise_permutation", planted.noise.permutation_turns_equals_round),
    ("noise_permutation", planted.noise.permutation_of_a_heap),
    ("noise_permutation", planted.noise.permutation_is_the_rank),
    ("noise_permutation", planted.noise.permutation_with_gaps),
    ("noise_bits", planted.noise.bits_one_block_each),
    ("noise_bits", planted.noise.bits_half_the_key),
    ("noise_bits", planted.noise.bits_by_position),
    ("noise_bits", planted.noise.bits_step_in_the_seed),
    ("noise_bits", planted.noise.bits_short_rows),
    ("noise_uniform", planted.noise.uniform_may_be_zero),
    ("noise_normal", planted.noise.normal_swapped),
    ("noise_normal", planted.noise.normal_half_circle),
    ("buffer_draw", planted.buffer.draw_mask_from_index),
    ("buffer_draw", planted.buffer.draw_leaves_out_the_tail),
    ("buffer_draw", planted.buffer.draw_from_empty_slots),
    ("buffer_draw", planted.buffer.draw_jitters_the_old),
    ("buffer_draw", planted.buffer.draw_restarts_at_a_tie),
    ("buffer_push", planted.buffer.push_first_wins),
    ("buffer_push", planted.buffer.push_from_slot_zero),
    ("buffer_push", planted.buffer.push_reservoir_off_by_one),
    ("conv2d_forward", planted.layers.conv_pads_both_sides),
    ("conv2d_forward", planted.layers.conv_flips_the_filter),
    ("conv2d_forward", planted.layers.conv_forgets_the_bias),
    ("conv2d_forward", planted.layers.conv_reads_past_strides),
    ("conv2d_forward", planted.layers.conv_in_single),
    ("conv2d_backward", planted.layers.backward_flips_dw),
    ("conv2d_backward", planted.layers.backward_leaves_out_the_last_row),
    ("conv2d_backward", planted.layers.backward_averages),
    ("group_norm_forward", planted.layers.norm_unbiased),
    ("group_norm_forward", planted.layers.norm_without_eps),
    ("group_norm_forward", planted.layers.norm_eps_outside),
    ("group_norm_forward", planted.layers.norm_one_pass),
    ("group_norm_forward", planted.layers.norm_interleaves_groups),
    ("group_norm_forward", planted.layers.norm_over_the_batch),
    ("group_norm_backward", planted.layers.norm_backward_fixed_statistics),
    ("group_norm_backward", planted.layers.norm_backward_forgets_the_slope),
    ("mlp_energy", planted.energies.MeanOverBatch),
    ("mlp_energy", planted.energies.ColumnEnergy),
    ("mlp_energy", planted.energies.AscentGradient),
    ("mlp_energy", planted.energies.NoisyEnergy),
    ("mlp_energy", planted.energies.HalfCurvature),
    ("mlp_energy", planted.energies.CentredBatch),
    ("mlp_energy", planted.energies.FirstTile),
    ("conv_energy", planted.energies.SumPool),
    ("conv_energy", planted.energies.IgnoresWeights),
    ("deep_conv_energy", planted.energies.LeavesOutTheSkip),
    ("deep_conv_energy", planted.energies.NormOfChannels),
    ("classifier_energy", planted.classifiers.NoMaximum),
    ("classifier_energy", planted.classifiers.NoLogarithm),
    ("classifier_energy", planted.classifiers.SoftmaxOfMinusF),
    ("classifier_energy", planted.classifiers.FixedPosterior),
    ("classifier_energy", planted.classifiers.MeanOverClasses),
    ("classifier_energy", planted.classifiers.Temperature),
    ("classifier_energy", planted.classifiers.NextLabel),
    ("classifier_energy", planted.classifiers.FirstLabel),
    ("classifier_energy", planted.classifiers.MarginalSlope),
    ("classifier_energy", planted.classifiers.LogitsOfEnergies),
    ("classifier_energy", planted.classifiers.OneGradientForTwo),
    ("classifier_energy", planted.classifiers.FeaturesOfUnitLength),
    ("mlp_field", planted.fields.TransposedJacobian),
    ("mlp_field", planted.fields.SecondOrderForgotten),
    ("mlp_field", planted.fields.MeanOverBatch),
    ("conv_field", planted.fields.ForgetsTheLastBias),
    ("conv_field", planted.fields.EveryOtherPixel),
    ("field_energy", planted.fields.RawField),
    ("field_energy", planted.fields.NormWithoutHalf),
    ("field_energy", planted.fields.OtherSign),
    ("coupling_cost", planted.flow.cost_is_not_squared),
    ("coupling_cost", planted.flow.cost_by_products),
    ("coupling_cost", planted.flow.cost_the_other_way),
    ("coupling_cost", planted.flow.cost_of_the_first_tile),
    ("coupling_assign", planted.flow.assign_greedily),
    ("coupling_assign", planted.flow.assign_with_replacement),
    ("coupling_assign", planted.flow.assign_the_inverse),
    ("repulsion", planted.flow.repulsion_of_all),
    ("repulsion", planted.flow.repulsion_counts_pairs_twice),
    ("repulsion", planted.flow.repulsion_attracts),
    ("repulsion", planted.flow.repulsion_leaves_one_alone),
    ("descent_run", planted.flow.descent_of_the_mean),
    ("descent_run", planted.flow.descent_keeps_the_velocity),
    ("descent_run", planted.flow.descent_moves_once_more),
    ("descent_run", planted.flow.descent_starts_adam_again),
    ("descent_run", planted.flow.descent_counts_all),
    ("descent_run", planted.flow.descent_one_step_more),
    ("descent_run", planted.flow.descent_of_its_own),
]

SINGLE_ONLY = ("step_widens", "step_norm_of_squares")  # right in float64: wide enough, or the input itself is


@pytest.mark.parametrize(("name", "wrong"), PLANTED, ids=[wrong.__name__ for _, wrong in PLANTED])
def test_check__rejects_planted_bug(name, wrong):
    dtype = np.float32 if wrong.__name__ in SINGLE_ONLY else np.float64
    report = verify.check(wrong, name, dtype=dtype, cases=100)
    assert report.status == "fail"
    assert wrong.__name__ in report.why and name in report.why
    with pytest.raises(Failure):
        report.raise_if_failed()
    with pytest.raises(Failure):  # the case that it hands over does fail
        judge(report.case, wrong, dtype=dtype)


def test_planted__scaffolds_are_right_but_for_their_bug():
    """With the right address the same scaffold passes: it is the planted line that fails."""

    def right(energy, theta, x0, K, update, seed, step=0, chains=None, stream=7):
        def address(k, ids):
            return seed, step + k, ids

        return planted.langevin.run_with(energy, theta, x0, K, update, seed, step, chains, stream, address=address)

    assert verify.check(right, "langevin_run", dtype=np.float64, cases=15).status == "pass"
    assert verify.check(planted.langevin.step_right, "langevin_step", cases=50).status == "pass"
