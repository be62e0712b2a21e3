"""Contrastive divergence: its loss and its gradient, where its chains start, what is held constant."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np

import ebm_ref
from ebm_ref.contracts import Array, Params, Stream
from ebm_ref.specs import SGLD, Update

from .parts import design, gaussian, normals, trace
from .table import Function, check_of, mutant_of

# ------------------------------------------------------------------------------------------ checks


@check_of("cd_step", want=0.0, allowed=0.0)
def cd_step_of_no_steps(fn: Function) -> float:
    """K = 0 and no regulariser: the chains have not moved, the loss is 0."""
    return float(fn(ebm_ref, *gaussian(1.0), design(4, 1, 1), 0, SGLD(0.1, 0.1), 0.0, 0.0, 3, 0)[0])


@check_of("cd_step", want=5.0)
def cd_step_starts_at_the_data(fn: Function) -> float:
    """data at 5, K = 0: mean of the chains."""
    _, _, info = fn(ebm_ref, *gaussian(1.0), np.full((64, 1), 5.0), 0, SGLD(0.1, 0.1), 0.0, 0.0, 3, 0)
    return float(np.mean(info["x_neg"]))


@check_of("cd_step", want=(1 - 0.9**6) / 2)
def cd_step_holds_its_samples(fn: Function) -> float:
    """no noise, three steps of 0.1 on a x^2 / 2 at a = 1: dL/da = mean x_pos^2 / 2 - mean x_neg^2 / 2, x_neg held."""
    return trace(fn(ebm_ref, *gaussian(1.0), design(4, 1, 1), 3, SGLD(0.1, 0.0), 0.0, 0.0, 3, 0)[1])


@check_of("contrastive", want=np.inf, allowed=0.0)
def contrastive_of_an_infinite_energy(fn: Function) -> float:
    """an energy of +inf on data gives a loss of +inf."""
    return float(fn(Cliff(), {}, np.array([[1.0], [-1.0]]), np.array([[1.0], [2.0]]), 1.0)[0])


@check_of("contrastive", want=0.0)
def contrastive_of_uneven_batches(fn: Function) -> float:
    """36 data and 64 samples of one law: every gradient is 0."""
    x_pos, x_neg = (design(64, 1, 1)[:n] for n in (36, 64))
    return trace(fn(*gaussian(1.0), x_pos, x_neg, 0.0)[1])


@check_of("pcd_step", want=0.0, allowed=5 / 256**0.5)
def pcd_step_shares_no_draw(fn: Function) -> float:
    """all chains restart at data + noise: correlation of that noise with the first Langevin step's (256 draws)."""
    starts, moved = (_fresh(fn, K) for K in (0, 1))
    return float(np.corrcoef(starts, moved - starts)[0, 1])


@check_of("unrolled_backward", want=-3 * 0.1 * 0.9**2)
def unrolled_backward_goes_all_the_way(fn: Function) -> float:
    """x_K = (1 - eta a)^K x_0, K = 3, a = 1: dx_K/da = -K eta (1 - eta)^2."""
    energy, theta = gaussian(1.0)
    update = SGLD(0.1, 0.0)
    _, steps, _ = ebm_ref.unrolled_run(ebm_ref, energy, theta, np.ones((1, 1)), 3, update, 0)
    return trace(fn(energy, theta, steps, np.ones((1, 1)), update)[0])


@check_of("improved_contrastive", want=-0.1 * 1.7 * (1 - 0.17) * 0.95**2)
def improved_contrastive_sees_the_chain(fn: Function) -> float:
    """a x^2 / 2, a = 1.7, one step of 0.1 from 0.95: the KL term's dL/da = -eta a x_1 x_0."""
    energy, theta = gaussian(1.7)
    update = SGLD(0.1, 0.0)
    x, steps, _ = ebm_ref.unrolled_run(ebm_ref, energy, theta, np.full((1, 1), 0.95), 1, update, 0)
    terms = ebm_ref.ICDTerms(alpha=0.0, kappa_ent=0.0)
    return trace(fn(energy, theta, x, x, steps, update, None, terms)[1])


@check_of("neighbour_spread", want=0.0)
def neighbour_spread_leaves_out_itself(fn: Function) -> float:
    """four points one apart, each its own reference too, left out by `same`: mean log distance 0."""
    x = np.arange(4.0)[:, None]
    return float(fn(x, x, 1e-3, np.eye(4, dtype=bool))[0])


class Cliff:
    """E = x^2 / 2 where x > 0, infinite elsewhere; no parameters."""

    shape = (1,)

    def energy(self, theta: Params, x: Array) -> Array:
        return np.where(x[:, 0] > 0, x[:, 0] ** 2 / 2, np.inf)

    def grad_theta(self, theta: Params, x: Array, w: Array) -> Params:
        return {}


def _fresh(fn: Function, K: int) -> Array:
    """x_neg of a PCD step in which every chain restarts, on a flat energy."""
    buffer = ebm_ref.Buffer(np.zeros((256, 1)), 256)
    args = (np.zeros((256, 1)), buffer, K, SGLD(0.1, 1.0), 0.0, 1.0, 1.0, 8, 0, (-99.0, 99.0), "data_noise")
    return fn(ebm_ref, *gaussian(0.0), *args)[2]["x_neg"][:, 0]


# ----------------------------------------------------------------------------------------- mutants


