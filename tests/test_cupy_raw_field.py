"""Fields of cupy_raw on the host build, and energies on them: order of threads, batches. The rest is the kit's."""

from pathlib import Path

import numpy as np
import pytest
from cupy_host import normals

import ebm_ref
from ebm_fast import cupy_raw
from ebm_fast.cupy_raw import field as steps
from ebm_fast.cupy_raw.device import on
from ebm_fast.cupy_raw.source import kernel_names
from ebm_fast.verify.host_asan import run_in_asan
from ebm_fast.verify.host_build import launched
from ebm_fast.verify.host_device import HostDevice
from ebm_ref.contracts import DTypeError, NonFiniteError, ShapeError, SmoothnessError
from ebm_ref.specs import SGLD

FIELDS = {
    "mlp": ("MLPField", {"shape": (3, 2), "hidden": (33, 5), "activation": "tanh"}),
    "mlp wide": ("MLPField", {"shape": (2,), "hidden": (65,), "out_channels": 7}),
    "one size": ("ConvField", {"shape": (5, 7, 2), "channels": (6,), "max_groups": 2}),
    "two sizes": ("ConvField", {"shape": (6, 10, 1), "channels": (4, 20), "max_groups": 4, "activation": "gelu"}),
    "three sizes": ("ConvField", {"shape": (8, 4, 3), "channels": (4, 6, 5), "kernel": 2, "max_groups": 1}),
    "other channels": ("ConvField", {"shape": (4, 4, 1), "channels": (4, 6), "max_groups": 2, "out_channels": 5}),
}
METHODS = {"field": "", "field_jvp": "v", "field_vjp": "g", "field_grad_theta": "g", "field_grad_theta_along": "ghv"}
PER_SAMPLE = ("field", "field_jvp", "field_vjp")
HEADS = ("dot", "norm", "norm_below")


def problem(kind, fields, N, dtype=np.float32):
    """The field, the oracle's, theta with gains and biases of no special value, and x, v, g, h."""
    mine, oracle = getattr(cupy_raw, kind)(**fields), getattr(ebm_ref, kind)(**fields)
    rng = np.random.default_rng(7)
    theta = {}
    for name, a in ebm_ref.theta_init(oracle, 3, np.float64).items():
        theta[name] = (a + 0.1 * rng.standard_normal(a.shape)).astype(dtype)
    shapes = {"x": oracle.shape, "v": oracle.shape, "g": oracle.out_shape, "h": oracle.out_shape}
    return mine, oracle, theta, {n: rng.standard_normal((N, *shape)).astype(dtype) for n, shape in shapes.items()}


def flat(result):
    if isinstance(result, dict):
        return [result[name] for name in sorted(result)]
    return list(result) if isinstance(result, tuple) else [result]


def everything(field, theta, more, methods=tuple(METHODS)):
    """The results of every method, as a list of arrays."""
    found = []
    for name in methods:
        found += flat(getattr(field, name)(theta, more["x"], *(more[n] for n in METHODS[name])))
    return found


def bits(arrays):
    return [(a.shape, a.tobytes()) for a in arrays]


def cast(arrays, dtype=np.float64):
    return {name: a.astype(dtype) for name, a in arrays.items()}


@pytest.mark.parametrize(("kind", "fields", "N"), [
    ("ConvField", {"shape": (28, 28, 1)}, 3), ("ConvField", {"shape": (32, 32, 3), "channels": (32, 64, 64)}, 1),
    ("MLPField", {"shape": (2,)}, 70),
])  # fmt: skip
def test_field__of_default_size_matches_ref(kind, fields, N, record_property):
    """In float32, within 1e-5 of the oracle in float64 by the 2-norm of a result."""
    mine, oracle, theta, more = problem(kind, fields, N)
    with on(HostDevice()):
        got = everything(mine, theta, more)
    want, worst = everything(oracle, cast(theta), cast(more)), 0.0
    for a, b in zip(got, want, strict=True):
        assert a.dtype == np.float32 and a.shape == b.shape
        worst = max(worst, np.linalg.norm(a - b) / np.linalg.norm(b)) if np.linalg.norm(b) > 1e-6 * b.size else worst
    record_property("worst", float(worst))
    assert worst < 1e-5


