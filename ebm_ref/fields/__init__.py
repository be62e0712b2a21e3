"""Fields f(theta, x): vectors where an energy is a number, with every product of their Jacobian."""

from .base import (
    FieldBase,
)
from .conv_field import (
    ConvField,
)
from .held_field import (
    HeldField,
    TimeField,
)
from .mlp_field import (
    MLPField,
)

__all__ = [
    "ConvField",
    "FieldBase",
    "HeldField",
    "MLPField",
    "TimeField",
]
