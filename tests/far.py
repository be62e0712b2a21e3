"""Every kernel of cupy_raw with arrays of more than 2^31 elements, on a machine that could not hold them.

CASES says how each is launched: on arrays that take addresses and no memory but where they are touched, and of the
grid only the last block runs. What it writes at the end of its arrays must be, to the bit, what the same kernel writes
for the end alone. Around each array lie 2^31 elements more, so that a place that wrapped round is read and written
there, and found wrong, instead of ending the process.
"""

import mmap
import sys
from math import prod

import numpy as np
import pytest

import ebm_ref
from ebm_fast.cupy_raw import buffer, chain, conv2d, group_norm, langevin, layers, noise, tree
from ebm_fast.cupy_raw.device import blocks, current, launch, on
from ebm_fast.cupy_raw.mlp_energy import MLPEnergy
from ebm_fast.cupy_raw.source import kernel
from ebm_fast.verify.host_device import HostDevice
from ebm_ref.specs import SGLD

FEW = 4096  # blocks of a grid that runs as a whole
EDGE = 2**31
F, U32, I64, U64 = np.float32, np.uint32, np.int64, np.uint64
SEED, STREAM = 5, 7
UPDATE = SGLD(0.1, 0.2, clip_norm=0.5, order="gradient_first")


def reserve(shape, dtype):
    """Zeros in addresses that nobody has used, between two margins."""
    kind, size = np.dtype(dtype), prod(shape)
    no_reserve = getattr(mmap, "MAP_NORESERVE", 0x4000 if sys.platform == "linux" else 0)  # Python 3.13 names it
    flags = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | no_reserve
    try:
        memory = mmap.mmap(-1, (size + 2 * EDGE) * kind.itemsize, flags=flags)
    except OSError:
        pytest.skip("this machine reserves no memory beyond what it has")
    return np.frombuffer(memory, kind)[EDGE : EDGE + size].reshape(shape)


class Far(HostDevice):
    """The fast build; large arrays are reserved, and of large grids only the last block runs."""

    def empty(self, shape, dtype):
        large = prod(shape) * np.dtype(dtype).itemsize > 2**26
        return reserve(shape, dtype) if large else super().empty(shape, dtype)

    def launch(self, kernel, grid, block, args, shared):
        self.part = slice(-1, None) if prod(grid) > FEW else slice(None)
        super().launch(kernel, grid, block, args, shared)


def numbers(seed, shape):
    return np.random.default_rng(seed).standard_normal(shape).astype(F)


def ending(seed, shape, last):
    """(shape) numbers of which all are 0 but the last `last` rows."""
    x = reserve(shape, F)
    x[-last:] = numbers(seed, (last, *shape[1:]))
    return x


def same(found, wanted):
    """The same bits, which are not all alike: a case in which nothing happens proves nothing."""
    assert found.dtype == wanted.dtype and found.shape == wanted.shape and np.ptp(wanted.astype(np.float64)) > 0
    assert np.array_equal(found, wanted)


def at_the_end(run, arrays, last, many=1):
    """run(*arrays) and run(*their last rows) agree there. run: arrays -> an array, or `many` of them."""
    found, wanted = run(*arrays), run(*(np.ascontiguousarray(a[-last:]) for a in arrays))
    for x, y in zip(found, wanted, strict=True) if many > 1 else ((found, wanted),):
        same(np.ascontiguousarray(x[-last:]), y)


# ------------------------------------------------------------------------------------------------------ noise


