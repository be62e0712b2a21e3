"""Sizes that a launch of cupy_raw cannot count are refused, by name, before an array is copied or allocated.

Arrays of such sizes are made of one number, with steps of 0 bytes: a copy without gaps would take more than there is.
"""

import numpy as np
import pytest
from gpu_calls import DTYPES, ENERGIES, FIELDS, METHODS, calls

from ebm_fast import cupy_raw, numba_cuda
from ebm_fast.cupy_raw import limits
from ebm_fast.cupy_raw.device import GRID, SHARED, on
from ebm_fast.numba_cuda import device as numba_device
from ebm_fast.verify.host_device import HostDevice
from ebm_ref.contracts import RangeError
from ebm_ref.specs import SGLD


class Small(HostDevice):
    """A device on which nothing large is copied or allocated, and nothing runs."""

    def array(self, name, x):
        assert x.size < 2**20, f"{name} is copied"
        return super().array(name, x)

    def empty(self, shape, dtype):
        assert np.prod(shape, dtype=object) < 2**20, "allocated"
        return super().empty(shape, dtype)

    def launch(self, *args):
        raise AssertionError("launched")


def huge(kind, *shape):
    return np.broadcast_to(np.zeros((), kind), shape)


INT, N = limits.INT, limits.INT + 1
WIDE = 2**32 - 1  # more samples than a buffer's keys can number
# call, the argument that is too large, its shape, what the message says
TOO_LARGE = [
    ("philox", "counter", (2**40, 4), f"at most {limits.THREADS} numbers"),
    ("index", "bits", (2**40,), f"at most {limits.THREADS} numbers"),
    ("step", "x", (2**31, 4, 2), f"at most {limits.SAMPLES} samples"),
    ("step", "g", (2**31, 3, 2), f"at most {limits.SAMPLES} samples"),
    ("step", "xi", (2, 2**41), f"at most {limits.NUMBERS} numbers"),
    ("jitter", "x", (2**31, 3, 2), f"at most {limits.SAMPLES} samples"),
    ("jitter", "xi", (2, 2**41), f"at most {limits.NUMBERS} numbers"),
    ("draw", "slots", (WIDE, 3, 2), f"at most {WIDE - 1} samples"),
    ("draw", "fresh", (WIDE, 3, 2), f"at most {WIDE - 1} samples"),
    ("draw", "u", (WIDE,), f"at most {WIDE - 1} samples"),
    ("draw", "bits", (2**40,), f"at most {limits.THREADS} numbers"),
    ("push fifo", "slots", (WIDE, 3, 2), f"at most {WIDE - 1} samples"),
    ("push fifo", "x", (WIDE, 3, 2), f"at most {WIDE - 1} samples"),
    ("push in_place", "idx", (WIDE,), f"at most {WIDE - 1} samples"),
    ("push reservoir", "bits", (2**40,), f"at most {limits.THREADS} numbers"),
    *(("conv2d", "x", tuple(N if i == k else 2 for i in range(4)), f"at most {INT} along an axis") for k in range(4)),
    ("conv2d", "x", (2**13, 2**13, 2**13, 2), f"at most {limits.PIXELS} pixels"),
    ("conv2d", "w", (3, 2, 2, 2**27), f"at most {INT} numbers"),
    ("conv2d", "b", (N,), f"at most {INT} along an axis"),
    ("conv2d back", "x", (N, 5, 4, 2), f"at most {INT} along an axis"),
    ("conv2d back", "dy", (N, 3, 2, 3), f"at most {INT} along an axis"),
    ("conv2d back", "w", (2**15, 2**15, 2, 3), f"at most {INT} numbers"),
    ("norm", "x", (N, 5, 4), f"at most {INT} samples"),
    ("norm", "x", (2, 5, N), f"at most {INT} channels"),
    ("norm", "gamma", (N,), f"at most {INT} "),
    ("norm", "beta", (N,), f"at most {INT} "),
    ("norm back", "x", (N, 5, 4), f"at most {INT} samples"),
    ("norm back", "dy", (2, 5, N), f"at most {INT} channels"),
    *((f"{kind} {method}", "x", (N, *ENERGIES[kind]["shape"]), f"at most {INT} samples")
      for kind in ENERGIES for method in METHODS),
    *((f"{kind} hvp", "v", (N, *ENERGIES[kind]["shape"]), f"at most {INT} samples") for kind in ENERGIES),
    *((f"{kind} grad_theta", "w", (N,), f"at most {INT} samples") for kind in ENERGIES),
    *((f"{kind} energy", "theta/out.w", (N, 1), f"at most {INT} numbers") for kind in ENERGIES),
    *((f"{kind} noise_first", "x0", (N, *ENERGIES[kind]["shape"]), f"at most {INT} samples") for kind in ENERGIES),
    ("coupling", "x0", (2**31, 4, 2), f"at most {limits.SAMPLES} samples"),
    ("coupling", "x1", (2, 2**41), f"at most {limits.NUMBERS} numbers"),
    ("repulsion", "x", (2**31, 3, 2), f"at most {limits.SAMPLES} samples"),
    ("repulsion", "x", (2, 3, 2**41), f"at most {limits.NUMBERS} numbers"),
    *((f"{kind} {method}", name, (N, *FIELDS[kind]["shape"]), f"at most {INT} samples")
      for kind in FIELDS for method, name in (("field", "x"), ("field_jvp", "v"), ("field_vjp", "g"))),
    *((f"{kind} field_grad_theta_along", "h", (N, *FIELDS[kind]["shape"]), f"at most {INT} samples")
      for kind in FIELDS),
    *((f"FieldEnergy {kind} {method}", "x", (N, *FIELDS[kind]["shape"]), f"at most {INT} samples")
      for kind in FIELDS for method in METHODS),
    *((f"{kind} field", "theta/out.w", (N, 1), f"at most {INT} numbers") for kind in FIELDS),
    *((f"{kind} gradient", "x0", (N, *FIELDS[kind]["shape"]), f"at most {INT} samples") for kind in FIELDS),
    ("MLPEnergy gradient_first", "x0", (1, 2**34 + 1), f"at most {limits.ELEMENTS} elements of a sample"),
]  # fmt: skip


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("name", "argument", "shape", "said"), TOO_LARGE)
def test_limits__name_what_is_too_large(name, argument, shape, said, dtype):
    call = calls(dtype)[name]
    call = call.with_array(argument, huge(call.get(argument).dtype, *shape))
    shown = f"theta['{argument[6:]}']" if argument.startswith("theta/") else argument
    with on(Small()), pytest.raises(RangeError) as error:
        call.run(cupy_raw)
    assert str(error.value).startswith(f"{shown}: expected {said}") and str(shape) in str(error.value)


