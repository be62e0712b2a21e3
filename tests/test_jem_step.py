"""jem_step: its parts at their addresses, class blocks, restarts, balancing; jem_batch; a whole small training."""

from __future__ import annotations

import numpy as np
import pytest
from jem_cases import ALL, BOX, MLP, UPDATE, step_case

import ebm_ref
from ebm_ref.contracts import DataError, RangeError, Stream
from ebm_ref.energies import ClassifierEnergy, MLPEnergy
from ebm_ref.noise import noise_bits, noise_index, noise_normal, noise_uniform
from ebm_ref.objectives import (
    JEMTerms,
    jem,
    jem_batch,
    jem_step,
)
from ebm_ref.samplers import (
    buffer_start,
    class_buffer_start,
    class_gaussian_draw,
    class_gaussians,
    energy_target,
    jempp_run,
    langevin_run,
)
from ebm_ref.specs import SGLD


@pytest.mark.parametrize("conditional", [False, True])
def test_jem_step__is_its_parts_at_their_addresses(conditional):
    theta, x, x_lab, y, buffer = step_case()
    seed, t, K, chains, labelled = 9, 5, 3, np.arange(6), np.arange(6, 10)
    slots = buffer.slots.copy()

    def noised(s, ids):
        return np.clip(s + 0.2 * noise_normal(seed, Stream.DATA_NOISE, t, ids, 3), *BOX)

    def start(ids, classes):
        fresh = -1 + 2 * noise_uniform(seed, Stream.BUFFER_FRESH, t, ids, 3)
        bits = noise_bits(seed, Stream.BUFFER_INDEX, t, ids, 1)[:, 0]
        idx = noise_index(bits, 12) if classes is None else 3 * classes + noise_index(bits, 3)
        restart = noise_uniform(seed, Stream.BUFFER_MASK, t, ids, 1)[:, 0] < 0.4
        return np.where(restart[:, None], fresh, slots[idx]), idx, restart

    y_neg = noise_index(noise_bits(seed, Stream.CLASS_INDEX, t, chains, 1)[:, 0], 4) if conditional else None
    x0, idx, restart = start(chains, y_neg)
    x_neg, _ = langevin_run(MLP.given(y_neg) if conditional else MLP, theta, x0, K, UPDATE, seed, t * K)
    x0, idx_y, _ = start(labelled, y)
    x_neg_y, _ = langevin_run(MLP.given(y), theta, x0, K, UPDATE, seed, t * K, labelled)
    want = jem(MLP, theta, ALL, noised(x, chains), x_neg, noised(x_lab, labelled), y, x_neg_y)
    for place, state in [*zip(idx, x_neg, strict=True), *zip(idx_y, x_neg_y, strict=True)]:
        slots[place] = state

    args = (K, UPDATE, ALL, 0.2, 0.4, seed, t, BOX, "uniform", conditional)
    loss, grads, info = jem_step(ebm_ref, MLP, theta, x, x_lab, y, buffer, *args)
    assert loss == want[0] and all((grads[name] == want[1][name]).all() for name in theta)
    assert (info["x_neg"] == x_neg).all() and (info["x_neg_y"] == x_neg_y).all()
    assert (info["restart"] == restart).all() and 0 < restart.sum() < 6
    assert (buffer.slots == slots).all()
    if conditional:
        assert (info["y_neg"] == y_neg).all() and len(set(y_neg.tolist())) > 1


def test_jem_step__keeps_class_blocks_apart():
    """Every slot that changed lies in the block of a class that was drawn."""
    theta, x, x_lab, y, buffer = step_case(M=400)
    before = buffer.slots.copy()
    _, _, info = jem_step(
        ebm_ref, MLP, theta, x, x_lab, y, buffer, 2, UPDATE, JEMTerms(w_xy=1.0), 0.1, 0.2, 0, 0, BOX, conditional=True
    )
    moved = np.flatnonzero((buffer.slots != before).any(axis=1)) // 100
    assert sorted(moved) == sorted([*info["y_neg"], *y])


def test_jem_step__restarts_from_the_gaussians_of_the_classes():
    theta, x, x_lab, y, buffer = step_case()
    rng = np.random.default_rng(0)
    fit = class_gaussians(rng.uniform(-1, 1, (40, 3)), np.arange(40) % 4, 4)
    xi = noise_normal(9, Stream.BUFFER_FRESH, 5, np.arange(6), 3)
    for conditional, word in ((False, 1), (True, 0)):
        classes = noise_index(noise_bits(9, Stream.CLASS_INDEX, 5, np.arange(6), 2)[:, word], 4)
        want = class_gaussian_draw(fit, classes, xi, BOX)
        args = (0, UPDATE, JEMTerms(), 0.1, 1.0, 9, 5, BOX, fit, conditional)
        _, _, info = jem_step(ebm_ref, MLP, theta, x, x_lab, y, buffer, *args)
        assert (info["x_neg"] == want).all()


def test_jem_step__moves_several_times_along_one_gradient():
    theta, x, x_lab, y, buffer = step_case()
    args = (UPDATE, JEMTerms(), 0.1, 0.4, 9, 5, BOX)
    start, kept = buffer.slots.copy(), buffer_start(12, (3,), seed=2, box=BOX, dtype=np.float64)
    _, _, at = jem_step(ebm_ref, MLP, theta, x, x_lab, y, kept, 0, *args)
    want, _ = jempp_run(ebm_ref, MLP, theta, at["x_neg"], 3, 4, UPDATE, 9, 5 * 12)
    _, _, info = jem_step(ebm_ref, MLP, theta, x, x_lab, y, buffer, 3, *args, inner=4)
    assert (info["x_neg"] == want).all() and (buffer.slots != start).any()


