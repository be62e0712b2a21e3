"""Evaluation: bounds of log Z, densities that integrate to one, scores and distances."""

from __future__ import annotations

from math import log, log2, pi
from typing import Any

import numpy as np

import ebm_ref
from ebm_ref.contracts import Array, NonFiniteError, RangeError
from ebm_ref.evaluation import Estimate

from .metropolis_bugs import accept_means_stay
from .parts import gaussian, normals, uniforms
from .table import Function, check_of, mutant_of, refused

LOG_Z = 2 * log(2 * pi)  # of |x|^2 / 2 in four dimensions
BETAS = ebm_ref.beta_ladder(10)
WIDE = ebm_ref.GaussianBase(np.zeros(4), 2 * np.eye(4))

# ------------------------------------------------------------------------------------------ checks


@check_of("ais_reverse_run", want=np.inf, allowed=0.0)
def reverse_annealing_claims_no_bound(fn: Function) -> float:
    """|x|^2 / 2 in 4 dimensions, starts from N(0, 3^2 I), which are no exact draws: the upper bound that is claimed."""
    move = ebm_ref.MALATransition(steps=1, eps_step=0.2)
    run = fn(ebm_ref, *gaussian(1.0, (4,)), WIDE, ebm_ref.beta_ladder(25), 3 * normals(1, 0, 400, 4), move, 2)
    return run.mean_log_w.value if run.bound == "upper" else np.inf


@check_of("ais_run", want=0.5 * log(pi), allowed=0.06)
def annealing_finds_log_z(fn: Function) -> float:
    """E = x^2 from N(0, 1), 10 temperatures: log Z = log(pi) / 2 (2,000 chains)."""
    move = ebm_ref.HMCTransition(steps=3, h=0.5, L=2)
    return fn(ebm_ref, *gaussian(2.0), ebm_ref.NormalBase(), BETAS, 2000, move, 3).log_mean_w.value


@check_of("log_z_bracket", want=1.0, allowed=0.0)
def bracket_needs_an_upper_bound(fn: Function) -> float:
    """a reverse run from the ends of the forward run is no upper bound: 1 where it is refused."""
    move = ebm_ref.MALATransition(steps=1, eps_step=0.1)
    args = (ebm_ref, *gaussian(1.0, (4,)), WIDE, BETAS)
    forward = ebm_ref.ais_run(*args, 20, move, 4)
    backward = ebm_ref.ais_reverse_run(*args, forward.x, move, 5)
    return refused(lambda: fn(forward, backward), RangeError)


@check_of("UniformBase", want=0.0, allowed=0.1)
def uniform_base_is_normalised(fn: Function) -> float:
    """log int p_0 on (0, 1), times the 3,072 dimensions of CIFAR-10, in nats (by quadrature)."""
    x = np.linspace(-0.5, 1.5, 400001)
    mass = np.exp(fn((0.0, 1.0)).log_density(x[:, None])).sum() * (x[1] - x[0])
    return 3072 * log(mass)


@check_of("bits_per_dim", want=8.0)
def bits_of_uniform_noise(fn: Function) -> float:
    """a uniform density on (-1, 1) knows nothing of 256 levels: 8 bits."""
    return fn(np.full(2, -log(2)), 1, (-1.0, 1.0)).value


@check_of("auroc", want=1.0, allowed=0.0)
def auroc_refuses_nan(fn: Function) -> float:
    """a score of NaN is an error, before it meets a label: 1 where it is refused."""
    return refused(lambda: fn(np.array([1.0, np.nan, 3.0]), np.array([0.0, 2.0])), NonFiniteError)


@check_of("mmd_rbf", want=0.0, allowed=0.03)
def mmd_of_one_law(fn: Function) -> float:
    """two sets of one law, unbiased: mean over 40 pairs of sets of 20."""
    x = normals(6, 0, 1600, 2).reshape(40, 2, 20, 2)
    return float(np.mean([fn(a, b, 1.0, True).value for a, b in x]))


# ----------------------------------------------------------------------------------------- mutants


@mutant_of("reverse_annealing_claims_no_bound", "ebmkit ais.py, reverse", "true 3.676, upper bound 1.457")
def always_an_upper_bound(*args: Any) -> Any:
    """poor starts are said to keep the bracket conservative"""
    return ebm_ref.ais_reverse_run(*args, exact=True)


@mutant_of("annealing_finds_log_z", "improved_contrastive_divergence ais.py:82 with hmc.py:50")
def annealed_by_wrong_moves(
    backend: Any, energy: Any, theta: Any, base: Any, betas: Any, N: int, transition: Any, seed: int
) -> Any:
    """annealing with moves that do not leave their law: the inverted accept mask"""

    def move(backend: Any, energy: Any, theta: Any, x: Array, k: int, seed: int, step: int) -> Any:
        for s in range(transition.steps):
            E, g = energy.energy_and_grad_x(theta, x)
            p, u = normals(seed, 3 * step + s, *x.shape), uniforms(seed + 1, 3 * step + s, len(x))
            x = accept_means_stay(energy, theta, x, E, g, p, u, transition.h, transition.L)[0]
        return x, np.ones(len(x))

    return ebm_ref.ais_run(backend, energy, theta, base, betas, N, move, seed)


@mutant_of("bracket_needs_an_upper_bound", "openai ebm_code_release ais.py", "reverse starts at forward's end")
def any_two_runs(forward: Any, reverse: Any, end: str = "log_mean_w") -> Any:
    """the ends of a forward run are taken for exact samples"""
    lower, upper = getattr(forward, end), getattr(reverse, end)
    return ebm_ref.Bracket(lower, upper, Estimate(upper.value - lower.value, 0.0))


@mutant_of("uniform_base_is_normalised", "openai ebm_code_release ais.py", "log Z off by 54 nats (CIFAR-10)")
class soft_box(ebm_ref.UniformBase):  # noqa: N801 - named as the other mutants are
    """a soft wall (100 (x - box(x)))^2 stands around a uniform start and is not in its normaliser"""

    def log_density(self, x: Array) -> Array:
        low, high = self.box  # type: ignore[misc]
        inside = np.clip(x, low, high)
        return -np.sum((100 * (x - inside)) ** 2, axis=1) - x.shape[1] * log(high - low)


@mutant_of("bits_of_uniform_noise", "improved_contrastive_divergence hmc.py, logit map", "no log |dx/dy|")
def without_jacobian(log_p: Array, D: int, box: Any, levels: int = 256) -> Any:
    """a density of transformed pixels without the Jacobian of the map"""
    bits = ebm_ref.bits_per_dim(log_p, D, box, levels)
    return Estimate(bits.value + log2(box[1] - box[0]), bits.se)


@mutant_of("auroc_refuses_nan", "google-research genomics_ood, compute_auc", "labels and scores of two lengths")
def labels_before_the_filter(scores_in: Array, scores_out: Array) -> float:
    """labels are made, then NaN scores are dropped"""
    labels = np.r_[np.ones(len(scores_in)), np.zeros(len(scores_out))]
    scores = np.r_[scores_in, scores_out]
    scores = scores[~np.isnan(scores)]
    labels = labels[: len(scores)]
    return ebm_ref.auroc(scores[labels == 1], scores[labels == 0])


@mutant_of("mmd_of_one_law", "google-research cmmd/distance.py", "called unbiased, keeps the diagonal")
def diagonal_kept(a: Array, b: Array, bandwidth: float, unbiased: bool = True) -> Any:
    """the biased sum offered as unbiased"""
    return ebm_ref.mmd_rbf(a, b, bandwidth, False)
