"""Twin of `conv2d`: convolution forwards and backwards, any kernel, stride, padding and channel count.

What differs: each direction is a matrix product whose left factor is gathered tile by tile into shared memory, so
no padded copy and no column matrix exists; dx visits, for each position modulo the stride, the taps that reach it and
multiplies no zero between pixels. Deterministic: no result depends on the grid. Not yet measured on a GPU.

The functions named `apply` trust their arguments; they serve the network energies and work on jets of `order`, whose
arrays have one more axis of order + 1 numbers.
"""

from __future__ import annotations

from dataclasses import astuple, dataclass
from typing import Any

import numpy as np

from ebm_ref.contracts import RangeError, check_array

from ..checks import check_conv, check_same_dtype
from .device import blocks, current, launch
from .limits import INT, PIXELS, check_fits
from .source import kernel
from .tree import CHUNK, MAX_Y, slab_chunks, tree_sum

NARROW = 4  # up to so many output columns a few lanes share one pixel; above, a thread owns 4 pixels x 4 columns
TILES = {  # pixels, columns: the tiles by name, each with pixels columns / 16 threads
    "wide": (64, 64),
    "middle": (64, 32),
    "slim": (128, 16),
}
FILTER_TILES = {"wide": (64, 64), "middle": (64, 32), "short": (16, 64), "thin": (128, 4)}  # filter rows, columns
EACH = 2  # wide tiles for each processor: with fewer the card would idle, so they are halved
THREADS = 256
MAX_BLOCKS = 2**20  # of the kernels that stride over their work


@dataclass(frozen=True)
class Geometry:
    """The sizes of one convolution: image H W C, filters R S O, output P Q, padding above and to the left."""

    H: int
    W: int
    C: int
    R: int
    S: int
    O: int
    stride: int
    P: int
    Q: int
    top: int
    left: int

    def ints(self) -> tuple[np.int32, ...]:
        """The fields as a kernel takes them."""
        return tuple(np.int32(size) for size in astuple(self))


def geometry(H: int, W: int, C: int, R: int, S: int, O: int, stride: int, padding: str) -> Geometry:
    """SAME: P = ceil(H / stride), the odd pixel of padding after; VALID: P = ceil((H - R + 1) / stride), no padding.

    Raises RangeError where the filters have 2^30 numbers or more, or the image as many pixels along a side.
    """
    if R * S * C * O > INT:
        raise RangeError(f"w: expected fewer than 2^30 numbers, found {R}x{S}x{C}x{O}")
    if max(H, W) > INT:
        raise RangeError(f"x: expected fewer than 2^30 pixels along a side, found {H}x{W}")
    stride = min(stride, max(H, W))  # beyond the image a longer stride changes nothing
    P, top = _extent(H, R, stride, padding)
    Q, left = _extent(W, S, stride, padding)
    return Geometry(H, W, C, R, S, O, stride, P, Q, top, left)


def _extent(size: int, kernel_size: int, stride: int, padding: str) -> tuple[int, int]:
    """Output size and padding before, along one axis."""
    if padding == "VALID":
        return blocks(size - kernel_size + 1, stride), 0
    out = blocks(size, stride)
    return out, max((out - 1) * stride + kernel_size - size, 0) // 2


def conv2d_apply(geo: Geometry, N: int, x: Any, w: Any, b: Any, y: Any, dtype: Any, order: int) -> None:
    """y = conv(x) + b, with `b` an array or None.   x: (N, H, W, C), y: (N, P, Q, O), jets of `order`."""
    columns, rows, depth = geo.O, N * geo.P * geo.Q, geo.R * geo.S * geo.C
    _launch_gather("conv2d_forward", geo, N, (x, w, b, y), columns, rows, depth, 1, dtype, order)


def conv2d_apply_dx(geo: Geometry, N: int, dy: Any, w: Any, dx: Any, dtype: Any, order: int, add: bool) -> None:
    """dx = (or, with `add`, +=) the adjoint of conv.   dy: (N, P, Q, O), dx: (N, H, W, C), jets of `order`."""
    row_steps, column_steps = min(geo.stride, geo.H), min(geo.stride, geo.W)  # one class of pixels for each pair
    rows = N * blocks(geo.H, row_steps) * blocks(geo.W, column_steps)  # of the largest class
    depth = blocks(geo.R, geo.stride) * blocks(geo.S, geo.stride) * geo.O
    arrays = (dy, w, dx, np.int32(add))
    _launch_gather("conv2d_backward_dx", geo, N, arrays, geo.C, rows, depth, row_steps * column_steps, dtype, order)


