"""Energies with exact derivatives up to third order, all from one forward and one backward pass."""

from ..contracts import (
    theta_check,
)
from .base import (
    EnergyBase,
)
from .boltzmann import (
    BoltzmannEnergy,
)
from .classifier_energy import (
    ClassEnergy,
    ClassifierEnergy,
)
from .compose import (
    SumEnergy,
)
from .conv_energy import (
    ConvEnergy,
)
from .deep_conv_energy import (
    DeepConvEnergy,
)
from .double_well import (
    DoubleWellEnergy,
)
from .field_energy import (
    FieldEnergy,
)
from .gaussian_mixture import (
    GaussianMixtureEnergy,
)
from .init import (
    theta_init,
)
from .mlp_energy import (
    MLPEnergy,
)
from .multi_scale import (
    MultiScaleEnergy,
)
from .network import (
    NetworkEnergy,
)
from .noise_conditional import (
    LevelEnergy,
    NoiseConditionalEnergy,
)
from .precision_energy import (
    PrecisionEnergy,
)
from .quadratic import (
    QuadraticEnergy,
)
from .rbm import (
    RBMEnergy,
    binary_index,
    binary_states,
    rbm_gibbs_run,
    rbm_gibbs_step,
)
from .repulsion import (
    InteractionEnergy,
    repulsion,
)
from .ring import (
    RingEnergy,
)

__all__ = [
    "BoltzmannEnergy",
    "ClassEnergy",
    "ClassifierEnergy",
    "ConvEnergy",
    "DeepConvEnergy",
    "DoubleWellEnergy",
    "EnergyBase",
    "FieldEnergy",
    "GaussianMixtureEnergy",
    "InteractionEnergy",
    "LevelEnergy",
    "MLPEnergy",
    "MultiScaleEnergy",
    "NetworkEnergy",
    "NoiseConditionalEnergy",
    "PrecisionEnergy",
    "QuadraticEnergy",
    "RBMEnergy",
    "RingEnergy",
    "SumEnergy",
    "binary_index",
    "binary_states",
    "rbm_gibbs_run",
    "rbm_gibbs_step",
    "repulsion",
    "theta_check",
    "theta_init",
]
