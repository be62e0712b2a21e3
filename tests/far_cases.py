"""The same as far.py for convolutions, norms, sums, small steps and chains; and CASES, a table of them all."""

import far
import far_flow
import numpy as np
from far import EDGE, I64, SEED, STREAM, UPDATE, F, Far, at_the_end, ending, numbers, reserve, same, some_words

from ebm_fast.cupy_raw import chain, conv2d, group_norm, layers
from ebm_fast.cupy_raw.device import blocks, current, launch, on
from ebm_fast.cupy_raw.mlp_energy import MLPEnergy
from ebm_fast.cupy_raw.source import kernel

# ----------------------------------------------------------------------------------------------- convolutions

BATCH = 2**28  # images of 2 x 2 pixels: a whole number of what every grid covers at a time


def conv2d_images(C, O):
    geo = conv2d.geometry(2, 2, C, 3, 3, O, 1, "SAME")
    w = numbers(12, (3, 3, C, O))

    def forward(x):
        y = current().empty((len(x), 2, 2, O), F)
        conv2d.conv2d_apply(geo, len(x), x, w, w[0, 0, 0], y, F, 0)
        return y

    def back(dy):
        dx = current().empty((len(dy), 2, 2, C), F)
        conv2d.conv2d_apply_dx(geo, len(dy), dy, w, dx, F, 0, False)
        return dx

    last = 32 if max(C, O) > 4 else 2  # 128 pixels of a tile; 8 of lanes that share a pixel
    at_the_end(forward, [ending(13, (BATCH, 2, 2, C), last)], last if O <= 16 else 16)
    at_the_end(back, [ending(14, (BATCH, 2, 2, O), last)], last if C <= 16 else 16)


