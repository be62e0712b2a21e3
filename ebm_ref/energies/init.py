"""Start values of theta.

    theta_init:  a parameter's last name decides:
                 w: n / sqrt(fan_in), n ~ N(0, 1), fan_in = product of all axes but the last
                 b, beta: 0     gamma: 1
                 mu: n     P: identity     height, radius, stiffness: 1     logit, log_sigma, tilt: 0

The normals of the i-th parameter (order of theta_shapes) are those of chain i, step 0 of Stream.PARAMS_INIT, drawn
in float64 and then rounded: float32 and float64 runs start from the same point.

Source: LeCun et al. 1998, Efficient BackProp, section 4.6 (variance 1/fan_in).
Level: none. Twins: none.
"""

from __future__ import annotations

from collections.abc import Callable
from math import prod, sqrt
from typing import Any

import numpy as np

from ..contracts import Array, HasTheta, Params, RangeError, Stream, check_choice, check_count
from ..noise import noise_normal

START: dict[str, Callable[[tuple[int, ...], Array], Array]] = {
    "w": lambda shape, normals: normals / sqrt(prod(shape[:-1])),
    "mu": lambda shape, normals: normals,
    "P": lambda shape, normals: np.eye(shape[0]),
    **dict.fromkeys(("gamma", "height", "radius", "stiffness"), lambda shape, normals: np.ones(shape)),
    **dict.fromkeys(("b", "beta", "logit", "log_sigma", "tilt"), lambda shape, normals: np.zeros(shape)),
}


def theta_init(energy: HasTheta, seed: int, dtype: Any = np.float32) -> Params:
    """w ~ N(0, 1/fan_in), b = beta = 0, gamma = 1; the analytic energies' parameters by START.

    energy: any, or a field; its theta_shapes() are filled   seed: 0..2^64-1   dtype: float32 or float64
    returns theta. Raises DTypeError, RangeError.
    """
    check_count("seed", seed, low=0, high=2**64 - 1)
    check_choice("dtype", np.dtype(dtype).name, ("float32", "float64"))
    theta: Params = {}
    for i, (name, shape) in enumerate(energy.theta_shapes().items()):
        kind = name.rsplit(".", 1)[-1]
        if kind not in START:
            raise RangeError(f"theta_init: no start value is known for {name}; known: {', '.join(START)}")
        normals = noise_normal(seed, Stream.PARAMS_INIT, 0, np.array([i]), prod(shape)).reshape(shape)
        theta[name] = START[kind](shape, normals).astype(dtype)
    return theta
