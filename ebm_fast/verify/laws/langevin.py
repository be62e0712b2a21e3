"""Laws of one Langevin step."""

from __future__ import annotations

import numpy as np

from .trial import Trial, holds, law


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
