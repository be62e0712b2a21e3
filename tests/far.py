"""Kernels of cupy_raw with arrays of more than 2^31 elements, on a machine that could not hold them: noise to buffer.

Each is launched on arrays that take addresses and no memory but where they are touched, and of the grid only the last
block runs. What it writes at the end of its arrays must be, to the bit, what the same kernel writes
for the end alone. Around each array lie 2^31 elements more, so that a place that wrapped round is read and written
there, and found wrong, instead of ending the process.
"""

import mmap
import sys
from math import prod

import numpy as np
import pytest

import ebm_ref
from ebm_fast.cupy_raw import buffer, langevin, limits, noise
from ebm_fast.cupy_raw.device import blocks, current, launch
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
    alive, counter = reserve((limits.SAMPLES,), np.bool_), np.zeros(2, U32)
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
