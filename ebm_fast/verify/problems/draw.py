"""What every problem draws from: sizes, kinds of values, choices, and arrays that NumPy builds from one seed."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from ebm_ref.contracts import Array

from ..case import LAYOUTS, Case, lay

SIZES = (1, 2, 3, 5, 7, 13, 15, 16, 17, 31, 33, 63, 65)
SMALL = (1, 2, 3, 5)
KINDS = ("zeros", "normal", "ties", "tiny", "large", "offset", "spread")


class Draw:
    """What a problem draws: choices (the simplest first), then arrays from one seed."""

    def __init__(self, draw: Callable[[Any], Any], st: Any, dtype: Any) -> None:
        self._draw, self._st, self.dtype = draw, st, np.dtype(dtype)
        self.rng = np.random.default_rng(0)
        self.story: list[str] = []

    def choice(self, options: Sequence[Any]) -> Any:
        return self._draw(self._st.sampled_from(options))

    def flag(self) -> bool:
        return bool(self._draw(self._st.booleans()))

    def integer(self, low: int, high: int) -> int:
        return int(self._draw(self._st.integers(low, high)))

    def seed(self) -> None:
        """Draw the seed of every array that follows."""
        seed = self.integer(0, 9999)
        self.rng = np.random.default_rng(seed)
        self.story.append(f"arrays from seed {seed}")

    def sample_shape(self, long: Sequence[int] = SIZES) -> tuple[int, ...]:
        """One long axis, or up to three short ones."""
        axes = self.choice((1, 2, 3))
        return tuple(self.choice(long if axes == 1 else SMALL) for _ in range(axes))

    def array(self, name: str, shape: tuple[int, ...], kinds: Sequence[str] = KINDS, scale: float = 1.0) -> Array:
        """A real array of one of the kinds of values, in one of the layouts."""
        kind, layout = self.choice(kinds), self.choice(LAYOUTS)
        self.story.append(f"{name}: {kind}, {layout}")
        return lay((scale * values(self.rng, shape, kind)).astype(self.dtype), layout)

    def words(self, shape: tuple[int, ...]) -> Array:
        """32-bit words, the extremes among them."""
        bits = self.rng.integers(0, 2**32, shape, dtype=np.uint32)
        edges = np.array([0, 1, 2**31, 2**32 - 1], np.uint32)
        return np.where(self.rng.random(shape) < 0.2, self.rng.choice(edges, shape), bits)

    def case(self, function: str, args: dict[str, Any], **options: Any) -> Case:
        return Case(function, args, options, "; ".join(self.story))


def values(rng: np.random.Generator, shape: tuple[int, ...], kind: str) -> Array:
    """Real numbers of one kind; "spread" covers ten orders of magnitude, "offset" hides a small variance."""
    normal = rng.standard_normal(shape)
    if kind == "spread":
        return normal * 10.0 ** rng.uniform(-6, 4, shape)
    if kind == "ties":
        return rng.integers(-1, 2, shape).astype(float)
    if kind == "offset":
        return 100.0 + normal
    return normal * {"zeros": 0.0, "normal": 1.0, "tiny": 1e-12, "large": 1e4, "huge": 1e25}[kind]
