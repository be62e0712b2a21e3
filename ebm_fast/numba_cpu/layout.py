"""Where the arrays of a program lie, in scratch, in packed weights and gradients, and its instructions so far."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from .links import Packing, Unit, Value
from .registers import HALF, ONE, WHOLE, lane_count
from .threads import TEAM


@dataclass
class Layout:
    """Instructions and tables, and what lies where, under construction."""

    dtype: Any
    tangent: bool = False
    params: bool = False
    width: int = 0  # samples of a tile: one to three registers of them, two unless it is given, half of one, or one
    code: list[tuple[Any, ...]] = field(default_factory=list)
    waits: list[bool] = field(default_factory=list)
    products: int = 0  # multiply-adds of a sample that several threads can share
    lone: int = 0  # of those, the ones in which a pixel shares its weights with no other
    ends: list[int] = field(default_factory=list)
    tables: list[np.ndarray] = field(default_factory=list)
    table_size: int = 0
    scratch_size: int = 0
    packed: list[tuple[str, int, Packing | None]] = field(default_factory=list)
    packed_size: int = 1  # eps
    grads: dict[str, tuple[int, tuple[int, ...], tuple[int, ...]]] = field(default_factory=dict)
    grads_size: int = 0
    turn_dy: int = 0  # rows that turning needs
    turned: list[int] = field(default_factory=list)  # instructions that await the address of the turned array
    temp: int = 0

    def __post_init__(self) -> None:
        self.width = self.width or 2 * lane_count(self.dtype)
        self.alone = self.width == 1  # rows then follow each other, each array from one register to the next
        self.part = ONE if self.alone else (HALF if self.width < lane_count(self.dtype) else WHOLE)
        self.lanes = lane_count(self.dtype, self.part)
        self.temp = self.rows(TEAM)

    @property
    def block(self) -> int:
        """Outputs that `weight_grad` sums at once: two registers."""
        return 2 * self.lanes

    def rows(self, count: int) -> int:
        """Address of `count` new rows of scratch."""
        at = self.scratch_size
        self.scratch_size += self.whole(count * self.width)
        return at

    def whole(self, size: int) -> int:
        """`size` numbers up to the end of a register; half a register where tiles are that wide."""
        lanes = lane_count(self.dtype) if self.alone else self.lanes
        return -(-size // lanes) * lanes

    def value(self, pixels: int, C: int) -> Value:
        """A new array (pixels, C), with its tangent if the program carries tangents."""
        at = self.rows(pixels * C)
        return Value(at, self.rows(pixels * C) if self.tangent else -1, pixels, C)

    def emit(self, what: Any, *operands: int, wait: bool = True) -> None:
        """Append one instruction.

        Of several threads on a tile all do it, each its share, where `what` can be shared; else the first does. They
        wait for each other before it, unless what it needs was made by the first.
        """
        self.code.append((what, *operands))
        self.waits.append(wait)

    def section(self) -> None:
        """End the part that runs once; then the part that is repeated; the rest runs once again."""
        self.ends.append(len(self.code))

    def table(self, groups: list[list[int]]) -> tuple[int, int]:
        """Append where each group starts and ends, then the groups; return the address and how many they are."""
        at = self.table_size
        starts = at + len(groups) + 1 + np.cumsum([0, *map(len, groups)])
        self.tables.append(np.concatenate([starts, *groups]).astype(np.int64))
        self.table_size += self.tables[-1].size
        return at, len(groups)

    def units(self, units: list[Unit]) -> tuple[int, int]:
        """Append the units of a map: three places, then for each tap three sources and the tap; return as `table`."""

        def three(registers: tuple[int, ...]) -> tuple[int, ...]:
            return (*registers, -1, -1)[:3]

        return self.table(
            [[*three(u.places), *(i for t, sources in u.sources.items() for i in (*three(sources), t))] for u in units]
        )

    def pack(self, name: str, size: int, packing: Packing | None = None) -> int:
        """Room for parameter `name` in W, as it is or packed for `gather`; return the address."""
        at = self.packed_size
        self.packed.append((name, at, packing))
        self.packed_size += size
        return at

    def grad(self, name: str, padded: tuple[int, ...], kept: tuple[int, ...]) -> int:
        """Room for the gradient of `name` in G, of which the corner `kept` is the result; return the address."""
        if not self.params:
            return -1
        at = self.grads_size
        self.grads[name] = (at, padded, kept)
        self.grads_size += -(-int(np.prod(padded)) // self.block) * self.block
        return at

    def vector(self, name: str, size: int) -> tuple[int, int]:
        """Addresses of a parameter vector and of its gradient."""
        return self.pack(name, size), self.grad(name, (size,), (size,))
