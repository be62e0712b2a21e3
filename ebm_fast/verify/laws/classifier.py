"""Laws of a classifier: E(x, y) = -F_y(x), E(x) = -log sum_y e^{-E(x, y)}, and the gradients of both."""

from __future__ import annotations

import numpy as np

from ebm_ref.contracts import Array

from .energies import settled, slopes
from .trial import Trial, holds, law

SHIFT = 2.5


def most(t: Trial, name: str) -> float:
    """How wrong a result may be, at most."""
    return float(t.budget[name].max(initial=0.0))


def logits_are_negative_energies(t: Trial) -> None:
    """F_c(x) = -E(x, c), class by class."""
    energy, F = t.energy(), t.got["logits"]
    for c in range(F.shape[1]):
        found = -energy.given(c).energy(t.args["theta"], t.args["x"])
        law("logits are the negative energies of classes", f"class {c}", found, F[:, c], 2 * t.budget["logits"][:, c])


def marginal_lies_below_every_class(t: Trial) -> None:
    """min_y E(x, y) - log C <= E(x) <= min_y E(x, y)."""
    E, F = t.got["energy"].astype(np.float64), t.got["logits"].astype(np.float64)
    lowest, slack = -F.max(axis=1), most(t, "energy") + most(t, "logits")
    holds("E(x) <= min_y E(x, y)", (E <= lowest + slack).all(), f"found {E}, {lowest}")
    above = lowest - np.log(F.shape[1])
    holds("E(x) >= min_y E(x, y) - log C", (E >= above - slack).all(), f"found {E}, {above}")


def constant_shifts_the_marginal(t: Trial) -> None:
    """The same number added to every logit is taken from E(x); no gradient in x sees it."""
    bias = t.args["theta"]["out.b"]
    got = t.again(theta=t.args["theta"] | {"out.b": bias + t.dtype(SHIFT)})
    size = float(np.abs(t.got["energy"]).max(initial=0.0) + np.abs(bias).max() + SHIFT)
    doubt = 2 * t.budget["energy"] + 4 * float(np.finfo(t.dtype).eps) * size
    shifted = t.got["energy"].astype(np.float64) - SHIFT
    law("a constant in all logits is taken from E(x)", "energy", got["energy"], shifted, doubt)
    law(
        "a constant in all logits leaves grad_x",
        "grad_x",
        got["grad_x"],
        t.got["grad_x"],
        (2 + size) * t.budget["grad_x"],
    )


def mixes_classes(t: Trial, text: str, result: str, of_x: Array, of_theta: Array, doubt: float) -> None:
    """grad_x is sum_y of_x[:, y] grad_x E(x, y), grad_theta is sum_{n,y} of_theta[n, y] grad_theta E(x_n, y).

    of_x, of_theta: (N, C); doubt: how wrong a weight may be, in roundings. A budget of gradients is at least a rounding
    of the largest gradient of a class.
    """
    theta, x, C = t.args["theta"], t.args["x"], of_x.shape[1]
    sums: dict[str, Array] = {}
    for y in range(C):
        energy, wide = t.energy().given(y), of_x[:, y].reshape(-1, *[1] * (x.ndim - 1))
        parts = {"grad_x": wide * energy.grad_x(theta, x)}
        grads = energy.grad_theta(theta, x, of_theta[:, y].astype(t.dtype))
        parts |= {f"grad_theta[{name}]": a.astype(np.float64) for name, a in grads.items()}
        sums = {name: sums.get(name, 0.0) + a for name, a in parts.items()}
    for name, want in sums.items():
        law(text, name, t.got[result + name], want, (1 + C + len(x) * doubt) * t.budget[result + name])


def marginal_gradient_is_the_mean_of_the_classes(t: Trial) -> None:
    """grad E(x) = sum_y p(y | x) grad E(x, y), in x and in theta."""
    F, unit = t.got["logits"].astype(np.float64), float(np.finfo(t.dtype).eps)
    weights = np.exp(F - F.max(axis=1, keepdims=True))
    P = weights / weights.sum(axis=1, keepdims=True)  # (N, C)
    text = "grad E(x) is the mean of grad E(x, y) under p(y | x)"
    mixes_classes(t, text, "", P, P * t.args["w"].astype(np.float64)[:, None], most(t, "logits") / unit)


def logits_backward_sums_over_classes(t: Trial) -> None:
    """The gradient of sum dy F is -sum_y dy_y grad E(x, y)."""
    dy = -t.args["dy"].astype(np.float64)
    for result in ("logits_backward.", "logits_"):
        mixes_classes(t, "the gradient of sum dy F is -sum_y dy_y grad E(x, y)", result, dy, dy, 0.0)


def class_gradients_are_slopes(t: Trial) -> None:
    """Central differences, in float64, of E(x, y) at the labels y."""
    if t.dtype == np.float64:
        t = settled(t)
        slopes(t, t.energy().given(t.args["y"]), "given.")
