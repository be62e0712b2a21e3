"""Nearest neighbours: how far apart samples are, as a stand-in for their entropy.

    nearest_neighbour   rho_n = min_c |x_n - c| over the reference, and the c that attains it
    neighbour_spread    S = mean_n log max(rho_n, floor),  dS/dx_n = (x_n - c_n) / (N rho_n^2), or 0 below floor
    neighbour_entropy   H^ = (D/N) sum_n log rho_n + log V_D + log(N - 1) + gamma  (nats), rho_n within the sample,
                        V_D = pi^(D/2) / Gamma(D/2 + 1), gamma = 0.5772...                  (Kozachenko & Leonenko)

A reference that holds the query itself gives rho = 0 and a gradient that blows up: `same` leaves such pairs out, and
the floor bounds what is left. Distances are between flattened samples.

Source: Kozachenko & Leonenko 1987; Beirlant, Dudewicz, Gyorfi & van der Meulen 1997, Nonparametric entropy estimation,
section 2.4. Level: none. Twins: none; it works on any array that answers NumPy's calls.
"""

from __future__ import annotations

from math import lgamma, log, pi
from typing import Any

import numpy as np

from ..contracts import Array, DTypeError, ShapeError, check_array, check_number, flat_size


def nearest_neighbour(x: Array, reference: Array, same: Array | None = None) -> tuple[Array, Array]:
    """rho_n = min_c |x_n - c| and the nearest c.

    x: (N, *shape)   reference: (C, *shape), C >= 1   same: (N, C) bool, pairs left out, None = none
    returns rho (N,), nearest (N, *shape); rho is infinite where every pair is left out.
    Raises ShapeError, DTypeError, NonFiniteError.
    """
    check_neighbours(x, reference, same)
    N, C, D = x.shape[0], reference.shape[0], flat_size(x.shape[1:])
    d = x.reshape((N, 1, D)) - reference.reshape((1, C, D))  # (N, C, D)
    square = np.sum(d * d, axis=2)  # (N, C)
    if same is not None:
        square = np.where(same, np.inf, square)
    nearest = reference[np.argmin(square, axis=1)]  # (N, *shape)
    return np.sqrt(np.min(square, axis=1)), nearest


def check_neighbours(x: Array, reference: Array, same: Array | None) -> None:
    """Raise unless x, reference and same are what `nearest_neighbour` takes; arrays on a device are not read back."""
    host = isinstance(x, np.ndarray)
    check_array("x", x, finite=host)
    check_array("reference", reference, shape=(None, *x.shape[1:]), finite=host)
    N, C = x.shape[0], reference.shape[0]
    if C == 0:
        raise ShapeError("reference: expected at least one sample, found none")
    if reference.dtype != x.dtype:
        raise DTypeError(f"reference: expected x's {x.dtype}, found {reference.dtype}")
    if same is None:
        return
    if not hasattr(same, "dtype"):
        raise DTypeError(f"same: expected an array, found {type(same).__name__}")
    if tuple(same.shape) != (N, C) or same.dtype != np.bool_:
        raise ShapeError(f"same: expected ({N}, {C}) bool, found {same.dtype} {tuple(same.shape)}")


def neighbour_spread(x: Array, reference: Array, floor: float = 1e-3, same: Array | None = None) -> tuple[Array, Array]:
    """S = mean_n log max(rho_n, floor) and dS/dx; the reference is a constant.

    x: (N, *shape)   reference: (C, *shape)   floor > 0   same: (N, C) bool, pairs left out
    returns S (), dS/dx like x. Raises ShapeError, DTypeError, RangeError, NonFiniteError.
    """
    check_number("floor", floor, low=0.0, open_low=True)
    check_neighbours(x, reference, same)
    if x.shape[0] == 0:
        raise ShapeError("x: expected at least one sample, found none")
    rho, nearest = nearest_neighbour(x, reference, same)  # (N,), (N, *shape)
    far = rho > float(floor)  # (N,)
    rho = np.where(far, rho, np.zeros_like(rho) + float(floor))  # (N,)
    pull = np.where(far, 1 / (x.shape[0] * rho * rho), np.zeros_like(rho))  # (N,)
    spread: Any = np.mean(np.log(rho))  # ()
    return spread, (x - nearest) * pull.reshape((x.shape[0],) + (1,) * (x.ndim - 1))


def neighbour_entropy(x: Array) -> Array:
    """H^ = (D/N) sum_n log rho_n + log V_D + log(N - 1) + gamma, (), in nats; -inf where two samples are equal.

    x: (N, *shape), N >= 2. Raises ShapeError, DTypeError, NonFiniteError.
    """
    check_array("x", x, finite=isinstance(x, np.ndarray))
    N, D = x.shape[0], flat_size(x.shape[1:])
    if N < 2:
        raise ShapeError(f"x: expected at least two samples, found {N}")
    rho, _ = nearest_neighbour(x, x, np.eye(N, dtype=bool, like=x))  # (N,)
    log_ball = 0.5 * D * log(pi) - lgamma(0.5 * D + 1)
    mean: Any = np.mean(np.log(rho))  # ()
    entropy: Array = D * mean + (log_ball + log(N - 1) + np.euler_gamma)
    return entropy