@pytest.mark.parametrize(("kind", "fields"), FIELDS.values(), ids=FIELDS)
def test_field__matches_ref_in_double(kind, fields):
    mine, oracle, theta, more = problem(kind, fields, 11, np.float64)
    with on(HostDevice()):
        got = everything(mine, theta, more)
    for a, b in zip(got, everything(oracle, theta, more), strict=True):
        assert np.abs(a - b).max() < 1e-12 * max(1.0, np.abs(b).max())


@pytest.mark.parametrize(("kind", "fields"), FIELDS.values(), ids=FIELDS)
def test_field__is_the_same_in_any_order_of_threads_and_grid(kind, fields, monkeypatch):
    mine, _, theta, more = problem(kind, fields, 5)
    found = []
    for order in ("forward", "reverse", "random"):
        with on(HostDevice(order=order, seed=5)):
            found.append(bits(everything(mine, theta, more)))
        monkeypatch.setattr(steps, "MAX_BLOCKS", 1)
    assert found[0] == found[1] == found[2]


@pytest.mark.parametrize(("kind", "fields"), FIELDS.values(), ids=FIELDS)
def test_field__of_a_sample_does_not_depend_on_its_batch(kind, fields):
    mine, _, theta, more = problem(kind, fields, 9)
    part = {name: a[4:6] for name, a in more.items()}
    with on(HostDevice()):
        whole, alone = everything(mine, theta, more, PER_SAMPLE), everything(mine, theta, part, PER_SAMPLE)
        before = bits(more.values())
        everything(mine, theta, more)
    assert bits([a[4:6] for a in whole]) == bits(alone)
    assert bits(more.values()) == before


@pytest.mark.parametrize("order", [0, 1])
@pytest.mark.parametrize("shape", [(1, 1, 1, 1), (2, 3, 5, 4), (3, 4, 1, 7)])
def test_upsample__is_the_oracle_s(shape, order):
    """Jets have one more axis; each coefficient goes its own way."""
    (N, H, W, C), jet = shape, (order + 1,) * (order > 0)
    x, dy = normals(1, (*shape, *jet), np.float64), normals(2, (N, 2 * H, 2 * W, C, *jet), np.float64)
    y, dx = np.empty_like(dy), np.empty_like(x)
    with on(HostDevice()):
        steps.upsample_apply(*shape, x, y, np.float64, order)
        steps.upsample_apply_back(*shape, dy, dx, np.float64, order)
    for k in np.ndindex(*jet):
        at = (..., *k)
        assert np.array_equal(y[at], ebm_ref.layers.upsample_forward(x[at]))
        assert np.abs(dx[at] - ebm_ref.layers.upsample_backward(dy[at])).max() < 1e-14


class Frozen(HostDevice):
    """A device on which nothing may be allocated or waited for."""

    def refuse(self, *args):
        raise AssertionError("a recorded pass allocates and waits for nothing")

    array = empty = put = get = refuse


@pytest.mark.parametrize(("kind", "fields"), FIELDS.values(), ids=FIELDS)
def test_launch_field__is_the_public_call(kind, fields):
    mine, _, theta, more = problem(kind, fields, 6)
    with on(HostDevice()):
        want, given = mine.field(theta, more["x"]), mine.adopt_theta(theta, np.float32)
        space = mine.field_space(6, np.float32)
    found = np.empty_like(want)
    with on(Frozen()):
        for x in (more["v"], more["x"]):
            mine.launch_field(given, x, found, space)
    assert bits([found]) == bits([want])


@pytest.mark.parametrize("activation", ["relu", "leaky_relu"])
def test_field__of_a_kinked_activation_has_first_derivatives_only(activation):
    kind, fields = FIELDS["two sizes"]
    mine, oracle, theta, more = problem(kind, fields | {"activation": activation}, 3, np.float64)
    with on(HostDevice()):
        got = everything(mine, theta, more, tuple(METHODS)[:-1])
        with pytest.raises(SmoothnessError, match=f"field_grad_theta_along .*{activation}"):
            mine.field_grad_theta_along(theta, *(more[n] for n in "xghv"))
    for a, b in zip(got, everything(oracle, theta, more, tuple(METHODS)[:-1]), strict=True):
        assert np.abs(a - b).max() < 1e-12 * max(1.0, np.abs(b).max())