@mutant_of("cd_step_of_no_steps", "torchebm losses/contrastive_divergence.py", "energy_reg_weight = 1e-3 unasked")
def silent_regulariser(
    backend: Any, energy: Any, theta: Params, x: Array, K: int, update: Update, alpha: float, *rest: Any
) -> Any:
    """energies are penalised by 1e-3, asked or not"""
    return ebm_ref.cd_step(backend, energy, theta, x, K, update, alpha + 1e-3, *rest)


@mutant_of("cd_step_starts_at_the_data", "ebmkit losses/cd.py:55", "mean 5 -> 0.10")
def starts_from_noise(
    backend: Any,
    energy: Any,
    theta: Params,
    x: Array,
    K: int,
    update: Update,
    alpha: float,
    sigma_data: float,
    seed: int,
    step: int,
) -> Any:
    """documented as CD-K, chains start from N(0, I)"""
    x0 = normals(seed, step, *x.shape)
    x_neg, chain = backend.langevin_run(energy, theta, x0, K, update, seed, step * K)
    loss, grads, info = ebm_ref.contrastive(energy, theta, x, x_neg, alpha)
    return loss, grads, info | {"x_neg": x_neg, "chain": chain}


@mutant_of("cd_step_holds_its_samples", "artifex trainers/energy_trainer.py:436", "dL/da -.641 -> -.496")
def no_stop_gradient(
    backend: Any,
    energy: Any,
    theta: Params,
    x: Array,
    K: int,
    update: Update,
    alpha: float,
    sigma_data: float,
    seed: int,
    step: int,
) -> Any:
    """the loss is differentiated through its own chain"""
    x_neg, steps, _ = ebm_ref.unrolled_run(backend, energy, theta, x, K, update, seed, step * K)
    loss, grads, info = ebm_ref.contrastive(energy, theta, x, x_neg, alpha)
    path, _ = ebm_ref.unrolled_backward(energy, theta, steps, -energy.grad_x(theta, x_neg) / len(x), update)
    return loss, {name: grads[name] + path[name] for name in grads}, info | {"x_neg": x_neg}


@mutant_of("contrastive_of_an_infinite_energy", "torchebm losses/contrastive_divergence.py:217", "inf -> 0.1")
def shown_as_a_tenth(energy: Any, theta: Params, x_pos: Array, x_neg: Array, alpha: float) -> Any:
    """a loss that is not finite is shown as 0.1"""
    loss, grads, info = ebm_ref.contrastive(energy, theta, x_pos, x_neg, alpha)
    return loss if np.isfinite(loss) else 0.1, grads, info


@mutant_of("contrastive_of_uneven_batches", "scikit-learn BernoulliRBM (an older copy)")
def one_size_for_both(energy: Any, theta: Params, x_pos: Array, x_neg: Array, alpha: float) -> Any:
    """the sum over samples is divided by the number of data"""
    loss, grads, info = ebm_ref.contrastive(energy, theta, x_pos, x_neg, alpha)
    N_pos, N_neg = len(x_pos), len(x_neg)
    more = energy.grad_theta(theta, x_neg, np.full(N_neg, 1 / N_neg - 1 / N_pos))
    return loss, {name: grads[name] + more[name] for name in grads}, info


@mutant_of("pcd_step_shares_no_draw", "artifex models/energy/mcmc.py:430", "rank correlation 0 -> 1.000000")
def one_key_twice(backend: Any, *args: Any) -> Any:
    """the restart and the first Langevin step draw under one key"""

    def normal(seed: int, stream: int, *address: Any) -> Array:
        return backend.noise_normal(seed, Stream.CHAIN_NOISE if stream == Stream.BUFFER_FRESH else stream, *address)

    names = ("noise_bits", "noise_uniform", "langevin_run", "buffer_draw", "buffer_push")
    shared = {name: getattr(backend, name) for name in names}
    return ebm_ref.pcd_step(SimpleNamespace(noise_normal=normal, **shared), *args)  # type: ignore[arg-type]


@mutant_of("unrolled_backward_goes_all_the_way", "improved_contrastive_divergence train.py, all_step")
def last_step_only(energy: Any, theta: Params, steps: Any, u: Array, update: Update, to_start: bool = True) -> Any:
    """the option to differentiate every step does nothing: samples are detached in the loop"""
    return ebm_ref.unrolled_backward(energy, theta, steps[-1:], u, update, to_start)


@mutant_of("improved_contrastive_sees_the_chain", "improved_contrastive_divergence train.py, logging")
def term_without_gradient(
    energy: Any, theta: Params, x_pos: Array, x_neg: Array, steps: Any, update: Update, reference: Any, terms: Any
) -> Any:
    """the KL term is in the loss and not in the gradient, on steps that are logged"""
    loss, _, info = ebm_ref.improved_contrastive(energy, theta, x_pos, x_neg, steps, update, reference, terms)
    return loss, ebm_ref.contrastive(energy, theta, x_pos, x_neg, terms.alpha)[1], info


@mutant_of("neighbour_spread_leaves_out_itself", "improved_contrastive_divergence train.py, replay_buffer.sample")
def nearest_is_itself(x: Array, reference: Array, floor: float = 1e-3, same: Any = None) -> Any:
    """the sample is among its own neighbours"""
    return ebm_ref.neighbour_spread(x, reference, floor)
