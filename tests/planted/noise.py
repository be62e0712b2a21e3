"""Wrong draws: words at the wrong address, uniforms that are 0, normals out of place, indices and orders off."""

import numpy as np

from ebm_fast.verify import naive


def philox_by(counter, key, rounds=10, step=0xBB67AE85):
    """Philox4x32 with rounds and a second key step of one's own."""
    out, word = np.empty(counter.shape, np.uint32), 2**32 - 1
    for place in np.ndindex(*counter.shape[:-1]):
        (c0, c1, c2, c3), (k0, k1) = map(int, counter[place]), map(int, key)
        for _ in range(rounds):
            a, b = 0xD2511F53 * c0, 0xCD9E8D57 * c2
            c0, c1, c2, c3 = (b >> 32) ^ c1 ^ k0, b & word, (a >> 32) ^ c3 ^ k1, a & word
            k0, k1 = (k0 + 0x9E3779B9) & word, (k1 + step) & word
        out[place] = c0, c1, c2, c3
    return out


def philox_with_a_digit_off(counter, key):
    return philox_by(counter, key, step=0xBB67AE84)


def philox_of_nine_rounds(counter, key):
    return philox_by(counter, key, rounds=9)


def philox_of_the_first_counter(counter, key):
    rows = counter.reshape(-1, 4)
    return np.broadcast_to(philox_by(rows[:1], key), rows.shape).reshape(counter.shape).copy()


def index_by_remainder(bits, n):
    return (bits % np.uint64(n)).astype(np.int64)


def index_in_double(bits, n):
    return (bits * (n / 2**32)).astype(np.int64)


def index_up_to_n(bits, n):
    return np.rint(bits * (n / 2**32)).astype(np.int64)


def words_of(seed, stream, step, n):
    return naive.noise_bits(seed, stream, step, np.zeros(1, np.int64), n)[0]


def permutation_turns_equals_round(seed, stream, step, n):
    words = words_of(seed, stream, step, n)
    return np.lexsort((-np.arange(n), words))


def permutation_of_a_heap(seed, stream, step, n):
    return np.argsort(words_of(seed, stream, step, n), kind="heapsort")


def permutation_is_the_rank(seed, stream, step, n):
    return np.argsort(naive.noise_permutation(seed, stream, step, n), kind="stable")


def permutation_with_gaps(seed, stream, step, n):
    return naive.noise_index(words_of(seed, stream, step, n), n) if n else np.empty(0, np.int64)


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
