"""`check_energy`: any callables on arrays, of any library, held to what an energy and its gradients must be."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from ebm_ref.contracts import Array, DTypeError, check_count, check_sizes

from .case import as_numpy
from .close import Failure, compare
from .laws.energies import moved, slope_is
from .laws.trial import holds, total
from .rows import Report, Row

BATCHES = (5, 1, 2, 3, 8)


def from_any(x: Any) -> Array:
    """A NumPy array from an array of any library: detached and brought to the host, then DLPack or __array__."""
    return np.asarray(as_numpy(x))


class Callables:
    """The user's functions on NumPy arrays: converted on the way in and out, inputs watched for changes."""

    def __init__(self, functions: dict[str, Any], theta: Any, to_array: Any, from_array: Any) -> None:
        self.functions, self.theta = {k: f for k, f in functions.items() if f is not None}, theta
        self.to_array, self.from_array = to_array or (lambda x: x), from_array or from_any

    def __call__(self, name: str, *arrays: Array, theta: Any = None) -> Any:
        copies = [a.copy() for a in arrays]
        sent = [self.to_array(a) for a in copies]
        if self.theta is not None:
            chosen = self.theta if theta is None else theta
            sent.insert(0, {key: self.to_array(np.array(a)) for key, a in chosen.items()})
        result = self.functions[name](*sent)
        for a, copy in zip(arrays, copies, strict=True):
            holds(f"{name} leaves its input as it was", a.tobytes() == copy.tobytes())
        if isinstance(result, dict):
            return {key: self.from_array(a) for key, a in result.items()}
        return self.from_array(result)


class Subject:
    """One batch of one energy: x, directions v and u, and how wrong the results may be."""

    def __init__(self, call: Callables, x: Array, rng: np.random.Generator) -> None:
        self.call, self.x, self.rng = call, x, rng
        self.unit = float(np.finfo(x.dtype).eps)
        self.v, self.u = (rng.standard_normal(x.shape).astype(x.dtype) for _ in range(2))
        self.h = self.unit ** (1 / 3)
        self.E, self.g = call("energy", x), call("grad_x", x)

    def wobble(self, name: str, got: Array) -> float:
        """16 roundings of the largest element, and 16 times what one rounding of x does to it."""
        size = max(1.0, float(np.abs(self.x).max()))
        nudge = (self.unit * size * self.rng.uniform(-1, 1, self.x.shape)).astype(self.x.dtype)
        away = float(np.abs(self.call(name, self.x + nudge).astype(np.float64) - got).max())
        return 16 * (self.unit * float(np.abs(got).max()) + away) + 1e-30

    def energy_is_per_sample(self) -> None:
        n = len(self.x)
        self.in_dtype("energy", self.E)
        holds("energy is (N,)", self.E.shape == (n,), f"found {self.E.shape} for {n} samples")
        self.per_sample("energy", self.E)

    def grad_x_is_per_sample(self) -> None:
        self.in_dtype("grad_x", self.g)
        holds("grad_x is like x", self.g.shape == self.x.shape, f"found {self.g.shape} for x {self.x.shape}")
        self.per_sample("grad_x", self.g)

    def in_dtype(self, name: str, got: Array) -> None:
        """A library that computes in float32 whatever it is given is checked with dtype=numpy.float32."""
        holds(f"{name} is in the dtype of x", got.dtype == self.x.dtype, f"found {got.dtype} for x {self.x.dtype}")

    def per_sample(self, name: str, got: Array) -> None:
        holds(f"{name} is finite", np.isfinite(got).all())
        want, budget = got.astype(np.float64), np.full(got.shape, 2 * self.wobble(name, got))
        try:
            alone = np.concatenate([self.call(name, self.x[n : n + 1]) for n in range(len(self.x))])
            compare(f"{name} of single samples", alone, want, budget, got.dtype)
            compare(f"{name} in reverse order", self.call(name, self.x[::-1].copy())[::-1], want, budget, got.dtype)
        except Failure as failure:
            raise Failure(f"law: a sample does not see its neighbours: {failure}", failure.ratio) from None

    def results_repeat(self) -> None:
        for name, got in (("energy", self.E), ("grad_x", self.g)):
            again = self.call(name, self.x)
            holds(f"{name} of the same x is the same", again.tobytes() == got.tobytes())

    def compare_slope(self, text: str, f: Callable[[float], float], wobble: float, mine: float, slack: float) -> None:
        slope_is(text, f, (self.h, self.h / 10, 10 * self.h), wobble, mine, slack)

    def at(self, s: float) -> Array:
        return (self.x + s * self.v).astype(self.x.dtype)

    def grad_x_is_the_slope(self) -> None:
        """Sample by sample, so that no two errors cancel."""
        wobble, slack = self.wobble("energy", self.E), self.wobble("grad_x", self.g)
        for n in range(len(self.x)):
            self.compare_slope(
                f"v . grad_x is the slope of E along v (sample {n})",
                lambda s, n=n: float(self.call("energy", self.at(s))[n]),
                wobble,
                total(self.g[n], self.v[n]),
                slack * float(np.abs(self.v[n]).sum()),
            )

    def hvp_is_the_slope(self) -> None:
        hv = self.call("hvp", self.x, self.v)
        holds("hvp is like x", hv.shape == self.x.shape, f"found {hv.shape} for x {self.x.shape}")
        size = float(np.abs(self.u).sum())
        wobble = self.wobble("grad_x", self.g) * size
        slack = 64 * self.unit * float(np.abs(hv).max()) * size
        f = lambda s: total(self.call("grad_x", self.at(s)), self.u)  # noqa: E731
        self.compare_slope("u . hvp is the slope of u . grad_x along v", f, wobble, total(hv, self.u), slack)

    def grad_theta_is_the_slope(self) -> None:
        theta, w = self.call.theta, self.rng.standard_normal(len(self.x)).astype(self.x.dtype)
        grads = self.call("grad_theta", self.x, w)
        shapes = {key: a.shape for key, a in grads.items()}
        wanted = {key: np.shape(a) for key, a in theta.items()}
        holds("grad_theta is like theta", shapes == wanted, f"found {shapes}, expected {wanted}")
        along = {key: self.rng.standard_normal(shape).astype(self.x.dtype) for key, shape in wanted.items()}
        wobble = self.wobble("energy", self.E) * float(np.abs(w).sum())
        mine = sum(total(grads[key], along[key]) for key in grads)
        slack = 64 * self.unit * sum(total(np.abs(grads[key]), np.abs(along[key])) for key in grads)

        def f(s: float) -> float:
            there = {key: a.astype(self.x.dtype) for key, a in moved(theta, along, s).items()}
            return total(self.call("energy", self.x, theta=there), w)

        self.compare_slope("grad_theta is the slope of sum w E along theta", f, wobble, mine, slack)


