"""Small wrong functions: bugs that were found in the wild, or nearly made here. The kit must reject each one."""

from . import buffer, classifiers, energies, fields, flow, langevin, layers, noise

__all__ = ["buffer", "classifiers", "energies", "fields", "flow", "langevin", "layers", "noise"]
