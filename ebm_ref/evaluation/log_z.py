"""log Z of small energies without sampling: the numbers that estimators are held against.

    log_z_quadrature    Z = int_box exp(-E(x)) dx in one or two dimensions: `panels` panels a side, n Gauss-Legendre
                        nodes in each, exact on a panel for polynomials of degree 2n - 1
    log_z_enumeration   Z = sum_x exp(-E(x)) over all x in values^D

    error   |log Z - the same with half the panels|: an estimate, far above the true error of a smooth energy
    edge    max exp(-E) on the rim of the box / max exp(-E) at the nodes: near 0, or the box cuts off mass

Source: Davis & Rabinowitz 1984, Methods of Numerical Integration, section 2.7.
Level: 1 (energies alone). Twins: none.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from math import exp, log

import numpy as np
from numpy.typing import DTypeLike

from ..contracts import (
    Array,
    Energy,
    Params,
    RangeError,
    ShapeError,
    check_count,
    check_number,
    check_params,
    flat_size,
)
from ..specs import Box, check_box

BLOCK = 2**15  # states or nodes evaluated at once
STATES = 2**24


@dataclass(frozen=True)
class Quadrature:
    """log Z over a box; `error` and `edge` as in the file's header; `nodes` is the number of energies taken."""

    log_z: float
    error: float
    edge: float
    nodes: int


def log_z_quadrature(
    energy: Energy, theta: Params, box: Box | tuple[Box, Box], panels: int = 64, n: int = 8
) -> Quadrature:
    """log int_box exp(-E(x)) dx for D = 1 or 2, with n Gauss-Legendre nodes in each of `panels` panels a side.

    box: (low, high) of each axis, or two of them, one for each axis   panels: even   n: nodes a panel
    Energies are taken in theta's dtype and added in float64. Raises ShapeError (D > 2), RangeError, DTypeError.
    """
    D = flat_size(energy.shape)
    if D > 2:
        raise ShapeError(f"energy: expected one or two dimensions, found {D}; use enumeration or annealing")
    check_count("panels", panels, low=2)
    check_count("n", n, low=1, high=64)
    check_params("theta", theta)
    if panels % 2:
        raise RangeError(f"panels: expected an even number, found {panels}")
    boxes = _boxes(box, D)
    fine, lowest, nodes = _integral(energy, theta, boxes, panels, n)
    coarse, _, more = _integral(energy, theta, boxes, panels // 2, n)
    rim = min(float(E.min()) for E, _ in _energies(energy, theta, _rim(boxes, panels, n)))
    return Quadrature(fine, abs(fine - coarse), exp(min(lowest - rim, 700.0)), nodes + more)


def log_z_enumeration(energy: Energy, theta: Params, values: tuple[float, ...] = (0.0, 1.0)) -> float:
    """log sum exp(-E(x)) over the len(values)^D states x, every element one of `values`.

    Energies are taken in theta's dtype and added in float64. Raises RangeError beyond 2^24 states, DTypeError.
    """
    if not isinstance(values, tuple) or len(set(values)) != len(values) or len(values) == 0:
        raise RangeError(f"values: expected a tuple of different numbers, found {values!r}")
    for value in values:
        check_number("values", value, low=float("-inf"))
    check_params("theta", theta)
    D = flat_size(energy.shape)
    if len(values) ** D > STATES:
        raise RangeError(f"energy: expected at most 2^24 states, found {len(values)}^{D}")
    blocks = ((x, np.zeros(len(x))) for x in _states(values, D))
    return _log_sum([float(_log_sum_exp(log_w - E)) for E, log_w in _energies(energy, theta, blocks)])


def _integral(energy: Energy, theta: Params, boxes: list[Box], panels: int, n: int) -> tuple[float, float, int]:
    """log Z, the lowest energy at a node, and the number of nodes."""
    sums, lowest = [], float("inf")
    for E, log_w in _energies(energy, theta, _grid([_rule(box, panels, n) for box in boxes])):
        sums.append(_log_sum_exp(log_w - E))
        lowest = min(lowest, float(E.min()))
    return _log_sum(sums), lowest, int((panels * n) ** len(boxes))


def _rule(box: Box, panels: int, n: int) -> tuple[Array, Array]:
    """Nodes and weights of the composite rule on [low, high], (panels n,) each."""
    nodes, weights = np.polynomial.legendre.leggauss(n)  # on [-1, 1]
    half = (box[1] - box[0]) / (2 * panels)
    middles = box[0] + half * (2 * np.arange(panels) + 1)  # (panels,)
    return (middles[:, None] + half * nodes).ravel(), np.tile(half * weights, panels)


def _grid(rules: list[tuple[Array, Array]]) -> Iterator[tuple[Array, Array]]:
    """Blocks of the product rule: points (B, D) and the logs of their weights (B,)."""
    sizes = [len(nodes) for nodes, _ in rules]
    total = int(np.prod(sizes))
    for start in range(0, total, BLOCK):
        at = np.unravel_index(np.arange(start, min(start + BLOCK, total)), sizes)
        points = np.stack([nodes[i] for (nodes, _), i in zip(rules, at, strict=True)], axis=1)  # (B, D)
        log_w = np.stack([np.log(weights[i]) for (_, weights), i in zip(rules, at, strict=True)]).sum(axis=0)  # (B,)
        yield points, log_w


def _rim(boxes: list[Box], panels: int, n: int) -> Iterator[tuple[Array, Array]]:
    """Points on the rim of the box: each axis at each of its ends, the other axis at its nodes."""
    for axis, ends in enumerate(boxes):
        for end in ends:
            rules = [_rule(box, panels, n) for box in boxes]
            rules[axis] = (np.array([float(end)]), np.ones(1))
            yield from _grid(rules)


def _states(values: tuple[float, ...], D: int) -> Iterator[Array]:
    """Blocks (B, D) of all states; the last element changes fastest."""
    levels, base = np.array(values, np.float64), len(values)
    powers = base ** np.arange(D - 1, -1, -1)  # (D,)
    for start in range(0, base**D, BLOCK):
        number = np.arange(start, min(start + BLOCK, base**D))  # (B,)
        yield levels[(number[:, None] // powers) % base]


def _energies(energy: Energy, theta: Params, blocks: Iterator[tuple[Array, Array]]) -> Iterator[tuple[Array, Array]]:
    """E of each block in float64, with the block's log weights."""
    dtype: DTypeLike = next((value.dtype for value in theta.values()), np.dtype(np.float64))
    for points, log_w in blocks:
        x = points.reshape((len(points), *energy.shape)).astype(dtype)  # (B, *shape)
        yield energy.energy(theta, x).astype(np.float64), log_w


def _log_sum_exp(logs: Array) -> float:
    top = float(logs.max())
    return top + log(float(np.exp(logs - top).sum())) if np.isfinite(top) else top


def _log_sum(logs: list[float]) -> float:
    return _log_sum_exp(np.array(logs))


def _boxes(box: Box | tuple[Box, Box], D: int) -> list[Box]:
    """One box for each axis."""
    first, last = box if isinstance(box, tuple) and len(box) == 2 else (box, box)
    each = [first, last] if isinstance(first, tuple) else [box] * D
    if len(each) != D:
        raise ShapeError(f"box: expected (low, high), or {D} of them, found {box!r}")
    boxes: list[Box] = []
    for ends in each:
        if not isinstance(ends, tuple) or len(ends) != 2:
            raise RangeError(f"box: expected (low, high), found {ends!r}")
        low, high = ends
        check_box((low, high))  # type: ignore[arg-type]
        boxes.append((float(low), float(high)))  # type: ignore[arg-type]
    return boxes
