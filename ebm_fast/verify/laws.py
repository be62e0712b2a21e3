"""Laws that need no oracle: what must hold whatever the numbers are. Each raises `Failure` and says which law.

A law is handed a `Trial`: one case, the function under test, what it returned and how wrong each result
may be. Partner functions (the forward of a backward) come from the same backend where it has them.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from types import ModuleType
from typing import Any

import numpy as np

import ebm_ref
from ebm_ref.contracts import Array
from ebm_ref.specs import SGLD

from .case import Case, Outputs
from .close import Failure, compare, references


@dataclass(frozen=True)
class Trial:
    case: Case
    fn: Callable[..., Any]
    module: ModuleType
    got: Outputs
    budget: dict[str, Array]
    dtype: Any

    @property
    def args(self) -> dict[str, Any]:
        return self.case.args

    def again(self, options: dict[str, Any] | None = None, **changes: Any) -> Outputs:
        """The function once more, with some arguments changed."""
        case = replace(self.case, args=self.args | changes, options=self.case.options | (options or {}))
        return case.run(self.fn, self.module)

    def partner(self, name: str) -> Callable[..., Any]:
        """The backend's function of that name, or the oracle's where the backend has none."""
        return getattr(self.module, name, getattr(ebm_ref, name))


def law(text: str, name: str, got: Any, want: Any, budget: Array | None = None) -> None:
    """`compare`, with the law's sentence in front of the failure."""
    if budget is not None:
        got, want = np.asarray(got, np.float64), np.asarray(want, np.float64)
    try:
        compare(name, got, want, budget)
    except Failure as failure:
        raise Failure(f"law: {text}: {failure}", failure.ratio) from None


def holds(text: str, truth: Any, found: str = "") -> None:
    if not bool(truth):
        raise Failure(f"law: {text}" + (f": {found}" if found else ""))


def within(text: str, left: Any, right: Any, allowed: Any) -> None:
    """|left - right| <= allowed, in float64."""
    error = abs(float(left) - float(right))
    if not error <= float(allowed):
        raise Failure(f"law: {text}: {float(left)!r} and {float(right)!r} differ by {error:.3g}, budget {allowed:.3g}")


# ----------------------------------------------------------------------------------------- noise