def conv2d_filters(tile, C, O, R):
    geo = conv2d.geometry(2, 2, C, R, R, O, 1, "SAME")
    (height, width), depth = conv2d.FILTER_TILES[tile], R * R * C
    grid = blocks(depth, height), blocks(O, width), 1

    def sums(x, dy):
        parts, N = current().empty((depth + 1, O), F), len(x)
        args = (x, dy, parts, np.int32(N), *geo.ints(), np.int32(0), I64(N // 8 - 1), np.int32(1))  # the last chunk
        launch(kernel("conv2d_dw.cu", f"conv2d_backward_dw_{tile}", F), grid, height * width // 16, args)
        return parts

    x, dy = ending(15, (BATCH, 2, 2, C), 8), ending(16, (BATCH, 2, 2, O), 8)
    same(sums(x, dy), sums(x[-8:].copy(), dy[-8:].copy()))


def conv2d_parts():
    """Partial sums that lie beyond: four chunks of filters of nearly 2^30 numbers."""
    C, O, N = 2**24, 60, 32
    geo = conv2d.geometry(1, 1, C, 1, 1, O, 1, "SAME")
    x, dy, parts = reserve((N, C), F), numbers(17, (N, O)), reserve((4, C + 1, O), F)
    x[:, -64:] = numbers(18, (N, 64))
    args = (x, dy, parts, np.int32(N), *geo.ints(), np.int32(0), I64(0), np.int32(4))
    launch(kernel("conv2d_dw.cu", "conv2d_backward_dw_wide", F), (C // 64, 1, 4), 256, args)
    found, wanted = parts[3, -65:-1], x[24:, -64:].astype(np.float64).T @ dy[24:]
    assert np.abs(found - wanted).max() < 1e-4 < np.abs(wanted).max()


# ------------------------------------------------------------------------------------- norms, sums, small steps


def norms():
    L, C, G, last = 2, 8, 8, 16
    gamma, beta = numbers(19, C), numbers(20, C)
    sizes, lanes = (I64(L), np.int32(C), np.int32(G)), group_norm.team(L, C, G)
    team = tuple(map(np.int32, lanes))

    def forward(x):
        y = current().empty(x.shape, F)
        group_norm.norm_apply(len(x), L, C, G, x, gamma, beta, y, F, 0, 1e-3, "silu")
        return y

    def moments(x):
        kept, N = current().empty((len(x), G, 2), F), np.int32(len(x))
        grid = min(blocks(len(x) * G * lanes[0], 256), group_norm.MAX_BLOCKS)
        launch(kernel("group_norm.cu", "group_norm_moments", F), grid, 256, (x, kept, N, *sizes, F(1e-3), *team))
        return kept

    def back(x, dy, kept):
        dx, N = current().empty(x.shape, F), np.int32(len(x))
        grid = min(blocks(len(x) * G * lanes[0], 256), group_norm.MAX_BLOCKS)
        args = (x, gamma, beta, dy, kept, dx, N, *sizes, F(1e-3), np.int32(3), *team)
        launch(kernel("group_norm.cu", "group_norm_backward_dx", F), grid, 256, args)
        return dx

    x, dy = ending(21, (BATCH, L, C), last), ending(22, (BATCH, L, C), last)
    kept = moments(x)
    at_the_end(forward, [x], last)
    at_the_end(moments, [x], last)
    at_the_end(back, [x, dy, kept], last)


def norm_params():
    """parts (chunks, 2, C) beyond, of chunks of 8 samples."""
    L, C, G, last = 2, 64, 8, 8
    x, dy, kept = (reserve((BATCH, L, width), F) for width in (C, C, G))
    for seed, a in enumerate((x, dy, kept)):
        a[-last:] = numbers(23 + seed, (last, *a.shape[1:]))
    gamma = numbers(26, C)

    def sums(x, dy, kept):
        N, chunks = len(x), len(x) // 8
        parts = current().empty((chunks, 2 * C), F)
        args = (x, gamma, gamma, dy, kept, parts, np.int32(N), I64(L), np.int32(C), np.int32(G), np.int32(3))
        args += (np.int32(0), np.int32(8), np.int32(chunks), np.int32(32))
        grid = min(chunks, group_norm.MAX_BLOCKS), 2
        launch(kernel("group_norm.cu", "group_norm_backward_params", F), grid, 256, args)
        return parts[-1]

    found, wanted = sums(x, dy, kept), sums(*(a[-last:].copy() for a in (x, dy, kept)))
    at = np.r_[32:64, 96:128]  # the columns of the last block
    same(found[at], wanted[at])


def tree_sums():
    size, n = 2**30 + 256, 48
    parts, out = reserve((n, size), F), reserve((3, size), F)
    parts[32:, -256:] = numbers(27, (16, 256))
    add = kernel("tree.cu", "tree_sum", F)
    launch(add, (blocks(size, 256), 3), 256, (parts, np.int32(n), I64(size), out, None, I64(size)))
    wanted = np.empty(256, F)
    launch(add, 1, 256, (parts[32:, -256:].copy(), np.int32(16), I64(256), wanted, None, I64(256)))
    same(out[2, -256:], wanted)
    size, rest = EDGE + 512, reserve((EDGE + 256,), F)
    parts = reserve((1, size), F)
    parts[0, -256:] = wanted
    launch(add, (blocks(size, 256), 1), 256, (parts, np.int32(1), I64(size), out, rest, I64(256)))
    same(rest[-256:], wanted)


def small_steps():
    n, last = 9 * 2**28, 256  # nine times what a grid covers at a time

    def step(call):
        def run(*arrays):
            y = current().empty((*arrays[0].shape[:1], 2), F)
            call(len(arrays[0]), *arrays, y)
            return y

        return run

    plain = [ending(seed, (n,), last) for seed in (29, 30)]
    jets = [ending(seed, (n, 2), last) for seed in (31, 32)]
    at_the_end(step(lambda n, x, v, y: layers.jet_seed(n, x, v, y, F, 1)), plain, last)
    at_the_end(step(lambda n, x, y: layers.activation_apply(n, x, y, "silu", F, 1)), jets[:1], last)
    at_the_end(step(lambda n, x, dy, y: layers.activation_apply_back(n, x, dy, y, "silu", F, 1)), jets, last)
    at_the_end(step(lambda n, a, b, y: layers.residual_sum(n, a, b, y, None, F, 1)), jets, last)

    def last_one(x):
        y = current().empty((len(x),), F)
        layers.jet_last(len(x), x, y, F, 1)
        return y

    at_the_end(last_one, jets[:1], last)


def pools():
    N, L, C, last = 9 * 2**26, 2, 4, 64

    def forward(x):
        y = current().empty((len(x), C), F)
        layers.pool_apply(len(x), L, C, x, y, "mean", F, 0)
        return y

    def back(dy):
        dx = current().empty((len(dy), L, C), F)
        layers.pool_apply_back(len(dy), L, C, dy, dx, "mean", F, 0)
        return dx

    at_the_end(forward, [ending(33, (N, L, C), last)], last)
    at_the_end(back, [ending(34, (N, C), last)], last)


# ------------------------------------------------------------------------------------------------------ chains


def chains():
    """2^30 chains of three numbers, of which a block has 64; records of three steps."""
    energy, last = MLPEnergy((3,), hidden=(5,)), 64
    theta = {name: numbers(35, shape) for name, shape in energy.theta_shapes().items()}
    N = 2**30 + last

    def run(x0, ids):
        x, energies, norms, alive = chain.chain_launch(energy, theta, x0, 3, UPDATE, SEED, 2, ids, STREAM)
        return (x, energies[2], norms[2]) if alive[-last:].all() else None

    at_the_end(run, [ending(36, (N, 3), last), some_words(N)], last, many=3)


CASES = {
    "bits": lambda: far.noise_rows("noise_bits", far.U32),
    "uniform": lambda: far.noise_rows("noise_uniform", F),
    "normal": lambda: far.noise_rows("noise_normal", F),
    "philox": far.noise_words,
    "index": far.noise_indices,
    "permutation": far.noise_order,
    "langevin step": far.langevin_steps,
    "langevin start": far.langevin_starts,
    "langevin chain": far.langevin_chain,
    "buffer, rows of x": far.buffer_rows,
    "buffer, places": far.buffer_places,
    "buffer, slots": far.buffer_slots,
    "conv2d wide": lambda: conv2d_images(64, 64),
    "conv2d middle": lambda: conv2d_images(32, 32),
    "conv2d slim": lambda: conv2d_images(12, 12),
    "conv2d narrow": lambda: conv2d_images(3, 3),
    "dw wide": lambda: conv2d_filters("wide", 3, 64, 3),
    "dw middle": lambda: conv2d_filters("middle", 3, 32, 3),
    "dw short": lambda: conv2d_filters("short", 3, 64, 1),
    "dw thin": lambda: conv2d_filters("thin", 3, 4, 3),
    "dw, parts": conv2d_parts,
    "group_norm": norms,
    "group_norm, parts": norm_params,
    "tree": tree_sums,
    "layers": small_steps,
    "pool": pools,
    "chain": chains,
    "coupling wide": lambda: far_flow.costs("wide"),
    "coupling slim": lambda: far_flow.costs("slim"),
    "repulsion": far_flow.repelled,
    "upsample": far_flow.upsampled,
    "head": far_flow.heads,
    "descent": far_flow.descents,
    "descent, rows": far_flow.descent_rows,
    "descent, records": far_flow.descent_records,
}
SMALL = {"chain_pack"}  # launched, but fewer than 2^30 numbers: chain.PARAMS


def run_case(name, sources=None):
    with on(Far(extra=sources or {})):
        CASES[name]()
