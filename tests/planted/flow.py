"""Wrong couplings, repulsions and descents."""

from dataclasses import replace

import numpy as np

import ebm_ref


def cost_is_not_squared(x0, x1):
    return np.sqrt(ebm_ref.coupling_cost(x0, x1))


def cost_by_products(x0, x1):
    """|a|^2 + |b|^2 - 2 a.b: what is near is lost, and may be below 0."""
    a, b = (np.ascontiguousarray(x).reshape(len(x), -1) for x in (x0, x1))
    return (a * a).sum(1)[:, None] + (b * b).sum(1) - 2 * (a @ b.T)


def cost_the_other_way(x0, x1):
    return np.ascontiguousarray(ebm_ref.coupling_cost(x0, x1).T)


def cost_of_the_first_tile(x0, x1):
    C = ebm_ref.coupling_cost(x0, x1)
    C[:, 16:] = C[:, :1]
    return C


def assign_greedily(cost):
    """Row by row, the cheapest datum that is left."""
    idx, C = np.empty(len(cost), np.int64), cost.astype(np.float64)
    for i in range(len(C)):
        idx[i] = np.argmin(C[i])
        C[:, idx[i]] = np.inf
    return idx


def assign_with_replacement(cost):
    return np.argmin(cost, axis=1)


def assign_the_inverse(cost):
    return np.argsort(ebm_ref.coupling_assign(cost))


def repulsion_of_all(x, tau, sigma):
    """The mean over all groups."""
    W, push = ebm_ref.repulsion(x, tau, sigma)
    strength = 2 * tau * x.shape[1] / sigma**2
    return W, (-strength * (x - x.mean(axis=(0, 1)))).astype(x.dtype)


def repulsion_counts_pairs_twice(x, tau, sigma):
    W, push = ebm_ref.repulsion(x, tau, sigma)
    return W + W, push


def repulsion_attracts(x, tau, sigma):
    W, push = ebm_ref.repulsion(x, tau, sigma)
    return W, -push


def repulsion_leaves_one_alone(x, tau, sigma):
    """The last copy feels nothing."""
    W, push = ebm_ref.repulsion(x, tau, sigma)
    push[:, -1] = 0
    return W, push


def descent_of_the_mean(energy, theta, x0, K, rule, g_min=0.0, state=None):
    """The gradient of the batch's mean: a share of each sample's own."""
    return ebm_ref.descent_run(energy, theta, x0, K, replace(rule, eta=rule.eta / len(x0)), g_min, state)


def descent_keeps_the_velocity(energy, theta, x0, K, rule, g_min=0.0, state=None):
    """A sample that has stopped keeps its velocity, and so moves again when the run goes on."""
    x, after, info = ebm_ref.descent_run(energy, theta, x0, K, rule, g_min, state)
    if "velocity" in after:
        after["velocity"][info.extra["stopped"]] = 0.125
    return x, after, info


def descent_moves_once_more(energy, theta, x0, K, rule, g_min=0.0, state=None):
    """A sample whose gradient is small takes the step before it stops."""
    x, after, info = ebm_ref.descent_run(energy, theta, x0, K, rule, g_min, state)
    more, _, _ = ebm_ref.descent_run(energy, theta, x, 1, ebm_ref.GradientDescent(rule.eta))
    where = info.extra["stopped"].reshape(-1, *[1] * (x.ndim - 1))
    return np.where(where, more, x), after, info


def descent_starts_adam_again(energy, theta, x0, K, rule, g_min=0.0, state=None):
    """Bias is corrected as on the first step, whatever step it is."""
    again = state | {"t": np.zeros((), np.int64)} if state and "t" in state else state
    return ebm_ref.descent_run(energy, theta, x0, K, rule, g_min, again)


def descent_counts_all(energy, theta, x0, K, rule, g_min=0.0, state=None):
    """nfe counts what a stopped sample was not asked for."""
    x, after, info = ebm_ref.descent_run(energy, theta, x0, K, rule, g_min, state)
    info.extra["nfe"][:] = K
    return x, after, info


def descent_one_step_more(energy, theta, x0, K, rule, g_min=0.0, state=None):
    """The loop runs to K inclusive."""
    x, after, _ = ebm_ref.descent_run(energy, theta, x0, K + 1, rule, g_min, state)
    return x, after, ebm_ref.descent_run(energy, theta, x0, K, rule, g_min, state)[2]


def descent_of_its_own(energy, theta, x0, K, rule, g_min=0.0, state=None):
    """Twice the step where the energy or field is a network that it knows."""
    known = isinstance(energy, (ebm_ref.MLPEnergy, ebm_ref.ConvEnergy, ebm_ref.MLPField, ebm_ref.ConvField))
    twice = replace(rule, eta=2 * rule.eta) if known else rule
    return ebm_ref.descent_run(energy, theta, x0, K, twice, g_min, state)
