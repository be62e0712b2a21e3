"""exp, log, tanh, the normal distribution and sin/cos for `Lanes`.

float64 calls the C library lane by lane. float32 is range reduction and a polynomial in float32
arithmetic (the log, tanh, sin and cos polynomials are those of Moshier's Cephes library; those of exp
and of the normal distribution are least-maximum fits), relative error below 4e-7 where a function is not
near its zeros, of the normal distribution below 7e-7 + 6e-8 x^2. A NaN stays NaN. In float32 exp is 0
below -87.7 and infinite above 88.4, so that x sigmoid(x) and x density(x) vanish for every large x as
they should.

With NUMBA_DISABLE_JIT=1 both precisions use NumPy and the C library.
"""

from __future__ import annotations

import math

import numpy as np
from numba.extending import overload

from .. import scalar
from .build import inner
from .lanes import (
    POW2_AT,
    vabs,
    vangle,
    vfma,
    vlibm,
    vlike,
    vmax,
    vmin,
    vnumbers,
    vpow2,
    vreciprocal,
    vsplit,
    vsqrt,
    vturn,
    vwhere,
)
from .registers import Lanes

LOG2_E, LN_2 = 1.44269504088896341, 0.69314718055994531
LN2_HIGH, LN2_LOW = 0.693359375, -2.12194440e-4
TANH_EDGE = 0.625
CDF_EDGE = 1.41
LOG1P_EDGE = 0.41421356  # sqrt 2 - 1


@inner
def exp32(x):
    """exp(x)."""
    return exp_within(vmax(-88.0, vmin(89.0, x)))


@inner
def exp_within(x):
    """exp(x), -88 <= x <= 89; 2^-127 and 2^128 are 0 and infinity."""
    fraction, power = exp_parts(x)
    return fraction * power


@inner
def exp_parts(x):
    """exp(r), 2^n, x = n ln 2 + r, -88 <= x <= 89: exp(r) = 1 + r (1 + r P(r))."""
    t = vfma(x, LOG2_E, vlike(x, POW2_AT))
    n = t - POW2_AT
    r = vfma(n, -LN2_LOW, vfma(n, -LN2_HIGH, x))
    p = vfma(r, 1.3817458356900766e-3, vlike(r, 8.36872532670848e-3))
    p = vfma(p, r, 4.166834571307558e-2)
    p = vfma(p, r, 1.6666520641273275e-1)
    p = vfma(p, r, 4.9999993553959815e-1)
    p = vfma(p, r, 1.0)
    return vfma(p, r, 1.0), vpow2(t)


@inner
def log32(x):
    """log(x), x positive and normal: x = (1 + r) 2^e, r + r^2 P(r) + e ln 2."""
    m, e = vsplit(x)
    return log_of(m - 1.0, e)


@inner
def log_of(r, e):
    """log((1 + r) 2^e), 1 + r in [1/sqrt2, sqrt2)."""
    p = vfma(r, 7.0376836292e-2, vlike(r, -1.1514610310e-1))
    p = vfma(p, r, 1.1676998740e-1)
    p = vfma(p, r, -1.2420140846e-1)
    p = vfma(p, r, 1.4249322787e-1)
    p = vfma(p, r, -1.6668057665e-1)
    p = vfma(p, r, 2.0000714765e-1)
    p = vfma(p, r, -2.4999993993e-1)
    p = vfma(p, r, 3.3333331174e-1)
    p = vfma(p, r, -0.5)
    return vfma(e, LN_2, vfma(p, r * r, r))


@inner
def tanh32(x):
    """x + x^3 P(x^2) below 0.625, else sign(x) (1 - 2 / (exp(2 |x|) + 1)), which is 1 from |x| = 20 on."""
    z = x * x
    p = vfma(z, -5.70498872745e-3, vlike(z, 2.06390887954e-2))
    p = vfma(p, z, -5.37397155531e-2)
    p = vfma(p, z, 1.33314422036e-1)
    p = vfma(p, z, -3.33332819422e-1)
    small = vfma(p * z, x, x)
    fraction, power = exp_parts(2.0 * vmin(20.0, vabs(x)))
    large = 1.0 - 2.0 * vreciprocal(vfma(fraction, power, 1.0))
    return vwhere(vabs(x) - TANH_EDGE, vwhere(-x, -large, large), small)


@inner
def normal32(x):
    """Phi(x), phi(x): 1/2 + x P(x^2) below 1.41; else the tail phi-like exp(-x^2/2) t Q(t), t = 1/(1 + 0.4 |x|)."""
    z = x * x
    p = vfma(z, 4.323726727761823e-07, vlike(z, -8.841747330734506e-06))
    p = vfma(p, z, 0.00011462955444585532)
    p = vfma(p, z, -0.0011867654975503683)
    p = vfma(p, z, 0.009973367676138878)
    p = vfma(p, z, -0.06649035215377808)
    p = vfma(p, z, 0.3989422917366028)
    middle = vfma(p, x, 0.5)
    bell = exp32(-0.5 * z)
    t = vreciprocal(vfma(vmin(1e30, vabs(x)), 0.4, 1.0))
    q = vfma(t, 0.0694456622004509, vlike(t, -0.18974988162517548))
    q = vfma(q, t, 0.10870809108018875)
    q = vfma(q, t, 0.05381656438112259)
    q = vfma(q, t, 0.13948014378547668)
    q = vfma(q, t, 0.1590326875448227)
    q = vfma(q, t, 0.15959954261779785)
    tail = q * t * bell
    return vwhere(vabs(x) - CDF_EDGE, vwhere(x, 1.0 - tail, tail), middle), bell * scalar.INV_SQRT_2PI


