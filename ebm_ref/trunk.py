"""What an energy or a field that is made of another one has from it: parameters, smoothness, levels."""

from __future__ import annotations

from typing import Any

from .contracts import Shapes


class OnTrunk:
    """A model whose parameters are those of its `trunk`, an energy or a field of any backend."""

    trunk: Any

    @property
    def derivatives_of(self) -> Any:
        """The innermost trunk: levels 2 and 3 are here where they are there."""
        return getattr(self.trunk, "derivatives_of", self.trunk)

    def theta_shapes(self) -> Shapes:
        """The trunk's."""
        shapes: Shapes = self.trunk.theta_shapes()
        return shapes

    def require_smooth(self, what: str) -> None:
        """Raise `SmoothnessError` where the trunk does."""
        if hasattr(self.trunk, "require_smooth"):
            self.trunk.require_smooth(what)
