"""Projected gradient descent against a classifier: the worst input near x that a first-order attack finds.

    pgd_gradient      g = grad_x CE(F(x), y) = logits_backward(softmax F - onehot y)
    pgd_step          linf:  x' = P(x + alpha sign(g))          l2:  x' = P(x + alpha g / |g|_2)
                      P: onto the ball of radius eps around the clean x, then onto the box of the data
    pgd_start         linf:  x + eps (2 u - 1)                  l2:  x + eps u^(1/D) xi / |xi|_2
    pgd_run           K steps from each start; keeps, for each sample, the iterate of the largest CE
    robust_accuracy   share of samples that are classified right at what was kept

For l2 and a box the two projections in turn end in both sets (clipping towards the clean x, which is in the box, makes
no distance larger). On linear logits of two classes the margin falls to margin - eps |w_y - w_c|_1 (linf), or
- eps |w_y - w_c|_2 (l2), in ceil(eps / alpha) steps from x, where the box does not bind.

Robustness to this attack is an upper bound of robustness: masked gradients look robust. AutoAttack is not here: its
package is not on PyPI, and the copy in torchattacks wants a PyTorch model.

Source: Madry et al. 2018, arXiv:1706.06083, eq. 2.1 and section 4; Grathwohl et al. 2020, arXiv:1912.03263, section
5.4 (40 steps, random start); Croce & Hein 2020, arXiv:2003.01690 (AutoAttack).
Level: of a classifier's logits. Twins: none; any array that answers NumPy's calls. Labels are NumPy's.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import sqrt
from types import ModuleType

import numpy as np

from ..contracts import (
    Array,
    DTypeError,
    Params,
    RangeError,
    ShapeError,
    Stream,
    check_array,
    check_choice,
    check_count,
    check_flag,
    check_number,
    flat_size,
)
from ..objectives.classify import log_softmax, one_hot
from ..specs import Box, check_box
from .classifier import Classifier
from .estimate import Estimate

NORMS = ("linf", "l2")


@dataclass(frozen=True, eq=False)
class Attack:
    """x: (N, *shape), the worst inputs found; loss, right: (N,), their CE and whether they are still classified right;
    losses: (starts, K + 1, N), the CE along each path."""

    x: Array
    loss: Array
    right: Array
    losses: Array


def pgd_gradient(classifier: Classifier, theta: Params, x: Array, y: Array) -> tuple[Array, Array, Array]:
    """CE_n = -log softmax(F(x_n))[y_n], whether argmax F = y, and grad_x CE_n.

    x: (N, *shape)   y: (N,) NumPy integers   returns (N,), (N,), like x. Raises ShapeError, DTypeError, RangeError.
    """
    _check_labels(y, x)
    F = classifier.logits(theta, x)  # (N, C)
    hot = one_hot(y, F)  # (N, C)
    log_p = log_softmax(F)
    loss = -np.sum(hot * log_p, axis=1)  # (N,)
    right = np.equal(np.argmax(F, axis=1), np.argmax(hot, axis=1))
    return loss, right, classifier.logits_backward(theta, x, np.exp(log_p) - hot)[0]


def pgd_step(
    x: Array, g: Array, clean: Array, alpha: float, eps: float, norm: str = "linf", box: Box | None = None
) -> Array:
    """x' = P(x + alpha sign(g)) for linf, P(x + alpha g / |g|_2) for l2; a sample whose g is 0 stays.

    x, g, clean: (N, *shape), one dtype   alpha: step   eps: radius   box: (low, high) of the data, which holds `clean`
    returns like x. Raises ShapeError, DTypeError, RangeError.
    """
    check_array("x", x)
    for name, other in (("g", g), ("clean", clean)):
        check_array(name, other, shape=x.shape)
        if other.dtype != x.dtype:
            raise DTypeError(f"{name}: expected x's {x.dtype}, found {other.dtype}")
    check_number("alpha", alpha, low=0.0)
    _check_ball(eps, norm, box)
    if norm == "linf":
        away = np.clip(x + float(alpha) * np.sign(g) - clean, -float(eps), float(eps))
    else:
        size = _norm(g)  # (N, 1, ...)
        away = x + float(alpha) * g / np.where(size > 0, size, np.ones_like(size)) - clean
        size = _norm(away)
        away = away * np.minimum(float(eps) / np.where(size > 0, size, np.ones_like(size)), 1)
    return _boxed(clean + away, box)


def pgd_start(
    clean: Array, u: Array, xi: Array | None, eps: float, norm: str = "linf", box: Box | None = None
) -> Array:
    """A point drawn evenly from the ball: clean + eps (2 u - 1), or clean + eps u^(1/D) xi / |xi|_2; then the box.

    clean: (N, *shape)   linf: u like clean, uniform in (0, 1]   l2: u: (N, 1), xi like clean, standard normals
    returns like clean. Raises ShapeError, DTypeError, RangeError.
    """
    check_array("clean", clean)
    _check_ball(eps, norm, box)
    if norm == "linf":
        check_array("u", u, shape=clean.shape)
        return _boxed(clean + float(eps) * (2 * u - 1), box)
    check_array("u", u, shape=(clean.shape[0], 1))
    if xi is None:
        raise DTypeError("xi: expected normals like clean for l2, found None")
    check_array("xi", xi, shape=clean.shape)
    radius = u.reshape((clean.shape[0],) + (1,) * (clean.ndim - 1)) ** (1 / flat_size(clean.shape[1:]))  # (N, 1, ...)
    size = _norm(xi)
    return _boxed(clean + float(eps) * radius * xi / np.where(size > 0, size, np.ones_like(size)), box)


def pgd_run(
    backend: ModuleType,
    classifier: Classifier,
    theta: Params,
    x: Array,
    y: Array,
    eps: float,
    alpha: float,
    K: int,
    seed: int,
    norm: str = "linf",
    box: Box | None = None,
    starts: int = 1,
    random_start: bool = True,
) -> Attack:
    """K steps of `pgd_step` from each of `starts` starts; the iterate of the largest CE of each sample is kept.

    backend: module with noise_uniform, noise_normal   x: (N, *shape), in the box   y: (N,) NumPy integers
    starts: start r is drawn at (seed, ATTACK, r, n); without random_start there is one, at x itself
    Raises ShapeError, DTypeError, RangeError, NonFiniteError (x).
    """
    check_array("x", x, shape=(None, *classifier.shape), finite=isinstance(x, np.ndarray))
    check_count("K", K, low=0)
    check_count("starts", starts, low=1)
    check_flag("random_start", random_start)
    if not random_start and starts > 1:
        raise RangeError(f"starts: expected 1 without random_start, found {starts}")
    _check_ball(eps, norm, box)
    check_number("alpha", alpha, low=0.0)
    if x.shape[0] == 0:
        raise ShapeError("x: expected at least one sample, found none")
    found: tuple[Array, Array, Array] | None = None  # the worst of each sample so far: x, CE, right
    losses = []
    for r in range(starts):
        at = _draw(backend, x, eps, norm, box, seed, r) if random_start else x
        for k in range(K + 1):
            loss, right, g = pgd_gradient(classifier, theta, at, y)
            losses.append(loss)
            found = (at, loss, right) if found is None else _worse(found, (at, loss, right))
            if k < K:
                at = pgd_step(at, g, x, alpha, eps, norm, box)
    assert found is not None  # there is at least one start
    paths = np.stack(losses).reshape((starts, K + 1, x.shape[0]))
    return Attack(*found, paths)


def robust_accuracy(attack: Attack) -> Estimate:
    """Share of samples still right at the worst input found, and sqrt(a (1 - a) / N)."""
    a, N = float(np.mean(attack.right)), attack.right.shape[0]
    return Estimate(a, sqrt(a * (1 - a) / N))


def _draw(backend: ModuleType, x: Array, eps: float, norm: str, box: Box | None, seed: int, r: int) -> Array:
    N, D = x.shape[0], flat_size(x.shape[1:])
    chains = np.arange(N)
    if norm == "linf":
        return pgd_start(
            x, backend.noise_uniform(seed, Stream.ATTACK, r, chains, D, x.dtype).reshape(x.shape), None, eps, norm, box
        )
    xi = backend.noise_normal(seed, Stream.ATTACK, r, chains, D, x.dtype).reshape(x.shape)
    free = D + D % 2  # the first element that no normal used
    u = backend.noise_uniform(seed, Stream.ATTACK, r, chains, free + 1, x.dtype)[:, free:]  # (N, 1)
    return pgd_start(x, u, xi, eps, norm, box)


def _worse(a: tuple[Array, Array, Array], b: tuple[Array, Array, Array]) -> tuple[Array, Array, Array]:
    """For each sample the one of the larger CE; a CE that is NaN never wins."""
    more = b[1] > a[1]  # (N,)
    column = more.reshape((more.shape[0],) + (1,) * (a[0].ndim - 1))
    return np.where(column, b[0], a[0]), np.where(more, b[1], a[1]), np.where(more, b[2], a[2])


def _norm(v: Array) -> Array:
    """|v_n|_2, (N, 1, ...), to broadcast against v."""
    flat = v.reshape((v.shape[0], flat_size(v.shape[1:])))
    size: Array = np.sqrt(np.sum(flat * flat, axis=1)).reshape((v.shape[0],) + (1,) * (v.ndim - 1))
    return size


def _boxed(x: Array, box: Box | None) -> Array:
    return x if box is None else np.clip(x, float(box[0]), float(box[1]))


def _check_labels(y: Array, x: Array) -> None:
    """Raise unless `y` is (N,) NumPy integers; their range is known with the logits."""
    if not isinstance(y, np.ndarray) or y.dtype.kind not in "iu":
        raise DTypeError(f"y: expected a NumPy array of integers, found {getattr(y, 'dtype', type(y).__name__)}")
    if not hasattr(x, "shape"):
        raise DTypeError(f"x: expected an array, found {type(x).__name__}")
    if y.shape != x.shape[:1]:
        raise ShapeError(f"y: expected shape ({x.shape[0]},), found {y.shape}")


def _check_ball(eps: float, norm: str, box: Box | None) -> None:
    check_number("eps", eps, low=0.0)
    check_choice("norm", norm, NORMS)
    check_box(box)
