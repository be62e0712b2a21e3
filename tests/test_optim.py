"""optim: each update against its formula by hand, and no argument is ever written to."""

from __future__ import annotations

from math import cos, pi, sqrt

import numpy as np
import pytest

from ebm_ref.contracts import DTypeError, NonFiniteError, RangeError, ShapeError
from ebm_ref.noise import noise_normal
from ebm_ref.optim import (
    adam_init,
    adam_step,
    clip_global_norm,
    ema_init,
    ema_step,
    schedule_value,
    sgd_init,
    sgd_step,
)


def draws(step, dtype=np.float64):
    """Two named arrays, of 3 and 2 x 2 elements."""
    x = noise_normal(21, 1, step, np.arange(1), 7, dtype)[0]
    return {"a": x[:3].copy(), "b": x[3:].reshape(2, 2).copy()}


def copies(*dicts):
    return [{name: value.copy() for name, value in d.items()} for d in dicts]


def same(a, b):
    return a.keys() == b.keys() and all((a[name] == b[name]).all() for name in a)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("momentum", [0.0, 0.9])
def test_sgd_step__is_the_equation(dtype, momentum):
    theta = draws(0, dtype)
    state, want, v = sgd_init(theta), copies(theta)[0], {"a": 0.0, "b": 0.0}
    for t in range(1, 4):
        grads = draws(t, dtype)
        before = copies(theta, grads, state)
        after, new_state = sgd_step(theta, grads, state, 0.1, momentum)
        assert all(same(x, y) for x, y in zip((theta, grads, state), before, strict=True))
        theta, state = after, new_state
        for name in want:
            v[name] = momentum * v[name] + grads[name]
            want[name] = want[name] - 0.1 * v[name]
            assert theta[name].dtype == dtype
            assert np.allclose(theta[name], want[name], rtol=10 * np.finfo(dtype).eps)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("beta1", [0.0, 0.9])
def test_adam_step__is_the_equation(dtype, beta1):
    """In closed form: m_t = (1 - b1) sum_s b1^(t-s) g_s, and likewise v_t, with no recursion."""
    theta, beta2, eps, lr = draws(0, dtype), 0.95, 1e-3, 0.02
    state, want, seen = adam_init(theta), copies(theta)[0], []
    for t in range(1, 6):
        grads = draws(t, dtype)
        before = copies(theta, grads, state)
        after, new_state = adam_step(theta, grads, state, lr, beta1, beta2, eps)
        assert all(same(x, y) for x, y in zip((theta, grads, state), before, strict=True))
        theta, state = after, new_state
        seen.append(grads)
        for name in want:
            m = sum(beta1 ** (t - s) * seen[s - 1][name].astype(np.float64) for s in range(1, t + 1))
            v = sum(beta2 ** (t - s) * seen[s - 1][name].astype(np.float64) ** 2 for s in range(1, t + 1))
            m, v = m * (1 - beta1) / (1 - beta1**t), v * (1 - beta2) / (1 - beta2**t)
            want[name] = want[name] - lr * m / (np.sqrt(v) + eps)
            assert theta[name].dtype == dtype
            assert np.allclose(theta[name], want[name], rtol=0, atol=50 * np.finfo(dtype).eps)
    assert int(state["t"]) == 5


def test_adam_step__first_step_has_the_size_of_lr():
    theta, grads = draws(0), draws(1)
    after, _ = adam_step(theta, grads, adam_init(theta), 0.01)
    for name in theta:
        assert np.allclose(after[name] - theta[name], -0.01 * np.sign(grads[name]), rtol=1e-6)


def test_clip_global_norm__is_the_equation():
    grads = draws(1)
    norm = sqrt(sum(float((g**2).sum()) for g in grads.values()))
    before = copies(grads)[0]
    clipped, found = clip_global_norm(grads, norm / 3)
    assert np.isclose(found, norm, rtol=1e-14) and same(grads, before)
    assert all(np.allclose(clipped[name], grads[name] / 3, rtol=1e-14) for name in grads)
    for loose in (None, norm * 3):
        kept, found = clip_global_norm(grads, loose)
        assert same(kept, grads) and np.isclose(found, norm, rtol=1e-14)
    zero, found = clip_global_norm({"a": np.zeros(3)}, 1.0)
    assert found == 0 and (zero["a"] == 0).all()


