"""Local intrinsic dimension: how many directions at a point are flat.

    hessian_eigenvalues   lambda_1 <= ... <= lambda_D of H(x_n) = grad_x grad_x' V, by D products H e_d
    intrinsic_dimension   the number of i with |lambda_i| < threshold

A diagnostic, not a theorem. For a smooth density on all of space the formal local dimension is D everywhere; what is
counted is how many directions are flat at the scale that the threshold sets, in units of V: at temperature tau the
spread along direction i is sqrt(tau / lambda_i), so that a threshold of tau / r^2 counts the directions in which a
sample moves by more than r. Published: 3 on MNIST, 2 on CIFAR-10.

Source: Balcerak et al. 2025, Energy Matching, arXiv:2504.10612, section on local intrinsic dimension.
Level: 2, D Hessian-vector products a point. Twins: none.
"""

from __future__ import annotations

import numpy as np

from ..contracts import Array, Energy2, Params, check_array, check_derivatives, check_number, flat_size


def hessian_eigenvalues(energy: Energy2, theta: Params, x: Array) -> Array:
    """The eigenvalues of H(x_n), from small to large.

    x: (N, *shape) NumPy array   returns (N, D) float64, of the symmetric part of H, which rounding alone tells from H.
    Raises ShapeError, DTypeError, NonFiniteError, BackendError (no level 2), SmoothnessError (relu).
    """
    check_derivatives("hessian_eigenvalues", energy, "hvp")
    check_array("x", x, shape=(None, *energy.shape), finite=True)
    N, D = x.shape[0], flat_size(energy.shape)
    H = np.empty((N, D, D))
    for d in range(D):
        e = np.zeros((N, D), x.dtype)
        e[:, d] = 1
        H[:, d] = energy.hvp(theta, x, e.reshape(x.shape)).reshape((N, D))
    eigenvalues: Array = np.linalg.eigvalsh((H + H.transpose(0, 2, 1)) / 2)
    return eigenvalues  # (N, D)


def intrinsic_dimension(energy: Energy2, theta: Params, x: Array, threshold: float) -> Array:
    """How many eigenvalues of H(x_n) have |lambda_i| < threshold.

    x: (N, *shape) NumPy array   threshold > 0, in units of the energy   returns (N,) integers, 0 to D.
    Raises RangeError, and what hessian_eigenvalues raises.
    """
    check_number("threshold", threshold, low=0.0, open_low=True)
    flat: Array = np.count_nonzero(np.abs(hessian_eigenvalues(energy, theta, x)) < float(threshold), axis=1)
    return flat