def test_jem_step__lengthens_its_chains_until_they_are_as_low_as_the_data():
    theta, x, x_lab, y, _ = step_case()
    update = SGLD(0.02, 0.0, box=(-3.0, 3.0))

    def step(delta, K_max):
        buffer = buffer_start(12, (3,), seed=2, box=(-3.0, 3.0), dtype=np.float64)
        args = (2, update, JEMTerms(), 0.0, 0.0, 9, 1, (-3.0, 3.0))
        return jem_step(ebm_ref, MLP, theta, x, x_lab, y, buffer, *args, balance="steps", delta=delta, K_max=K_max)[2]

    short, long, capped = step(1e9, 40), step(-1.0, 400), step(-1e9, 7)
    assert short["K"] == 2 and capped["K"] == 7 and 2 < long["K"] < 400
    assert long["gap"] <= -1.0
    plain = buffer_start(12, (3,), seed=2, box=(-3.0, 3.0), dtype=np.float64)
    want, _ = langevin_run(MLP, theta, short["x_neg"], 5, update, 9, 9)  # 7 t + 2, without noise
    assert (capped["x_neg"] == want).all() and plain.ptr == 0


def test_jem_step__lengthened_chains_draw_at_their_own_addresses():
    theta, x, x_lab, y, buffer = step_case()
    update = SGLD(0.05, 0.3, box=BOX)
    args = (update, JEMTerms(), 0.0, 0.0, 9, 3, BOX)
    kept = buffer_start(12, (3,), seed=2, box=BOX, dtype=np.float64)
    _, _, at = jem_step(ebm_ref, MLP, theta, x, x_lab, y, kept, 0, *args)
    want, _ = langevin_run(MLP, theta, at["x_neg"], 7, update, 9, 3 * 7)
    _, _, info = jem_step(ebm_ref, MLP, theta, x, x_lab, y, buffer, 3, *args, balance="steps", delta=-1e9, K_max=7)
    assert (info["x_neg"] == want).all()


def test_jem_step__returns_the_next_eta():
    theta, x, x_lab, y, buffer = step_case()
    args = (2, UPDATE, JEMTerms(), 0.0, 0.0, 9, 1, BOX)
    _, _, info = jem_step(
        ebm_ref, MLP, theta, x, x_lab, y, buffer, *args, balance="energy_target", kappa=0.2, eta_bounds=(0.01, 1.0)
    )
    assert info["eta"] == energy_target(0.05, float(info["gap"]), 0.2, 0.01, 1.0) != 0.05


def test_jem_step__weighs_its_negative_half():
    theta, x, x_lab, y, buffer = step_case()
    args = (2, UPDATE, JEMTerms(), 0.0, 0.0, 9, 1, BOX)
    _, _, info = jem_step(ebm_ref, MLP, theta, x, x_lab, y, buffer, *args, balance="weight")
    assert 0 < info["ratio"] <= 1


def test_jem_batch__is_two_permutations():
    labelled = np.array([3, 8, 5, 1, 9, 0, 7])
    seen, marked = [], []
    for step in range(5):
        idx, idx_lab = jem_batch(10, labelled, 2, 4, step)
        assert idx.shape == idx_lab.shape == (2,)
        seen += idx.tolist()
        marked += idx_lab.tolist()
    assert sorted(seen) == list(range(10)) and len(set(marked[:6])) == 6 and set(marked) <= set(labelled.tolist())
    idx, idx_lab = jem_batch(50, np.arange(50), 25, 4, 0)
    assert (idx != idx_lab).any()  # two shuffles, not one
    assert (jem_batch(10, labelled, 2, 4, 5)[0] != jem_batch(10, labelled, 2, 4, 0)[0]).any()
    assert set(jem_batch(10, labelled[:2], 5, 4, 0)[1].tolist()) == {3, 8}  # fewer labels than a batch
    with pytest.raises(DataError, match="batch of 11"):
        jem_batch(10, labelled, 11, 4, 0)
    with pytest.raises(DataError, match="labelled"):
        jem_batch(10, labelled[:0], 2, 4, 0)
    with pytest.raises(RangeError, match="labelled"):
        jem_batch(9, labelled, 2, 4, 0)


def test_jem_step__informative_start_fills_a_buffer_that_trains():
    """A whole small loop: three classes in the plane, from an informative start, to a classifier that is right."""
    rng = np.random.default_rng(1)
    centres = np.array([[-0.6, -0.5], [0.6, -0.5], [0.0, 0.6]])
    y = np.arange(150) % 3
    x = np.clip(centres[y] + 0.1 * rng.normal(size=(150, 2)), *BOX)
    energy = ClassifierEnergy(MLPEnergy((2,), (16, 16)), 3)
    theta = ebm_ref.theta_init(energy, 0, np.float64)
    opt, fit = ebm_ref.adam_init(theta), class_gaussians(x, y, 3)
    buffer = class_buffer_start(60, fit, seed=0, box=BOX)
    for step in range(60):
        i, j = jem_batch(150, np.arange(150), 30, 0, step)
        args = (5, SGLD(0.02, 0.1, box=BOX), JEMTerms(), 0.03, 0.05, 0, step, BOX, fit, True)
        _, grads, _ = jem_step(ebm_ref, energy, theta, x[i], x[j], y[j], buffer, *args)
        theta, opt = ebm_ref.adam_step(theta, grads, opt, 0.01)
    assert (energy.logits(theta, x).argmax(axis=1) == y).mean() > 0.98
    corners = rng.uniform(-1, 1, (150, 2))
    assert ebm_ref.auroc(-energy.energy(theta, x), -energy.energy(theta, corners)) > 0.8
