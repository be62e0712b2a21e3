"""Input checks that every fast backend shares: what may be handed to a kernel.

A kernel trusts its arguments, so a public function calls these first. They raise the typed errors of
`ebm_ref.contracts` and name the argument.
"""

from __future__ import annotations

import sys
from math import prod
from typing import Any

import numpy as np

from ebm_ref.contracts import (
    DTypeError,
    RangeError,
    ShapeError,
    Shapes,
    check_array,
    check_choice,
    check_count,
    check_number,
)
from ebm_ref.descent_specs import AdamDescent, Descent, GradientDescent, LookAheadDescent, NesterovDescent
from ebm_ref.specs import PADDINGS

ROOMS = ("ebm_ref", "ebm_fast.numba_cpu", "ebm_fast.numba_cuda", "ebm_fast.cupy_raw")
WORD = 2**32 - 1  # the largest counter word
DESCENT_STATES: dict[type, tuple[str, ...]] = {  # the arrays like x of a rule's state
    GradientDescent: (),
    NesterovDescent: ("velocity",),
    LookAheadDescent: ("velocity",),
    AdamDescent: ("m", "square"),
}


def check_address(seed: Any, stream: Any, step: Any) -> None:
    """Raise unless seed fits 64 bits, stream and step 32 bits."""
    check_count("seed", seed, low=0, high=2**64 - 1)
    check_count("stream", stream, low=0, high=WORD)
    check_count("step", step, low=0, high=WORD)


def check_dtype(dtype: Any) -> np.dtype:
    """float32 or float64 as a NumPy dtype; raises on anything else."""
    try:
        kind = np.dtype(dtype)
    except TypeError as error:
        raise DTypeError(f"dtype: expected float32 or float64, found {dtype!r}") from error
    if dtype is None or kind not in (np.float32, np.float64):
        raise DTypeError(f"dtype: expected float32 or float64, found {dtype!r}")
    return kind


def check_chains(chains: Any, N: int | None = None) -> np.ndarray:
    """Chain ids as contiguous uint64 (N,); raises unless integers in 0..2^32-1."""
    if not isinstance(chains, np.ndarray) or chains.dtype.kind not in "iu":
        raise DTypeError(f"chains: expected an array of integers, found {getattr(chains, 'dtype', chains)!r}")
    ids = chains
    if ids.ndim != 1 or (N is not None and ids.shape[0] != N):
        raise ShapeError(f"chains: expected shape ({'N' if N is None else N},), found {ids.shape}")
    if ids.size and (int(ids.min()) < 0 or int(ids.max()) > WORD):
        raise RangeError(f"chains: expected ids in [0, {WORD}], found {int(ids.min())} to {int(ids.max())}")
    return np.ascontiguousarray(ids, np.uint64)


def check_words(name: str, bits: Any, *, shape: tuple[int, ...] | None = None) -> None:
    """Raise unless `bits` is a uint32 array (of that shape)."""
    if getattr(bits, "dtype", None) != np.uint32:
        raise DTypeError(f"{name}: expected a uint32 array, found {getattr(bits, 'dtype', type(bits).__name__)}")
    if shape is not None and bits.shape != shape:
        raise ShapeError(f"{name}: expected shape {shape}, found {bits.shape}")


def check_like(name: str, y: Any, x: Any, what: str = "x") -> None:
    """Raise unless `y` has the shape and dtype of `x`."""
    check_array(name, y, shape=tuple(x.shape))
    check_same_dtype(name, y, x, what)


def check_same_dtype(name: str, y: Any, x: Any, what: str = "x") -> None:
    """Raise unless `y` has the dtype of `x`."""
    if y.dtype != x.dtype:
        raise DTypeError(f"{name}: expected {what}'s {x.dtype}, found {y.dtype}")


def check_samples(name: str, x: Any, shape: tuple[int, ...]) -> None:
    """Raise unless `x` is (N, *shape), float32 or float64."""
    check_array(name, x, shape=(None, *shape))


def check_theta(theta: Any, shapes: Shapes, dtype: Any = None) -> None:
    """Raise unless `theta` holds exactly the arrays of `shapes`, of one float dtype (that one)."""
    if not isinstance(theta, dict):
        raise DTypeError(f"theta: expected a dict of arrays, found {type(theta).__name__}")
    missing = [name for name in shapes if name not in theta]
    unknown = [name for name in theta if name not in shapes]
    if missing or unknown:
        raise ShapeError(f"theta: missing {missing}, unknown {unknown}; expected {', '.join(shapes)}")
    for name, shape in shapes.items():
        check_array(f"theta[{name!r}]", theta[name], shape=shape)
        if dtype is not None and theta[name].dtype != dtype:
            raise DTypeError(f"theta[{name!r}]: expected x's {dtype}, found {theta[name].dtype}")


