"""What a recipe may not hold: fields that nothing would read, and values that its method cannot work with.

Each raises RangeError or DTypeError, which begins with the field's name.
"""

from __future__ import annotations

from dataclasses import fields
from typing import TYPE_CHECKING

from .contracts import RangeError, check_choice, check_count, check_number
from .methods import METHODS
from .objectives import BALANCES

if TYPE_CHECKING:
    from .recipe import Recipe

COUPLINGS = ("independent", "optimal")
DESCENTS = ("gd", "look_ahead", "nesterov", "adam")
LESSONS = ("trajectory", "lagrangian", "eulerian")


def check_fields(recipe: Recipe) -> None:
    """What the method does not read, and what it cannot do without."""
    for field in fields(recipe):
        value = getattr(recipe, field.name)
        if field.name not in METHODS[recipe.method].fields and value != field.default:
            readers = ", ".join(name for name, method in METHODS.items() if field.name in method.fields)
            raise RangeError(
                f"{field.name}: method {recipe.method} does not read it, {readers} would; expected its default "
                f"{field.default!r}, found {value!r}"
            )
    if recipe.box is None:
        if METHODS[recipe.method].buffer and recipe.start == "uniform":
            raise RangeError("box: uniform starts need (low, high), found None; give a box or start from data_noise")
        if recipe.method == "ml" or (recipe.noise == "uniform" and "noise" in METHODS[recipe.method].reads):
            raise RangeError(f"box: method {recipe.method} needs (low, high), found None")
    if recipe.start == "class_gaussians" and recipe.method != "jem":
        raise RangeError(f"start: class_gaussians needs the classes of jem, found method {recipe.method}")
    check_number("ridge", recipe.ridge, low=0.0, open_low=True)
    if recipe.ridge != type(recipe).ridge and recipe.start != "class_gaussians":
        raise RangeError(f"ridge: read where start is class_gaussians alone, found {recipe.ridge}")
    if recipe.labelled is not None:
        check_count("labelled", recipe.labelled, low=1)
        if not (recipe.w_yx or recipe.w_xy or recipe.start == "class_gaussians"):
            raise RangeError(f"labelled: w_yx, w_xy or class_gaussians would read it, found {recipe.labelled}")
    if isinstance(recipe.gp_target, bool) or recipe.gp_target not in (0, 1):
        raise RangeError(f"gp_target: expected 0 or 1, found {recipe.gp_target!r}")
    if recipe.gp_target and not recipe.gp:
        raise RangeError(f"gp_target: read where gp > 0 alone, found {recipe.gp_target}; set gp")
    if recipe.smoothing_until != type(recipe).smoothing_until and not recipe.smoothing:
        raise RangeError(f"smoothing_until: read where smoothing > 0 alone, found {recipe.smoothing_until}")
    if recipe.gp and recipe.levels > 1:
        raise RangeError(f"gp: penalises an energy of x alone; several levels have E(x, sigma), found {recipe.gp}")
    if recipe.levels == 1 and recipe.level_high != type(recipe).level_high:
        raise RangeError(f"level_high: a single level does not read it, found {recipe.level_high}; set levels")


def check_balance(recipe: Recipe) -> None:
    """What one way of balancing reads, and the others do not."""
    if recipe.balance is not None:
        check_choice("balance", recipe.balance, BALANCES)
        if recipe.w_x == 0:
            raise RangeError(f"balance: {recipe.balance} balances the term w_x, which is 0")
    for name, balance in (("K_max", "steps"), ("burn_in", "energy_target")):
        value = getattr(recipe, name)
        if (recipe.balance == balance) != (value is not None):
            raise RangeError(f"{name}: expected it where balance is {balance} and nowhere else, found {value}")
    if recipe.K_max is not None:
        check_count("K_max", recipe.K_max, low=recipe.K)
    if recipe.burn_in is not None:
        check_count("burn_in", recipe.burn_in, low=1, high=recipe.steps)
    check_number("delta", recipe.delta, low=float("-inf"))
    check_number("kappa", recipe.kappa, low=0.0, high=1.0, open_low=True)
    check_number("eta_low", recipe.eta_low, low=0.0, open_low=True)
    check_number("eta_high", recipe.eta_high, low=recipe.eta_low)
    for name, balance in (
        ("delta", "steps"),
        *((name, "energy_target") for name in ("kappa", "eta_low", "eta_high")),
    ):
        value = getattr(recipe, name)
        if value != getattr(type(recipe), name) and recipe.balance != balance:
            raise RangeError(f"{name}: read where balance is {balance} alone, found {value}")
    if recipe.balance == "energy_target":
        check_number("eta", recipe.eta, low=recipe.eta_low, high=recipe.eta_high)


def check_flow(recipe: Recipe) -> None:
    """What the methods of energy flow read."""
    check_count("transport_steps", recipe.transport_steps, low=0, high=max(recipe.steps, recipe.transport_steps))
    if recipe.transport_steps > recipe.steps:
        raise RangeError(f"transport_steps: expected at most the {recipe.steps} steps, found {recipe.transport_steps}")
    check_choice("coupling", recipe.coupling, COUPLINGS)
    check_choice("descent", recipe.descent, DESCENTS)
    check_choice("lesson", recipe.lesson, LESSONS)
    for name in ("time", "horizon"):
        check_number(name, getattr(recipe, name), low=0.0, open_low=True)
    check_number("g_min", recipe.g_min, low=0.0)
    check_number("start_scale", recipe.start_scale, low=0.0, open_low=True)
    if recipe.pairs != type(recipe).pairs and recipe.lesson != "trajectory":
        raise RangeError(f"pairs: read where lesson is trajectory alone, found {recipe.pairs}")
    for name in ("lr_joint", "ema_joint"):
        value = getattr(recipe, name)
        if value is not None and not 0 < recipe.transport_steps < recipe.steps:
            raise RangeError(f"{name}: read where training has two phases alone, found {value}; set transport_steps")
    if recipe.lr_joint is not None:
        check_number("lr_joint", recipe.lr_joint, low=0.0)
    if recipe.ema_joint is not None:
        check_number("ema_joint", recipe.ema_joint, low=0.0, high=1 - 1e-9)
    if recipe.target_b != type(recipe).target_b and recipe.target != "piecewise":
        raise RangeError(f"target_b: read where target is piecewise alone, found {recipe.target_b}")
    if recipe.target_a != type(recipe).target_a and recipe.target == "linear":
        raise RangeError(f"target_a: not read where target is linear, found {recipe.target_a}")
    if recipe.mu != type(recipe).mu and recipe.descent not in ("look_ahead", "nesterov"):
        raise RangeError(f"mu: read where descent is look_ahead or nesterov alone, found {recipe.mu}")
    if "sigma" in METHODS[recipe.method].fields and METHODS[recipe.method].sampler == "heated":
        for name in ("eta", "sigma"):
            check_number(name, getattr(recipe, name), low=0.0, open_low=True)
    if recipe.method == "student" and recipe.eta > recipe.horizon:
        raise RangeError(f"eta: expected at most the horizon {recipe.horizon}, found {recipe.eta}")
