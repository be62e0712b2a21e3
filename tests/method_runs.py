"""Small runs of every training method, for the tests of the methods and of what is added to them."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

import ebm_ref
from ebm_ref import METHODS, Recipe, state_arrays, train

MLP = ebm_ref.MLPEnergy(shape=(2,), hidden=(6,))
DATA = ebm_ref.toy_sample("gaussian_mixture", 50, seed=2)
LABELS = np.arange(50) % 3
CHAINS = Recipe(
    batch=8, K=3, eta=0.05, sigma=0.2, box=(-4.0, 4.0), M=12, steps=20, lr=1e-2, ema_decay=0.9, rho=0.3, sigma_data=0.1
)
PLAIN = CHAINS.using("hsm")
RECIPES = {
    **{name: replace(PLAIN, method=name) for name in ("ml", "hsm", "ssm", "dsm", "nce", "conditional_nce")},
    "ssm, three directions": replace(PLAIN, method="ssm", projections=3, directions="sphere", variance_reduced=False),
    "dsm, levels": replace(PLAIN, method="dsm", levels=4, level=0.2, level_high=2.0),
    "nce, uniform": replace(PLAIN, method="nce", noise="uniform", nu=2),
    "ranking_nce": replace(PLAIN, method="ranking_nce", nu=3),
    "icd": replace(CHAINS.using("icd"), references=5, depth=2),
    "jem": replace(CHAINS.using("jem"), w_mi=0.1),
    "jem, conditional": replace(CHAINS.using("jem"), conditional=True, w_xy=0.5, start="class_gaussians"),
    "jem, balanced": replace(CHAINS.using("jem"), balance="steps", K_max=6, inner=2, delta=-0.1),
    "jem, energy target": replace(CHAINS.using("jem"), balance="energy_target", burn_in=3, kappa=0.2),
    "jem, few labels": replace(CHAINS.using("jem"), labelled=11, start="class_gaussians", ridge=0.1),
    "hsm, smoothed": replace(PLAIN, smoothing=0.5, smoothing_until=0.2),
    "pcd, smoothed": replace(CHAINS, smoothing=0.5, smoothing_until=0.2),
    "icd, augmented": replace(CHAINS.using("icd"), references=5, augment_sigma=0.1),
    "flow": CHAINS.using("flow"),
    "projection": CHAINS.using("projection"),
    "em": replace(CHAINS.using("em"), transport_steps=2, contrast=0.5, s_star=0.8, cutoff=0.5, trim=0.2, clamp=0.5),
    "em, optimal": replace(CHAINS.using("em"), coupling="optimal"),
    "eqm, optimal": replace(CHAINS.using("eqm"), coupling="optimal"),
    "em, clipped": replace(CHAINS.using("em"), clip_transport=0.5),
    "eqm": CHAINS.using("eqm"),
    "eqm-dot": replace(CHAINS.using("eqm-dot"), target="piecewise", target_a=0.7, target_b=2.0),
    "eqm-l2": replace(CHAINS.using("eqm-l2"), target="linear", target_scale=2.0),
    "student": replace(CHAINS.using("student"), pairs=20),
    "student, by an identity": replace(CHAINS.using("student"), lesson="lagrangian", horizon=0.15),
}


def energy_of(recipe, module=ebm_ref):
    if recipe.method == "jem":
        return module.ClassifierEnergy(module.MLPEnergy(shape=(2,), hidden=(6,)), 3)
    if recipe.levels > 1:
        trunk = module.MLPEnergy(shape=(3,), hidden=(6,))
        return ebm_ref.NoiseConditionalEnergy(trunk, low=recipe.level, high=recipe.level_high)
    model = METHODS[recipe.method].model
    if model in ("field", "dot", "norm"):
        field = module.MLPField(shape=(2,), hidden=(6,))
        return field if model == "field" else module.FieldEnergy(field, model)
    if model in ("time_field", "flow_map"):
        trunk = module.MLPField(shape=(3,), hidden=(6,), out_channels=2)
        return ebm_ref.TimeField(trunk) if model == "time_field" else ebm_ref.FlowMap(trunk, recipe.horizon)
    return module.MLPEnergy(shape=(2,), hidden=(6,))


def teacher_of(recipe, dtype=np.float64, module=ebm_ref):
    """What projection and student learn from: a flow, and a field."""
    if not METHODS[recipe.method].teacher:
        return None
    other = energy_of(CHAINS.using("flow" if recipe.method == "projection" else "eqm"), module)
    return ebm_ref.Teacher(other, ebm_ref.theta_init(energy_of_same(other), 7, dtype))


def energy_of_same(model):
    """The oracle's model with the parameters' names of another backend's."""
    if hasattr(model, "trunk"):
        return ebm_ref.TimeField(ebm_ref.MLPField(shape=(3,), hidden=(6,), out_channels=2))
    return ebm_ref.MLPField(shape=(2,), hidden=(6,))


def trained(recipe, data=DATA, state=None, until=5, module=ebm_ref):
    records = []
    energy = energy_of(recipe, module)
    teacher = teacher_of(recipe, data.dtype, module)
    state = train(module, energy, recipe, data, 5, state, until, lambda s, r: records.append(r), LABELS, teacher)
    return state, records


def flat(state):
    return {name: y.copy() for name, y in state_arrays(state).items()}


def assert_same(a, b):
    assert a.keys() == b.keys()
    for name in a:
        assert a[name].dtype == b[name].dtype and np.array_equal(a[name], b[name]), name
