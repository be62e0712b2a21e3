"""Optimisers: pure functions theta, grads, state -> theta, state. A state is a flat dict of arrays.

    sgd_step            v' = momentum v + g,   theta' = theta - lr v'
    adam_step           m' = b1 m + (1 - b1) g,   v' = b2 v + (1 - b2) g^2,   t' = t + 1
                        theta' = theta - lr (m' / (1 - b1^t')) / (sqrt(v' / (1 - b2^t')) + eps)
    clip_global_norm    g' = g max_norm / max(|g|, max_norm),   |g|^2 = sum over all names and elements
    ema_step            ema' = decay ema + (1 - decay) theta
    schedule_value      warm-up: lr (step + 1) / warmup for step < warmup; then constant lr, or
                        cosine: floor + (lr - floor) (1 + cos(pi p)) / 2,  p = (step - warmup) / (steps - warmup)

Source: Polyak 1964 (momentum); Kingma & Ba 2015, arXiv:1412.6980, algorithm 1; Pascanu, Mikolov & Bengio 2013
(norm clip); Polyak & Juditsky 1992 (averaging); Loshchilov & Hutter 2017, arXiv:1608.03983, eq. 5 (cosine).
Nothing is bias-corrected in the average: start it at theta. Arguments are never written to.
Twins: none.
"""

from __future__ import annotations

from math import cos, isfinite, pi, sqrt

import numpy as np

from .contracts import (
    Array,
    DTypeError,
    NonFiniteError,
    Params,
    RangeError,
    ShapeError,
    check_choice,
    check_count,
    check_number,
)

SCHEDULES = ("constant", "cosine")
State = dict[str, Array]


def sgd_init(theta: Params) -> State:
    """v/NAME = 0, like theta."""
    return {f"v/{name}": np.zeros_like(value) for name, value in theta.items()}


def sgd_step(theta: Params, grads: Params, state: State, lr: float, momentum: float = 0.0) -> tuple[Params, State]:
    """v' = momentum v + g,  theta' = theta - lr v'.

    theta, grads: the same names and shapes   lr >= 0   momentum: [0, 1). Raises ShapeError, DTypeError, RangeError.
    """
    _check_grads(theta, grads)
    check_number("lr", lr, low=0.0)
    _check_decay("momentum", momentum)
    lr, momentum = float(lr), float(momentum)
    after = {f"v/{name}": momentum * state[f"v/{name}"] + grads[name] for name in theta}
    return {name: theta[name] - lr * after[f"v/{name}"] for name in theta}, after


def adam_init(theta: Params) -> State:
    """m/NAME = v/NAME = 0, like theta; t = 0."""
    state = {f"{moment}/{name}": np.zeros_like(value) for moment in "mv" for name, value in theta.items()}
    return {"t": np.zeros((), np.int64)} | state


def adam_step(
    theta: Params,
    grads: Params,
    state: State,
    lr: float,
    beta1: float = 0.9,
    beta2: float = 0.999,
    eps: float = 1e-8,
) -> tuple[Params, State]:
    """theta' = theta - lr (m' / (1 - b1^t')) / (sqrt(v' / (1 - b2^t')) + eps).

    theta, grads: the same names and shapes   lr >= 0   beta1, beta2: [0, 1)   eps > 0.
    Raises ShapeError, DTypeError, RangeError.
    """
    _check_grads(theta, grads)
    check_number("lr", lr, low=0.0)
    _check_decay("beta1", beta1)
    _check_decay("beta2", beta2)
    check_number("eps", eps, low=0.0, open_low=True)
    lr, b1, b2, eps = float(lr), float(beta1), float(beta2), float(eps)
    t = int(state["t"]) + 1
    after: State = {"t": np.full((), t, np.int64)}
    moved: Params = {}
    for name, g in grads.items():
        m = b1 * state[f"m/{name}"] + (1 - b1) * g
        v = b2 * state[f"v/{name}"] + (1 - b2) * g**2
        m_hat = m / (1 - b1**t)
        v_hat = v / (1 - b2**t)
        moved[name] = theta[name] - lr * m_hat / (np.sqrt(v_hat) + eps)
        after[f"m/{name}"], after[f"v/{name}"] = m, v
    return {name: moved[name] for name in theta}, after


def clip_global_norm(grads: Params, max_norm: float | None) -> tuple[Params, float]:
    """g' = g max_norm / max(|g|, max_norm); max_norm None measures only. Returns g' and |g|, before the clip.

    |g| is summed in float64. Raises NonFiniteError, naming the arrays at fault, when it is not finite; RangeError.
    """
    squares = {name: float(np.sum(np.square(g, dtype=np.float64))) for name, g in grads.items()}
    norm = sqrt(sum(squares.values()))
    if not isfinite(norm):
        bad = ", ".join(name for name, square in squares.items() if not isfinite(square)) or "their sum"
        raise NonFiniteError(f"grads: expected a finite norm, found {norm} in {bad}")
    if max_norm is None:
        return dict(grads), norm
    check_number("max_norm", max_norm, low=0.0, open_low=True)
    scale = float(max_norm) / max(norm, float(max_norm))
    return {name: g * scale for name, g in grads.items()}, norm


def ema_init(theta: Params) -> Params:
    """A copy of theta."""
    return {name: value.copy() for name, value in theta.items()}


def ema_step(ema: Params, theta: Params, decay: float) -> Params:
    """ema' = decay ema + (1 - decay) theta. decay: [0, 1); 0 follows theta. Raises ShapeError, RangeError."""
    _check_decay("decay", decay)
    _check_grads(theta, ema, "ema")
    decay = float(decay)
    return {name: decay * ema[name] + (1 - decay) * theta[name] for name in theta}


def schedule_value(
    step: int, steps: int, lr: float, warmup: int, schedule: str = "constant", floor: float = 0.0
) -> float:
    """The learning rate of `step` (0, 1, ...) of `steps`; past the end a cosine stays at its floor.

    warmup: steps of linear rise, the last of them at lr   floor: the cosine's last value, <= lr.
    Raises DTypeError, RangeError.
    """
    check_count("step", step, low=0)
    check_count("steps", steps, low=1)
    check_number("lr", lr, low=0.0)
    check_count("warmup", warmup, low=0)
    check_choice("schedule", schedule, SCHEDULES)
    check_number("floor", floor, low=0.0, high=lr)
    if step < warmup:
        return float(lr) * (step + 1) / warmup
    if schedule == "constant":
        return float(lr)
    p = min(1.0, (step - warmup) / max(steps - warmup, 1))
    return float(floor) + (float(lr) - float(floor)) * (1 + cos(pi * p)) / 2


def _check_decay(name: str, value: float) -> None:
    check_number(name, value, low=0.0)
    if value >= 1:
        raise RangeError(f"{name}: expected a number in [0, 1), found {value}")


def _check_grads(theta: Params, grads: Params, what: str = "grads") -> None:
    """Raise unless `grads` has theta's names, shapes and dtypes."""
    if set(theta) != set(grads):
        raise ShapeError(f"{what}: expected the names {', '.join(theta)}, found {', '.join(grads)}")
    for name, value in theta.items():
        if grads[name].shape != value.shape:
            raise ShapeError(f"{what}[{name!r}]: expected shape {value.shape}, found {grads[name].shape}")
        if grads[name].dtype != value.dtype:
            raise DTypeError(f"{what}[{name!r}]: expected {value.dtype}, found {grads[name].dtype}")
