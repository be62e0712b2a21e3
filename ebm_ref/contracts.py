"""What every room agrees on: stream names, specs, protocols, errors and input checks.

Size letters, in every shape comment of the project:
    N chains or batch, D flattened size, K chain steps, M buffer slots, G groups,
    H W C image, R S O filters (R, S, C, O), P Q output rows and columns. Layout is NHWC.

No arithmetic lives here: the reference and the twins may both import this file, and an oracle
that shares its arithmetic with a kernel would prove nothing.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import IntEnum
from math import isfinite, prod
from typing import Any, ClassVar, Protocol

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]
Params = dict[str, Array]  # theta: named arrays
Shapes = dict[str, tuple[int, ...]]


class Stream(IntEnum):
    """The purposes of random numbers; the fourth counter word. No two purposes share an address."""

    DATA_INDEX = 1
    DATA_NOISE = 2
    BUFFER_INDEX = 3
    BUFFER_MASK = 4
    BUFFER_FRESH = 5
    BUFFER_RESERVOIR = 6
    CHAIN_NOISE = 7
    MH_UNIFORM = 8
    PROJECTION = 9
    PARAMS_INIT = 10
    DROPOUT = 11
    TOY = 12
    SAMPLE_START = 13
    EVALUATION = 14
    MOMENTUM = 15
    NOISE_LEVEL = 16
    LEVEL_NOISE = 17
    CONTRAST_NOISE = 18
    CLASS_INDEX = 19
    LABELLED_INDEX = 20
    AUGMENTATION = 21
    ANNEALING = 22
    ATTACK = 23
    DEQUANTISE = 24
    SMOOTHING = 25
    FLOW_TIME = 26
    FLOW_NOISE = 27
    FLOW_START = 28
    STUDENT = 29
    ROUNDING = 30
    STUDENT_INDEX = 31


# ---------------------------------------------------------------------------------------- errors


class EbmError(Exception):
    """Base of every error that the project raises on purpose."""


class ShapeError(EbmError, ValueError):
    """An array has the wrong rank or size."""


class DTypeError(EbmError, TypeError):
    """An argument has the wrong type."""


class RangeError(EbmError, ValueError):
    """A number lies outside the interval where the formula holds."""


class NonFiniteError(EbmError, ValueError):
    """NaN or infinity where a finite number was expected."""


class JetError(EbmError, TypeError):
    """A truncated Taylor series met an operation whose series rule is not known."""


class SmoothnessError(EbmError, TypeError):
    """A derivative of order >= 2 was asked of a network that is only piecewise smooth."""


class BackendError(EbmError, RuntimeError):
    """A backend cannot run here; the message says why."""


class MissingExtraError(EbmError, ImportError):
    """An optional library is not installed; the message names the extra."""


class ConfigError(EbmError, ValueError):
    """A configuration key or value is unknown or out of range."""


class DataError(EbmError, ValueError):
    """A data file or array is not what it claims to be."""


class CheckpointError(EbmError, ValueError):
    """A checkpoint is truncated, damaged, or belongs to another energy."""


class RunFolderError(EbmError, OSError):
    """A run folder cannot be written, or another process is using it."""


# ---------------------------------------------------------------------------------------- checks


def check_array(
    name: str,
    x: Any,
    *,
    ndim: int | None = None,
    shape: tuple[int | None, ...] | None = None,
    finite: bool = False,
) -> None:
    """Raise unless `x` is a float32 or float64 array of that rank or shape (None = any size)."""
    if not hasattr(x, "dtype") or not hasattr(x, "shape"):
        raise DTypeError(f"{name}: expected an array, found {type(x).__name__}")
    if x.dtype not in (np.float32, np.float64):
        raise DTypeError(f"{name}: expected float32 or float64, found {x.dtype}")
    if ndim is not None and x.ndim != ndim:
        raise ShapeError(f"{name}: expected {ndim} axes, found shape {tuple(x.shape)}")
    if shape is not None:
        fits = x.ndim == len(shape) and all(
            want is None or want == have for want, have in zip(shape, x.shape, strict=True)
        )
        if not fits:
            wanted = ", ".join("any" if size is None else str(size) for size in shape)
            raise ShapeError(f"{name}: expected shape ({wanted}), found {tuple(x.shape)}")
    if finite and not bool(np.isfinite(x).all()):
        bad = int(x.size - np.count_nonzero(np.isfinite(x)))
        raise NonFiniteError(f"{name}: expected finite numbers, found {bad} NaN or inf of {x.size}")


def check_params(name: str, theta: Any) -> None:
    """Raise unless `theta` is a dict of float32 or float64 arrays."""
    if not isinstance(theta, dict):
        raise DTypeError(f"{name}: expected a dict of arrays, found {type(theta).__name__}")
    for key, value in theta.items():
        check_array(f"{name}[{key!r}]", value)


def check_number(name: str, value: Any, *, low: float, high: float = float("inf"), open_low: bool = False) -> None:
    """Raise unless `value` is a finite real number with low <= value <= high (low < value if open)."""
    if isinstance(value, bool) or not isinstance(value, (int, float, np.integer, np.floating)):
        raise DTypeError(f"{name}: expected a real number, found {value!r}")
    inside = isfinite(value) and low <= value <= high and not (open_low and value == low)
    if not inside:
        bracket = "(" if open_low else "["
        raise RangeError(f"{name}: expected a finite number in {bracket}{low}, {high}], found {value}")


def check_count(name: str, value: Any, *, low: int, high: int | None = None) -> None:
    """Raise unless `value` is an integer with low <= value <= high."""
    if isinstance(value, bool) or not isinstance(value, (int, np.integer)):
        raise DTypeError(f"{name}: expected an integer, found {value!r}")
    if value < low or (high is not None and value > high):
        wanted = f">= {low}" if high is None else f"in [{low}, {high}]"
        raise RangeError(f"{name}: expected an integer {wanted}, found {value}")


def check_flag(name: str, value: Any) -> None:
    """Raise unless `value` is True or False: "no" would be true."""
    if not isinstance(value, bool):
        raise DTypeError(f"{name}: expected True or False, found {value!r}")


def check_choice(name: str, value: Any, choices: tuple[str, ...]) -> None:
    """Raise unless `value` is one of `choices`."""
    if value not in choices:
        raise RangeError(f"{name}: expected one of {', '.join(choices)}, found {value!r}")


def check_labels(name: str, y: Any, classes: int, N: int | None = None) -> None:
    """Raise unless `y` is a NumPy array of N integers in [0, classes): labels stay on the host, as chain ids do."""
    if not isinstance(y, np.ndarray) or y.dtype.kind not in "iu":
        raise DTypeError(f"{name}: expected a NumPy array of integers, found {getattr(y, 'dtype', type(y).__name__)}")
    if y.ndim != 1 or (N is not None and y.shape[0] != N):
        raise ShapeError(f"{name}: expected shape ({'N' if N is None else N},), found {y.shape}")
    if y.size and (int(y.min()) < 0 or int(y.max()) >= classes):
        raise RangeError(f"{name}: expected classes in [0, {classes}), found {int(y.min())} to {int(y.max())}")


def check_levels(name: str, t: Any, low: float, high: float) -> None:
    """Raise unless `t` is a number in [low, high], or an (N,) array of such; one on a device is not read back."""
    if not hasattr(t, "shape") or isinstance(t, np.generic):
        check_number(name, t, low=low, high=high)
        return
    check_array(name, t, ndim=1)
    if isinstance(t, np.ndarray):
        inside = np.isfinite(t) & (t >= t.dtype.type(low)) & (t <= t.dtype.type(high))
        if not inside.all():
            raise RangeError(f"{name}: expected levels in [{low}, {high}], found {t[~inside][0]}")


def check_sizes(name: str, sizes: Any, *, length: int | None = None) -> None:
    """Raise unless `sizes` is a non-empty tuple of positive integers (of that length)."""
    if not isinstance(sizes, tuple) or len(sizes) == 0:
        raise DTypeError(f"{name}: expected a non-empty tuple of integers, found {sizes!r}")
    if length is not None and len(sizes) != length:
        raise ShapeError(f"{name}: expected {length} integers, found {sizes!r}")
    for size in sizes:
        check_count(name, size, low=1)


def check_derivatives(what: str, energy: Any, *methods: str) -> None:
    """Raise unless `energy` has the methods of level 2 or 3 that `what` needs, and is smooth enough for them.

    An energy that only passes them on names the one that has them, `derivatives_of`.
    Raises BackendError, SmoothnessError.
    """
    energy = getattr(energy, "derivatives_of", energy)
    lacks = [name for name in methods if not hasattr(energy, name)]
    if lacks:
        kind = type(energy)
        raise BackendError(
            f"{what} needs {' and '.join(lacks)}, which {kind.__module__}.{kind.__name__} lacks; "
            "every energy of ebm_ref has levels 2 and 3"
        )
    if hasattr(energy, "require_smooth"):
        energy.require_smooth(what)


def check_energy(name: str, energy: Any) -> None:
    """Raise DTypeError unless `energy` has a shape and an energy_and_grad_x, all that a chain needs of an energy."""
    lacks = [attribute for attribute in ("shape", "energy_and_grad_x") if not hasattr(energy, attribute)]
    if lacks:
        found = f"{type(energy).__name__} without {' and '.join(lacks)}"
        raise DTypeError(f"{name}: expected an object with shape and energy_and_grad_x(theta, x), found {found}")


def theta_check(energy: HasTheta, theta: Params, name: str = "theta") -> np.dtype[Any]:
    """Raise unless `theta` has exactly the names and shapes of `energy` (or field), in one dtype, which is returned.

    Raises ShapeError (names, shapes), DTypeError.
    """
    if not isinstance(theta, dict):
        raise DTypeError(f"{name}: expected a dict of arrays, found {type(theta).__name__}")
    shapes = energy.theta_shapes()
    missing = [key for key in shapes if key not in theta]
    unknown = [str(key) for key in theta if key not in shapes]
    if missing or unknown:
        said = [f"{what} {', '.join(names)}" for what, names in (("missing", missing), ("unknown", unknown)) if names]
        raise ShapeError(f"{name}: {'; '.join(said)}")
    for key, shape in shapes.items():
        check_array(f"{name}[{key!r}]", theta[key], shape=shape)
    dtypes = {theta[key].dtype for key in shapes}
    if len(dtypes) > 1:
        raise DTypeError(f"{name}: expected one dtype, found float32 and float64")
    return next(iter(dtypes), np.dtype(np.float64))  # float64: of an energy without parameters


# ------------------------------------------------------------------------------------- protocols


class HasTheta(Protocol):
    """What an energy and a field have in common."""

    @property
    def shape(self) -> tuple[int, ...]: ...

    def theta_shapes(self) -> Shapes: ...


class Energy(Protocol):
    """Level 1 of the energy protocol: all that samplers and contrastive objectives need.

    x is (N, *shape); theta a dict of named arrays. Level 2 adds `grad_theta_along(theta, x, v)` =
    grad_theta sum_n v_n . grad_x E(x_n) and `hvp(theta, x, v)`; level 3 adds `curvature(theta, x, v)`
    = v' H v, (N,), and `grad_theta_curvature(theta, x, v, w)`. An energy may offer both from one pass as
    `curvature_and_grad_theta(theta, x, v, w)`; nothing needs it.
    """

    @property
    def shape(self) -> tuple[int, ...]: ...

    def theta_shapes(self) -> Shapes: ...

    def energy(self, theta: Params, x: Array) -> Array: ...

    def grad_x(self, theta: Params, x: Array) -> Array: ...

    def energy_and_grad_x(self, theta: Params, x: Array) -> tuple[Array, Array]: ...

    def grad_theta(self, theta: Params, x: Array, w: Array) -> Params: ...


class Energy2(Energy, Protocol):
    """Level 2: what objectives of grad_x E need."""

    def grad_theta_along(self, theta: Params, x: Array, v: Array) -> Params: ...

    def hvp(self, theta: Params, x: Array, v: Array) -> Array: ...


class Energy3(Energy2, Protocol):
    """Level 3: what objectives of the Hessian of E need."""

    def curvature(self, theta: Params, x: Array, v: Array) -> Array: ...

    def grad_theta_curvature(self, theta: Params, x: Array, v: Array, w: Array) -> Params: ...


class Field(Protocol):
    """f(theta, x): x is (N, *shape), f is (N, *out_shape): shape but for its last axis; theta as of an energy.

    field_jvp gives f(x_n) and J(x_n) v_n, field_vjp J(x_n)' g_n, field_grad_theta grad_theta sum_n g_n . f(x_n), and
    field_grad_theta_along grad_theta sum_n [g_n . f(x_n) + h_n . (J(x_n) v_n)], with J = df/dx; v is like x, g and h
    are like f. A field need not be the gradient of anything.
    """

    @property
    def shape(self) -> tuple[int, ...]: ...

    @property
    def out_shape(self) -> tuple[int, ...]: ...

    def theta_shapes(self) -> Shapes: ...

    def field(self, theta: Params, x: Array) -> Array: ...

    def field_jvp(self, theta: Params, x: Array, v: Array) -> tuple[Array, Array]: ...

    def field_vjp(self, theta: Params, x: Array, g: Array) -> Array: ...

    def field_grad_theta(self, theta: Params, x: Array, g: Array) -> Params: ...

    def field_grad_theta_along(self, theta: Params, x: Array, g: Array, h: Array, v: Array) -> Params: ...


# ---------------------------------------------------------------------------------------- states


@dataclass
class Buffer:
    """Replay buffer: `slots` (M, *shape), of which the first `filled` hold samples.

    `ptr` counts the samples ever pushed (fifo: the next slot is ptr mod M).
    """

    slots: Array
    filled: int
    ptr: int = 0
    policy: str = "in_place"

    POLICIES: ClassVar[tuple[str, ...]] = ("in_place", "fifo", "reservoir")

    def __post_init__(self) -> None:
        check_choice("policy", self.policy, self.POLICIES)
        check_array("slots", self.slots)
        if self.slots.ndim < 2 or self.slots.shape[0] == 0:
            raise ShapeError(f"slots: expected (M, *shape) with M >= 1, found {self.slots.shape}")
        check_count("filled", self.filled, low=0, high=self.slots.shape[0])
        check_count("ptr", self.ptr, low=0)


@dataclass
class ChainInfo:
    """What may be looked at after a chain of K steps on N samples; nothing here is carried.

    `energy` and `grad_norm` are (K, N), taken where the gradient was taken; a chain whose gradient or
    next state is not finite stops where it is: `alive[n]` is False and `nonfinite` counts it.
    """

    energy: Array
    grad_norm: Array
    alive: Array
    nonfinite: int = 0
    extra: dict[str, Array] = field(default_factory=dict)


def flat_size(shape: tuple[int, ...]) -> int:
    """D, the number of elements of one sample."""
    return prod(shape)
