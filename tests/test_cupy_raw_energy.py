"""Energies of cupy_raw on the host build: real sizes, order of threads, batches, workspaces. The rest is the kit's."""

from pathlib import Path

import numpy as np
import pytest

import ebm_ref
from ebm_fast import cupy_raw
from ebm_fast.cupy_raw.device import on
from ebm_fast.cupy_raw.source import kernel_names
from ebm_fast.verify import host_build
from ebm_fast.verify.host_asan import run_in_asan
from ebm_fast.verify.host_device import HostDevice, launched
from ebm_ref.contracts import DTypeError, RangeError, ShapeError, SmoothnessError

ENERGIES = {
    "conv": ("ConvEnergy", {"shape": (9, 7, 2), "channels": (5, 20, 20), "strides": (2, 1, 1), "residual": True}),
    "deep": ("DeepConvEnergy", {"shape": (7, 6, 1), "channels": (4, 6), "blocks": (1, 2), "activation": "gelu"}),
    "mlp": ("MLPEnergy", {"shape": (3, 2), "hidden": (33, 5), "activation": "tanh"}),
    "norm": ("MLPEnergy", {"shape": (6,), "hidden": (65,), "layer_norm": True}),
}
CALLS = {"energy": "", "grad_x": "", "energy_and_grad_x": "", "grad_theta": "w", "hvp": "v", "grad_theta_along": "v"}
PER_SAMPLE = ("energy", "grad_x", "energy_and_grad_x", "hvp")


def problem(kind, fields, N, dtype=np.float32):
    """The energy, the oracle's, theta with gains and biases of no special value, and x, v, w."""
    mine, oracle = getattr(cupy_raw, kind)(**fields), getattr(ebm_ref, kind)(**fields)
    rng = np.random.default_rng(7)
    theta = {}
    for name, a in ebm_ref.theta_init(oracle, 3, np.float64).items():
        theta[name] = (a + 0.1 * rng.standard_normal(a.shape)).astype(dtype)
    x, v = (rng.standard_normal((N, *fields["shape"])).astype(dtype) for _ in range(2))
    return mine, oracle, theta, x, {"v": v, "w": rng.standard_normal(N).astype(dtype)}


def flat(result):
    """A result as a list of arrays."""
    if isinstance(result, dict):
        return [result[name] for name in sorted(result)]
    return list(result) if isinstance(result, tuple) else [result]


def everything(energy, theta, x, more, methods=tuple(CALLS)):
    """The results of every method, as a list of arrays."""
    arrays = []
    for name in methods:
        extra = [more[CALLS[name]]] if CALLS[name] else []
        arrays += flat(getattr(energy, name)(theta, x, *extra))
    return arrays


def bits(arrays):
    return [(a.shape, a.tobytes()) for a in arrays]


# ------------------------------------------------------------------------------------- against the oracle

DEFAULTS = [
    pytest.param("ConvEnergy", (28, 28, 1), 9, id="conv-28x28x1"),
    pytest.param("ConvEnergy", (32, 32, 3), 3, id="conv-32x32x3"),
    pytest.param("DeepConvEnergy", (32, 32, 3), 1, id="deep_conv-32x32x3"),
]


@pytest.mark.parametrize(("kind", "shape", "N"), DEFAULTS)
def test_energy__of_default_size_matches_ref(kind, shape, N):
    """In float32, within 1e-5 of the oracle in float64 by the 2-norm of a sample's x, of all E, of all of theta.

    Seen: 1.6e-6 for energies, 2.8e-6 for grad_x, 3.4e-6 for the second order.
    """
    mine, oracle, theta, x, more = problem(kind, {"shape": shape}, N)
    wide = {name: a.astype(np.float64) for name, a in theta.items()}
    for name, extra in CALLS.items():
        args = [x, more[extra]] if extra else [x]
        with on(HostDevice()):
            got = flat(getattr(mine, name)(theta, *args))
        want = flat(getattr(oracle, name)(wide, *(a.astype(np.float64) for a in args)))
        if extra and name != "hvp":
            got, want = ([np.concatenate([a.ravel() for a in arrays])[None]] for arrays in (got, want))
        for a, b in zip(got, want, strict=True):
            assert a.dtype == np.float32
            rows = 1 if a.ndim == 1 else len(a)
            a, b = a.reshape(rows, -1).astype(np.float64), b.reshape(rows, -1)
            error = np.linalg.norm(a - b, axis=1) / np.linalg.norm(b, axis=1)
            assert error.max() < 1e-5, (name, error)


@pytest.mark.parametrize(("kind", "fields"), ENERGIES.values(), ids=ENERGIES)
def test_energy__of_no_samples_is_the_oracle_s(kind, fields):
    mine, oracle, theta, x, more = problem(kind, fields, 0)
    with on(HostDevice()):
        got = everything(mine, theta, x, more)
    want = everything(oracle, theta, x, more)
    assert bits(got) == bits(want)
    assert [a.dtype for a in got] == [a.dtype for a in want]


# ------------------------------------------------------------------------------------------ determinism


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize(("kind", "fields"), ENERGIES.values(), ids=ENERGIES)
def test_energy__is_the_same_in_any_order_of_threads(kind, fields, dtype):
    mine, _, theta, x, more = problem(kind, fields, 19, dtype)
    found = []
    for order in ("forward", "reverse", "random"):
        with on(HostDevice(order=order, seed=5)):
            found.append(bits(everything(mine, theta, x, more)))
    assert found[0] == found[1] == found[2]


