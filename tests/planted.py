"""Small wrong functions: bugs that were found in the wild, or nearly made here. The kit must reject each one."""

import numpy as np

import ebm_ref
from ebm_fast.verify import naive
from ebm_ref.contracts import ChainInfo, Stream
from ebm_ref.specs import SGLD

# -------------------------------------------------------------------------------------- langevin


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


# ----------------------------------------------------------------------------------------- noise


def bits_one_block_each(seed, stream, step, chains, D):
    return naive.noise_bits(seed, stream, step, chains, 4 * D)[:, ::4].copy()


def bits_half_the_key(seed, stream, step, chains, D):
    return naive.noise_bits(seed & 0xFFFFFFFF, stream, step, chains, D)


def bits_by_position(seed, stream, step, chains, D):
    return naive.noise_bits(seed, stream, step, np.arange(len(chains)), D)


def bits_step_in_the_seed(seed, stream, step, chains, D):
    return naive.noise_bits((seed + step) % 2**64, stream, 0, chains, D)


def uniform_may_be_zero(seed, stream, step, chains, D, dtype=np.float64):
    return (naive.noise_bits(seed, stream, step, chains, D) * 2.0**-32).astype(dtype)


def bits_short_rows(seed, stream, step, chains, D):
    r = naive.noise_bits(seed, stream, step, chains, D)
    r[:, 128:] = 0
    return r


def normal_swapped(seed, stream, step, chains, D, dtype=np.float64):
    pairs = naive.noise_normal(seed, stream, step, chains, D + D % 2, dtype).reshape(len(chains), -1, 2)
    return pairs[..., ::-1].reshape(len(chains), -1)[:, :D].copy()


def normal_half_circle(seed, stream, step, chains, D, dtype=np.float64):
    return np.abs(naive.noise_normal(seed, stream, step, chains, D, dtype))


# ---------------------------------------------------------------------------------------- buffer


def draw_mask_from_index(slots, filled, bits, u, fresh, rho):
    return naive.buffer_draw(slots, filled, bits, (bits + 0.5) / 2**32, fresh, rho)


