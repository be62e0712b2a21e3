"""Samples that are not the data: what an energy should tell apart.

Of images:
    letters   32 letters that cannot be read as digits, 12 faces, turned by up to 12 degrees
    uniform   U[-1, 1] per pixel        inverted  -x            rot90  quarter turns
    shuffled  one fixed permutation of the pixels               constant  one grey per image
Of vectors:
    anomalies the other classes of a table
    uniform   U[low, high] per column, the range of the training data
    shuffled  each column permuted by itself: the columns keep their laws and lose what ties them together

Made from the held-out samples; the same data give the same samples.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from ebm_fast.extras import require
from ebm_ref.contracts import Array

from .data import Dataset

LETTERS = "ACEFHKMNPRTUVWXYacdefhkmnrtuvwxy"
FACES = (
    *("DejaVuSans", "DejaVuSans-Bold", "DejaVuSans-Oblique", "DejaVuSansMono", "DejaVuSerif", "DejaVuSerif-Bold"),
    *("DejaVuSerif-Italic", "STIXGeneral", "STIXGeneralBol", "STIXGeneralItalic", "cmr10", "cmss10"),
)
MAX_ANGLE = 12.0
RENDER = 96  # pixels of the face before turning and fitting


def ood_names(data: Dataset) -> tuple[str, ...]:
    """The names that ood_sets_of has for such data, without making them."""
    if not data.is_image:
        return (*(["anomalies"] if data.anomalies is not None else []), "uniform", "shuffled")
    letters, square = has_letters(data), data.shape[0] == data.shape[1]
    images = ("uniform", "inverted", "shuffled", "constant")
    return (*(["letters"] if letters else []), *images, *(["rot90"] if square else []))


def has_letters(data: Dataset) -> bool:
    """Whether digits are the data, so that letters are something else."""
    return data.name in ("digits", "mnist5k")


def ood_sets_of(data: Dataset) -> dict[str, Array]:
    """Named arrays of samples that are not those of `data`."""
    return ood_sets(data.test, has_letters(data)) if data.is_image else vector_sets(data)


def vector_sets(data: Dataset) -> dict[str, Array]:
    """Named arrays (m, D)."""
    rng = np.random.default_rng(0)
    sets = {} if data.anomalies is None else {"anomalies": data.anomalies}
    low, high = data.train.min(axis=0), data.train.max(axis=0)  # (D,)
    sets["uniform"] = rng.uniform(low, high, data.test.shape).astype(data.test.dtype)
    sets["shuffled"] = rng.permuted(data.test, axis=0)
    return sets


def ood_sets(test: Array, letters: bool) -> dict[str, Array]:
    """Named arrays like the images `test` (m, H, W, C) in [-1, 1]; letters where they are digits, 8x8 or 28x28."""
    rng = np.random.default_rng(0)
    n, height, width, channels = test.shape
    pixels = height * width * channels
    sets = {
        "uniform": rng.uniform(-1, 1, test.shape).astype(test.dtype),
        "inverted": -test,
        "shuffled": test.reshape(n, pixels)[:, rng.permutation(pixels)].reshape(test.shape),
        "constant": np.broadcast_to(rng.uniform(-1, 1, (n, 1, 1, 1)), test.shape).astype(test.dtype),
    }
    if height == width:
        sets["rot90"] = np.rot90(test, axes=(1, 2)).copy()
    if letters:
        sets = {"letters": letter_images(height).astype(test.dtype)} | sets
    return sets


def letter_images(side: int) -> Array:
    """32 letters x 12 faces, each at one drawn angle, by the recipe of the digits of that size; (384, side, side, 1).

    8x8: the glyph fitted to a 32x32 bitmap, on-pixels counted in blocks of 4x4, 0..16 mapped to [-1, 1].
    otherwise: the glyph fitted to 20/28 of the side, its centre of mass in the middle, grey levels 0..255 to [-1, 1].
    """
    font_folder = Path(require("matplotlib", "plot").get_data_path()) / "fonts" / "ttf"
    fonts = require("PIL.ImageFont", "data")
    rng = np.random.default_rng(0)
    images = []
    for face in FACES:
        font = fonts.truetype(str(font_folder / f"{face}.ttf"), RENDER)
        for letter in LETTERS:
            glyph = glyph_bitmap(letter, font, rng.uniform(-MAX_ANGLE, MAX_ANGLE))
            images.append(fit_counted(glyph) if side == 8 else fit_centred(glyph, side))
    return np.stack(images)[..., None]  # (384, side, side, 1)


def glyph_bitmap(letter: str, font: Any, angle: float) -> Any:
    """One letter, turned, white on black, cut to its ink; a Pillow image."""
    image = require("PIL.Image", "data").new("L", (3 * RENDER, 3 * RENDER), 0)
    require("PIL.ImageDraw", "data").Draw(image).text((RENDER, RENDER), letter, fill=255, font=font)
    turned = image.rotate(angle, resample=require("PIL.Image", "data").Resampling.BILINEAR)
    return turned.crop(turned.getbbox())


def fit_counted(glyph: Any) -> Array:
    """The digits' own recipe: 32x32 bitmap, counts in 4x4 blocks; (8, 8) in [-1, 1]."""
    scale = min(32 / glyph.height, 26 / glyph.width)  # the real digits use the full height and about 26 columns
    width, height = (max(1, round(size * scale)) for size in glyph.size)
    ink = np.asarray(glyph.resize((width, height))) >= 128
    bitmap = np.zeros((32, 32))
    top, left = (32 - height) // 2, (32 - width) // 2
    bitmap[top : top + height, left : left + width] = ink
    counts = bitmap.reshape(8, 4, 8, 4).sum(axis=(1, 3))  # (8, 8) of 0..16
    return counts / 8 - 1


def fit_centred(glyph: Any, side: int) -> Array:
    """The recipe of the larger digits: a box of 20/28 of the side, centred by mass; (side, side) in [-1, 1]."""
    scale = side * 20 / 28 / max(glyph.size)
    width, height = (max(1, round(size * scale)) for size in glyph.size)
    grey = np.asarray(glyph.resize((width, height))).astype(float)
    rows, columns = np.indices(grey.shape)
    mass = grey.sum()
    top = round((side - 1) / 2 - float((rows * grey).sum() / mass))
    left = round((side - 1) / 2 - float((columns * grey).sum() / mass))
    top, left = (min(max(0, t), side - s) for t, s in ((top, height), (left, width)))
    canvas = np.zeros((side, side))
    canvas[top : top + height, left : left + width] = grey
    return canvas / 127.5 - 1
