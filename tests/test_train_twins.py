"""The whole thing: a few training steps on the oracle and on every backend that can run, loss beside loss."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

import ebm_ref
from ebm_fast import BACKENDS, backend, why_not

RECIPE = ebm_ref.Recipe(batch=16, K=4, eta=0.1, sigma=0.2, box=(-4.0, 4.0), M=64, rho=0.2, steps=12, lr=1e-2)


@pytest.mark.parametrize("name", [name for name in BACKENDS if name != "ebm_ref"])
@pytest.mark.parametrize("method", ["pcd", "cd"])
@pytest.mark.parametrize("order", ["gradient_first", "noise_first"])
def test_train__has_the_oracle_s_losses(name, method, order):
    if why_not(name) is not None:
        pytest.skip(why_not(name))
    recipe = replace(RECIPE.using(method), order=order)
    data = ebm_ref.toy_sample("gaussian_mixture", 100, seed=2, dtype=np.float64)
    records, states = [], []
    for module in (ebm_ref, backend(name)):
        energy, seen = module.MLPEnergy(shape=(2,), hidden=(16,)), []
        states.append(ebm_ref.train(module, energy, recipe, data, 5, callback=lambda s, r, seen=seen: seen.append(r)))
        records.append(seen)
    for t in range(recipe.steps):
        for key in records[0][t]:
            assert np.isclose(records[0][t][key], records[1][t][key], rtol=1e-9, atol=1e-10), f"step {t}: {key}"
    for key, y in ebm_ref.state_arrays(states[0]).items():
        assert np.allclose(ebm_ref.state_arrays(states[1])[key], y, rtol=1e-8, atol=1e-9), key
