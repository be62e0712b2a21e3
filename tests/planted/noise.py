"""Wrong draws: words at the wrong address, uniforms that are 0, normals out of place."""

import numpy as np

from ebm_fast.verify import naive


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
