"""Small wrong functions: bugs that were found in the wild, or nearly made here. The kit must reject each one."""

from . import buffer, classifiers, energies, langevin, layers, noise

__all__ = ["buffer", "classifiers", "energies", "langevin", "layers", "noise"]
