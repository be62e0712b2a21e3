"""Wrong steps, jitters and runs. `step_right` and `run_with` are the scaffolds: right but for what is planted."""

import numpy as np

import ebm_ref
from ebm_fast.verify import naive
from ebm_ref.contracts import ChainInfo, Stream
from ebm_ref.specs import SGLD


def bounded(g, clip, clip_norm):
    g = g if clip is None else np.clip(g, -clip, clip)
    if clip_norm is None:
        return g
    norm = np.linalg.norm(g.reshape(len(g), -1).astype(np.float64), axis=1).reshape(-1, *[1] * (g.ndim - 1))
    return g * np.minimum(1, clip_norm / np.maximum(norm, np.finfo(g.dtype).tiny)).astype(g.dtype)


def boxed(x, box):
    return x if box is None else np.clip(x, *box)


def step_right(x, g, xi, eta, sigma, clip=None, clip_norm=None, box=None):
    return boxed(x - eta * bounded(g, clip, clip_norm) + sigma * xi, box)


def step_noise_too_loud(x, g, xi, eta, sigma, clip=None, clip_norm=None, box=None):
    return step_right(x, g, xi, eta, 2**0.5 * sigma, clip, clip_norm, box)


def step_climbs(x, g, xi, eta, sigma, clip=None, clip_norm=None, box=None):
    return step_right(x, -g, xi, eta, sigma, clip, clip_norm, box)


def step_clips_the_move(x, g, xi, eta, sigma, clip=None, clip_norm=None, box=None):
    return step_right(x, eta * g, xi, 1.0, sigma, clip, clip_norm, box)


def step_box_before_noise(x, g, xi, eta, sigma, clip=None, clip_norm=None, box=None):
    return boxed(x - eta * bounded(g, clip, clip_norm), box) + sigma * xi


def step_noise_in_the_gradient(x, g, xi, eta, sigma, clip=None, clip_norm=None, box=None):
    return boxed(x - eta * (bounded(g, clip, clip_norm) + sigma * xi), box)


def step_clip_shrinks_small(x, g, xi, eta, sigma, clip=None, clip_norm=None, box=None):
    if clip_norm is not None:
        norm = np.linalg.norm(g.reshape(len(g), -1), axis=1).reshape(-1, *[1] * (g.ndim - 1)) + 1e-30
        g = g * (np.minimum(norm, clip_norm) / np.maximum(norm, clip_norm)).astype(g.dtype)
    return step_right(x, g, xi, eta, sigma, clip, None, box)


def step_norm_of_the_batch(x, g, xi, eta, sigma, clip=None, clip_norm=None, box=None):
    g = bounded(g, clip, None)
    g = g if clip_norm is None else bounded(g[None], None, clip_norm)[0]
    return step_right(x, g, xi, eta, sigma, None, None, box)


def step_norm_before_clip(x, g, xi, eta, sigma, clip=None, clip_norm=None, box=None):
    return step_right(x, bounded(bounded(g, None, clip_norm), clip, None), xi, eta, sigma, None, None, box)


def step_replaces_nan(x, g, xi, eta, sigma, clip=None, clip_norm=None, box=None):
    return step_right(x, np.nan_to_num(g), xi, eta, sigma, clip, clip_norm, box)


def step_in_place(x, g, xi, eta, sigma, clip=None, clip_norm=None, box=None):
    x[...] = step_right(x, g, xi, eta, sigma, clip, clip_norm, box)
    return x


def step_norm_of_squares(x, g, xi, eta, sigma, clip=None, clip_norm=None, box=None):
    """A square that overflows makes the norm infinite, and the chain stands still."""
    g = bounded(g, clip, None)
    if clip_norm is not None:
        norm = np.sqrt((g * g).reshape(len(g), -1).sum(axis=1)).reshape(-1, *[1] * (g.ndim - 1))
        g = g * (clip_norm / np.maximum(norm, clip_norm)).astype(g.dtype)
    return step_right(x, g, xi, eta, sigma, None, None, box)


def step_hands_back_its_input(x, g, xi, eta, sigma, clip=None, clip_norm=None, box=None):
    return x if eta == sigma == 0 and box is None else step_right(x, g, xi, eta, sigma, clip, clip_norm, box)


def step_widens(x, g, xi, eta, sigma, clip=None, clip_norm=None, box=None):
    return step_right(x, g, xi, np.float64(eta), sigma, clip, clip_norm, box)


def step_in_half_precision(x, g, xi, eta, sigma, clip=None, clip_norm=None, box=None):
    return step_right(x, g.astype(np.float16).astype(g.dtype), xi, eta, sigma, clip, clip_norm, box)


def step_in_single(x, g, xi, eta, sigma, clip=None, clip_norm=None, box=None):
    return step_right(*(a.astype(np.float32) for a in (x, g, xi)), eta, sigma, clip, clip_norm, box).astype(x.dtype)


def jitter_unboxed(x, xi, sigma, box=None):
    return x + sigma * xi


