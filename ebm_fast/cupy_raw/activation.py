"""The codes by which a kernel is told its activation (activation.cuh)."""

from __future__ import annotations

from ebm_ref.contracts import check_choice
from ebm_ref.specs import ACTIVATIONS

CODES = {"relu": 1, "leaky_relu": 2, "silu": 3, "gelu": 4, "softplus": 5, "tanh": 6}


def activation_code(name: str | None) -> int:
    """0 for None (the identity), else the activation's code. Raises RangeError for a name that is none."""
    if name is None:
        return 0
    check_choice("activation", name, ACTIVATIONS)
    return CODES[name]
