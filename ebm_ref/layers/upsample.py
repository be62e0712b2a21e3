"""Nearest-neighbour upsampling: each pixel twice in both directions.

    upsample_forward:   y[n, 2h + a, 2w + b, c] = x[n,h,w,c]                          a, b in {0, 1}
    upsample_backward:  dx[n,h,w,c] = sum_{a,b} dy[n, 2h + a, 2w + b, c]

Source: Odena, Dumoulin & Olah 2016, Deconvolution and Checkerboard Artifacts (resize, then convolve).
Works on arrays and, for the fields' products and the energies' levels 2 and 3, on Jets.
Twins: none of its own (inside the fast fields).
"""

from __future__ import annotations

import numpy as np

from ..contracts import Array, ShapeError, check_array


def upsample_forward(x: Array) -> Array:
    """y[n, 2h + a, 2w + b, c] = x[n,h,w,c].

    x: (N, H, W, C)   returns y: (N, 2H, 2W, C). Raises ShapeError, DTypeError.
    """
    check_array("x", x, ndim=4)
    N, H, W, C = x.shape
    y = np.broadcast_to(x.reshape((N, H, 1, W, 1, C)), (N, H, 2, W, 2, C))
    return y.reshape((N, 2 * H, 2 * W, C))  # (N, 2H, 2W, C)


def upsample_backward(dy: Array) -> Array:
    """dx[n,h,w,c] = sum_{a,b} dy[n, 2h + a, 2w + b, c].

    dy: (N, 2H, 2W, C)   returns dx: (N, H, W, C). Raises ShapeError, DTypeError.
    """
    check_array("dy", dy, ndim=4)
    N, P, Q, C = dy.shape
    if P % 2 or Q % 2:
        raise ShapeError(f"dy: expected even numbers of pixels, found shape {tuple(dy.shape)}")
    dx: Array = dy.reshape((N, P // 2, 2, Q // 2, 2, C)).sum(axis=(2, 4))  # (N, H, W, C)
    return dx
