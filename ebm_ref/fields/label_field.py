"""A field with labels: one trunk for all classes, the label one-hot in more channels; and guidance by labels.

    LabelField     f(x, y) = trunk([x, onehot(y)]), the same at every pixel;  y = -1: no label, all zeros
    GuidedField    f(x) = (1 - w) f(x, none) + w f(x, y) = f_none + w (f_y - f_none)
                   w = 0: without labels, 1: with them, > 1: away from what all classes have in common

A field that is to be guided must have learned both: take the label of a sample away (y = -1) with some probability
while it learns. Guidance acts on every element of f; some published samplers guide a few channels of an image and not
the rest. Of scores it is the score of p(x)^(1 - w) p(x | y)^w; of any other field it has no such meaning.

The trunk is any field of the protocol, of any backend, with `classes` channels more than x; its parameters are theta.

Source: Ho & Salimans 2022, Classifier-Free Diffusion Guidance, arXiv:2207.12598, eq. 6 (their w is our w - 1);
Wang & Du 2025, arXiv:2510.02300.
Level: every method of the protocol, where the trunk has it. Twins: none; a fast backend's field is the trunk.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from ..contracts import (
    Array,
    DTypeError,
    Params,
    RangeError,
    ShapeError,
    Shapes,
    check_count,
    check_labels,
    check_number,
)
from ..trunk import OnTrunk
from .compose import WeightedFields
from .held_field import HeldField, check_trunk

Label = int | Array


@dataclass(frozen=True)
class LabelField(OnTrunk):
    """f(x, y) = trunk([x, onehot(y)]); `at(y)` is the field of x.

    trunk: a field of shape (..., C + classes)   classes: >= 1
    Raises DTypeError, ShapeError, RangeError.
    """

    trunk: Any
    classes: int

    def __post_init__(self) -> None:
        check_count("classes", self.classes, low=1)
        check_trunk(self.trunk, self.classes)

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of x: the trunk's, without the label's channels."""
        return (*self.trunk.shape[:-1], self.trunk.shape[-1] - self.classes)

    @property
    def out_shape(self) -> tuple[int, ...]:
        """The trunk's."""
        out_shape: tuple[int, ...] = self.trunk.out_shape
        return out_shape

    def at(self, y: Label) -> HeldField:
        """x -> f(x, y), an ordinary field. y: a class or -1 for all samples, or (N,) NumPy integers for batches of N.

        Raises DTypeError, ShapeError, RangeError.
        """
        if not isinstance(y, np.ndarray):
            check_count("y", y, low=-1, high=self.classes - 1)
            return HeldField(self.trunk, tuple(float(y == c) for c in range(self.classes)), "y")
        if y.dtype.kind != "i":  # unsigned ones know no -1
            raise DTypeError(f"y: expected signed integers, found {y.dtype}")
        if y.size and (int(y.min()) < -1 or int(y.max()) >= self.classes):
            raise RangeError(f"y: expected -1 or classes below {self.classes}, found {int(y.min())} to {int(y.max())}")
        if y.ndim != 1:
            raise ShapeError(f"y: expected shape (N,), found {y.shape}")
        return LabelledField(self.trunk, tuple(y == c for c in range(self.classes)), "y")


class LabelledField(HeldField):
    """x -> f(x, y_n), labels of each sample held on the host; made by `LabelField.at`. channels: (N,) truths."""

    def join(self, x: Any) -> Any:
        """[x, onehot(y)], (N, ..., C + classes). x: (N, *shape)."""
        columns = tuple(column.astype(x.dtype) for column in self.channels)
        if not hasattr(x, "coefficients"):  # a Jet meets NumPy's arrays only
            columns = tuple(np.asarray(column, like=x) for column in columns)
        return HeldField(self.trunk, columns, self.name).join(x)


@dataclass(frozen=True, eq=False)
class GuidedField(WeightedFields):
    """f(x) = (1 - w) f(x, none) + w f(x, y); theta is the network's.

    network: a LabelField   y: a class for all samples, or (N,) NumPy integers for batches of N   w: finite
    Raises DTypeError (a field without labels), ShapeError, RangeError (a sample without a label).
    """

    network: LabelField
    y: Label
    w: float

    def __post_init__(self) -> None:
        if not isinstance(self.network, LabelField):
            raise DTypeError(
                f"network: expected a LabelField, found {type(self.network).__name__}, which has no labels"
            )
        if isinstance(self.y, np.ndarray):
            check_labels("y", self.y, self.network.classes)
        else:
            check_count("y", self.y, low=0, high=self.network.classes - 1)
        check_number("w", self.w, low=float("-inf"))

    def theta_shapes(self) -> Shapes:
        """The network's."""
        return self.network.theta_shapes()

    def of_rows(self, rows: Array) -> GuidedField:
        """The same field of the samples `rows` of a batch."""
        return GuidedField(self.network, self.y[rows] if isinstance(self.y, np.ndarray) else self.y, self.w)

    def parts(self) -> list[tuple[Any, float]]:
        """f(., none) and f(., y) with their weights."""
        w = float(self.w)
        return [(self.network.at(-1), 1 - w), (self.network.at(self.y), w)]

    def part_theta(self, theta: Params, i: int) -> Params:
        """The same for both."""
        return theta

    def merged(self, grads: list[dict[str, Any]]) -> dict[str, Any]:
        """Their sum."""
        return {name: grads[0][name] + grads[1][name] for name in self.theta_shapes()}
