"""A backend whose arrays are Duck: the oracle's functions behind a device's border, and energies of levels 1 and 2."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
from duck import Duck
from gaussian import Bowl

import ebm_ref
from ebm_ref import ChainInfo


def inside(value):
    """A NumPy array of a Duck, in dicts too, and the host's energy of an Away; anything else as it is."""
    if isinstance(value, Away):
        return vars(value)["_energy"]
    if isinstance(value, dict):
        return {name: inside(v) for name, v in value.items()}
    return value.get() if isinstance(value, Duck) else value


def outside(value):
    """Ducks of arrays and NumPy numbers, in tuples, dicts and ChainInfo too; anything else as it is."""
    if isinstance(value, tuple):
        return tuple(outside(v) for v in value)
    if isinstance(value, dict):
        return {name: outside(v) for name, v in value.items()}
    if isinstance(value, ChainInfo):
        return ChainInfo(Duck.of(value.energy), Duck.of(value.grad_norm), Duck.of(value.alive), value.nonfinite)
    return Duck.of(value) if isinstance(value, np.ndarray | np.generic) else value


def _crossing(name):
    function = getattr(ebm_ref, name)
    return lambda *args, **kwargs: outside(function(*map(inside, args), **{k: inside(v) for k, v in kwargs.items()}))


def _push(slots, filled, ptr, x, policy, idx=None, bits=None):
    host = slots.get()
    end = ebm_ref.buffer_push(host, filled, ptr, inside(x), policy, inside(idx), inside(bits))
    slots[...] = Duck.of(host)
    return end


NAMES = (
    "noise_bits", "noise_uniform", "noise_normal", "noise_index", "buffer_draw", "langevin_run", "langevin_step",
    "langevin_jitter",
)  # fmt: skip
DUCK_BACKEND = SimpleNamespace(**{name: _crossing(name) for name in NAMES}, buffer_push=_push)


class SmoothBowl(Bowl):
    """Bowl with level 2: grad_theta sum_n v_n . lam x_n, and H v = lam v."""

    def grad_theta_along(self, theta, x, v):
        D = int(np.prod(self.shape))
        flat = (x * v).reshape((x.shape[0], D))
        return {"lam": np.sum(flat, axis=0), "bias": np.zeros_like(theta["bias"])}

    def hvp(self, theta, x, v):
        D = int(np.prod(self.shape))
        return (v.reshape((v.shape[0], D)) * theta["lam"]).reshape(v.shape)


class Away:
    """An energy of the host, asked from the device: what comes in is a Duck, and so is what goes out."""

    def __init__(self, energy):
        self._energy = energy

    def __getattr__(self, name):
        value = getattr(self._energy, name)
        if not callable(value) or name in ("theta_shapes", "require_smooth"):
            return value
        return lambda *args: outside(value(*map(inside, args)))
