"""Energies with exact derivatives up to third order, all from one forward and one backward pass."""

from .base import EnergyBase, theta_check
from .conv_energy import ConvEnergy
from .deep_conv_energy import DeepConvEnergy
from .mlp_energy import MLPEnergy

__all__ = ["ConvEnergy", "DeepConvEnergy", "EnergyBase", "MLPEnergy", "theta_check"]
