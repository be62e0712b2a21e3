"""Laws of couplings, of repulsion and of descent."""

from __future__ import annotations

import numpy as np

from .langevin_run import Stranger
from .trial import Trial, holds, law, total, within

# -------------------------------------------------------------------------------------- couplings


def cost_is_a_distance(t: Trial) -> None:
    """C(x1, x0) is C(x0, x1) transposed; a sample is at distance 0 from itself, exactly, and from no other below 0."""
    x0, x1 = t.args["x0"], t.args["x1"]
    back = t.again(x0=x1, x1=x0)["result"]
    law("the cost is symmetric", "result", back.T, t.got["result"], 2 * t.budget["result"])
    law(
        "a sample is at distance 0 from itself", "result", np.diag(t.again(x1=x0)["result"]), np.zeros(len(x0), t.dtype)
    )
    holds("no cost is negative", (t.got["result"] >= 0).all())


def a_pair_costs_what_it_costs(t: Trial) -> None:
    """C_ij depends on x0_i and x1_j alone."""
    x0, x1 = (t.args[name][::-1].copy() for name in ("x0", "x1"))
    turned = t.again(x0=x0, x1=x1)["result"][::-1, ::-1]
    law("a pair costs what it costs anywhere", "result", turned, t.got["result"], 2 * t.budget["result"])


def each_datum_is_taken_once(t: Trial) -> None:
    B = len(t.args["cost"])
    holds("idx is a permutation", np.array_equal(np.sort(t.got["result"]), np.arange(B)), f"found {t.got['result']}")


def no_exchange_is_cheaper(t: Trial) -> None:
    """C_{i, idx_i} + C_{k, idx_k} <= C_{i, idx_k} + C_{k, idx_i}, for all i, k; and no turn of all is cheaper."""
    cost, idx = t.args["cost"].astype(np.float64), t.got["result"]
    paid = cost[:, idx]  # row i, the datum of row k
    own = np.diag(paid)
    slack = 1e-12 * max(1.0, float(np.abs(cost).max()))
    holds("no exchange of two is cheaper", (own[:, None] + own <= paid + paid.T + slack).all())
    turns = [np.diag(np.roll(paid, k, axis=1)).sum() for k in range(len(idx))]
    holds("no turn of all is cheaper", own.sum() <= min(turns) + len(idx) * slack)


# -------------------------------------------------------------------------------------- repulsion


def forces_add_to_nothing(t: Trial) -> None:
    """The gradients of a group's copies add to 0; x . gradient is 2 W, for W is quadratic and sees no common shift."""
    gradient, budget = t.got["gradient"].astype(np.float64), t.budget["gradient"]
    law("the forces of a group add to 0", "gradient", gradient.sum(axis=1), 0 * gradient[:, 0], 2 * budget.sum(axis=1))
    x, W = t.args["x"].astype(np.float64), t.got["W"].astype(np.float64)
    for n in range(len(x)):
        allowed = 2 * float(t.budget["W"][n]) + 2 * total(budget[n], np.abs(x[n]))
        within("x . gradient = 2 W", total(gradient[n], x[n]), 2 * W[n], allowed)


# ---------------------------------------------------------------------------------------- descent


def no_steps_stay(t: Trial) -> None:
    got, x0 = t.again(K=0), t.args["x0"]
    law("K = 0 returns x0", "x", got["x"], x0)
    holds("x is a copy of x0", not np.shares_memory(got["x"], x0))


def a_sample_goes_its_own_way(t: Trial) -> None:
    """Samples in reverse order, and apart, take the same steps and stop at the same ones."""
    x0, state = t.args["x0"], t.case.options["state"]
    rows = {name: a for name, a in (state or {}).items() if name != "t"}

    def some(part: slice) -> dict[str, object]:
        held = None if state is None else state | {name: a[part].copy() for name, a in rows.items()}
        return t.again({"state": held}, x0=x0[part].copy())

    half = len(x0) // 2
    for part in (slice(None, None, -1), slice(0, half), slice(half, None)):
        if len(x0[part]):
            got = some(part)
            law("a sample takes its own steps", "x", got["x"], t.got["x"][part], 2 * t.budget["x"][part])
            law("a sample has its own count", "nfe", got["nfe"], t.got["nfe"][part])


def who_has_stopped_stays(t: Trial) -> None:
    """From what a run returned, those that stopped stop at once and do not move, to the bit."""
    state = {name.partition("[")[2][:-1]: a for name, a in t.got.items() if name.startswith("state[")}
    if t.args["g_min"] != 1e9 or t.args["K"] == 0:  # rounding may turn a close decision
        return
    got = t.again({"state": state}, x0=t.got["x"])
    law("a second run changes nothing", "x", got["x"], t.got["x"])
    law("a second run looks once", "nfe", got["nfe"], np.ones(len(got["x"]), np.int64))


def any_energy_descends(t: Trial) -> None:
    """A backend may run its own energies another way; the path is the same."""
    args = t.args | {"energy": Stranger(t.args["energy"].build())}
    x, _, info = t.fn(*args.values(), **t.case.options)
    law("an energy of another's descends alike", "x", np.asarray(x), t.got["x"], 2 * t.budget["x"])
    law("and stops alike", "nfe", np.asarray(info.extra["nfe"]), t.got["nfe"])
