"""The vocabulary of kernels: what may be done with vector registers, `Lanes`.

A kernel holds the same element of several samples in the lanes of a register: there is no
cross-lane operation in any network, so every channel count, group size and image width uses all
lanes. +, -, *, / and unary - work between two Lanes, or Lanes and a number (cast to the lanes'
type); per-element formulas written for numbers therefore compile for Lanes as they stand.

    vload(a, i)  vstore(a, i, x)      x = a[i : i + count] of a flat array; no bounds or wraparound checks
    vstore4(a, i, x, y, z, w)         a[i + 4 l : i + 4 l + 4] = lane l of x, y, z, w
    vstore_first(a, i, x, n)          the first n lanes of x, all or none where n is more or less than that
    vsplat(a, i)                      every lane = a[i]
    vcount(a)                         lanes of a register of a's elements
    vlike(x, number)                  every lane = number
    vfma(x, y, z) = x y + z           vmax vmin vsqrt vabs
    vwhere(x, y, z)                   y where x > 0, else z; vmax, vmin give y where x or y is NaN
    vouter(acc, x, a, i, step)        acc[m][j] + x[m] a[i + j step]: acc a tuple of tuples of registers, x of registers
    vreciprocal(x) = 1 / x, 1 <= x < 2^126, to the bit but where all bits of the mantissa are 1; float32
    vpow2(n + POW2_AT) = 2^n, n from -127 (gives 0) to 128 (infinity); to add POW2_AT rounds to an integer; float32
    vsplit(x) -> m in [1/sqrt2, sqrt2), e with x = m 2^e; float32, x normal
    vlibm(name, x)                    the C library's `name`, lane by lane

Words of 32 bits, in uint64, are lanes as well, as many as a has; between them go ^ & >> and *, of 32-bit factors:

    vword(a, w)  vcounting(a, w)      every lane = w; lane l = w + l
    vwords(a, words, i)               words[i : i + count]
    vnumbers(a, w)                    w as numbers of a's kind, rounded
    vangle(a, w)                      the angle 2^-30 w from the nearest quarter turn, in quarter turns: -1/2 to 1/2
    vturn(w, x, y) -> sine, cosine    x and y are those of vangle(w), turned by the nearest quarter turn of w

The type of the array says how many lanes a register has (`registers`): all, half of them or one. Without the compiler
(NUMBA_DISABLE_JIT=1) the same names act on NumPy slices of so many elements.
"""

from __future__ import annotations

from .build import JIT

POW2_AT = 1.5 * 2**23 + 127

if JIT:
    from .intrinsics import (
        vabs,
        vcount,
        vfma,
        vlibm,
        vlike,
        vload,
        vmax,
        vmin,
        vouter,
        vpow2,
        vreciprocal,
        vsplat,
        vsplit,
        vsqrt,
        vstore,
        vstore4,
        vstore_first,
        vwhere,
    )
    from .words import vangle, vcounting, vnumbers, vturn, vword, vwords
else:
    from .slices import (
        vabs,
        vangle,
        vcount,
        vcounting,
        vfma,
        vlibm,
        vlike,
        vload,
        vmax,
        vmin,
        vnumbers,
        vouter,
        vpow2,
        vreciprocal,
        vsplat,
        vsplit,
        vsqrt,
        vstore,
        vstore4,
        vstore_first,
        vturn,
        vwhere,
        vword,
        vwords,
    )

__all__ = [
    "POW2_AT",
    "vabs",
    "vangle",
    "vcount",
    "vcounting",
    "vfma",
    "vlibm",
    "vlike",
    "vload",
    "vmax",
    "vmin",
    "vnumbers",
    "vouter",
    "vpow2",
    "vreciprocal",
    "vsplat",
    "vsplit",
    "vsqrt",
    "vstore",
    "vstore4",
    "vstore_first",
    "vturn",
    "vwhere",
    "vword",
    "vwords",
]
