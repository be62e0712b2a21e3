"""`ebm eval`: what it prints and saves beside the likelihood, each figure with its standard error."""

import json
from pathlib import Path

import numpy as np
import pytest
from app_runs import error_line, run, train

from ebm_fast.app.annealing import density_box, temperature
from ebm_fast.app.fidelity import distances, jackknife
from ebm_fast.app.main import main
from ebm_fast.app.results import model_chains
from ebm_fast.app.run import run_open
from ebm_fast.app.separation import fpr95
from ebm_ref.evaluation import aupr_in, aupr_out, fpr_at_tpr, log_z_quadrature, nll, temperature_fit

SMALL = ["energy.kind=MLPEnergy", "hidden=[8]", "batch=16", "K=2", "run.report=false"]
ANNEALED = ("--ais", "--chains", "48", "--temperatures", "60")


@pytest.fixture(scope="module")
def jem(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict]:
    """(folder, summary) of a classifier of digits, evaluated with all that can be asked for."""
    folder = tmp_path_factory.mktemp("jem")
    command = ["train", "digits", "--method", "jem", "--backend", "ebm_ref", "--steps", "40", "--out", str(folder)]
    run(*command, "--set", *SMALL, "M=1000")
    run("eval", str(folder), "--pgd", "--eps", "0.02", "--ais", "--chains", "6", "--temperatures", "5", "--json")
    return folder, json.loads((folder / "summary.json").read_text())


