"""Laws of the replay buffer."""

from __future__ import annotations

import numpy as np

from .trial import Trial, law


def every_slot_is_drawn(t: Trial) -> None:
    """The first word of each of `filled` equal shares of 2^32 draws its own slot, three chains at a time."""
    slots, filled = t.args["slots"], t.args["filled"]
    for start in range(0, filled, 3):
        wanted = np.arange(start, min(start + 3, filled))
        bits = np.array([-(-int(k) * 2**32 // filled) for k in wanted], np.uint32)
        fresh = np.zeros((len(wanted), *slots.shape[1:]), slots.dtype)
        got = t.again(bits=bits, u=np.full(len(wanted), 0.5), fresh=fresh, rho=0.0)
        law("every stored slot can be drawn", "idx", got["idx"], wanted)
        law("a draw is a stored sample", "x0", got["x0"], np.ascontiguousarray(slots[wanted]))


def restarts_are_fresh(t: Trial) -> None:
    got = t.again(rho=1.0, u=np.full(len(t.args["bits"]), 0.5))
    law("rho = 1 restarts every chain", "restart", got["restart"], np.ones(len(t.args["bits"]), bool))
    law("a restart is the fresh sample", "x0", got["x0"], np.ascontiguousarray(t.args["fresh"]))


def two_pushes_are_one(t: Trial) -> None:
    """Pushing a batch in two parts leaves the buffer that pushing it whole leaves."""
    half = len(t.args["x"]) // 2
    arrays = {name: a for name, a in t.case.options.items() if isinstance(a, np.ndarray)}
    first = t.again({name: a[:half] for name, a in arrays.items()}, x=t.args["x"][:half])
    state = {name: first[name] for name in ("slots", "filled", "ptr")}
    second = t.again({name: a[half:] for name, a in arrays.items()}, x=t.args["x"][half:], **state)
    for name in ("slots", "filled", "ptr"):
        law("two pushes are one", name, second[name], t.got[name])


def last_of_equals_wins(t: Trial) -> None:
    """in_place with one index for all: the slot holds the last sample of the batch."""
    x, slots = t.args["x"], t.args["slots"]
    if t.args["policy"] == "in_place":
        got = t.again({"idx": np.zeros(len(x), np.int64)})["slots"]
        law("the last duplicate in batch order wins", "slots", got[0], np.ascontiguousarray(x[-1]))
        law("no other slot is touched", "slots", got[1:], slots[1:])
