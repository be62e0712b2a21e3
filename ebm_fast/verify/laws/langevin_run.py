"""Laws of a chain of K steps."""

from __future__ import annotations

from typing import Any

import numpy as np

from ebm_ref.contracts import Array
from ebm_ref.specs import SGLD

from .trial import Trial, holds, law


def no_steps_return_the_start(t: Trial) -> None:
    got, x0 = t.again(K=0), t.args["x0"]
    law("K = 0 returns x0", "x", got["x"], x0)
    holds("x is a copy of x0", not np.shares_memory(got["x"], x0))
    holds("K = 0 has no energies", got["energy"].shape == (0, len(x0)), f"found shape {got['energy'].shape}")


def steps_add_up(t: Trial) -> None:
    """K steps are K - 1 steps and one more, continued at step + K - 1: a run can be resumed."""
    K = t.args["K"]
    if K >= 2:
        first = t.again(K=K - 1)["x"]
        step = t.case.options["step"] + K - 1
        x = t.again({"step": step}, K=1, x0=first)["x"]
        law("K steps are K - 1 and one more", "x", x, t.got["x"], 2 * t.budget["x"])


def chains_are_their_own(t: Trial) -> None:
    """Chains a and b together are a alone and b alone, under their ids; in any order."""
    x0, ids = t.args["x0"], t.case.options["chains"]
    ids = np.arange(len(x0)) if ids is None else ids
    whole = t.got["x"]
    back = t.again({"chains": ids[::-1].copy()}, x0=x0[::-1].copy())["x"]
    law("chains in reverse order are the same chains", "x", back[::-1], whole, 2 * t.budget["x"])
    half = len(x0) // 2
    for part in (slice(0, half), slice(half, None)):
        if len(x0[part]):
            alone = t.again({"chains": ids[part].copy()}, x0=x0[part].copy())["x"]
            law("chains apart are the same chains", "x", alone, whole[part], 2 * t.budget["x"][part])


class Stranger:
    """An energy of no backend: the oracle's, with nothing but what the protocol of energies asks for."""

    def __init__(self, energy: Any) -> None:
        self.energy_of, self.shape = energy, energy.shape

    def theta_shapes(self) -> dict[str, tuple[int, ...]]:
        return dict(self.energy_of.theta_shapes())

    def energy(self, theta: Any, x: Array) -> Array:
        return self.energy_of.energy(theta, x)

    def grad_x(self, theta: Any, x: Array) -> Array:
        return self.energy_of.grad_x(theta, x)

    def energy_and_grad_x(self, theta: Any, x: Array) -> tuple[Array, Array]:
        return self.energy_of.energy_and_grad_x(theta, x)


def any_energy_will_do(t: Trial) -> None:
    """A backend may run its own energies another way; the chain is the same, and so are its records."""
    args = t.args | {"energy": Stranger(t.args["energy"].build())}
    x, info = t.fn(*args.values(), **t.case.options)
    for name, got in (("x", x), ("energy", info.energy), ("grad_norm", info.grad_norm)):
        law("an energy of another's runs alike", name, np.asarray(got), t.got[name], 2 * t.budget[name])


def a_stopped_chain_is_where_it_was(t: Trial) -> None:
    """From the largest number on, energies are no numbers: such a chain stays, to the bit, and harms no other."""
    x0 = t.args["x0"].copy()
    x0[0] = np.finfo(t.dtype).max
    got, plain = t.again(K=1, x0=x0), t.again(K=1)
    if not got["alive"][0]:
        law("a chain that stopped stays where it was", "x", got["x"][0], x0[0])
    law("a chain that stopped moves no other", "x", got["x"][1:], plain["x"][1:], 2 * t.budget["x"][1:])


class Poisoned:
    """E(x) = |x|^2 / 2, but the gradient is NaN where x[0] >= 7 and the energy infinite where x[0] <= -7."""

    def __init__(self, shape: tuple[int, ...]) -> None:
        self.shape = shape

    def theta_shapes(self) -> dict[str, tuple[int, ...]]:
        return {}

    def energy(self, theta: Any, x: Array) -> Array:
        E = 0.5 * (x**2).sum(axis=1, dtype=x.dtype)
        return np.where(x[:, 0] <= -7, x.dtype.type(np.inf), E)

    def grad_x(self, theta: Any, x: Array) -> Array:
        return np.where(x[:, :1] >= 7, x.dtype.type(np.nan), x)

    def energy_and_grad_x(self, theta: Any, x: Array) -> tuple[Array, Array]:
        return self.energy(theta, x), self.grad_x(theta, x)


def sick_chains_stop(t: Trial) -> None:
    """A chain whose gradient or energy is not finite stays where it was, is counted, and harms no other."""
    N, order = len(t.args["x0"]), t.args["update"].order
    x0 = np.linspace(-1, 1, 2 * N, dtype=t.dtype).reshape(N, 2)
    sick = np.arange(N) % 2 == 0
    x0[sick, 0] = 20
    x0[::4, 0] = -20
    update = SGLD(eta=0.1, sigma=0.01, order=order)
    args = {"energy": Poisoned((2,)), "theta": {}, "x0": x0, "K": 3, "update": update, "seed": 5}
    x, info = t.fn(*args.values())
    law("a chain with a NaN gradient or an infinite energy stays where it was", "x", np.asarray(x)[sick], x0[sick])
    law("alive names the chains that stopped", "alive", np.asarray(info.alive), ~sick)
    law("nonfinite counts them", "nonfinite", int(info.nonfinite), int(sick.sum()))
    healthy, _ = t.fn(*(args | {"x0": np.where(sick[:, None], t.dtype(0), x0)}).values())
    budget = np.full((N, 2), 16 * float(np.finfo(t.dtype).eps))
    law("the others go on", "x", np.asarray(x)[~sick], np.asarray(healthy)[~sick], budget[~sick])
    edge = np.full((16, 2), 7, t.dtype)  # where the jitter decides whether a gradient is NaN
    args |= {"x0": edge, "update": SGLD(eta=0.1, sigma=1.0, order="noise_first")}
    first = ~np.asarray(t.fn(*(args | {"K": 1}).values())[1].alive)
    x, info = t.fn(*args.values())
    law("a chain that stopped stays for good", "x", np.asarray(x)[first], edge[first])
    holds("a chain that stopped is not alive again", not np.asarray(info.alive)[first].any())
