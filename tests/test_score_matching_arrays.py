"""score_matching, denoising: float32, arrays of another library, energies of a fast backend."""

from __future__ import annotations

import numpy as np
import pytest
from derivatives import close, random_theta
from duck import Duck
from score_cases import (
    DUCK_BACKEND,
    NAMES,
    NETWORKS,
    SIGMAS,
    TRUNKS,
    SmoothBowl,
    case,
    ducks,
    normals,
    objectives,
    same_on_ducks,
)

import ebm_ref
from ebm_fast import backend, why_not
from ebm_ref import NoiseConditionalEnergy
from ebm_ref.contracts import BackendError
from ebm_ref.objectives import (
    dsm_step,
    hsm_step,
    multi_dsm_step,
    ssm_step,
)
from ebm_ref.objectives.score_matching import KINDS

# ------------------------------------------------------- float32, arrays of another library, fast energies


@pytest.mark.parametrize("network", NETWORKS)
def test_score_steps__keep_float32(network):
    energy, theta, x = case(network, dtype=np.float32)
    runs = objectives(x, np.float32)
    results = [runs[name](energy, theta) for name in NAMES]
    results += [ssm_step(ebm_ref, energy, theta, x, 3, 1, 2, kind, False) for kind in KINDS]
    results += [dsm_step(ebm_ref, energy, theta, x, 0.3, 3, 1)]
    wide = {name: value.astype(np.float64) for name, value in theta.items()}
    for name, result in zip(NAMES, results, strict=False):
        want = objectives(x.astype(np.float64))[name](energy, wide)
        assert abs(result[0] - want[0]) < 1e-4 * max(1, abs(want[0]))
    for loss, grads, info in results:
        assert loss.dtype == np.float32 and all(value.dtype == np.float32 for value in info.values())
        assert all(grad.dtype == np.float32 for grad in grads.values())


def test_multi_dsm_step__keeps_float32():
    energy = NoiseConditionalEnergy(TRUNKS["mlp"], 0.1, 1.0)
    theta = random_theta(energy, np.random.default_rng(7), np.float32)
    loss, grads, info = multi_dsm_step(ebm_ref, energy, theta, normals(20, 5, 3, dtype=np.float32), SIGMAS, 3, 1)
    assert loss.dtype == np.float32 and info["losses"].dtype == info["centred"].dtype == np.float32
    assert all(grad.dtype == np.float32 for grad in grads.values())


def test_score_steps__run_on_any_array_that_answers_numpy():
    energy, theta, x = SmoothBowl((2, 3, 1)), {"lam": np.arange(1.0, 7), "bias": np.ones(1)}, normals(20, 4, 2, 3, 1)
    calls = [
        lambda backend, theta, x: hsm_step(backend, energy, theta, x, 3, 2),
        lambda backend, theta, x: hsm_step(backend, energy, theta, x, 3, 2, 4),
        lambda backend, theta, x: dsm_step(backend, energy, theta, x, 0.3, 3, 2),
    ]
    for kind in KINDS:
        for reduced in (True, False):
            calls.append(
                lambda backend, theta, x, k=kind, r=reduced: ssm_step(backend, energy, theta, x, 3, 2, 2, k, r)
            )
    conditional = NoiseConditionalEnergy(SmoothBowl((2, 3, 2)), 0.1, 1.0)
    for weights in (None, (1.0, 2.0, 0.5)):
        calls.append(
            lambda backend, theta, x, w=weights: multi_dsm_step(backend, conditional, theta, x, SIGMAS, 3, 2, w)
        )
    for call in calls[:-2]:
        same_on_ducks(call(ebm_ref, theta, x), call(DUCK_BACKEND, ducks(theta), Duck.of(x)))
    theta = {"lam": np.arange(1.0, 13), "bias": np.ones(1)}
    for call in calls[-2:]:
        same_on_ducks(call(ebm_ref, theta, x), call(DUCK_BACKEND, ducks(theta), Duck.of(x)))


FAST = {"MLPEnergy": ((5,), (16, 8)), "ConvEnergy": ((6, 5, 2), (4, 6), (2, 1), 3, "SAME", "silu", False, "mean", 2)}


@pytest.mark.parametrize("name", FAST)
def test_dsm_steps__agree_with_numba_cpu(name):
    if why_not("numba_cpu"):
        pytest.skip(why_not("numba_cpu"))
    fast = backend("numba_cpu")
    ours, theirs = getattr(ebm_ref, name)(*FAST[name]), getattr(fast, name)(*FAST[name])
    theta, x = ebm_ref.theta_init(ours, 3, np.float64), normals(20, 9, *ours.shape)
    agree(dsm_step(ebm_ref, ours, theta, x, 0.3, 3, 2), dsm_step(fast, theirs, theta, x, 0.3, 3, 2))
    ours, theirs = NoiseConditionalEnergy(ours, 0.1, 1.0), NoiseConditionalEnergy(theirs, 0.1, 1.0)
    args = (theta, normals(21, 9, *ours.shape), SIGMAS, 3, 2)
    agree(multi_dsm_step(ebm_ref, ours, *args), multi_dsm_step(fast, theirs, *args))


def agree(want, found):
    close(found[0], want[0], 1e-11)
    for name, grad in want[1].items():
        close(found[1][name], grad, 1e-11)


def test_score_steps__say_where_level_3_exists():
    if why_not("numba_cpu"):
        pytest.skip(why_not("numba_cpu"))
    fast = backend("numba_cpu")
    energy = fast.MLPEnergy((3,), (4,))
    theta, x = ebm_ref.theta_init(ebm_ref.MLPEnergy((3,), (4,)), 0), normals(1, 2, 3, dtype=np.float32)
    said = r"needs curvature and grad_theta_curvature, which ebm_fast\.numba_cpu\..*MLPEnergy lacks; .*ebm_ref"
    with pytest.raises(BackendError, match=f"score_matching {said}"):
        hsm_step(fast, energy, theta, x, 0, 0)
    with pytest.raises(BackendError, match=f"ssm_step {said}"):
        ssm_step(fast, energy, theta, x, 0, 0)
    with pytest.raises(BackendError, match=f"score_matching {said}"):
        hsm_step(fast, NoiseConditionalEnergy(energy, 0.1, 1.0).at(0.5), theta, x[:, :2], 0, 0)
