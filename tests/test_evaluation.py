"""ood and fidelity against brute force, closed forms and their stated direction."""

from math import erf

import numpy as np
import pytest

from ebm_ref.contracts import NonFiniteError, RangeError, ShapeError
from ebm_ref.evaluation.fidelity import precision_recall
from ebm_ref.evaluation.ood import auroc, fpr_at_tpr


def auroc_brute(scores_in: np.ndarray, scores_out: np.ndarray) -> float:
    wins = sum(1.0 if a > b else 0.5 if a == b else 0.0 for a in scores_in for b in scores_out)
    return wins / (len(scores_in) * len(scores_out))


@pytest.mark.parametrize("levels", [2, 5, 1000])
def test_auroc__is_the_equation_with_ties(levels: int) -> None:
    rng = np.random.default_rng(levels)
    for _ in range(20):
        a = rng.integers(0, levels, rng.integers(1, 30)).astype(np.float64)
        b = rng.integers(0, levels, rng.integers(1, 30)).astype(np.float64)
        assert auroc(a, b) == auroc_brute(a, b)


def test_auroc__direction_is_higher_for_data() -> None:
    """A low energy on data is a high score -E: a good energy gives 1, the flipped sign 0."""
    energy_data, energy_other = np.array([0.0, 1.0]), np.array([2.0, 3.0, 4.0])
    assert auroc(-energy_data, -energy_other) == 1.0
    assert auroc(energy_data, energy_other) == 0.0


def test_auroc__keeps_the_value_under_monotone_maps() -> None:
    rng = np.random.default_rng(0)
    a, b = rng.normal(size=40), rng.normal(size=50) - 1
    assert auroc(np.exp(a) + 7, np.exp(b) + 7) == auroc(a, b)


def test_auroc__of_shifted_gaussians_is_the_closed_form() -> None:
    rng = np.random.default_rng(1)
    a, b = rng.normal(size=4000) + 1.5, rng.normal(size=4000)
    closed = 0.5 * (1 + erf(1.5 / 2))  # Phi(d / sqrt 2)
    assert abs(auroc(a, b) - closed) < 4 * 0.006


def test_fpr_at_tpr__is_the_equation() -> None:
    rng = np.random.default_rng(2)
    for _ in range(30):
        a = rng.integers(0, 12, rng.integers(1, 60)).astype(np.float64)
        b = rng.integers(0, 12, rng.integers(1, 60)).astype(np.float64)
        thresholds = [t for t in np.unique(a) if np.mean(a >= t) >= 0.95 - 1e-12]
        assert fpr_at_tpr(a, b) == np.mean(b >= max(thresholds))


def test_fpr_at_tpr__perfect_separation_is_zero() -> None:
    assert fpr_at_tpr(np.arange(10.0, 30.0), np.arange(0.0, 10.0)) == 0.0
    assert fpr_at_tpr(np.arange(0.0, 10.0), np.arange(10.0, 30.0)) == 1.0


@pytest.mark.parametrize("function", [auroc, fpr_at_tpr])
def test_ood__bad_scores_are_refused(function) -> None:
    good = np.array([1.0, 2.0])
    with pytest.raises(ShapeError):
        function(good, np.zeros(0))
    with pytest.raises(ShapeError):
        function(np.zeros((2, 1)), good)
    with pytest.raises(NonFiniteError):
        function(good, np.array([0.0, np.nan]))
    with pytest.raises(RangeError):
        fpr_at_tpr(good, good, tpr=0.0)


def precision_brute(real: np.ndarray, fake: np.ndarray, k: int) -> float:
    inside = 0
    for f in fake:
        for i, r in enumerate(real):
            others = sorted(float(((r - o) ** 2).sum()) for j, o in enumerate(real) if j != i)
            if ((f - r) ** 2).sum() <= others[k - 1]:
                inside += 1
                break
    return inside / len(fake)


@pytest.mark.parametrize("k", [1, 3])
def test_precision_recall__is_the_equation(k: int) -> None:
    rng = np.random.default_rng(k)
    real, fake = rng.integers(-3, 4, (25, 2)) / 2, rng.integers(-3, 6, (18, 2)) / 2
    assert precision_recall(real, fake, k) == (precision_brute(real, fake, k), precision_brute(fake, real, k))


def test_precision_recall__tells_lost_modes_from_bad_samples() -> None:
    rng = np.random.default_rng(3)
    modes = np.where(rng.random((400, 1)) < 0.5, -5.0, 5.0)
    real = rng.normal(size=(400, 2)) + modes
    one_mode = rng.normal(size=(400, 2)) + 5.0
    scattered = rng.normal(size=(400, 2)) * 40
    precision, recall = precision_recall(real, one_mode)
    assert precision > 0.9 and 0.35 < recall < 0.65
    assert precision_recall(real, scattered)[0] < 0.2
    assert min(precision_recall(real[::2], real[1::2])) > 0.9


def test_precision_recall__bad_input_is_refused() -> None:
    points = np.zeros((6, 2))
    with pytest.raises(ShapeError):
        precision_recall(points[:5], points, k=5)
    with pytest.raises(ShapeError):
        precision_recall(points, np.zeros((9, 3)))
    with pytest.raises(NonFiniteError):
        precision_recall(points, np.full((9, 2), np.inf), k=2)
    with pytest.raises(RangeError):
        precision_recall(points, points, k=0)
