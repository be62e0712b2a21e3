"""Laws that need no oracle: what must hold whatever the numbers are. Each raises `Failure` and says which law.

A law is handed a `Trial`: one case, the function under test, what it returned and how wrong each result
may be. Partner functions (the forward of a backward) come from the same backend where it has them.
"""

from __future__ import annotations

from collections.abc import Callable

from .buffer import every_slot_is_drawn, last_of_equals_wins, restarts_are_fresh, two_pushes_are_one
from .classifier import (
    class_gradients_are_slopes,
    constant_shifts_the_marginal,
    logits_are_negative_energies,
    logits_backward_sums_over_classes,
    marginal_gradient_is_the_mean_of_the_classes,
    marginal_lies_below_every_class,
)
from .energies import gradients_are_slopes, samples_are_their_own
from .fields import along_nothing_is_the_gradient, field_derivatives_are_slopes, jacobian_has_one_transpose
from .flow import (
    a_pair_costs_what_it_costs,
    a_sample_goes_its_own_way,
    any_energy_descends,
    cost_is_a_distance,
    each_datum_is_taken_once,
    forces_add_to_nothing,
    no_exchange_is_cheaper,
    no_steps_stay,
    who_has_stopped_stays,
)
from .langevin import a_long_gradient_is_cut, nan_is_not_hidden, no_noise_is_descent, stays_in_the_box
from .langevin_run import (
    a_stopped_chain_is_where_it_was,
    any_energy_will_do,
    chains_are_their_own,
    no_steps_return_the_start,
    sick_chains_stop,
    steps_add_up,
)
from .layers import conv2d_is_adjoint, group_norm_is_adjoint, group_norm_is_standard
from .noise import (
    chains_have_addresses,
    counters_are_their_own,
    each_number_stands_once,
    every_index_has_its_share,
    uniforms_are_positive,
    words_are_in_order,
    words_are_known,
)
from .trial import Trial

FIELD = (
    samples_are_their_own,
    jacobian_has_one_transpose,
    along_nothing_is_the_gradient,
    field_derivatives_are_slopes,
)
LAWS: dict[str, tuple[Callable[[Trial], None], ...]] = {
    "noise_philox": (words_are_known, counters_are_their_own),
    "noise_bits": (chains_have_addresses,),
    "noise_uniform": (chains_have_addresses, uniforms_are_positive),
    "noise_normal": (chains_have_addresses,),
    "noise_index": (every_index_has_its_share,),
    "noise_permutation": (each_number_stands_once, words_are_in_order),
    "langevin_step": (no_noise_is_descent, a_long_gradient_is_cut, stays_in_the_box, nan_is_not_hidden),
    "langevin_jitter": (stays_in_the_box, nan_is_not_hidden),
    "langevin_run": (
        no_steps_return_the_start,
        steps_add_up,
        chains_are_their_own,
        any_energy_will_do,
        a_stopped_chain_is_where_it_was,
        sick_chains_stop,
    ),
    "buffer_draw": (every_slot_is_drawn, restarts_are_fresh),
    "buffer_push": (two_pushes_are_one, last_of_equals_wins),
    "conv2d_backward": (conv2d_is_adjoint,),
    "group_norm_forward": (group_norm_is_standard,),
    "group_norm_backward": (group_norm_is_adjoint,),
    "conv_energy": (samples_are_their_own, gradients_are_slopes),
    "mlp_energy": (samples_are_their_own, gradients_are_slopes),
    "deep_conv_energy": (samples_are_their_own, gradients_are_slopes),
    "classifier_energy": (
        samples_are_their_own,
        gradients_are_slopes,
        class_gradients_are_slopes,
        logits_are_negative_energies,
        marginal_lies_below_every_class,
        constant_shifts_the_marginal,
        marginal_gradient_is_the_mean_of_the_classes,
        logits_backward_sums_over_classes,
    ),
    "mlp_field": FIELD,
    "conv_field": FIELD,
    "field_energy": (samples_are_their_own, gradients_are_slopes),
    "descent_run": (no_steps_stay, a_sample_goes_its_own_way, who_has_stopped_stays, any_energy_descends),
    "coupling_cost": (cost_is_a_distance, a_pair_costs_what_it_costs),
    "coupling_assign": (each_datum_is_taken_once, no_exchange_is_cheaper),
    "repulsion": (forces_add_to_nothing,),
}