def chains_have_addresses(t: Trial) -> None:
    """A row depends on its chain's id and not on the batch; an element not on how many follow it."""
    chains, D = t.args["chains"], t.args["D"]
    whole = t.got["result"]
    law("chains [b, a] draw what [a, b] draw", "result", t.again(chains=chains[::-1])["result"], whole[::-1])
    law("a shorter row is the beginning of a longer", "result", t.again(D=-(-D // 2))["result"], whole[:, : -(-D // 2)])
    fewer = t.again(chains=chains[: -(-len(chains) // 2)])["result"]
    law("fewer chains are the first of more", "result", fewer, whole[: len(fewer)])


def uniforms_are_positive(t: Trial) -> None:
    u = t.got["result"]
    holds("0 < u <= 1", ((u > 0) & (u <= 1)).all())


# -------------------------------------------------------------------------------------- langevin


def no_noise_is_descent(t: Trial) -> None:
    """sigma = 0 and no clips: x - eta g; and eta = 0 moves nothing."""
    x, g, eta = (np.asarray(t.args[name], np.float64) for name in ("x", "g", "eta"))
    unit = float(np.finfo(t.dtype).eps)
    plain = {"clip": None, "clip_norm": None, "box": None}
    got = t.again(plain, sigma=0.0)["result"]
    law("sigma = 0 is gradient descent", "result", got, x - eta * g, 4 * unit * (np.abs(x) + eta * np.abs(g)) + 1e-37)
    law("eta = sigma = 0 moves nothing", "result", t.again(plain, eta=0.0, sigma=0.0)["result"], t.args["x"])


def a_long_gradient_is_cut(t: Trial) -> None:
    """A gradient of 1e25 in each element, whose square is no float32, moves its sample by clip_norm."""
    zero = np.zeros_like(t.args["x"])
    options = {"clip": None, "clip_norm": 1.0, "box": None}
    got = t.again(options, x=zero, g=zero + t.dtype(1e25), xi=zero, eta=1.0, sigma=0.0)["result"]
    D = zero[0].size
    law("clip_norm bounds a long gradient", "result", got, np.full(zero.shape, -(D**-0.5)), 1e-6 + 0.0 * zero)


def stays_in_the_box(t: Trial) -> None:
    box = t.case.options.get("box")
    if box is not None:
        low, high = (t.dtype(end) for end in box)
        holds(f"box {box}", ((t.got["result"] >= low) & (t.got["result"] <= high)).all())


def nan_is_not_hidden(t: Trial) -> None:
    """One NaN in the gradient (in the noise, for a jitter): that element is NaN afterwards."""
    name = "g" if "g" in t.args else "xi"
    poisoned = t.args[name].copy()
    spot = tuple(size // 2 for size in poisoned.shape)
    poisoned[spot] = np.nan
    changes = {name: poisoned} | ({"eta": 1.0} if name == "g" else {"sigma": 1.0})
    got = t.again(**changes)["result"]
    holds(f"a NaN in {name} stays a NaN", np.isnan(got[spot]), f"found {got[spot]!r}")
    others = np.arange(len(got)) != spot[0]
    holds(f"a NaN in {name} stays in its sample", np.isfinite(got[others]).all())


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


# ---------------------------------------------------------------------------------------- buffer


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


# ---------------------------------------------------------------------------------------- layers


def total(a: Array, b: Array) -> float:
    return float((np.asarray(a, np.float64) * np.asarray(b, np.float64)).sum())


def conv2d_is_adjoint(t: Trial) -> None:
    """<dy, conv(x; w, b)> = <dx, x> + <db, b> = <dw, w> + <db, b>, for b of ones."""
    x, w, dy = (t.args[name] for name in ("x", "w", "dy"))
    b = np.ones(w.shape[3], x.dtype)
    y = t.partner("conv2d_forward")(x, w, b, **t.case.options)
    size = ebm_ref.conv2d_forward(*(np.abs(a.astype(np.float64)) for a in (x, w, b)), **t.case.options)
    slack = 8 * float(np.finfo(t.dtype).eps) * (w[..., 0].size + 1) ** 0.5 * total(np.abs(dy), size) + 1e-30
    left, bias = total(dy, y), total(t.got["db"], b)
    for name, other in (("dx", x), ("dw", w)):
        allowed = slack + total(t.budget[name], np.abs(other)) + float(t.budget["db"].sum())
        within(f"<dy, y> = <{name}, {name[1]}> + <db, b>", left, total(t.got[name], other) + bias, allowed)


def group_norm_is_adjoint(t: Trial) -> None:
    """sum dx = 0 in each group (a shift changes nothing), <dgamma, gamma> = <dy, y>, db = sum dy."""
    x, gamma, dy, groups = (t.args[name] for name in ("x", "gamma", "dy", "groups"))
    shape = (len(x), -1, groups, x.shape[-1] // groups)
    sums = t.got["dx"].astype(np.float64).reshape(shape).sum(axis=(1, 3))
    law("dx of a group adds up to 0", "dx", sums, np.zeros_like(sums), t.budget["dx"].reshape(shape).sum(axis=(1, 3)))
    y = t.partner("group_norm_forward")(x, gamma, np.zeros_like(gamma), groups, **t.case.options)
    allowed = total(t.budget["dgamma"], np.abs(gamma)) * 2 + 1e-30
    within("<dy, y> = <dgamma, gamma>", total(dy, y), total(t.got["dgamma"], gamma), allowed)
    bias = dy.astype(np.float64).reshape(-1, dy.shape[-1]).sum(axis=0)
    law("dbeta = sum dy", "dbeta", t.got["dbeta"], bias, t.budget["dbeta"])


def group_norm_is_standard(t: Trial) -> None:
    """gamma = 1, beta = 0: each group has mean 0, and mean square var / (var + eps)."""
    x, gamma, groups = (t.args[name] for name in ("x", "gamma", "groups"))
    y = t.again(gamma=np.ones_like(gamma), beta=np.zeros_like(gamma))["result"].astype(np.float64)
    shape = (len(x), -1, groups, x.shape[-1] // groups)
    values = x.astype(np.float64).reshape(shape)
    var, y = values.var(axis=(1, 3)), y.reshape(shape)
    eps = t.case.options.get("eps", 1e-5)
    doubt = np.abs(values).max(axis=(1, 3)) / np.sqrt(var + eps) + 1
    slack = 8 * float(np.finfo(t.dtype).eps) * (y.shape[1] * y.shape[3]) ** 0.5 * doubt
    law("each group has mean 0", "mean", y.mean(axis=(1, 3)), np.zeros_like(slack), slack)
    size = np.sqrt((y**2).mean(axis=(1, 3)))
    law("each group has mean square var / (var + eps)", "rms", size, np.sqrt(var / (var + eps)), slack)


# --------------------------------------------------------------------------------------- energies


def samples_are_their_own(t: Trial) -> None:
    """A sample's energy and gradient depend on no neighbour and no place; parameter gradients add up over parts.

    Both at once: the samples in reverse order, in two parts.
    """
    x, v, w = (t.args[name][::-1] for name in "xvw")
    half = -(-len(x) // 2)
    parts = [t.again(x=x[part], v=v[part], w=w[part]) for part in (slice(0, half), slice(half, None)) if len(x[part])]
    for name, budget in t.budget.items():
        want = t.got[name].astype(np.float64)
        if name.startswith("grad_theta"):
            whole = sum(part[name].astype(np.float64) for part in parts)
            law("gradients of parts add up", name, whole, want, 4 * budget)
        else:
            whole = np.concatenate([part[name] for part in parts])[::-1].astype(np.float64)
            law("a sample sees neither its neighbours nor its place", name, whole, want, 2 * budget)


def slope(f: Callable[[float], float], h: float, wobble: float) -> tuple[float, float]:
    """(f'(0), its doubt) by central differences; `wobble` is how wrong one value of f may be.

    The doubt holds what h and h/2 disagree on, in the slope and in the bend: a smooth f bends 4 times as much over
    twice the distance, and what is left of that at a kink is its jump: there is no derivative to miss.
    """
    before, at, after = f(-h), f(0.0), f(h)
    left, right = f(-h / 2), f(h / 2)
    wide, near = (after - before) / (2 * h), (right - left) / h
    bend, half_bend = after - 2 * at + before, right - 2 * at + left
    return near, 4 * abs(wide - near) + abs(bend - 4 * half_bend) / h + 4 * wobble / h


def slope_is(
    text: str, f: Callable[[float], float], steps: tuple[float, ...], wobble: float, mine: float, slack: float
) -> None:
    """`mine` is the slope of f, to within `slack` and the doubt of the step that doubts least.

    The first step is enough where it is sharp: a bent f needs the shorter ones, an f of large values the longer.
    """
    found, doubt = 0.0, float("inf")
    for h in steps:
        found, doubt = min((found, doubt), slope(f, h, wobble), key=lambda pair: pair[1])
        if abs(mine - found) <= doubt + slack and doubt <= SHARP * abs(found):
            return
    within(text, mine, found, doubt + slack)


SHARP = 1e-3  # of the slope: a doubt that is good enough to stop at


def moved(theta: Any, along: Any, h: float) -> Any:
    return {name: a + h * along[name] for name, a in theta.items()}


def off_the_edge(t: Trial, far: float) -> Trial:
    """The same trial a little way off: zeros sit on kinks and in norms without variance, where no step is short."""
    rng = np.random.default_rng(1)
    theta = {name: a + far * rng.standard_normal(a.shape) for name, a in t.args["theta"].items()}
    x = t.args["x"] + far * rng.standard_normal(t.args["x"].shape)
    case = replace(t.case, args=t.args | {"theta": theta, "x": x})
    return replace(t, case=case, got=case.run(t.fn, t.module), budget=references(case, t.dtype)[1])


def gradients_are_slopes(t: Trial) -> None:
    """Central differences, in float64: of E along v and along theta, of grad_x along v and along theta."""
    if t.dtype != np.float64:
        return
    x = t.args["x"]
    if np.abs(x).reshape(len(x), -1).max(axis=1).min() < 1e-3:
        t = off_the_edge(t, 0.3)
    elif isinstance(t.got["hvp"], str):
        t = off_the_edge(t, 0.01)
    theta, x, v, w = (t.args[name] for name in ("theta", "x", "v", "w"))
    energy, rng, unit = t.fn(**t.case.options), np.random.default_rng(0), float(np.finfo(np.float64).eps)
    along = {name: rng.standard_normal(a.shape) for name, a in theta.items()}
    u, ones = rng.standard_normal(x.shape), np.ones(len(x))

    def roughly(name: str, weight: Array) -> float:
        """How wrong the sum of weight times that result may be."""
        return total(t.budget[name] + 4 * unit * np.abs(t.got[name]), np.abs(weight))

    def compare_slope(text: str, f: Callable[[float], float], wobble: float, name: str, direction: Any) -> None:
        parts = (
            {f"{name}[{key}]": d for key, d in direction.items()} if isinstance(direction, dict) else {name: direction}
        )
        mine = sum(total(t.got[key], d) for key, d in parts.items())
        slack = sum(roughly(key, d) for key, d in parts.items())
        slope_is(text, f, (1e-5, 1e-7, 1e-8), wobble, mine, slack)

    f = energy.energy
    compare_slope(
        "v . grad_x is the slope of E along v",
        lambda s: total(f(theta, x + s * v), ones), roughly("energy", ones), "grad_x", v,
    )  # fmt: skip
    compare_slope(
        "grad_theta is the slope of sum w E along theta",
        lambda s: total(f(moved(theta, along, s), x), w), roughly("energy", w), "grad_theta", along,
    )  # fmt: skip
    if isinstance(t.got["hvp"], str):
        return
    g = energy.grad_x
    compare_slope(
        "u . hvp is the slope of u . grad_x along v",
        lambda s: total(g(theta, x + s * v), u), roughly("grad_x", u), "hvp", u,
    )  # fmt: skip
    compare_slope(
        "grad_theta_along is the slope of v . grad_x along theta",
        lambda s: total(g(moved(theta, along, s), x), v), roughly("grad_x", v), "grad_theta_along", along,
    )  # fmt: skip


# -------------------------------------------------------------------------------------- the table

LAWS: dict[str, tuple[Callable[[Trial], None], ...]] = {
    "noise_bits": (chains_have_addresses,),
    "noise_uniform": (chains_have_addresses, uniforms_are_positive),
    "noise_normal": (chains_have_addresses,),
    "langevin_step": (no_noise_is_descent, a_long_gradient_is_cut, stays_in_the_box, nan_is_not_hidden),
    "langevin_jitter": (stays_in_the_box, nan_is_not_hidden),
    "langevin_run": (
        no_steps_return_the_start,
        steps_add_up,
        chains_are_their_own,
        any_energy_will_do,
        a_stopped_chain_is_where_it_was,
        sick_chains_stop,
    ),
    "buffer_draw": (every_slot_is_drawn, restarts_are_fresh),
    "buffer_push": (two_pushes_are_one, last_of_equals_wins),
    "conv2d_backward": (conv2d_is_adjoint,),
    "group_norm_forward": (group_norm_is_standard,),
    "group_norm_backward": (group_norm_is_adjoint,),
    "conv_energy": (samples_are_their_own, gradients_are_slopes),
    "mlp_energy": (samples_are_their_own, gradients_are_slopes),
    "deep_conv_energy": (samples_are_their_own, gradients_are_slopes),
}
CD_NEEDS = ("noise_normal", "langevin_run")


def check_cd(module: ModuleType, dtype: Any) -> tuple[float, int]:
    """CD on a backend's functions: K = 0 is loss 0 and gradient 0; K = 2 is the oracle's loss, gradients included.

    Returns (largest error over its budget, number of cases).
    """
    fields, worst, cases = {"shape": (3,), "hidden": (8, 5)}, 0.0, 0
    mine = getattr(module, "MLPEnergy", ebm_ref.MLPEnergy)(**fields)
    unit = float(np.finfo(dtype).eps)
    for seed in range(4):
        rng = np.random.default_rng(seed)
        spread = {name: rng.standard_normal(shape) / 2 for name, shape in mine.theta_shapes().items()}
        theta, x = {name: a.astype(dtype) for name, a in spread.items()}, rng.standard_normal((7, 3)).astype(dtype)
        update = SGLD(eta=0.05, sigma=0.02, order="noise_first" if seed % 2 else "gradient_first")
        for sigma_data in (0.0, 0.1):
            loss, grads, _ = ebm_ref.cd_step(module, mine, theta, x, 0, update, 0.0, sigma_data, seed, 3)
            law("CD without steps has loss 0", "loss", np.asarray(loss, float), np.zeros(()), np.full((), 8 * unit))
            for name, grad in grads.items():
                law("CD without steps has gradient 0", name, grad, np.zeros(grad.shape), np.full(grad.shape, 8 * unit))
            args = (2, update, 0.1, sigma_data, seed, 3)
            loss, grads, _ = ebm_ref.cd_step(module, mine, theta, x, *args)
            wide = ({name: a.astype(np.float64) for name, a in theta.items()}, x.astype(np.float64))
            want, wanted, _ = ebm_ref.cd_step(ebm_ref, ebm_ref.MLPEnergy(**fields), *wide, *args)
            for name, got, exact in [("loss", loss, want), *((n, grads[n], wanted[n]) for n in wanted)]:
                exact = np.asarray(exact, float)
                budget = np.full(exact.shape, 64 * unit * max(1.0, float(np.abs(exact).max())))
                worst = max(worst, compare(name, np.asarray(got, float), exact, budget))
            cases += 2
    return worst, cases
