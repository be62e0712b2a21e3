"""Small wrong functions: bugs that were found in the wild, or nearly made here. The kit must reject each one."""

from . import buffer, energies, langevin, layers, noise

__all__ = ["buffer", "energies", "langevin", "layers", "noise"]