def check_conv(x: Any, w: Any, stride: Any, padding: Any) -> None:
    """Raise unless x (N, H, W, C) can be convolved with w (R, S, C, O)."""
    check_array("x", x, ndim=4)
    check_array("w", w, shape=(None, None, x.shape[3], None))
    check_same_dtype("w", w, x)
    check_count("stride", stride, low=1)
    check_choice("padding", padding, PADDINGS)
    if min(*x.shape[1:], *w.shape) < 1:
        raise ShapeError(f"x, w: expected no empty axis, found {x.shape} and {w.shape}")
    if padding == "VALID" and (x.shape[1] < w.shape[0] or x.shape[2] < w.shape[1]):
        raise RangeError(f"w: a {w.shape[0]}x{w.shape[1]} kernel does not fit a {x.shape[1]}x{x.shape[2]} map (VALID)")


def check_norm(x: Any, gamma: Any, groups: Any, eps: Any) -> None:
    """Raise unless x (N, ..., C) has `groups` groups of channels and gamma is (C,)."""
    check_array("x", x)
    if x.ndim < 2 or min(x.shape[1:]) < 1:
        raise ShapeError(f"x: expected shape (N, ..., C), found {x.shape}")
    check_array("gamma", gamma, shape=(x.shape[-1],))
    check_same_dtype("gamma", gamma, x)
    check_count("groups", groups, low=1)
    check_number("eps", eps, low=0.0, open_low=True)
    if x.shape[-1] % groups:
        raise RangeError(f"groups: expected a divisor of C = {x.shape[-1]}, found {groups}")


def check_slots(slots: Any, filled: Any) -> None:
    """Raise unless slots is (M, *shape), M >= 1, of which the first `filled` can hold samples."""
    check_array("slots", slots)
    if slots.ndim < 2 or slots.shape[0] == 0:
        raise ShapeError(f"slots: expected (M, *shape) with M >= 1, found {tuple(slots.shape)}")
    check_count("filled", filled, low=0, high=slots.shape[0])


def is_explicit(energy: Any) -> bool:
    """Whether it is an energy. Raises DTypeError, ShapeError unless it is one, or a field with f like x."""
    if hasattr(energy, "energy_and_grad_x"):
        return True
    if not (hasattr(energy, "out_shape") and hasattr(energy, "field")) or hasattr(energy, "at"):
        raise DTypeError(
            f"energy: expected an energy or a field, of labels or times held by its at(), found {type(energy).__name__}"
        )
    if tuple(energy.out_shape) != tuple(energy.shape):
        raise ShapeError(f"energy: expected a field with f like x, {energy.shape}, found {energy.out_shape}")
    return False


def descent_names(rule: Descent, state: Any) -> tuple[str, ...]:
    """DESCENT_STATES of the rule. Raises DTypeError, ShapeError unless `state` is None or has those, and t of Adam."""
    if type(rule) not in DESCENT_STATES:
        known = ", ".join(kind.__name__ for kind in DESCENT_STATES)
        raise DTypeError(f"rule: expected one of {known}, found {type(rule).__name__}")
    names = DESCENT_STATES[type(rule)]
    if state is None:
        return names
    if not isinstance(state, dict):
        raise DTypeError(f"state: expected a dict of arrays, found {type(state).__name__}")
    wanted = {*names, *(("t",) if isinstance(rule, AdamDescent) else ())}
    if {*state} != wanted:
        raise ShapeError(f"state: expected the names {sorted(wanted)}, found {sorted(state)}")
    return names


def flat(x: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """(N, *shape) as a contiguous (N, D); a view where x is contiguous."""
    return np.ascontiguousarray(x).reshape(x.shape[0], prod(shape))


def missing(name: str, room: str) -> AttributeError:
    """The error of asking backend `room` for a name that it lacks: it says which loaded backend has it."""
    having = [other for other in ROOMS if other != room and name in getattr(sys.modules.get(other), "__all__", ())]
    where = f"it exists in {' and '.join(having)}" if having else "no loaded backend has it"
    return AttributeError(f"{room} has no {name}; {where}")