def test_field__refuses_bad_input():
    mine, _, theta, more = problem(*FIELDS["mlp wide"], 3)
    x, v, g, h = (more[n] for n in "xvgh")
    with on(HostDevice()):
        with pytest.raises(ShapeError, match="g: expected"):
            mine.field_vjp(theta, x, v)
        with pytest.raises(DTypeError, match="h: expected x's float32"):
            mine.field_grad_theta_along(theta, x, g, h.astype(np.float64), v)
        with pytest.raises(NonFiniteError, match="g: "):
            mine.field_grad_theta(theta, x, g * np.float32(np.inf))
        with pytest.raises(DTypeError, match="theta: expected a dict"):
            mine.field(list(theta.values()), x)


# ------------------------------------------------------------------------------------------- the energy on one


@pytest.mark.parametrize("head", HEADS)
@pytest.mark.parametrize("name", ["mlp", "two sizes", "three sizes"])
def test_field_energy__matches_ref_in_double(name, head):
    kind, fields = FIELDS[name]
    field, oracle, theta, more = problem(kind, fields, 5, np.float64)
    mine, oracle = cupy_raw.FieldEnergy(field, head), ebm_ref.FieldEnergy(oracle, head)
    x, v, w = more["x"], more["v"], normals(3, 5, np.float64)
    calls = (("energy_and_grad_x", ()), ("grad_theta", (w,)), ("hvp", (v,)), ("grad_theta_along", (v,)))
    for method, args in calls:
        with on(HostDevice()):
            got = flat(getattr(mine, method)(theta, x, *args))
        for a, b in zip(got, flat(getattr(oracle, method)(theta, x, *args)), strict=True):
            assert np.abs(a - b).max() < 1e-11 * max(1.0, np.abs(b).max()), method


def test_field_energy__wants_a_field_of_its_own_backend():
    with pytest.raises(DTypeError, match="field: expected a field of cupy_raw, found ebm_ref"):
        cupy_raw.FieldEnergy(ebm_ref.MLPField((2,)))


@pytest.mark.parametrize("head", HEADS)
def test_langevin_run__of_a_field_energy_is_the_oracle_s_chain(head):
    kind, fields = FIELDS["mlp"]
    field, oracle, theta, more = problem(kind, fields, 4, np.float64)
    update = SGLD(0.1, 0.1, order="noise_first")
    with on(HostDevice()):
        energy = cupy_raw.FieldEnergy(field, head)
        got, info = cupy_raw.langevin_run(energy, theta, more["x"], 3, update, 5, path="layers")
    want, oracle_info = ebm_ref.langevin_run(ebm_ref.FieldEnergy(oracle, head), theta, more["x"], 3, update, 5)
    assert np.abs(got - want).max() < 1e-12 and np.abs(info.energy - oracle_info.energy).max() < 1e-12


# ---------------------------------------------------------------------------------------- under the checkers


def launch_all(build):
    for kind, fields in FIELDS.values():
        mine, _, theta, more = problem(kind, fields, 3)
        with on(HostDevice(build)):
            everything(mine, theta, more)
            for head in HEADS[mine.out_shape != mine.shape :]:
                energy = cupy_raw.FieldEnergy(mine, head)
                energy.grad_theta(theta, more["x"], np.ones(3, np.float32))
                energy.hvp(theta, more["x"], more["v"])


def test_field__has_no_races():
    """Nor a read of what was never written; and every kernel is launched."""
    launch_all("race")
    assert {name for file, name in launched() if file == "field.cu"} == {*kernel_names("field.cu")}


def test_field__stays_in_its_arrays():
    here = f"import sys; sys.path.insert(0, {str(Path(__file__).parent)!r})\n"
    done = run_in_asan(["-c", here + "import test_cupy_raw_field as t; t.launch_all('asan'); print('all')"], 400)
    assert done.stdout.strip() == "all", done.stderr
