"""Fields f(theta, x): vectors where an energy is a number, with every product of their Jacobian."""

from .base import (
    FieldBase,
)
from .mlp_field import (
    MLPField,
)

__all__ = [
    "FieldBase",
    "MLPField",
]