class Free:
    """An energy of a user, of samples of any size."""

    def __init__(self, *shape):
        self.shape = shape

    def energy_and_grad_x(self, theta, x):
        raise AssertionError("refused before it is called")


@pytest.mark.parametrize(("shape", "said"), [((2**31, 1), "samples"), ((1, 2**34 + 4), "elements of a sample")])
def test_langevin_run__of_any_energy_names_what_is_too_large(shape, said):
    x0 = huge(np.float32, *shape)
    with on(Small()), pytest.raises(RangeError, match=f"x0: expected at most [0-9]+ {said}"):
        cupy_raw.langevin_run(Free(*shape[1:]), {}, x0, 1, SGLD(0.1, 0.1), 0)


@pytest.mark.parametrize("draw", ["noise_bits", "noise_uniform", "noise_normal"])
@pytest.mark.parametrize("module, on_device", [(cupy_raw, on), (numba_cuda, numba_device.on)], ids=["cupy", "numba"])
def test_noise__names_a_sample_whose_quads_are_no_word(module, on_device, draw):
    device = Small() if module is cupy_raw else numba_device.Typed()
    with on_device(device), pytest.raises(RangeError, match="D: expected an integer in"):
        getattr(module, draw)(1, 2, 3, np.arange(2), 2**34 + 1)


def test_buffer_draw__names_more_slots_than_a_word_can_choose():
    slots = huge(np.float32, 2**32 + 1, 0)
    more = (np.zeros(2, np.uint32), np.zeros(2), np.zeros((2, 0), np.float32), 0.5)
    with numba_device.on(numba_device.Typed()), pytest.raises(RangeError, match="filled: expected"):
        numba_cuda.buffer_draw(slots, 2**32 + 1, *more)
    with on(Small()), pytest.raises(RangeError, match="slots: expected"):
        cupy_raw.buffer_draw(slots, 2**32 + 1, *more)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("path", ["auto", "chain"])
@pytest.mark.parametrize(
    "energy",
    [cupy_raw.ConvEnergy((64, 64, 1), channels=(32,), strides=(1,)), cupy_raw.MLPEnergy((2,), hidden=(60_000,))],
    ids=["ConvEnergy", "MLPEnergy"],
)
def test_langevin_run__names_a_chain_beyond_shared_memory(energy, path, dtype):
    """Before it launches or allocates, and says what works."""
    theta = {name: np.zeros(shape, dtype) for name, shape in energy.theta_shapes().items()}
    x0, said = np.zeros((1, *energy.shape), dtype), rf'^path: .*{np.dtype(dtype)}.* block has {SHARED}; path="layers"'
    with on(Small()), pytest.raises(RangeError, match=said):
        cupy_raw.langevin_run(energy, theta, x0, 1, SGLD(0.1, 0.1), 0, path=path)


def test_limits__are_those_of_the_launches():
    assert limits.THREADS == 256 * GRID[0] and limits.PIXELS == 64 * GRID[0] and limits.SAMPLES // 256 < GRID[0]
    assert 2 * limits.INT < 2**31 and limits.ELEMENTS == 4 * 2**32
    limits.check_fits("x", 1.0, samples=0, numbers=1)
    limits.check_fits("x", huge(np.int8, INT), axes=INT, samples=INT, channels=INT)
