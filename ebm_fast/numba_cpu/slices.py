"""The vocabulary of `lanes` without the compiler: a register is a NumPy array of as many elements."""

from __future__ import annotations

import math

import numpy as np

from .registers import HALF, ONE, WHOLE, HalfArray, OneArray, lane_count

vmax, vmin, vsqrt, vabs = np.maximum, np.minimum, np.sqrt, np.abs


def vload(array, index):
    return array[index : index + vcount(array)].copy()


def vstore(array, index, value):
    array[index : index + vcount(array)] = value


def vstore4(array, index, *rows):
    array.reshape(-1)[index : index + 4 * len(rows[0])] = np.stack(rows, axis=1).ravel()


def vstore_first(array, index, value, number):
    number = min(max(number, 0), len(value))
    array[index : index + number] = value[:number]


def vsplat(array, index):
    return np.full(vcount(array), array[index])


def vcount(array):
    part = ONE if isinstance(array, OneArray) else (HALF if isinstance(array, HalfArray) else WHOLE)
    return lane_count(array.dtype, part)


def vwords(array, words, index):
    return words[index : index + vcount(array)].copy()


def vword(array, word):
    return np.full(vcount(array), word, np.uint64)


def vcounting(array, word):
    return word + np.arange(vcount(array), dtype=np.uint64)


def vnumbers(array, words):
    return words.astype(array.dtype)


def vangle(array, words):
    return (words.astype(np.uint32) << 2).view(np.int32).astype(array.dtype) * array.dtype.type(2.0**-32)


def vturn(words, sine, cosine):
    turns = (words + (1 << 29)) >> 30 & 3
    odd = turns % 2 == 1
    sine, cosine = np.where(odd, cosine, sine), np.where(odd, sine, cosine)
    return np.where(turns >= 2, -sine, sine), np.where(turns % 3 != 0, -cosine, cosine)


def vlike(x, number):
    return np.full_like(x, number)


def vfma(x, y, z):
    with np.errstate(invalid="ignore"):
        return x * y + z


def vouter(acc, x, array, index, step):
    numbers = array[index : index + len(acc[0]) * step : step]
    return tuple(
        tuple(vfma(y, v, sum) for v, sum in zip(numbers, row, strict=True)) for row, y in zip(acc, x, strict=True)
    )


def vwhere(x, y, z):
    return np.where(x > 0, y, z).astype(x.dtype)


def vpow2(t):
    return (t.view(np.int32) << 23).view(np.float32)


def vreciprocal(x):
    return 1 / x


def vsplit(x):
    mantissa, exponent = np.frexp(x)
    low = mantissa < np.float32(math.sqrt(0.5))
    return np.where(low, 2 * mantissa, mantissa), (exponent - low).astype(x.dtype)


def vlibm(name, x):
    return np.array([getattr(math, name)(lane) for lane in x], dtype=x.dtype)
