"""Fields f(theta, x): vectors where an energy is a number, with every product of their Jacobian."""

from .base import (
    FieldBase,
)
from .compose import (
    SumField,
    WeightedFields,
)
from .conv_field import (
    ConvField,
)
from .equilibrium_field import (
    EquilibriumField,
)
from .flow_map import (
    FlowMap,
)
from .held_field import (
    HeldField,
    TimeField,
)
from .label_field import (
    GuidedField,
    LabelField,
    LabelledField,
)
from .mlp_field import (
    MLPField,
)

__all__ = [
    "ConvField",
    "EquilibriumField",
    "FieldBase",
    "FlowMap",
    "GuidedField",
    "HeldField",
    "LabelField",
    "LabelledField",
    "MLPField",
    "SumField",
    "TimeField",
    "WeightedFields",
]
