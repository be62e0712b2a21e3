"""Settings of jem and icd in a run: the labelled part, delta, ridge, the augmentation of the buffer."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from method_runs import CHAINS, DATA, LABELS, RECIPES, assert_same, energy_of

import ebm_ref
from ebm_fast import backend, numba_cpu, why_not
from ebm_fast.app.energies import what_lacks
from ebm_ref import Augmentation, ICDTerms, state_arrays, state_from_arrays, train, train_job, train_start, train_step
from ebm_ref.contracts import DataError, DTypeError, ShapeError, Stream
from ebm_ref.job import LAST_STEP
from ebm_ref.noise import noise_permutation
from ebm_ref.train import _batch

JEM, ICD = replace(CHAINS.using("jem"), optimizer="sgd", beta1=0.0), replace(CHAINS.using("icd"), references=5)
WIDE = DATA.astype(np.float64)
IMAGE = ebm_ref.ConvEnergy(shape=(4, 5, 1), channels=(4,), strides=(1,))
IMAGES = ebm_ref.noise_uniform(3, 0, 0, np.arange(20), 20, np.float32).reshape(20, 4, 5, 1)


def of_jem(recipe, labels=LABELS, until=3):
    records = []
    state = train(ebm_ref, energy_of(recipe), recipe, WIDE, 5, None, until, lambda s, r: records.append(r), labels)
    return state, records


# ------------------------------------------------------------------------------------------------- jem


def drawn(count, seed=5):
    return np.sort(noise_permutation(seed, Stream.LABELLED_INDEX, LAST_STEP, 50)[:count])


def test_train_job__draws_the_labelled_part_by_address():
    recipe = replace(JEM, labelled=11)
    energy = energy_of(recipe)
    job = train_job(ebm_ref, energy, recipe, WIDE, 5, LABELS)
    assert np.array_equal(job.labelled, drawn(11)) and np.unique(job.labelled).size == 11
    more = train_job(ebm_ref, energy, replace(recipe, labelled=20), WIDE, 5, LABELS).labelled
    other = train_job(ebm_ref, energy, recipe, WIDE, 6, LABELS).labelled
    assert np.isin(job.labelled, more).all() and not np.array_equal(job.labelled, other)
    assert np.array_equal(train_job(ebm_ref, energy, JEM, WIDE, 5, LABELS).labelled, np.arange(50))


@pytest.mark.parametrize("start", ["uniform", "class_gaussians"])
def test_train__of_jem_sees_no_other_labels_than_the_labelled(start):
    """Turning all labels outside the part around changes nothing; turning one inside does."""
    recipe = replace(JEM, labelled=11, start=start, w_xy=0.3)
    state, records = of_jem(recipe)
    elsewhere, inside = (LABELS + 1) % 3, LABELS.copy()
    elsewhere[drawn(11)] = LABELS[drawn(11)]
    inside[drawn(11)[0]] = (inside[drawn(11)[0]] + 1) % 3
    same, same_records = of_jem(recipe, elsewhere)
    assert records == same_records
    assert_same(state_arrays(state), state_arrays(same))
    assert of_jem(recipe, inside)[1] != records
    assert of_jem(replace(recipe, labelled=None), elsewhere)[1] != of_jem(replace(recipe, labelled=None))[1]


def test_train_step__of_jem_is_its_parts():
    recipe = replace(
        JEM, labelled=11, balance="steps", K_max=9, delta=-0.05, start="class_gaussians", ridge=0.2, w_mi=0.1
    )
    energy, (state, _) = energy_of(recipe), of_jem(recipe)
    after, record = train_step(ebm_ref, energy, recipe, state_from_arrays(state_arrays(state)), WIDE, 5, labels=LABELS)
    old, part = state_from_arrays(state_arrays(state)), drawn(11)
    start = ebm_ref.class_gaussians(WIDE[part], LABELS[part], 3, ridge=0.2)
    _, idx = ebm_ref.jem_batch(50, part, 8, 5, old.step)
    loss, grads, info = ebm_ref.jem_step(
        ebm_ref, energy, old.theta, WIDE[_batch(recipe, 5, old.step, 50)], WIDE[idx], LABELS[idx], old.buffer, 3,
        recipe.update(), recipe.terms(), 0.1, 0.3, 5, old.step, recipe.box, start, balance="steps", delta=-0.05,
        K_max=9,
    )  # fmt: skip
    theta, _ = ebm_ref.sgd_step(old.theta, grads, old.optimizer, recipe.lr, 0.0)
    assert record["loss"] == float(loss)
    assert_same(after.theta, theta)
    assert np.array_equal(after.buffer.slots, old.buffer.slots)


def test_train__of_jem_lengthens_chains_by_delta():
    """Chains that may lag behind by 1e6 are never lengthened, chains that must lead by as much always to K_max."""
    recipe = replace(JEM, balance="steps", K_max=9)
    lag, lead = (of_jem(replace(recipe, delta=delta), until=1)[0] for delta in (1e6, -1e6))
    short, long = (of_jem(replace(recipe, K=K, balance="steps", K_max=9, delta=1e6), until=1)[0] for K in (3, 9))
    assert np.array_equal(lag.buffer.slots, short.buffer.slots)
    assert np.allclose(lead.buffer.slots, long.buffer.slots, rtol=1e-12, atol=1e-12)
    assert not np.array_equal(lag.buffer.slots, lead.buffer.slots)


def test_train__of_jem_refuses_a_labelled_part_that_is_not_there():
    with pytest.raises(DataError, match="labelled: expected at most the 50 data, found 51"):
        of_jem(replace(JEM, labelled=51))
    with pytest.raises(DataError, match="samples of all 3 classes"):
        of_jem(replace(JEM, labelled=1, start="class_gaussians"))


# ------------------------------------------------------------------------------------------------- icd


@pytest.mark.parametrize(
    ("changes", "augmentation"),
    [
        ({}, None),
        ({"augment_sigma": 0.2}, Augmentation(0, False, 0.2)),
        ({"augment_shift": 2, "augment_flip": True}, Augmentation(2, True, 0.0)),
    ],
    ids=str,
)
def test_train_step__of_icd_augments_what_comes_from_the_buffer(changes, augmentation):
    recipe = replace(ICD, rho=0.2, depth=2, kappa_opt=0.7, kappa_ent=0.2, optimizer="sgd", beta1=0.0, **changes)
    state = train(ebm_ref, IMAGE, recipe, IMAGES, 5, until=2)
    after, record = train_step(ebm_ref, IMAGE, recipe, state_from_arrays(state_arrays(state)), IMAGES, 5)
    old, x = state_from_arrays(state_arrays(state)), IMAGES[_batch(recipe, 5, 2, 20)]
    terms = ICDTerms(0.1, 0.7, 0.2, 5, depth=2, augmentation=augmentation)
    chain = (3, recipe.update(), terms, 0.1, 0.2)
    loss, grads, _ = ebm_ref.icd_step(ebm_ref, IMAGE, old.theta, x, old.buffer, *chain, 5, 2, recipe.box)
    theta, _ = ebm_ref.sgd_step(old.theta, grads, old.optimizer, recipe.lr, 0.0)
    assert record["loss"] == float(loss)
    assert_same(after.theta, theta)
    assert np.array_equal(after.buffer.slots, old.buffer.slots)


@pytest.mark.parametrize("changes", [{"augment_shift": 4}, {"augment_shift": 1}, {"augment_flip": True}], ids=str)
def test_train_start__of_icd_refuses_moves_that_the_samples_have_not(changes):
    recipe, (name,) = replace(ICD, **changes), changes
    energy, data = (IMAGE, IMAGES) if changes == {"augment_shift": 4} else (energy_of(ICD), DATA)
    with pytest.raises(ShapeError, match=f"{name}: expected images"):
        train_start(ebm_ref, energy, recipe, data, 0)
    train_start(ebm_ref, energy, replace(ICD, augment_sigma=0.1), data, 0)


def test_recipe__refuses_a_flip_that_is_no_bool():
    with pytest.raises(DTypeError, match="augment_flip: expected True or False, found 1"):
        replace(ICD, augment_flip=1)


# ------------------------------------------------------------------------------------------- backends


@pytest.mark.skipif(why_not("numba_cpu") is not None, reason="numba_cpu cannot run here")
def test_what_lacks__names_the_derivatives_that_a_penalty_needs(monkeypatch):
    assert backend("numba_cpu") is numba_cpu
    recipe = replace(RECIPES["nce"], gp=1.0)
    assert what_lacks(numba_cpu, "MLPEnergy", recipe) == ""

    class Level1:
        pass

    monkeypatch.setattr(numba_cpu, "MLPEnergy", Level1)
    assert what_lacks(numba_cpu, "MLPEnergy", recipe) == "has no Level1.grad_theta_along, which gp needs"
    assert what_lacks(numba_cpu, "MLPEnergy", RECIPES["nce"]) == ""