def _launch_gather(
    name: str, geo: Geometry, N: int, arrays: Any, columns: int, rows: int, depth: int, classes: int, dtype: Any,
    order: int,
) -> None:  # fmt: skip
    """One launch of a forward or dx kernel: the tile that wastes least on so many columns."""
    args = (*arrays, np.int32(N), *geo.ints())
    if columns <= NARROW:
        lanes = min(32, 1 << (depth - 1).bit_length())  # lanes that share one pixel's sum
        grid = (min(blocks(rows * lanes, THREADS), MAX_BLOCKS), 1, min(classes, MAX_Y))
        launch(kernel("conv2d.cu", f"{name}_narrow", dtype, order), grid, THREADS, (*args, np.int32(lanes)))
        return
    tile = "slim" if columns <= 16 else "middle" if columns <= 32 else "wide"
    if tile == "wide" and blocks(rows, 64) * blocks(columns, 64) * classes < EACH * current().processors:
        tile = "middle"  # the sums and their order are the same
    pixels, width = TILES[tile]
    grid = (blocks(rows, pixels), min(blocks(columns, width), MAX_Y), min(classes, MAX_Y))
    launch(kernel("conv2d.cu", f"{name}_{tile}", dtype, order), grid, pixels * width // 16, args)


def conv2d_apply_dw(
    geo: Geometry, N: int, x: Any, dy: Any, dw: Any, db: Any, dtype: Any, order: int, component: int
) -> None:
    """dw = sum_{n,p,q} x' dy and db = sum_{n,p,q} dy, of both the coefficient `component`.

    x: (N, H, W, C), dy: (N, P, Q, O), jets of `order`; dw: (R, S, C, O), db: (O,) or None: plain arrays. Chunks of
    CHUNK samples, then a fixed tree of pairs over the chunks: repeatable to the bit, on any card.
    """
    depth, columns = geo.R * geo.S * geo.C, geo.O
    size, split = (depth + 1) * columns, depth * columns
    dev, chunks = current(), max(blocks(N, CHUNK), 1)
    tile = "thin" if columns <= 4 else "short" if depth <= 16 else "middle" if columns <= 32 else "wide"
    height, width = FILTER_TILES[tile]
    partial = kernel("conv2d_dw.cu", f"conv2d_backward_dw_{tile}", dtype, order)
    slab = slab_chunks(chunks, size, np.dtype(dtype).itemsize)
    slabs = blocks(chunks, slab)
    parts = dev.empty((slab, size), dtype)
    sums = dev.empty((slabs, size), dtype) if slabs > 1 else None
    for i in range(slabs):
        here = min(slab, chunks - i * slab)
        grid = (blocks(depth, height), min(blocks(columns, width), MAX_Y), min(here, MAX_Y))
        args = (x, dy, parts, np.int32(N), *geo.ints(), np.int32(component), np.int64(i * slab), np.int32(here))
        launch(partial, grid, height * width // 16, args)
        if sums is not None:
            tree_sum(parts, here, size, sums[i : i + 1], None, size, dtype)
    rest = dev.empty((columns,), dtype) if db is None else db
    tree_sum(parts if sums is None else sums, chunks if sums is None else slabs, size, dw, rest, split, dtype)


# ------------------------------------------------------------------------------------------ public twins


def _check_fits(w: Any, **arrays: Any) -> None:
    check_fits("w", w, numbers=INT)
    for name, x in arrays.items():
        check_fits(name, x, axes=INT, pixels=PIXELS)


def _geometry_of(x: Any, w: Any, stride: int, padding: str) -> Geometry:
    R, S, C, O = w.shape
    return geometry(x.shape[1], x.shape[2], C, R, S, O, int(stride), padding)


def conv2d_forward(x: Any, w: Any, b: Any, stride: int = 1, padding: str = "SAME") -> Any:
    """y[n, p, q, o] = b[o] + sum_{r, s, c} x[n, p stride + r - top, q stride + s - left, c] w[r, s, c, o].

    x: (N, H, W, C); w: (R, S, C, O); b: (O,); returns (N, P, Q, O). Raises ShapeError, DTypeError, RangeError.
    """
    dev = current()
    _check_fits(x=x, w=w, b=b)
    x, w, b = dev.array("x", x), dev.array("w", w), dev.array("b", b)
    check_conv(x, w, stride, padding)
    check_array("b", b, shape=(w.shape[3],))
    check_same_dtype("b", b, x)
    geo, N = _geometry_of(x, w, stride, padding), x.shape[0]
    y = dev.empty((N, geo.P, geo.Q, geo.O), x.dtype)
    conv2d_apply(geo, N, x, w, b, y, x.dtype, 0)
    return y


def conv2d_backward(x: Any, w: Any, dy: Any, stride: int = 1, padding: str = "SAME") -> tuple[Any, Any, Any]:
    """dx, dw, db of sum(dy * conv2d_forward(x, w, b)).

    x: (N, H, W, C); w: (R, S, C, O); dy: (N, P, Q, O); returns like x, like w, (O,).
    Raises ShapeError, DTypeError, RangeError.
    """
    dev = current()
    _check_fits(x=x, w=w, dy=dy)
    x, w, dy = dev.array("x", x), dev.array("w", w), dev.array("dy", dy)
    check_conv(x, w, stride, padding)
    geo, N = _geometry_of(x, w, stride, padding), x.shape[0]
    check_array("dy", dy, shape=(N, geo.P, geo.Q, geo.O))
    check_same_dtype("dy", dy, x)
    dtype = x.dtype
    dx, dw, db = dev.empty(x.shape, dtype), dev.empty(w.shape, dtype), dev.empty((geo.O,), dtype)
    conv2d_apply_dx(geo, N, dy, w, dx, dtype, 0, False)
    conv2d_apply_dw(geo, N, x, dy, dw, db, dtype, 0, 0)
    return dx, dw, db