def run_with(energy, theta, x0, K, update, seed, step, chains, stream, *, address, order=None, guard=True, share=False):
    """A run whose details are chosen; address(k, ids) -> (seed, step, ids) of step k."""
    x, N = x0.copy(), len(x0)
    ids = np.arange(N) if chains is None else chains
    energies, norms, alive = np.zeros((K, N), x.dtype), np.zeros((K, N), x.dtype), np.ones(N, bool)
    numbers = (update.clip, update.clip_norm, update.box)
    for k in range(K):
        seed_k, step_k, ids_k = address(k, ids)
        xi = naive.noise_normal(seed_k, stream, step_k, ids_k, x[0].size, x.dtype).reshape(x.shape)
        first = (order or update.order) == "noise_first"
        at = naive.langevin_jitter(x, xi, update.sigma, update.box) if first else x
        E, g = energy.energy_and_grad_x(theta, at)
        new = naive.langevin_step(at, g, xi, update.eta, 0.0 if first else update.sigma, *numbers)
        fine = np.isfinite(E) & np.isfinite(g.reshape(N, -1)).all(axis=1) & np.isfinite(new.reshape(N, -1)).all(axis=1)
        fine = np.full(N, fine.all()) if share else fine
        alive &= fine if guard else True
        new = new if guard else np.nan_to_num(new)
        x = np.where(alive.reshape(-1, *[1] * (x.ndim - 1)), new, x)
        energies[k] = E
        norms[k] = np.linalg.norm(g.reshape(N, -1), axis=1)
    return x, ChainInfo(energies, norms, alive, int(N - alive.sum()))


def run_same_noise(energy, theta, x0, K, update, seed, step=0, chains=None, stream=Stream.CHAIN_NOISE):
    def address(k, ids):
        return seed, step, ids

    return run_with(energy, theta, x0, K, update, seed, step, chains, stream, address=address)


def run_seed_plus_step(energy, theta, x0, K, update, seed, step=0, chains=None, stream=Stream.CHAIN_NOISE):
    def address(k, ids):
        return (seed + step + k) % 2**64, 0, ids

    return run_with(energy, theta, x0, K, update, seed, step, chains, stream, address=address)


def run_by_position(energy, theta, x0, K, update, seed, step=0, chains=None, stream=Stream.CHAIN_NOISE):
    def address(k, ids):
        return seed, step + k, np.arange(len(x0))

    return run_with(energy, theta, x0, K, update, seed, step, chains, stream, address=address)


def run_one_order(energy, theta, x0, K, update, seed, step=0, chains=None, stream=Stream.CHAIN_NOISE):
    def address(k, ids):
        return seed, step + k, ids

    args = (energy, theta, x0, K, update, seed, step, chains, stream)
    return run_with(*args, address=address, order="gradient_first")


def run_replaces_nan(energy, theta, x0, K, update, seed, step=0, chains=None, stream=Stream.CHAIN_NOISE):
    def address(k, ids):
        return seed, step + k, ids

    return run_with(energy, theta, x0, K, update, seed, step, chains, stream, address=address, guard=False)


def run_stops_together(energy, theta, x0, K, update, seed, step=0, chains=None, stream=Stream.CHAIN_NOISE):
    def address(k, ids):
        return seed, step + k, ids

    return run_with(energy, theta, x0, K, update, seed, step, chains, stream, address=address, share=True)


def run_forgets_the_stream(energy, theta, x0, K, update, seed, step=0, chains=None, stream=Stream.CHAIN_NOISE):
    return ebm_ref.langevin_run(energy, theta, x0, K, update, seed, step, chains)


def run_revives(energy, theta, x0, K, update, seed, step=0, chains=None, stream=Stream.CHAIN_NOISE):
    """A chain skips the steps that are not finite and goes on after them."""
    x, alive, infos = x0.copy(), np.ones(len(x0), bool), []
    for k in range(K):
        x, info = ebm_ref.langevin_run(energy, theta, x, 1, update, seed, step + k, chains, stream)
        infos.append(info)
        alive &= info.alive
    energies, norms = (np.array([getattr(i, name)[0] for i in infos], x.dtype) for name in ("energy", "grad_norm"))
    return x, ChainInfo(energies.reshape(K, -1), norms.reshape(K, -1), alive, int((~alive).sum()))


def run_one_step_more(energy, theta, x0, K, update, seed, step=0, chains=None, stream=Stream.CHAIN_NOISE):
    return ebm_ref.langevin_run(energy, theta, x0, K + 1, update, seed, step, chains, stream)


def run_half_a_step(energy, theta, x0, K, update, seed, step=0, chains=None, stream=Stream.CHAIN_NOISE):
    numbers = (update.eta / 2, update.sigma, update.clip, update.clip_norm, update.box, update.order)
    return ebm_ref.langevin_run(energy, theta, x0, K, SGLD(*numbers), seed, step, chains, stream)
