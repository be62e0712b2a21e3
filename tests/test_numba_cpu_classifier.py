"""numba_cpu's ClassifierEnergy against the oracle: every method, class energies, chains, training, bad input."""

from __future__ import annotations

import numpy as np
import pytest
from derivatives import close, random_theta

import ebm_ref
from ebm_fast import backend, why_not
from ebm_ref.contracts import DTypeError, NonFiniteError, RangeError, ShapeError, SmoothnessError
from ebm_ref.specs import SGLD

if why_not("numba_cpu"):
    pytest.skip(why_not("numba_cpu"), allow_module_level=True)
FAST = backend("numba_cpu")
NETS = {
    "mlp": lambda b: b.MLPEnergy((3,), (5, 4)),
    "mlp-layer_norm": lambda b: b.MLPEnergy((2, 3), (6, 5), layer_norm=True),
    "conv": lambda b: b.ConvEnergy((5, 4, 2), channels=(4, 6), strides=(2, 1), max_groups=2, residual=True),
    "deep_conv": lambda b: b.DeepConvEnergy((5, 4, 2), channels=(4, 6), blocks=(1, 1), max_groups=2, stem_stride=1),
}
KINDS = ["marginal", "one class", "a class each"]
PRECISIONS = [(np.float64, 1e-11), (np.float32, 2e-4)]
C, N = 4, 21  # a whole tile of either precision, and a part


def pair(net, kind, dtype):
    """(the twin, the oracle, theta, x, v, w, rng)."""
    rng = np.random.default_rng(3)
    both = [b.ClassifierEnergy(NETS[net](b), C) for b in (FAST, ebm_ref)]
    theta = random_theta(both[1], rng, dtype)
    x, v = (rng.normal(size=(N, *both[1].shape)).astype(dtype) for _ in range(2))
    y = {"marginal": None, "one class": 2, "a class each": rng.integers(0, C, N)}[kind]
    if y is not None:
        both = [energy.given(y) for energy in both]
    return *both, theta, x, v, rng.normal(size=N).astype(dtype), rng


@pytest.mark.parametrize(("dtype", "tol"), PRECISIONS)
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("net", NETS)
def test_classifier_energy__matches_ref(net, kind, dtype, tol, record_property):
    record_property("twin", "numba_cpu")
    fast, ref, theta, x, v, w, _ = pair(net, kind, dtype)
    found = [*fast.energy_and_grad_x(theta, x), fast.energy(theta, x), fast.hvp(theta, x, v)]
    wanted = [*ref.energy_and_grad_x(theta, x), ref.energy(theta, x), ref.hvp(theta, x, v)]
    for name in theta:
        found += [fast.grad_theta(theta, x, w)[name], fast.grad_theta_along(theta, x, v)[name]]
        wanted += [ref.grad_theta(theta, x, w)[name], ref.grad_theta_along(theta, x, v)[name]]
    for a, b in zip(found, wanted, strict=True):
        assert a.dtype == dtype and a.shape == b.shape
        close(a, b, tol)


@pytest.mark.parametrize(("dtype", "tol"), PRECISIONS)
@pytest.mark.parametrize("net", NETS)
def test_logits__match_ref(net, dtype, tol, record_property):
    record_property("twin", "numba_cpu")
    fast, ref, theta, x, _, _, rng = pair(net, "marginal", dtype)
    dy = rng.normal(size=(N, C)).astype(dtype)
    close(fast.logits(theta, x), ref.logits(theta, x), tol)
    close(fast.features(theta, x), ref.features(theta, x), tol)
    (dx, grads), (want_dx, want) = (energy.logits_backward(theta, x, dy) for energy in (fast, ref))
    close(dx, want_dx, tol)
    assert list(grads) == list(theta) == list(want)
    for name in theta:
        close(grads[name], want[name], tol)
        np.testing.assert_array_equal(grads[name], fast.logits_grad_theta(theta, x, dy)[name])


@pytest.mark.parametrize("order", ["gradient_first", "noise_first"])
@pytest.mark.parametrize("kind", KINDS)
def test_classifier_energy__runs_chains_as_ref_does(kind, order, record_property):
    record_property("twin", "numba_cpu")
    fast, ref, theta, x, *_ = pair("conv", kind, np.float64)
    update = SGLD(0.02, 0.1, clip=0.5, box=(-1.0, 1.0), order=order)
    x = np.clip(x, -1, 1)
    found, info = FAST.langevin_run(fast, theta, x, 5, update, 3, 7, np.arange(N) + 2)
    wanted, also = ebm_ref.langevin_run(ref, theta, x, 5, update, 3, 7, np.arange(N) + 2)
    close(found, wanted, 1e-11)
    close(info.energy, also.energy, 1e-11)
    assert info.alive.all()


def test_classifier_energy__stays_finite_where_one_logit_towers():
    fast, ref, theta, x, *_ = pair("mlp", "marginal", np.float32)
    theta["out.b"] = np.array([0.0, 800.0, 0.0, -800.0], np.float32)
    for a, b in zip(fast.energy_and_grad_x(theta, x), ref.energy_and_grad_x(theta, x), strict=True):
        close(a, b, 1e-5)


