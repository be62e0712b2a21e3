"""Recipe: every field is read by the methods that say so, and refused where it does nothing or cannot be."""

from __future__ import annotations

from dataclasses import fields, replace

import pytest
from method_runs import CHAINS

import ebm_ref
from ebm_ref import METHODS, Recipe
from ebm_ref.contracts import (
    RangeError,
    ShapeError,
)
from ebm_ref.method import READ_BY_ALL


def test_methods__read_and_need_what_exists():
    names = {field.name for field in fields(Recipe)}
    for name, method in METHODS.items():
        assert set(method.reads) <= names and not set(method.reads) & set(READ_BY_ALL), name
        assert set(method.unread) <= set(READ_BY_ALL) and set(method.fields) <= names, name
        assert all(hasattr(ebm_ref, function) for function in method.needs), name
    assert set(READ_BY_ALL).union(*(method.reads for method in METHODS.values())) == names


OTHER = {
    "alpha": 0.5,
    "sigma_data": 0.5,
    "rho": 0.5,
    "M": 3,
    "policy": "fifo",
    "start": "data_noise",
    "level": 0.5,
    "levels": 2,
    "projections": 2,
    "directions": "sphere",
    "variance_reduced": False,
    "noise": "uniform",
    "noise_floor": 0.5,
    "nu": 2,
    "cells": 3,
    "w_x": 0.5,
    "w_yx": 0.5,
    "w_xy": 0.5,
    "w_mi": 0.5,
    "conditional": True,
    "inner": 2,
    "balance": "weight",
    "kappa_opt": 0.5,
    "kappa_ent": 0.5,
    "references": 3,
    "depth": 2,
    "labelled": 9,
    "augment_shift": 1,
    "augment_flip": True,
    "augment_sigma": 0.1,
    "smoothing": 0.5,
    "transport_steps": 3,
    "start_scale": 2.0,
    "s_star": 0.5,
    "contrast": 0.5,
    "trim": 0.5,
    "clamp": 0.5,
    "cutoff": 0.5,
    "clip_transport": 0.5,
    "coupling": "optimal",
    "time": 0.5,
    "target": "linear",
    "target_a": 0.5,
    "target_scale": 0.5,
    "descent": "adam",
    "g_min": 0.5,
    "lesson": "eulerian",
    "horizon": 0.5,
    "pairs": 3,
}
NEEDS = {  # read beside these alone
    "level_high": "levels",
    "K_max": "balance",
    "delta": "balance",
    "kappa": "balance",
    "eta_low": "balance",
    "eta_high": "balance",
    "burn_in": "balance",
    "ridge": "start",
    "smoothing_until": "smoothing",
    "target_b": "target",
    "mu": "descent",
    "lr_joint": "transport_steps",
    "ema_joint": "transport_steps",
}


@pytest.mark.parametrize("method", METHODS)
def test_recipe__refuses_what_its_method_does_not_read(method):
    recipe = CHAINS.using(method)
    assert set(OTHER) == {n for m in METHODS.values() for n in m.reads} - set(NEEDS)
    for name, value in OTHER.items():
        if name in METHODS[method].reads:
            assert getattr(replace(recipe, **{name: value}), name) == value
        else:
            with pytest.raises(RangeError, match=f"{name}: method {method} does not read it, .* would"):
                replace(recipe, **{name: value})
    reader = next(iter(name for name, m in METHODS.items() if "level" in m.reads))
    if method != reader and "level" not in METHODS[method].reads:
        with pytest.raises(RangeError, match=reader):
            replace(recipe, level=0.5)


UNREAD = {"K": 2, "eta": 0.02, "sigma": 0.3, "clip": 1.0, "clip_norm": 1.0, "order": "noise_first", "gp": 0.1}


@pytest.mark.parametrize("method", [name for name, method in METHODS.items() if method.unread])
def test_recipe__refuses_what_all_others_read(method):
    for name, value in UNREAD.items():
        if name in METHODS[method].unread:
            with pytest.raises(RangeError, match=f"{name}: method {method} does not read it, .*pcd.* would"):
                replace(CHAINS.using(method), **{name: value})
        else:
            replace(CHAINS.using(method), **{name: value})


def test_recipe__using_keeps_what_the_other_method_reads():
    icd = replace(CHAINS, policy="fifo").using("icd")
    assert (icd.M, icd.policy, icd.lr, icd.K) == (12, "fifo", 1e-2, 3)
    dsm = replace(CHAINS, policy="fifo").using("dsm")
    assert (dsm.M, dsm.policy, dsm.lr, dsm.K) == (Recipe.M, "in_place", 1e-2, 3)


