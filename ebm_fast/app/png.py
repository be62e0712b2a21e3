"""Pictures without a plotting library: a PNG writer on zlib, and grids of samples."""

from __future__ import annotations

import base64
import struct
import zlib
from math import ceil, sqrt

import numpy as np

from ebm_ref.contracts import Array, ShapeError

INK = np.array([[68, 1, 84], [59, 82, 139], [33, 145, 140], [94, 201, 98], [253, 231, 37]], dtype=np.float64)


def png_bytes(pixels: Array) -> bytes:
    """The PNG file of `pixels`: uint8, (H, W) grey or (H, W, 3) RGB."""
    if pixels.dtype != np.uint8 or not (pixels.ndim == 2 or (pixels.ndim == 3 and pixels.shape[2] == 3)):
        raise ShapeError(f"pixels: expected uint8 (H, W) or (H, W, 3), found {pixels.dtype} {pixels.shape}")
    height, width = pixels.shape[:2]
    rows = pixels.reshape(height, -1)
    filtered = np.concatenate([np.zeros((height, 1), dtype=np.uint8), rows], axis=1)  # filter type 0 before each row
    header = struct.pack(">IIBBBBB", width, height, 8, 0 if pixels.ndim == 2 else 2, 0, 0, 0)
    chunks = [(b"IHDR", header), (b"IDAT", zlib.compress(filtered.tobytes(), 9)), (b"IEND", b"")]
    body = b"".join(
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data)) for kind, data in chunks
    )
    return b"\x89PNG\r\n\x1a\n" + body


def png_uri(pixels: Array) -> str:
    """`pixels` as a data URI that an HTML page can embed."""
    return "data:image/png;base64," + base64.b64encode(png_bytes(pixels)).decode()


def grid_pixels(images: Array, box: tuple[float, float], columns: int | None = None, side: int = 48) -> Array:
    """A grid of images (N, H, W, C), C = 1 or 3, `box` mapped to 0..255, each enlarged to about `side` pixels.

    Enlarging repeats pixels (nearest neighbour), so that what the chain holds is what is shown.
    """
    n, height, width, channels = images.shape
    if channels not in (1, 3):
        raise ShapeError(f"images: expected 1 or 3 channels to draw, found {channels}")
    columns = columns or ceil(sqrt(n))
    rows, zoom, gap = ceil(n / columns), max(1, round(side / max(height, width))), max(2, side // 16)
    low, high = box
    levels = np.clip((images - low) / (high - low) * 255, 0, 255).round().astype(np.uint8)
    cell_h, cell_w = height * zoom + gap, width * zoom + gap
    canvas = np.full((rows * cell_h + gap, columns * cell_w + gap, channels), 24, dtype=np.uint8)
    for i, level in enumerate(levels):
        top, left = gap + (i // columns) * cell_h, gap + (i % columns) * cell_w
        canvas[top : top + height * zoom, left : left + width * zoom] = level.repeat(zoom, axis=0).repeat(zoom, axis=1)
    return canvas[:, :, 0] if channels == 1 else canvas


def plane_pixels(level: Array, points: Array, extent: tuple[float, float, float, float]) -> Array:
    """A height map (n, n), row 0 at the bottom, in colour (dark = low), with the points (N, 2); (n, n, 3).

    A point is white where the map is dark and black where it is bright.
    """
    size = level.shape[0]
    spread = max(float(level.max() - level.min()), 1e-12)
    place = (level - level.min()) / spread * (len(INK) - 1)
    below = np.minimum(place.astype(int), len(INK) - 2)
    share = (place - below)[..., None]
    canvas = (INK[below] * (1 - share) + INK[below + 1] * share).round().astype(np.uint8)[::-1].copy()
    left, right, bottom, top = extent
    column = np.floor((points[:, 0] - left) / (right - left) * size).astype(int)
    row = np.floor((top - points[:, 1]) / (top - bottom) * size).astype(int)
    inside = (column >= 0) & (column < size) & (row >= 0) & (row < size)
    under = canvas[row[inside], column[inside]]  # (points inside, 3)
    canvas[row[inside], column[inside]] = np.where(under.mean(axis=1, keepdims=True) < 112, 255, 0)
    return canvas