def noise_rows(name, dtype):
    D, ids = 2**30, np.array([5, 6, 9])
    out = noise.fill(name, SEED, STREAM, 3, ids, D, F, dtype)
    quads = np.arange(D // 4 - 256, D // 4, dtype=U32)
    counter = np.stack([quads, *(np.full_like(quads, word) for word in (9, 3, STREAM))], axis=1)
    words = ebm_ref.noise_philox(counter, np.array([SEED, 0], U32))
    if name == "noise_bits":
        return same(out[-1, -1024:], words.reshape(-1))
    u = words * 2.0**-32 + 2.0**-33
    if name == "noise_normal":
        radius, angle = np.sqrt(-2 * np.log(u[:, ::2])), words[:, 1::2] * (np.pi * 2.0**-31)
        u = np.stack([radius * np.cos(angle), radius * np.sin(angle)], axis=-1)
    assert np.abs(out[-1, -1024:] - u.reshape(-1)).max() < 1e-5


def noise_words():
    counter, key = reserve((2**29 + 256, 4), U32), np.array([1, 2], U32)
    counter[-256:] = np.arange(1024).reshape(256, 4)
    at_the_end(lambda part: noise.noise_philox(part, key), [counter], 256)


def some_words(size):
    words = reserve((size,), U32)
    words[-256:] = np.random.default_rng(1).integers(0, 2**32, 256, U32)
    return words


def noise_indices():
    at_the_end(lambda bits: noise.noise_index(bits, 1000), [some_words(EDGE + 256)], 256)


def noise_order():
    size = EDGE + 256
    words, keys, out = some_words(size), reserve((size,), U64), reserve((size,), I64)
    for name, args in (("noise_keys", (keys, words)), ("noise_places", (out, keys))):
        launch(kernel("noise.cu", name, F), blocks(size, 256), 256, (*args, I64(size)))
    same(keys[-256:], words[-256:].astype(U64) << 32 | np.arange(size - 256, size, dtype=U64))
    same(out[-256:], np.arange(size - 256, size))


# --------------------------------------------------------------------------------------------------- langevin

ROWS = 2**29 + 256  # of four numbers: what langevin.cu gives to one thread


def langevin_steps():
    x, g, xi = (ending(seed, (ROWS, 4), 256) for seed in (2, 3, 4))
    at_the_end(lambda *a: langevin.langevin_step(*a, 0.1, 0.2, clip_norm=0.5), [x, g, xi], 256)
    at_the_end(lambda *a: langevin.langevin_jitter(*a, 0.2), [x, xi], 256)


def langevin_starts():
    alive, counter = reserve((langevin.SIZE,), np.bool_), np.zeros(2, U32)
    langevin.begin_launch(alive, counter, 3, F)
    assert alive[-256:].all() and not alive[-512:-256].any()
    langevin.tick_launch(counter, F)
    assert counter.tolist() == [1, 1]


def langevin_chain():
    def one(x, g, ids, E, alive):
        N, dev, counter = len(x), current(), np.array([4, 9], U32)
        t, x = dev.empty(x.shape, F), x  # x is moved
        langevin.noise_first_launch(x, t, ids, alive, counter, UPDATE, SEED, STREAM)
        records = dev.empty((5, N), F), dev.empty((5, N), F)
        langevin.update_launch(x, x, g, E, ids, alive, *records, counter, UPDATE, SEED, STREAM)
        return t, x, records[0][4], records[1][4]

    x, g, E = ending(5, (ROWS, 4), 256), ending(6, (ROWS, 4), 256), ending(7, (ROWS,), 256)
    ids, alive = some_words(ROWS), reserve((ROWS,), np.bool_)
    alive[-256:] = True
    wanted = one(*(np.array(a[-256:]) for a in (x, g, ids, E, alive)))
    for a, b in zip(one(x, g, ids, E, alive), wanted, strict=True):
        same(np.array(a[-256:]), b)


# ----------------------------------------------------------------------------------------------------- buffer

TURN = 65535 * 256  # rows of one quad that a grid covers at a time: the last block has the last 256 of so many


def buffer_rows():
    N = 33 * TURN  # of 4 numbers
    fresh, bits, u, slots = ending(8, (N, 4), 256), some_words(N), reserve((N,), np.float64), numbers(9, (9, 4))
    u[-256:] = np.random.default_rng(2).random(256)
    at_the_end(lambda *a: buffer.buffer_draw(slots, 9, *a, 0.5), [bits, u, fresh], 256, many=3)
    slots = np.zeros((256, 4), F)
    buffer.buffer_push(slots, 256, 256, fresh, "fifo")
    same(np.roll(slots, -(256 + N) % 256, 0), fresh[-256:])


def buffer_places():
    N = 129 * TURN  # of 1 number
    bits, keys, x = some_words(N), reserve((N,), U64), ending(10, (N, 1), 256)
    launch(kernel("buffer.cu", "buffer_keys", F), blocks(N, 256), 256, (keys, None, bits, I64(N), I64(0), I64(N)))
    same(keys[-256:], np.arange(N - 256, N, dtype=U64) * U64(2**32 + 1))
    keys[-256:] = np.arange(256, dtype=U64) << 32 | np.arange(N - 256, N, dtype=U64)
    slots, sizes = np.zeros((256, 1), F), (I64(N), I64(1), I64(256), I64(0))
    launch(kernel("buffer.cu", "buffer_push", F), *noise.quad_grid(N, 1), (slots, x, keys, *sizes))
    same(slots, x[-256:])


def buffer_slots():
    slots, x = reserve((2**21 + 8, 1024), F), numbers(11, (4, 1024))
    places = np.array([0, 2**21 + 7, 2**21, 5])
    buffer.buffer_push(slots, len(slots), len(slots), x, "in_place", idx=places)
    same(slots[places], x)
    bits = (places * 2**32 // len(slots) + 1).astype(U32)
    same(buffer.buffer_draw(slots, len(slots), bits, np.ones(4), x, 0.0)[0], x)


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
    parts = ending(28, (1, size), 1) if size < 0 else reserve((1, size), F)
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
    "bits": lambda: noise_rows("noise_bits", U32),
    "uniform": lambda: noise_rows("noise_uniform", F),
    "normal": lambda: noise_rows("noise_normal", F),
    "philox": noise_words,
    "index": noise_indices,
    "permutation": noise_order,
    "langevin step": langevin_steps,
    "langevin start": langevin_starts,
    "langevin chain": langevin_chain,
    "buffer, rows of x": buffer_rows,
    "buffer, places": buffer_places,
    "buffer, slots": buffer_slots,
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
}
SMALL = {"chain_pack"}  # launched, but fewer than 2^30 numbers: chain.PARAMS


def run_case(name, sources=None):
    with on(Far(extra=sources or {})):
        CASES[name]()