@pytest.fixture(scope="module")
def plane(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("plane") / "run"
    run(*train(folder, "--steps", "8", sets=("sigma=0.3",)))
    return folder


def test_eval__ais_finds_the_log_z_of_quadrature(plane: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """In the plane the density that annealing aims at, exp(-E / T) on the box, is integrated exactly."""
    capsys.readouterr()
    run("eval", str(plane), *ANNEALED)
    text = capsys.readouterr().out
    summary = json.loads((plane / "summary.json").read_text())
    opened, state = run_open(plane)
    model, T, box = opened.model(state), temperature(opened, opened.model(state)), density_box(opened)
    assert T == pytest.approx(opened.config.train.sigma**2 / (2 * opened.config.train.eta))

    class Cooled:
        shape = (2,)

        def energy(self, theta, x):
            return model.energies(x.astype(opened.data.train.dtype)) / T

    exact = log_z_quadrature(Cooled(), model.theta, box).log_z
    assert abs(summary["ais_log_z"] - exact) < 5 * summary["ais_log_z_se"] + 0.02
    nats = float((model.energies(opened.data.test) / T).mean()) + summary["ais_log_z"]
    assert summary["ais_nll"] == pytest.approx(nats) and summary["ais_nll_se"] > 0
    assert f"+- {summary['ais_log_z_se']:.2g}" in text


def test_eval__reverse_ais_from_approximate_samples_claims_no_bound(jem: tuple[Path, dict]) -> None:
    _, summary = jem
    assert summary["ais_bound"] == "lower" and "if every move keeps its gamma_k" in summary["ais_holds"]
    assert summary["ais_reverse_bound"] is None and summary["ais_reverse_holds"].startswith("No bound")
    assert summary["ais_width"] == pytest.approx(summary["ais_reverse_log_z"] - summary["ais_log_z"])
    assert summary["ais_chains"] == [6, 6] and summary["ais_temperatures"] == 5
    assert "exp(-E / 0.0045) on [-1, 1]^64" in summary["ais_density"]


def test_eval__bits_per_dim_follow_from_log_z(jem: tuple[Path, dict]) -> None:
    """Both are means over the same images and draws, so they differ by log Z alone."""
    _, summary = jem
    gap = summary["ais_reverse_bits_per_dim"] - summary["ais_bits_per_dim"]
    assert gap == pytest.approx(summary["ais_width"] / (64 * np.log(2)))
    per_dim = summary["ais_nll"] / (64 * np.log(2)) + np.log2(17) - 1  # without the noise of the dequantisation
    assert summary["ais_bits_per_dim"] == pytest.approx(per_dim, abs=0.5)


def test_eval__separation_has_every_score(jem: tuple[Path, dict]) -> None:
    folder, summary = jem
    opened, state = run_open(folder)
    model = opened.model(state)
    inside, outside = -model.energies(opened.data.test), -model.energies(-opened.data.test)
    for name, estimate in (("aupr_in", aupr_in(inside, outside)), ("aupr_out", aupr_out(inside, outside))):
        assert summary[f"{name}_inverted"] == pytest.approx(estimate.value)
        assert summary[f"{name}_inverted_se"] == pytest.approx(estimate.se)
    typical = np.abs(model.energies(opened.data.train).mean() + np.stack([inside, outside]))
    wins = (typical[0][:, None] < typical[1][None, :]).mean()
    assert summary["auroc_inverted_typicality"] == pytest.approx(wins, abs=1e-3)
    for score in ("typicality", "grad_norm", "max_softmax"):
        assert 0 <= summary[f"auroc_letters_{score}"] <= 1 and summary[f"auroc_letters_{score}_se"] >= 0
    assert summary["fpr95_letters_se"] >= 0


def test_eval__calibration_is_fitted_on_the_other_half(jem: tuple[Path, dict]) -> None:
    folder, summary = jem
    opened, state = run_open(folder)
    F, y = opened.model(state).logits(opened.data.test), opened.data.test_labels
    T = temperature_fit(F[::2], y[::2]).temperature
    assert (summary["temperature"], summary["temperature_se"]) == pytest.approx(tuple(T))
    assert summary["nll_before"] == pytest.approx(nll(F[1::2], y[1::2]).value)
    assert summary["nll_after"] == pytest.approx(nll(F[1::2] / T.value, y[1::2]).value)
    assert {"ece_before_se", "ece_after_se", "nll_after_se", "probe_accuracy_se"} <= set(summary)
    assert summary["probe_accuracy"] > 0.3


def test_eval__pgd_lowers_the_accuracy(jem: tuple[Path, dict]) -> None:
    _, summary = jem
    assert summary["robust_accuracy"] < summary["accuracy"] and summary["robust_accuracy_se"] > 0
    assert "eps = 0.02" in summary["robust_attack"] and "upper bound" in summary["robust_attack"]


def test_eval__feature_distances_are_saved_with_what_they_are_of(jem: tuple[Path, dict], plane: Path) -> None:
    _, summary = jem
    for name in ("frechet_feature", "mmd_rbf", "frechet_feature_real", "mmd_rbf_real", "class_score"):
        assert np.isfinite(summary[name]) and summary[f"{name}_se"] > 0
    assert summary["features"] == "100 hidden units of the classifier; 500 samples a set"
    of_plane = json.loads((plane / "summary.json").read_text())
    assert of_plane["features"] == "2 principal components of the training data; 32 samples a set"


def test_distances__of_two_gaussians_against_the_closed_form() -> None:
    """|mu|^2 = 4 and 3 (2 - 1)^2 = 3 in three axes; the real halves are 0 but for a bias of O(F / n)."""
    rng = np.random.default_rng(3)
    far = 2 * rng.normal(size=(2000, 3)) + np.array([2.0, 0.0, 0.0])
    found = distances(rng.normal(size=(4000, 3)), far, "axes")
    assert found["features"] == "axes; 2000 samples a set"
    assert abs(found["frechet_feature"] - 7) < 4 * found["frechet_feature_se"] < 1.5
    assert found["frechet_feature_real"] < 0.05 and abs(found["mmd_rbf_real"]) < 0.01 < found["mmd_rbf"]


@pytest.mark.parametrize(
    ("more", "says"),
    [
        (["--chains", "9"], "--chains: expected --ais"),
        (["--eps", "0.1"], "--eps: expected --pgd"),
        (["--ais", "--chains", "1"], "--chains"),
        (["--pgd", "--eps", "-1"], "--eps"),
        (["--pgd"], "--pgd: expected a classifier"),
    ],
)
def test_eval__bad_requests_are_refused(
    more: list[str], says: str, plane: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    capsys.readouterr()
    assert main(["eval", str(plane), *more]) == 2
    assert says in error_line(capsys)


def test_fpr95__error_is_the_spread_over_samples() -> None:
    rng = np.random.default_rng(1)
    draw = lambda: (rng.normal(size=400), rng.normal(-1, size=400))  # noqa: E731
    errors = [fpr95(*draw()).se for _ in range(20)]
    truth = np.std([fpr_at_tpr(*draw()) for _ in range(1000)])
    assert np.mean(errors) == pytest.approx(truth, rel=0.15) and np.std(errors) < 0.3 * truth


def test_jackknife__of_a_difference_of_means_is_its_standard_error() -> None:
    rng = np.random.default_rng(2)
    errors = []
    for _ in range(40):
        a, b = rng.normal(size=(200, 1)), rng.normal(size=(200, 1))
        found = jackknife(lambda x, y: float(x.mean() - y.mean()), a, b)
        assert found.value == pytest.approx(a.mean() - b.mean())
        errors.append(found.se)
    assert np.mean(errors) == pytest.approx(np.sqrt(2 / 200), rel=0.15)


def test_model_chains__are_what_reverse_ais_starts_from(plane: Path) -> None:
    opened, state = run_open(plane)
    chains, origin = model_chains(opened, state, opened.model(state))
    assert origin == "32 of 32 persistent chains" and chains.shape == (32, 2)