@inner
def sincos32(x):
    """sin x, cos x, |x| <= pi / 4."""
    z = x * x
    p = vfma(z, -1.9515295891e-4, vlike(z, 8.3321608736e-3))
    p = vfma(p, z, -1.6666654611e-1)
    q = vfma(z, 2.443315711809948e-5, vlike(z, -1.388731625493765e-3))
    q = vfma(q, z, 4.166664568298827e-2)
    return vfma(p * z, x, x), vfma(q * z, z, vfma(z, -0.5, 1.0))


# --------------------------------------------- by precision (these bodies run when the compiler is off)


def vexp(x):
    """exp(x)."""
    with np.errstate(over="ignore"):
        return np.exp(x)


def vlog(x):
    """log(x), x > 0."""
    return np.log(x)


def vlog1p(x):
    """log(1 + x), x in [0, 1]."""
    return np.log1p(x)


def vtanh(x):
    """tanh(x)."""
    return np.tanh(x)


def vsigmoid(x):
    """1 / (1 + exp(-x))."""
    return 1 / (1 + vexp(-x))


def vnormal(x):
    """Phi(x), phi(x) of the standard normal."""
    cdf = 0.5 * vlibm("erfc", x * -scalar.INV_SQRT_2)
    return cdf.astype(x.dtype), vexp(-0.5 * x * x) * x.dtype.type(scalar.INV_SQRT_2PI)


def vsincos(x):
    """sin x, cos x, |x| <= pi / 4."""
    return np.sin(x), np.cos(x)


@inner
def log1p32(x):
    """log(1 + x), x in [0, 1]: 1 + x itself is never rounded, so a small x loses nothing."""
    large = x - LOG1P_EDGE
    return log_of(vwhere(large, (x - 1.0) * 0.5, x), vwhere(large, vlike(x, 1.0), vlike(x, 0.0)))


@inner
def normal64(x):
    density = vlibm("exp", -0.5 * x * x) * scalar.INV_SQRT_2PI
    return 0.5 * vlibm("erfc", x * -scalar.INV_SQRT_2), density


def single(x):
    """Whether the type `x` is lanes of float32; raises on anything but Lanes."""
    if not isinstance(x, Lanes):
        raise TypeError(f"expected Lanes, found {x}")
    return x.element.bitwidth == 32


@overload(vexp)
def vexp_by_type(x):
    return (lambda x: exp32(x)) if single(x) else (lambda x: vlibm("exp", x))


@overload(vlog)
def vlog_by_type(x):
    return (lambda x: log32(x)) if single(x) else (lambda x: vlibm("log", x))


@overload(vlog1p)
def vlog1p_by_type(x):
    return (lambda x: log1p32(x)) if single(x) else (lambda x: vlibm("log1p", x))


@overload(vtanh)
def vtanh_by_type(x):
    return (lambda x: tanh32(x)) if single(x) else (lambda x: vlibm("tanh", x))


@overload(vsigmoid)
def vsigmoid_by_type(x):
    return (lambda x: sigmoid32(x)) if single(x) else (lambda x: 1.0 / (1.0 + vlibm("exp", -x)))


@overload(vnormal)
def vnormal_by_type(x):
    return (lambda x: normal32(x)) if single(x) else (lambda x: normal64(x))


@overload(vsincos)
def vsincos_by_type(x):
    return (lambda x: sincos32(x)) if single(x) else (lambda x: (vlibm("sin", x), vlibm("cos", x)))


@inner
def sigmoid32(x):
    """1 / (1 + exp(-x)), 0 below -87."""
    fraction, power = exp_parts(-vmin(87.0, x))
    s = vreciprocal(vfma(fraction, power, 1.0))
    return vwhere(-87.0 - x, vlike(x, 0.0), s)


@inner
def vsoftplus(x):
    """max(x, 0) + log(1 + exp(-|x|))."""
    return vmax(0.0, x) + vlog1p(vexp(-vabs(x)))


@inner
def box_muller(S, first, second):
    """sqrt(-2 ln u) (cos a, sin a), u = 2^-32 (first + 1/2), a = pi 2^-31 second: two normals of two words."""
    radius = vsqrt(-2.0 * vlog((vnumbers(S, first) + 0.5) * 2.0**-32))
    sine, cosine = vsincos(vangle(S, second) * (math.pi / 2))
    sine, cosine = vturn(second, sine, cosine)
    return radius * cosine, radius * sine