def test_clip_global_norm__sums_float32_in_float64():
    grads = {"a": np.full(4, 1e30, np.float32)}
    clipped, norm = clip_global_norm(grads, 1.0)
    assert np.isclose(norm, 2e30) and np.allclose(clipped["a"], 0.5) and clipped["a"].dtype == np.float32


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_clip_global_norm__names_what_is_not_finite(bad):
    with pytest.raises(NonFiniteError, match="in b"):
        clip_global_norm({"a": np.ones(2), "b": np.array([1.0, bad])}, 1.0)


def test_ema_step__is_the_equation():
    theta = draws(0)
    ema = ema_init(theta)
    assert same(ema, theta) and not np.shares_memory(ema["a"], theta["a"])
    later = draws(1)
    before = copies(ema, later)
    for decay in (0.0, 0.9):
        after = ema_step(ema, later, decay)
        for name in theta:
            assert np.allclose(after[name], decay * theta[name] + (1 - decay) * later[name], rtol=1e-14, atol=1e-16)
    assert same(ema_step(ema, later, 0.0), later)
    assert same(ema, before[0]) and same(later, before[1])


def test_schedule_value__is_the_equation():
    rise = [schedule_value(t, 20, 0.4, 4) for t in range(7)]
    assert np.allclose(rise, [0.1, 0.2, 0.3, 0.4, 0.4, 0.4, 0.4])
    for t in range(4, 20):
        p = (t - 4) / 16
        assert np.isclose(schedule_value(t, 20, 0.4, 4, "cosine", 0.1), 0.1 + 0.3 * (1 + cos(pi * p)) / 2)
    assert schedule_value(4, 20, 0.4, 4, "cosine") == 0.4
    assert np.isclose(schedule_value(20, 20, 0.4, 4, "cosine", 0.1), 0.1)
    assert np.isclose(schedule_value(99, 20, 0.4, 4, "cosine", 0.1), 0.1)
    assert schedule_value(3, 3, 0.4, 5, "cosine") == 0.4 * 4 / 5  # warm-up longer than the run


@pytest.mark.parametrize(
    ("call", "error", "name"),
    [
        (lambda t, g: sgd_step(t, g, sgd_init(t), -1.0), RangeError, "lr"),
        (lambda t, g: sgd_step(t, g, sgd_init(t), np.nan), RangeError, "lr"),
        (lambda t, g: sgd_step(t, g, sgd_init(t), 0.1, 1.0), RangeError, "momentum"),
        (lambda t, g: adam_step(t, g, adam_init(t), 0.1, 1.0), RangeError, "beta1"),
        (lambda t, g: adam_step(t, g, adam_init(t), 0.1, 0.9, -0.1), RangeError, "beta2"),
        (lambda t, g: adam_step(t, g, adam_init(t), 0.1, eps=0.0), RangeError, "eps"),
        (lambda t, g: adam_step(t, {"a": g["a"]}, adam_init(t), 0.1), ShapeError, "grads"),
        (lambda t, g: adam_step(t, g | {"a": g["a"][:2]}, adam_init(t), 0.1), ShapeError, "grads"),
        (lambda t, g: sgd_step(t, g | {"a": g["a"].astype(np.float32)}, sgd_init(t), 0.1), DTypeError, "grads"),
        (lambda t, g: clip_global_norm(g, 0.0), RangeError, "max_norm"),
        (lambda t, g: ema_step(t, g, 1.0), RangeError, "decay"),
        (lambda t, g: ema_step({"a": t["a"]}, g, 0.5), ShapeError, "ema"),
        (lambda t, g: schedule_value(-1, 10, 0.1, 0), RangeError, "step"),
        (lambda t, g: schedule_value(0, 10, 0.1, 0, "linear"), RangeError, "schedule"),
        (lambda t, g: schedule_value(0, 10, 0.1, 0, "cosine", 0.2), RangeError, "floor"),
    ],
)
def test_optim__refuses_wrong_arguments(call, error, name):
    with pytest.raises(error, match=name):
        call(draws(0), draws(1))