@pytest.mark.parametrize(("kind", "fields"), ENERGIES.values(), ids=ENERGIES)
def test_energy__of_a_sample_does_not_depend_on_its_batch(kind, fields):
    """To the bit: samples 11..12 of 19, and the same two alone."""
    mine, _, theta, x, more = problem(kind, fields, 19)
    part = slice(11, 13)
    with on(HostDevice()):
        whole = everything(mine, theta, x, more, PER_SAMPLE)
        alone = everything(mine, theta, x[part], {"v": more["v"][part]}, PER_SAMPLE)
    assert bits([a[part] for a in whole]) == bits(alone)


@pytest.mark.parametrize(("kind", "fields"), ENERGIES.values(), ids=ENERGIES)
def test_energy__does_not_ask_for_alignment(kind, fields):
    """Arrays that begin one number after a boundary of 16 bytes give the same bits."""
    mine, _, theta, x, more = problem(kind, fields, 5)

    def off(a):
        whole = np.zeros(a.size + 5, a.dtype)
        start = (-whole.ctypes.data // a.itemsize) % 4 + 1
        view = whole[start : start + a.size].reshape(a.shape)
        view[...] = a
        return view

    with on(HostDevice()):
        aligned = everything(mine, theta, x, more)
        shifted = everything(mine, {k: off(a) for k, a in theta.items()}, off(x), {k: off(a) for k, a in more.items()})
    assert off(x).ctypes.data % 16 == x.itemsize
    assert bits(aligned) == bits(shifted)


# ------------------------------------------------------------------------------------------- workspaces


class Frozen(HostDevice):
    """A device on which nothing may be allocated or waited for."""

    def refuse(self, *args):
        raise AssertionError("a recorded pass allocates and waits for nothing")

    array = empty = put = get = refuse


@pytest.mark.parametrize(("kind", "fields"), ENERGIES.values(), ids=ENERGIES)
def test_launch_energy_and_grad_x__is_the_public_call(kind, fields):
    """Into given arrays, three times over on one workspace, with launches alone; the first of them on other samples."""
    mine, _, theta, x, more = problem(kind, fields, 6)
    dev = HostDevice()
    with on(dev):
        E, g = mine.energy_and_grad_x(theta, x)
        space, theta_device = mine.workspace(6, np.float32), mine.adopt_theta(theta, np.float32)
        found, slope = dev.empty(E.shape, np.float32), dev.empty(x.shape, np.float32)
    frozen = Frozen()
    with on(frozen):
        mine.launch_energy_and_grad_x(theta_device, more["v"], found, slope, space)
        frozen.repeat(2, lambda: mine.launch_energy_and_grad_x(theta_device, x, found, slope, space))
    assert bits([found, slope]) == bits([E, g])


def test_workspace__says_which_orders_there_are():
    mine = problem("MLPEnergy", {"shape": (2,), "hidden": (3,)}, 1)[0]
    with on(HostDevice()), pytest.raises(RangeError, match="order 2"):
        mine.workspace(1, np.float32, 2)
    with on(HostDevice()), pytest.raises(DTypeError, match="float16"):
        mine.workspace(1, np.float16)


# ---------------------------------------------------------------------------------------------- refusals


def test_energy__refuses_what_is_no_theta():
    mine, _, theta, x, more = problem(*ENERGIES["mlp"], 2)
    with on(HostDevice()):
        with pytest.raises(DTypeError, match="theta: expected a dict"):
            mine.energy(list(theta.values()), x)
        with pytest.raises(DTypeError, match=r"theta\['out.b'\]: expected"):
            mine.energy(theta | {"out.b": [0.0]}, x)
        with pytest.raises(DTypeError, match=r"theta\['out.b'\]: expected x's float32"):
            mine.grad_x(theta | {"out.b": np.zeros(1)}, x)
        with pytest.raises(ShapeError, match="missing .*out.b"):
            mine.grad_theta({k: a for k, a in theta.items() if k != "out.b"}, x, more["w"])
        with pytest.raises(DTypeError, match="v: expected x's float32"):
            mine.hvp(theta, x, more["v"].astype(np.float64))


@pytest.mark.parametrize("activation", ["relu", "leaky_relu"])
@pytest.mark.parametrize(("kind", "fields"), ENERGIES.values(), ids=ENERGIES)
def test_energy__refuses_second_derivatives_of_kinks(kind, fields, activation):
    """Before it looks at an array, and with no device in sight."""
    mine = getattr(cupy_raw, kind)(**(fields | {"activation": activation}))
    for name in ("hvp", "grad_theta_along"):
        with pytest.raises(SmoothnessError, match=f"{name} .*{activation}"):
            getattr(mine, name)(None, None, None)


@pytest.mark.parametrize("name", ["curvature", "grad_theta_curvature"])
def test_energy__has_no_third_level(name):
    assert not hasattr(cupy_raw.ConvEnergy(shape=(4, 4, 1)), name)


# ------------------------------------------------------------------------------------ under the checkers


def launch_all(build):
    for kind, fields in ENERGIES.values():
        mine, _, theta, x, more = problem(kind, fields, 3)
        with on(HostDevice(build)):
            everything(mine, theta, x, more)


def test_energy__has_no_races():
    """Nor a read of what was never written."""
    launch_all("race")


def test_energy__stays_in_its_arrays():
    here = f"import sys; sys.path.insert(0, {str(Path(__file__).parent)!r})\n"
    done = run_in_asan(["-c", here + "import test_cupy_raw_energy as t; t.launch_all('asan'); print('all')"], 400)
    assert done.stdout.strip() == "all", done.stderr


def test_layers__every_kernel_was_launched():
    """By the tests above: what no test launches, no test proves."""
    for kind, fields in ENERGIES.values():
        mine, _, theta, x, more = problem(kind, fields, 2)
        with on(host_build.host_device()):
            everything(mine, theta, x, more)
    assert {name for file, name in launched() if file == "layers.cu"} == {*kernel_names("layers.cu")}