@pytest.mark.parametrize(
    ("method", "change"),
    [
        ("dsm", {"level_high": 2.0}),  # one level
        ("dsm", {"levels": 3, "level": 2.0}),  # above level_high
        ("dsm", {"level": 0.0}),
        ("ml", {"box": None}),
        ("nce", {"noise": "uniform", "box": None}),
        ("pcd", {"start": "class_gaussians"}),
        ("pcd", {"box": None}),
        ("jem", {"balance": "steps"}),
        ("jem", {"K_max": 9}),
        ("jem", {"delta": 0.5}),
        ("jem", {"delta": 0.5, "balance": "weight"}),
        ("jem", {"delta": float("nan"), "balance": "steps", "K_max": 9}),
        ("jem", {"ridge": 0.1}),
        ("jem", {"ridge": 0.0, "start": "class_gaussians"}),
        ("jem", {"labelled": 0}),
        ("jem", {"labelled": 9, "w_yx": 0.0}),
        ("icd", {"augment_shift": -1}),
        ("icd", {"augment_sigma": -0.1}),
        ("jem", {"balance": "steps", "K_max": 2}),
        ("jem", {"balance": "luck"}),
        ("jem", {"balance": "weight", "w_x": 0.0}),
        ("jem", {"balance": "energy_target"}),
        ("jem", {"burn_in": 5}),
        ("jem", {"burn_in": 5, "balance": "weight"}),
        ("jem", {"kappa": 0.1}),
        ("jem", {"kappa": 0.1, "balance": "steps", "K_max": 9}),
        ("jem", {"eta_low": 0.01}),
        ("jem", {"eta_high": 1.0}),
        ("jem", {"balance": "energy_target", "burn_in": 0}),
        ("jem", {"balance": "energy_target", "burn_in": 21}),  # of 20 steps
        ("jem", {"balance": "energy_target", "burn_in": 5, "K_max": 9}),
        ("jem", {"balance": "energy_target", "burn_in": 5, "delta": 0.1}),
        ("jem", {"balance": "energy_target", "burn_in": 5, "kappa": 0.0}),
        ("jem", {"balance": "energy_target", "burn_in": 5, "kappa": 1.5}),
        ("jem", {"balance": "energy_target", "burn_in": 5, "eta_low": 0.0}),
        ("jem", {"balance": "energy_target", "burn_in": 5, "eta_low": 0.06}),  # above eta
        ("jem", {"balance": "energy_target", "burn_in": 5, "eta_high": 0.04}),
        ("jem", {"balance": "energy_target", "burn_in": 5, "eta_low": 0.04, "eta_high": 0.03}),
        ("jem", {"w_x": -1.0}),
        ("icd", {"kappa_ent": -1.0}),
        ("ssm", {"directions": "north"}),
        ("hsm", {"smoothing": -0.1}),
        ("hsm", {"smoothing": 0.5, "smoothing_until": 0.0}),
        ("hsm", {"smoothing": 0.5, "smoothing_until": 1.5}),
        ("hsm", {"smoothing_until": 0.5}),
        ("nce", {"nu": 0}),
        ("em", {"s_star": 0.0}),
        ("em", {"s_star": 1.5}),
        ("em", {"sigma": 0.0}),  # tau
        ("em", {"eta": 0.0}),
        ("em", {"trim": 1.0}),
        ("em", {"clamp": 0.0}),
        ("em", {"contrast": -1.0}),
        ("em", {"transport_steps": 21}),  # of 20
        ("em", {"coupling": "some"}),
        ("em", {"lr_joint": 0.1}),  # of one phase
        ("em", {"ema_joint": 0.5}),
        ("em", {"ema_joint": 1.0, "transport_steps": 5}),
        ("em", {"start_scale": 0.0}),
        ("em", {"time": 0.0}),
        ("eqm", {"target_a": 1.0}),
        ("eqm", {"target_scale": 0.0}),
        ("eqm", {"target_b": 2.0}),
        ("eqm", {"target": "linear", "target_a": 0.5}),
        ("eqm", {"mu": 0.5}),
        ("eqm", {"descent": "nesterov", "mu": 1.0}),
        ("eqm", {"g_min": -1.0}),
        ("student", {"eta": 2.0}),  # beyond the horizon
        ("student", {"horizon": 0.0}),
        ("student", {"lesson": "none"}),
        ("student", {"pairs": 0}),
        ("student", {"pairs": 7, "lesson": "lagrangian"}),
    ],
    ids=str,
)
def test_recipe__refuses_what_its_method_cannot_do(method, change):
    with pytest.raises((RangeError, ShapeError)):
        replace(CHAINS.using(method), **change)


def test_recipe__rates_of_em_begin_again_with_the_contrast():
    recipe = replace(
        CHAINS.using("em"), transport_steps=8, lr=0.1, lr_joint=0.02, ema_joint=0.5, warmup=2, schedule="cosine"
    )
    rates = [recipe.rates(step) for step in range(20)]
    alone = [replace(CHAINS, steps=8, lr=0.1, warmup=2, schedule="cosine").rates(step) for step in range(8)]
    after = [replace(CHAINS, steps=12, lr=0.02, warmup=2, schedule="cosine").rates(step)[0] for step in range(12)]
    assert rates[:8] == alone and rates[8:] == [(lr, 0.5) for lr in after]
    plain = replace(recipe, transport_steps=0, lr_joint=None, ema_joint=None)
    assert plain.rates(19) == replace(CHAINS, lr=0.1, warmup=2, schedule="cosine").rates(19)