def draw_leaves_out_the_tail(slots, filled, bits, u, fresh, rho):
    x0, idx, restart = naive.buffer_draw(slots, filled, bits, u, fresh, rho)
    stride = max(1, filled // max(1, len(bits)))
    idx = np.minimum(idx // stride * stride, len(bits) * stride - 1)
    keep = restart.reshape(-1, *[1] * (fresh.ndim - 1))
    return np.where(keep, fresh, slots[idx]), idx, restart


def draw_from_empty_slots(slots, filled, bits, u, fresh, rho):
    return naive.buffer_draw(slots, len(slots), bits, u, fresh, rho)


def draw_jitters_the_old(slots, filled, bits, u, fresh, rho):
    x0, idx, restart = naive.buffer_draw(slots, filled, bits, np.ones_like(u), fresh, 0.0)
    restart = u < rho
    return x0 + (0.01 * restart.reshape(-1, *[1] * (x0.ndim - 1)) * fresh).astype(x0.dtype), idx, restart


def draw_restarts_at_a_tie(slots, filled, bits, u, fresh, rho):
    return naive.buffer_draw(slots, filled, bits, np.where(u == rho, 0.0, u), fresh, rho)


def push_first_wins(slots, filled, ptr, x, policy, idx=None, bits=None):
    if policy != "in_place":
        return ebm_ref.buffer_push(slots, filled, ptr, x, policy, idx, bits)
    return ebm_ref.buffer_push(slots, filled, ptr, x[::-1], policy, idx[::-1], bits)


def push_from_slot_zero(slots, filled, ptr, x, policy, idx=None, bits=None):
    if policy != "fifo" or filled < len(slots):
        return ebm_ref.buffer_push(slots, filled, ptr, x, policy, idx, bits)
    filled, _ = ebm_ref.buffer_push(slots, filled, 0, x, policy)
    return filled, ptr + len(x)


def push_reservoir_off_by_one(slots, filled, ptr, x, policy, idx=None, bits=None):
    if policy != "reservoir" or ptr < len(slots):
        return ebm_ref.buffer_push(slots, filled, ptr, x, policy, idx, bits)
    filled, _ = ebm_ref.buffer_push(slots, filled, max(len(slots), ptr - 1), x, policy, None, bits)
    return filled, ptr + len(x)


# ---------------------------------------------------------------------------------------- layers


def conv_pads_both_sides(x, w, b, stride=1, padding="SAME"):
    if padding == "VALID":
        return ebm_ref.conv2d_forward(x, w, b, stride, padding)
    top, left = w.shape[0] // 2, w.shape[1] // 2
    x = np.pad(x, ((0, 0), (top, w.shape[0] - 1 - top), (left, w.shape[1] - 1 - left), (0, 0)))
    return ebm_ref.conv2d_forward(x, w, b, stride, "VALID")


def conv_flips_the_filter(x, w, b, stride=1, padding="SAME"):
    return ebm_ref.conv2d_forward(x, w[::-1, ::-1], b, stride, padding)


def conv_forgets_the_bias(x, w, b, stride=1, padding="SAME"):
    return ebm_ref.conv2d_forward(x, w, 0 * b, stride, padding)


def conv_reads_past_strides(x, w, b, stride=1, padding="SAME"):
    raw = np.ndarray(x.shape, x.dtype, x.tobytes("A"))  # memory order taken for index order
    return ebm_ref.conv2d_forward(raw, w, b, stride, padding)


def conv_in_single(x, w, b, stride=1, padding="SAME"):
    return ebm_ref.conv2d_forward(*(a.astype(np.float32) for a in (x, w, b)), stride, padding).astype(x.dtype)


def backward_flips_dw(x, w, dy, stride=1, padding="SAME"):
    dx, dw, db = ebm_ref.conv2d_backward(x, w, dy, stride, padding)
    return dx, dw[::-1, ::-1].copy(), db


def backward_leaves_out_the_last_row(x, w, dy, stride=1, padding="SAME"):
    _, dw, db = ebm_ref.conv2d_backward(x, w, dy, stride, padding)
    cut = dy.copy()
    cut[:, -1] = 0
    return ebm_ref.conv2d_backward(x, w, cut, stride, padding)[0], dw, db


def backward_averages(x, w, dy, stride=1, padding="SAME"):
    dx, dw, db = ebm_ref.conv2d_backward(x, w, dy, stride, padding)
    return dx, dw / x.dtype.type(len(x)), db / x.dtype.type(len(x))


def norm_with(x, gamma, beta, groups, eps, var_of, root_of):
    grouped = x.reshape(len(x), -1, groups, x.shape[-1] // groups)
    z = grouped - grouped.mean(axis=(1, 3), keepdims=True)
    return gamma * (z / root_of(var_of(grouped), eps)).reshape(x.shape) + beta


def biased(t):
    return t.var(axis=(1, 3), keepdims=True)


def norm_unbiased(x, gamma, beta, groups, eps=1e-5):
    def var_of(t):
        m = t.shape[1] * t.shape[3]
        return biased(t) * x.dtype.type(m / max(1, m - 1))

    return norm_with(x, gamma, beta, groups, eps, var_of, lambda var, eps: np.sqrt(var + eps))


def norm_without_eps(x, gamma, beta, groups, eps=1e-5):
    return norm_with(x, gamma, beta, groups, eps, biased, lambda var, eps: np.sqrt(var) + (var == 0))


def norm_eps_outside(x, gamma, beta, groups, eps=1e-5):
    return norm_with(x, gamma, beta, groups, eps, biased, lambda var, eps: np.sqrt(var) + eps)


def norm_one_pass(x, gamma, beta, groups, eps=1e-5):
    def var_of(t):
        mean = t.mean(axis=(1, 3), keepdims=True)
        return np.maximum((t * t).mean(axis=(1, 3), keepdims=True) - mean * mean, 0)

    return norm_with(x, gamma, beta, groups, eps, var_of, lambda var, eps: np.sqrt(var + eps))


def norm_interleaves_groups(x, gamma, beta, groups, eps=1e-5):
    order = np.arange(x.shape[-1]).reshape(-1, groups).T.ravel()
    y = ebm_ref.group_norm_forward(x[..., order], gamma[order], beta[order], groups, eps)
    return y[..., np.argsort(order)]


def norm_over_the_batch(x, gamma, beta, groups, eps=1e-5):
    return ebm_ref.group_norm_forward(x.reshape(1, -1, x.shape[-1]), gamma, beta, groups, eps).reshape(x.shape)


def norm_backward_fixed_statistics(x, gamma, dy, groups, eps=1e-5):
    _, dgamma, dbeta = ebm_ref.group_norm_backward(x, gamma, dy, groups, eps)
    grouped = x.reshape(len(x), -1, groups, x.shape[-1] // groups)
    rstd = 1 / np.sqrt(biased(grouped) + eps)
    return ((dy * gamma).reshape(grouped.shape) * rstd).reshape(x.shape), dgamma, dbeta


def norm_backward_forgets_the_slope(x, gamma, dy, groups, eps=1e-5):
    dx, dgamma, dbeta = norm_backward_fixed_statistics(x, gamma, dy, groups, eps)
    grouped = dx.reshape(len(x), -1, groups, x.shape[-1] // groups)
    return (grouped - grouped.mean(axis=(1, 3), keepdims=True)).reshape(x.shape), dgamma, dbeta


# --------------------------------------------------------------------------------------- energies


class MeanOverBatch(ebm_ref.MLPEnergy):
    """The gradient of the batch mean in the place of each sample's own."""

    def energy_and_grad_x(self, theta, x):
        E, g = super().energy_and_grad_x(theta, x)
        return E, g / x.dtype.type(len(x))


class ColumnEnergy(ebm_ref.MLPEnergy):
    """E as (N, 1)."""

    def energy(self, theta, x):
        return super().energy(theta, x)[:, None]


class AscentGradient(ebm_ref.MLPEnergy):
    """grad_theta with the sign of the log-density."""

    def grad_theta(self, theta, x, w):
        return super().grad_theta(theta, x, -w)


class NoisyEnergy(ebm_ref.MLPEnergy):
    """Dropout left on: two calls differ."""

    def energy(self, theta, x):
        return super().energy(theta, x) * np.random.default_rng().integers(1, 1000)


class HalfCurvature(ebm_ref.MLPEnergy):
    """The Taylor coefficient of order 2 in the place of the derivative of order 2."""

    def hvp(self, theta, x, v):
        return super().hvp(theta, x, v) / 2


class FirstTile(ebm_ref.MLPEnergy):
    """Samples beyond the first 64 are left out."""

    def grad_theta(self, theta, x, w):
        return super().grad_theta(theta, x[:64], w[:64])


class CentredBatch(ebm_ref.MLPEnergy):
    """Batch statistics in the energy: samples see their neighbours."""

    def energy(self, theta, x):
        E = super().energy(theta, x)
        return E - E.mean()


class SumPool(ebm_ref.ConvEnergy):
    """mean pooled as sum."""

    def __init__(self, **fields):
        super().__init__(**(fields | {"pool": "sum"}))


class IgnoresWeights(ebm_ref.ConvEnergy):
    """grad_theta of the mean, whatever w says."""

    def grad_theta(self, theta, x, w):
        return super().grad_theta(theta, x, np.full_like(w, 1 / len(w)))


class LeavesOutTheSkip(ebm_ref.DeepConvEnergy):
    """Residual blocks whose 1x1 convolution adds nothing, forwards or backwards."""

    def _without(self, theta):
        return {name: 0 * a if ".skip." in name else a for name, a in theta.items()}

    def forward(self, theta, x):
        return super().forward(self._without(theta), x)

    def backward(self, theta, tape, dy):
        return super().backward(self._without(theta), tape, dy)


class NormOfChannels(ebm_ref.DeepConvEnergy):
    """A norm for each channel, whatever max_groups says."""

    def __init__(self, **fields):
        super().__init__(**(fields | {"max_groups": max(fields["channels"])}))