def check_energy(
    energy: Callable[..., Any],
    grad_x: Callable[..., Any],
    *,
    shape: tuple[int, ...],
    hvp: Callable[..., Any] | None = None,
    grad_theta: Callable[..., Any] | None = None,
    theta: dict[str, Array] | None = None,
    dtype: Any = np.float64,
    sample: Callable[[np.random.Generator, int], Array] | None = None,
    cases: int = 10,
    seed: int = 0,
    to_array: Callable[[Array], Any] | None = None,
    from_array: Callable[[Any], Array] | None = None,
) -> Report:
    """Whether energy(x) is a (N,) energy of single samples and grad_x(x), hvp(x, v) are its derivatives.

    shape: of one sample, x is (N, *shape). With `theta` (a dict of arrays, brought to `dtype`) it comes first:
    energy(theta, x), grad_x(theta, x), hvp(theta, x, v), grad_theta(theta, x, w) -> dict = sum_n w_n grad E(x_n).
    sample(rng, N): draws x where a normal one would leave the domain.
    to_array: NumPy array -> yours (torch.from_dlpack, jax.numpy.asarray); without it NumPy arrays are handed over.
    from_array: yours -> NumPy array; without it DLPack, else __array__, after .detach() and .cpu() where they exist.
    Returns a Report of one row per property. Raises DTypeError, RangeError, ShapeError.
    """
    check_sizes("shape", shape)
    check_count("cases", cases, low=1)
    check_count("seed", seed, low=0)
    if np.dtype(dtype) not in (np.float32, np.float64):
        raise DTypeError(f"dtype: expected float32 or float64, found {np.dtype(dtype)}")
    if grad_theta is not None and theta is None:
        raise DTypeError("theta: expected a dict of arrays beside grad_theta, found None")
    functions = {"energy": energy, "grad_x": grad_x, "hvp": hvp, "grad_theta": grad_theta}
    if theta is not None:
        theta = {name: as_numpy(a).astype(dtype) for name, a in theta.items()}
    call = Callables(functions, theta, to_array, from_array)
    properties = ["energy_is_per_sample", "grad_x_is_per_sample", "results_repeat", "grad_x_is_the_slope"]
    properties += [f"{name}_is_the_slope" for name in ("hvp", "grad_theta") if name in call.functions]
    why: dict[str, tuple[str, Array]] = {}
    for i in range(cases):
        rng = np.random.default_rng([seed, i])
        N = BATCHES[i % len(BATCHES)]
        x = np.asarray(sample(rng, N) if sample is not None else rng.standard_normal((N, *shape)), dtype)
        for name in properties:
            if name not in why and (said := verdict(call, x, rng, name)):
                why[name] = (said, x)
    label, kind = getattr(energy, "__name__", type(energy).__name__), np.dtype(dtype).name
    rows = []
    for name in properties:
        said = f"{why[name][0]}; x {kind}{list(why[name][1].shape)}" if name in why else ""
        rows.append(Row(name, label, kind, cases, float("inf") if said else 0.0, "fail" if said else "pass", said))
    return Report(tuple(rows), next((x for _, x in why.values()), None))


def verdict(call: Callables, x: Array, rng: np.random.Generator, name: str) -> str:
    """What is wrong with one property on one batch, or nothing."""
    try:
        getattr(Subject(call, x, rng), name)()
    except Failure as failure:
        return str(failure)
    except Exception as error:
        return f"raised {type(error).__name__}: {error}"
    return ""
