"""The judge of the scoreboard: its numbers against closed forms, before any method is judged by them."""

import numpy as np
import pytest

import ebm_ref
from bench import densities, scoreboard, scoreboard_peers
from ebm_ref.contracts import RangeError


def log_normal(x, variance):
    return -(x**2).sum(axis=1) / (2 * variance) - np.log(2 * np.pi * variance)


def test_divergence__of_gaussians_is_the_closed_form():
    points, _ = densities.density_grid()
    p, q = log_normal(points, 0.3), log_normal(points, 0.2)
    want = 0.3 / 0.2 - 1 - np.log(0.3 / 0.2)  # two dimensions of (r - 1 - log r) / 2
    assert densities.divergence(p, q) == pytest.approx(want, abs=1e-9)
    assert densities.divergence(p, p) == 0


def test_density_model__normalises_the_energy():
    points, area = densities.density_grid()
    energy = ebm_ref.QuadraticEnergy((2,))
    theta = {"mu": np.zeros(2), "P": np.eye(2) / 0.3}
    log_q = densities.density_model(energy, theta)
    assert np.abs(log_q - log_normal(points, 0.3))[np.abs(points).max(axis=1) < 2].max() < 1e-9
    assert np.exp(log_q).sum() * area == pytest.approx(1, abs=1e-12)


@pytest.mark.parametrize("name", scoreboard.DENSITIES)
def test_density_target__is_normalised_with_and_without_noise(name):
    _, area = densities.density_grid()
    for level in (0.0, 0.3):
        assert np.exp(densities.density_target(name, level)).sum() * area == pytest.approx(1, abs=1e-12)


def test_density_target__noise_adds_variances():
    points, _ = densities.density_grid()
    wide = ebm_ref.toys._mixture_log_density(points, ebm_ref.toys.EIGHT_MEANS, np.full(8, 0.5), np.full(8, 0.125))
    noised = densities.density_target("eight_gaussians", (0.5**2 - 0.2**2) ** 0.5)
    inside = np.abs(points).max(axis=1) < 3
    assert np.abs(noised - wide)[inside].max() < 1e-3  # what leaves the box comes back by normalisation


@pytest.mark.parametrize(("name", "count"), [("eight_gaussians", 8), ("rings", 3), ("checkerboard", 8), ("banana", 1)])
def test_divergence_between__sees_masses_alone(name, count):
    log_p, parts = densities.density_target(name), densities.parts_of(name)
    assert len(np.unique(parts)) == count
    assert densities.divergence_between(log_p, log_p, parts) == 0
    weights = np.linspace(1, 2, count)
    q = np.exp(log_p) * weights[parts]
    log_q = np.log(np.maximum(q / (q.sum() * densities.density_grid()[1]), densities.TINY))
    between = densities.divergence_between(log_p, log_q, parts)
    assert between == pytest.approx(densities.divergence(log_p, log_q), abs=1e-9)
    assert (between > 1e-3) == (count > 1)


def test_density_sample__has_the_density_s_moments():
    x = densities.density_sample(densities.density_target("gaussian"), 20_000, 3)
    assert np.abs(x.mean(axis=0) - ebm_ref.toys.GAUSSIAN_MEAN).max() < 5 * 0.7 / 20_000**0.5
    assert np.abs(np.cov(x.T) - ebm_ref.toys.GAUSSIAN_ROOT @ ebm_ref.toys.GAUSSIAN_ROOT.T).max() < 0.03


def test_scoreboard__a_few_steps_bring_denoising_nearer_to_the_noised_density():
    entry = {e.name: e for e in scoreboard.ENTRIES}["dsm"]
    early, later = (scoreboard.score("gaussian", entry, steps)["kl"] for steps in (5, 150))
    assert later < early / 4
    assert scoreboard.score("gaussian", entry, 5)["target"] == "noised 0.3"


def test_scoreboard__refuses_a_density_without_a_closed_form():
    with pytest.raises(RangeError, match="density: expected one of .*, found 'two_moons'"):
        scoreboard.compare_methods(["two_moons"])


def test_scoreboard__says_why_a_peer_is_not_there(monkeypatch):
    monkeypatch.setattr(scoreboard_peers, "find_spec", lambda name: None)
    assert scoreboard_peers.why_not() == "needs torch, torchebm"