def test_classifier_energy__keeps_a_nan_and_stops_its_chain():
    fast, _, theta, x, *_ = pair("mlp", "marginal", np.float32)
    theta["out.b"] = np.array([0.0, np.nan, 0.0, 0.0], np.float32)
    assert np.isnan(fast.energy(theta, x)).all()
    kept, info = FAST.langevin_run(fast, theta, x, 2, SGLD(0.1, 0.1), 0)
    assert info.nonfinite == N and (kept == x).all()


@pytest.mark.parametrize("classes", [1, 2, 33])
def test_classifier_energy__takes_any_number_of_classes(classes):
    rng = np.random.default_rng(0)
    fast, ref = (b.ClassifierEnergy(b.MLPEnergy((3,), (4,)), classes) for b in (FAST, ebm_ref))
    theta, x = random_theta(ref, rng), rng.normal(size=(5, 3))
    for a, b in zip(fast.energy_and_grad_x(theta, x), ref.energy_and_grad_x(theta, x), strict=True):
        close(a, b, 1e-12)
    close(fast.logits(theta, x), ref.logits(theta, x), 1e-12)


def test_jem_step__trains_the_twin_as_it_trains_the_oracle(record_property):
    record_property("twin", "numba_cpu")
    rng = np.random.default_rng(5)
    x, x_lab, y = rng.uniform(-1, 1, (8, 3)), rng.uniform(-1, 1, (6, 3)), rng.integers(0, C, 6)
    terms, box = ebm_ref.JEMTerms(w_xy=0.5, w_mi=0.2), (-1.0, 1.0)
    results = []
    for b in (FAST, ebm_ref):
        energy = b.ClassifierEnergy(b.MLPEnergy((3,), (5, 4)), C)
        theta = random_theta(energy, np.random.default_rng(6))
        buffer = ebm_ref.buffer_start(12, (3,), seed=1, box=box, dtype=np.float64)
        chain = (4, SGLD(0.05, 0.1, box=box), terms, 0.1, 0.2, 3, 2, box, "uniform", True)
        results.append((*ebm_ref.jem_step(b, energy, theta, x, x_lab, y, buffer, *chain), buffer))
    (loss, grads, _, buffer), (want_loss, want, _, want_buffer) = results
    close(loss, want_loss, 1e-12)
    close(buffer.slots, want_buffer.slots, 1e-12)
    for name in want:
        close(grads[name], want[name], 1e-11)


MLP = FAST.MLPEnergy((3,), (5, 4))
ENERGY = FAST.ClassifierEnergy(MLP, C)
THETA, X = ebm_ref.theta_init(ENERGY, 0, np.float64), np.zeros((3, 3))
REFUSED = {
    "trunk: expected an energy of numba_cpu": (DTypeError, lambda: FAST.ClassifierEnergy(ebm_ref.MLPEnergy((3,)), 2)),
    "trunk: .*found ClassifierEnergy": (DTypeError, lambda: FAST.ClassifierEnergy(ENERGY, 2)),
    "classes": (RangeError, lambda: FAST.ClassifierEnergy(MLP, 0)),
    r"y: .*found 0 to 4": (RangeError, lambda: ENERGY.given(np.array([0, 4]))),
    r"y: .*\[0, 3\], found -1": (RangeError, lambda: ENERGY.given(-1)),
    "y: .*float64": (DTypeError, lambda: ENERGY.given(np.zeros(3))),
    "x: expected 2 samples, one a label": (ShapeError, lambda: ENERGY.given(np.array([0, 1])).energy(THETA, X)),
    "x: .*2 samples": (
        ShapeError,
        lambda: FAST.langevin_run(ENERGY.given(np.array([0, 1])), THETA, X, 1, SGLD(0.1, 0.1), 0),
    ),
    r"dy: .*\(3, 4\)": (ShapeError, lambda: ENERGY.logits_backward(THETA, X, X)),
    "dy: .*float32": (DTypeError, lambda: ENERGY.logits_backward(THETA, X, np.ones((3, 4), np.float32))),
    "dy: .*NaN": (NonFiniteError, lambda: ENERGY.logits_backward(THETA, X, np.full((3, 4), np.nan))),
    "x: .*NaN": (NonFiniteError, lambda: ENERGY.logits(THETA, X * np.nan)),
    r"x: .*3.*found .3, 2.": (ShapeError, lambda: ENERGY.features(THETA, X[:, :2])),
    "theta": (ShapeError, lambda: ENERGY.logits(ebm_ref.theta_init(MLP, 0, np.float64), X)),
    "hvp .*relu": (
        SmoothnessError,
        lambda: FAST.ClassifierEnergy(FAST.MLPEnergy((3,), (5, 4), "relu"), C).given(1).hvp(THETA, X, X),
    ),
}


@pytest.mark.parametrize("said", REFUSED)
def test_classifier_energy__refuses_bad_input_by_name(said):
    error, call = REFUSED[said]
    with pytest.raises(error, match=said):
        call()
