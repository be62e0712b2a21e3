"""Joint energy-based model: one network that classifies and generates.

    F(x) in R^C logits,  E(x) = -logsumexp_y F_y(x),  E(x, y) = -F_y(x),  P = p(y | x) = softmax F(x)

    jem   L =  w_x  (mean E(x_pos) - mean E(x_neg))                                 -log p(x)
             + w_yx CE(F(x_lab), y)                                                 -log p(y | x)
             + w_xy (mean E(x_lab, y) - mean E(x_neg_y, y)),  x_neg_y ~ p(x | y)    -log p(x | y), by class
             - w_mi I(F(x_pos)) + alpha w_x (mean E(x_pos)^2 + mean E(x_neg)^2)     (both 0 by default)

    in logits   x_pos    -w_x (1 + 2 alpha E) P / N - w_mi dI/dF       x_lab     w_yx (P - onehot) / N - w_xy onehot / N
                x_neg    +w_x (r - 2 alpha E) P / N                    x_neg_y   +w_xy onehot / N

The terms are summed and give one gradient for one optimiser step. On one labelled batch, x_pos = x_lab and
w_x = w_yx = 1, the positive part is -onehot / N: the P of the cross entropy cancels and what is left is the maximum
likelihood of the pair, log p(x, y) = log p(x) + log p(y | x). With C = 1 the classifier has nothing to say, CE = 0, and
`jem` is `contrastive`. x_neg and x_neg_y are constants: nothing is differentiated through the chains.

r is 1, or with balance_weight r = min(|g_pos| / |g_neg|, 1), g the gradients in theta of w_x mean E of either side: see
balance.py for what that biases.

Source: Grathwohl et al. 2020, arXiv:1912.03263, section 4 and the weights of its code; alpha from Du & Mordatch 2019,
arXiv:1903.08689; I as in classify.py.
Level: 1, and `logits`, `logits_grad_theta` of a classifier. Twins: none; any array that answers NumPy's calls.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from ..contracts import (
    Array,
    DTypeError,
    Energy,
    Params,
    RangeError,
    ShapeError,
    Shapes,
    check_array,
    check_labels,
    check_number,
)
from .balance import balance_ratio
from .classify import cross_entropy, log_softmax, mutual_information, one_hot

Info = dict[str, Any]


class JointEnergy(Protocol):
    """What a JEM needs of its energy: level 1, logits F (N, C), and their gradient for given cotangents."""

    @property
    def shape(self) -> tuple[int, ...]: ...

    @property
    def classes(self) -> int: ...

    def theta_shapes(self) -> Shapes: ...

    def energy(self, theta: Params, x: Array) -> Array: ...

    def grad_x(self, theta: Params, x: Array) -> Array: ...

    def energy_and_grad_x(self, theta: Params, x: Array) -> tuple[Array, Array]: ...

    def grad_theta(self, theta: Params, x: Array, w: Array) -> Params: ...

    def logits(self, theta: Params, x: Array) -> Array: ...

    def logits_grad_theta(self, theta: Params, x: Array, dy: Array) -> Params: ...

    def given(self, y: Any) -> Energy: ...


@dataclass(frozen=True)
class JEMTerms:
    """The weights of the loss, each >= 0; a term of weight 0 needs no samples."""

    w_x: float = 1.0  # -log p(x)
    w_yx: float = 1.0  # -log p(y | x)
    w_xy: float = 0.0  # -log p(x | y)
    w_mi: float = 0.0  # mutual information of x and y under the model
    alpha: float = 0.0  # energy regulariser of w_x

    def __post_init__(self) -> None:
        for name in ("w_x", "w_yx", "w_xy", "w_mi", "alpha"):
            check_number(name, getattr(self, name), low=0.0)


def jem(
    energy: JointEnergy,
    theta: Params,
    terms: JEMTerms,
    x_pos: Array | None = None,
    x_neg: Array | None = None,
    x_lab: Array | None = None,
    y: Array | None = None,
    x_neg_y: Array | None = None,
    balance_weight: bool = False,
) -> tuple[Array, Params, Info]:
    """The loss above and its gradient in theta.

    x_pos: (N, *shape) data, with or without labels (w_x, w_mi)   x_neg: (N_neg, *shape) samples of p(x) (w_x)
    x_lab, y: (N_lab, *shape) data, (N_lab,) NumPy integers (w_yx, w_xy)   x_neg_y: like x_lab, samples of p(x | y)
    (w_xy)   balance_weight: multiply the negative part of w_x by r, a constant
    returns loss (), grads like theta, info: of the terms that are on, loss_x, gap, energy_pos, energy_neg; loss_yx,
    accuracy; loss_xy; mutual_information; and ratio (r) with balance_weight. All are 0-dimensional arrays.
    Raises ShapeError, DTypeError, NonFiniteError, RangeError (a label outside [0, C), no term on, samples missing for
    a term).
    """
    _check_terms(energy, terms, x_pos=x_pos, x_neg=x_neg, x_lab=x_lab, y=y, x_neg_y=x_neg_y)
    w_x, w_yx, w_xy, w_mi, alpha = (float(getattr(terms, name)) for name in terms.__dataclass_fields__)
    loss: Any = 0.0
    info: Info = {}
    parts: list[Params] = []
    if x_pos is not None:
        F = energy.logits(theta, x_pos)  # (N, C)
        dF = np.zeros_like(F)
        if w_x:
            e_pos, p_pos = _energy(F)  # (N,), (N, C)
            dF = dF - w_x * ((1 + 2 * alpha * e_pos) / x_pos.shape[0])[:, None] * p_pos  # (N, C)
        if w_mi:
            info["mutual_information"], dI = mutual_information(F)  # (), (N, C)
            loss = loss - w_mi * info["mutual_information"]
            dF = dF - w_mi * dI
        parts.append(energy.logits_grad_theta(theta, x_pos, dF))
    if x_neg is not None:
        F = energy.logits(theta, x_neg)  # (N_neg, C)
        e_neg, p_neg = _energy(F)  # (N_neg,), (N_neg, C)
        mean_pos, mean_neg = np.mean(e_pos), np.mean(e_neg)  # (), ()
        scale: Any = 1.0
        if balance_weight:
            scale = balance_ratio(*_one_sided(energy, theta, x_pos, p_pos, x_neg, p_neg))  # ()
            info["ratio"] = scale
        dF = -w_x * ((-scale + 2 * alpha * e_neg) / x_neg.shape[0])[:, None] * p_neg  # (N_neg, C)
        parts.append(energy.logits_grad_theta(theta, x_neg, dF))
        info["loss_x"] = mean_pos - scale * mean_neg + alpha * (np.mean(e_pos**2) + np.mean(e_neg**2))  # ()
        loss = loss + w_x * info["loss_x"]
        info |= {"energy_pos": mean_pos, "energy_neg": mean_neg, "gap": mean_neg - mean_pos}
    if x_lab is not None and y is not None:
        F = energy.logits(theta, x_lab)  # (N_lab, C)
        hot = one_hot(y, F)  # (N_lab, C)
        dF = np.zeros_like(F)
        if w_yx:
            info["loss_yx"], dCE = cross_entropy(F, y)  # (), (N_lab, C)
            info["accuracy"] = np.mean(np.argmax(F, axis=1) == np.asarray(y, like=F))
            loss = loss + w_yx * info["loss_yx"]
            dF = dF + w_yx * dCE
        if x_neg_y is not None:
            F_neg = energy.logits(theta, x_neg_y)  # (N_lab, C)
            info["loss_xy"] = np.mean(np.sum(hot * (F_neg - F), axis=1))  # ()
            loss = loss + w_xy * info["loss_xy"]
            push = w_xy * hot / y.shape[0]  # (N_lab, C)
            dF = dF - push
            parts.append(energy.logits_grad_theta(theta, x_neg_y, push))
        parts.append(energy.logits_grad_theta(theta, x_lab, dF))
    return loss, _total(parts), info


def _energy(F: Array) -> tuple[Array, Array]:
    """E = -logsumexp F, (N,), and P = softmax F, (N, C)."""
    log_p = log_softmax(F)  # (N, C)
    return (log_p - F)[:, 0], np.exp(log_p)


def _one_sided(
    energy: JointEnergy, theta: Params, x_pos: Any, p_pos: Array, x_neg: Array, p_neg: Array
) -> tuple[Params, Params]:
    """grad_theta of mean E(x_pos) and of mean E(x_neg)."""
    g_pos = energy.logits_grad_theta(theta, x_pos, -p_pos / x_pos.shape[0])
    g_neg = energy.logits_grad_theta(theta, x_neg, -p_neg / x_neg.shape[0])
    return g_pos, g_neg


def _total(parts: list[Params]) -> Params:
    """The sum of gradients, name by name, first to last."""
    total = parts[0]
    for part in parts[1:]:
        total = {name: total[name] + part[name] for name in total}
    return total


def _check_terms(energy: JointEnergy, terms: JEMTerms, **given: Array | None) -> None:
    """Raise unless exactly the samples that the terms need are given, in their shapes."""
    if not isinstance(terms, JEMTerms):
        raise DTypeError(f"terms: expected JEMTerms, found {type(terms).__name__}")
    needs = {
        "x_pos": ("w_x", "w_mi"),
        "x_neg": ("w_x",),
        "x_lab": ("w_yx", "w_xy"),
        "y": ("w_yx", "w_xy"),
        "x_neg_y": ("w_xy",),
    }
    if not any(getattr(terms, name) for names in needs.values() for name in names):
        raise RangeError("terms: expected a weight above 0, found none")
    for name, weights in needs.items():
        on = [weight for weight in weights if getattr(terms, weight)]
        if on and given[name] is None:
            raise RangeError(f"{name}: {on[0]} > 0 needs it, found None")
        if not on and given[name] is not None:
            raise RangeError(f"{name}: expected None, since {' and '.join(weights)} is 0")
        x = given[name]
        if x is not None and name != "y":
            check_array(name, x, shape=(None, *energy.shape), finite=isinstance(x, np.ndarray))
            if x.shape[0] == 0:
                raise ShapeError(f"{name}: expected at least one sample, found none")
    if given["x_lab"] is not None:
        if given["x_neg_y"] is not None:
            check_array("x_neg_y", given["x_neg_y"], shape=tuple(given["x_lab"].shape))
        check_labels("y", given["y"], energy.classes, given["x_lab"].shape[0])
