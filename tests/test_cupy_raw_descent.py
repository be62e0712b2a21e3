"""descent_run of cupy_raw on the host build: paths, chunks, who is evaluated, what stops. The rest is the kit's."""

import importlib
from pathlib import Path

import numpy as np
import pytest
from strict_device import StrictDevice

import ebm_ref
from ebm_fast import cupy_raw
from ebm_fast.cupy_raw.device import on
from ebm_fast.cupy_raw.source import kernel_names
from ebm_fast.verify import judge
from ebm_fast.verify.case import export
from ebm_fast.verify.host_asan import run_in_asan
from ebm_fast.verify.host_build import launched
from ebm_fast.verify.host_device import HostDevice
from ebm_fast.verify.host_facing import host_facing
from ebm_ref.contracts import DTypeError, ShapeError
from ebm_ref.descent_specs import AdamDescent, GradientDescent, LookAheadDescent, NesterovDescent

RUN = importlib.import_module("ebm_fast.cupy_raw.descent_run")  # the file, whose name its function has too
K, N = 30, 13
RULES = {
    "gradient": GradientDescent(0.05),
    "nesterov": NesterovDescent(0.05, 0.7),
    "look-ahead": LookAheadDescent(0.05),
    "adam": AdamDescent(0.05, eps=0.1),
}
EACH = pytest.mark.parametrize("rule", RULES.values(), ids=RULES)
NETS = ("mlp", "conv", "field", "conv-field", "field-energy")


def nets(b):
    image = {"channels": (4, 6), "max_groups": 2}
    return {
        "mlp": lambda: b.MLPEnergy((3, 2), hidden=(9,)),
        "conv": lambda: b.ConvEnergy((5, 4, 1), strides=(2, 1), **image),
        "field": lambda: b.MLPField((3,), hidden=(9,)),
        "conv-field": lambda: b.ConvField((4, 6, 2), **image),
        "field-energy": lambda: b.FieldEnergy(b.MLPField((7,), hidden=(9,)), "norm"),
    }


def problem(name, dtype=np.float64):
    """The network, the oracle's, theta, x0, and a g_min that some samples meet at once, some later, some never."""
    mine, ref = (nets(b)[name]() for b in (cupy_raw, ebm_ref))
    theta, rng = ebm_ref.theta_init(ref, 2, np.float64), np.random.default_rng(5)
    x0 = rng.standard_normal((N, *ref.shape))
    _, _, info = ebm_ref.descent_run(ref, theta, x0, 12, RULES["gradient"])
    return mine, ref, {n: a.astype(dtype) for n, a in theta.items()}, x0.astype(dtype), middle(info.grad_norm.ravel())


def middle(norms):
    """Between two of them: no decision is close."""
    half = len(norms) // 2
    return float(np.sort(norms)[half : half + 2].mean())


def run(*args, device=None, **options):
    with on(device or HostDevice()):
        return cupy_raw.descent_run(*args, **options)


def close(a, b, tol):
    assert a.shape == b.shape and a.dtype == b.dtype
    assert np.abs(a - b).max(initial=0) <= tol * max(1.0, np.abs(b).max(initial=0))


def same(found, wanted):
    (x, state, info), (y, after, other) = found, wanted
    for a, b in ((x, y), (info.energy, other.energy), (info.grad_norm, other.grad_norm), (info.alive, other.alive)):
        assert a.tobytes() == b.tobytes()
    assert all(np.array_equal(state[name], after[name]) for name in after)
    assert all(np.array_equal(info.extra[name], other.extra[name]) for name in ("stopped", "nfe"))


class Unknown:
    """A network behind an object of no backend, which notes how many samples it is asked about."""

    def __init__(self, network):
        self.shape, self.seen = network.shape, []
        if hasattr(network, "energy_and_grad_x"):
            self.energy_and_grad_x = lambda theta, x: self.seen.append(len(x)) or network.energy_and_grad_x(theta, x)
        else:
            self.out_shape = network.out_shape
            self.field = lambda theta, x: self.seen.append(len(x)) or network.field(theta, x)


@EACH
@pytest.mark.parametrize("net", NETS)
def test_descent_run__is_the_oracle_s_path(net, rule):
    mine, ref, theta, x0, g_min = problem(net)
    start = x0.copy()
    x, state, info = run(mine, theta, x0, K, rule, g_min)
    y, after, wanted = ebm_ref.descent_run(ref, theta, x0, K, rule, g_min)
    close(x, y, 1e-9)
    close(info.energy, wanted.energy, 1e-9)
    close(info.grad_norm, wanted.grad_norm, 1e-9)
    assert list(state) == list(after) and np.array_equal(x0, start) and info.nonfinite == wanted.nonfinite == 0
    for name, a in after.items():
        close(state[name], a, 1e-9)
    for name in ("stopped", "nfe"):
        assert np.array_equal(info.extra[name], wanted.extra[name])
        assert info.extra[name].dtype == wanted.extra[name].dtype
    assert 0 < info.extra["stopped"].sum() and len(np.unique(info.extra["nfe"])) >= 3


@EACH
@pytest.mark.parametrize("net", NETS)
def test_descent_run__does_not_depend_on_chunks_batches_or_the_order_of_threads(net, rule, monkeypatch):
    mine, _, theta, x0, g_min = problem(net, np.float32)
    whole = run(mine, theta, x0, K, rule, g_min)
    part = run(mine, theta, x0[4:9], K, rule, g_min)
    assert np.array_equal(part[0], whole[0][4:9]) and np.array_equal(part[2].grad_norm, whole[2].grad_norm[:, 4:9])
    for chunk, order in ((1, "reverse"), (5, "random"), (K, "forward")):
        monkeypatch.setattr(RUN, "CHUNK", chunk)
        same(run(mine, theta, x0, K, rule, g_min, device=HostDevice(order=order, seed=3)), whole)
    same(run(Unknown(mine), theta, x0, K, rule, g_min), whole)


@EACH
def test_descent_run__of_two_runs_is_one(rule):
    mine, _, theta, x0, _ = problem("field")
    x, state, _ = run(mine, theta, x0, 11, rule)
    held = {name: a.copy() for name, a in state.items()}
    there, _, _ = run(mine, theta, x, K - 11, rule, state=state)
    close(there, run(mine, theta, x0, K, rule)[0], 1e-12)
    assert all(np.array_equal(state[name], a) for name, a in held.items())  # left alone


class Sizes(HostDevice):
    """A device that notes how many samples each step of a network had."""

    def __init__(self):
        super().__init__()
        self.steps, self.looks = [], 0

    def launch(self, kernel, grid, block, args, shared):
        if kernel.name == "descent_move":
            self.steps.append(len(args[3]))
        super().launch(kernel, grid, block, args, shared)

    def get(self, x):
        self.looks += 1
        return super().get(x)


def test_descent_run__evaluates_the_active_rows_only():
    mine, _, theta, x0, g_min = problem("mlp")
    unknown = Unknown(mine)
    _, _, info = run(unknown, theta, x0, K, RULES["gradient"], g_min)
    assert sum(unknown.seen) == info.extra["nfe"].sum() < N * K
    device = Sizes()
    _, _, fused = run(mine, theta, x0, K, RULES["gradient"], g_min, device=device)
    left = int((fused.extra["nfe"] > RUN.CHUNK).sum())
    assert device.steps == [N] * RUN.CHUNK + [left] * (K - RUN.CHUNK)
    assert 0 < left < N and np.array_equal(fused.extra["nfe"], info.extra["nfe"])
    device = Sizes()
    run(mine, theta, x0, K, RULES["gradient"], device=device)
    assert device.steps == [N] * K and device.looks == 1  # at the end, for the count of what stopped


@pytest.mark.parametrize("net", ["field-energy", "mlp"])
def test_descent_run__ends_when_all_have_stopped(net):
    mine, _, theta, x0, _ = problem(net)
    for energy in (mine, Unknown(mine)):
        device = Sizes()
        x, state, info = run(energy, theta, x0, 1000, RULES["nesterov"], 1e9, device=device)
        assert len(device.steps) <= RUN.CHUNK and device.looks == 3  # at two flags after a chunk, at one in the end
        assert (info.extra["nfe"] == 1).all() and info.extra["stopped"].all()
        assert np.array_equal(x, x0) and not state["velocity"].any()
        assert (info.grad_norm == info.grad_norm[0]).all() and (info.energy == info.energy[0]).all()


@pytest.mark.parametrize("wrap", [lambda e: e, Unknown], ids=["own", "unknown"])
@EACH
def test_descent_run__stops_what_is_not_finite_and_nothing_else(rule, wrap):
    mine, ref, theta, x0, _ = problem("field-energy")
    sick = x0.copy()
    sick[3] = 1e200
    if wrap is Unknown:
        mine = Unknown(ref)
    (x, state, info), well = run(mine, theta, sick, K, rule), run(mine, theta, x0, K, rule)
    assert np.array_equal(x[3], sick[3]) and info.nonfinite == 1 and np.flatnonzero(~info.alive).tolist() == [3]
    assert info.extra["nfe"][3] == 1 and (np.delete(info.extra["nfe"], 3) == K).all()
    close(np.delete(x, 3, 0), np.delete(well[0], 3, 0), 1e-12)
    assert not any(state[name][3].any() for name in state if name != "t")


def test_descent_run__keeps_x_where_the_point_ahead_is_not_finite():
    mine, _, theta, x0, _ = problem("field")
    velocity = np.zeros_like(x0)
    velocity[2, 1] = np.inf
    x, state, info = run(mine, theta, x0, 2, RULES["nesterov"], state={"velocity": velocity})
    assert np.array_equal(x[2], x0[2]) and not state["velocity"][2].any()
    assert np.flatnonzero(~info.alive).tolist() == [2]


@pytest.mark.parametrize("held", ["labels", "times", "guided"])
def test_descent_run__of_a_field_that_is_held_at_something_for_each_sample(held):
    """The oracle's wrappers on a trunk of this backend; samples that have stopped take what they are held at along."""
    rng = np.random.default_rng(4)
    y, t = rng.integers(0, 3, N), rng.uniform(size=N)

    def field_of(b):
        if held == "times":
            trunk = b.MLPField((4,), hidden=(8,), out_channels=3)
            return trunk, ebm_ref.TimeField(trunk).at(t)
        trunk = b.MLPField((6,), hidden=(8,), out_channels=3)
        labelled = ebm_ref.LabelField(trunk, 3)
        return trunk, labelled.at(y) if held == "labels" else ebm_ref.GuidedField(labelled, y, 1.5)

    (_, fast), (trunk, ref) = field_of(cupy_raw), field_of(ebm_ref)
    theta, x0 = ebm_ref.theta_init(trunk, 1, np.float64), rng.normal(size=(N, 3))
    g_min = middle(np.linalg.norm(ref.field(theta, x0), axis=1))
    args = (theta, x0, K, RULES["look-ahead"], g_min)
    (x, _, info), (wanted, _, also) = run(fast, *args), ebm_ref.descent_run(ref, *args)
    close(x, wanted, 1e-10)
    assert np.array_equal(info.extra["nfe"], also.extra["nfe"]) and info.energy.shape == (0, N)


def test_descent_run__keeps_apart_what_an_energy_is_handed_and_answers():
    """An energy that answers with its own x, and keeps it."""

    class Keeper:
        shape = (3,)

        def energy_and_grad_x(self, theta, x):
            seen.append((x, x.copy()))
            return 0.5 * np.sum(x.astype(np.float64) ** 2, axis=1), x

    seen, x0 = [], np.random.default_rng(1).standard_normal((5, 3)).astype(np.float32)
    for rule in RULES.values():
        x, _, info = run(Keeper(), {}, x0, 4, rule)
        close(x, ebm_ref.descent_run(Keeper(), {}, x0, 4, rule)[0], 1e-6)
        assert info.energy.dtype == np.float32
    assert all(np.array_equal(kept, copy) for kept, copy in seen)


@pytest.mark.parametrize("D", [1, 4, 130, 1500, 4100])
@EACH
def test_descent_run__of_long_and_short_rows(rule, D):
    """A thread of a quad, a row of a warp, of a block, and rows with more quads than threads."""

    class Bowl:
        shape = (D,)

        def energy_and_grad_x(self, theta, x):
            return 0.5 * np.sum(x * x, axis=1), x.copy()

    x0 = np.random.default_rng(2).standard_normal((4, D))
    g_min = float(np.sort(np.linalg.norm(x0, axis=1))[1]) * 0.97
    x, state, info = run(Bowl(), {}, x0, 5, rule, g_min)
    y, after, want = ebm_ref.descent_run(Bowl(), {}, x0, 5, rule, g_min)
    close(x, y, 1e-12)
    assert np.array_equal(info.extra["nfe"], want.extra["nfe"])
    for name in after:
        close(state[name], after[name], 1e-12)


def test_descent_run__refuses_bad_input():
    mine, _, theta, x0, _ = problem("field")
    rule = RULES["nesterov"]
    with on(HostDevice()):
        with pytest.raises(DTypeError, match="energy: expected an energy or a field"):
            cupy_raw.descent_run(None, theta, x0, 1, rule)
        with pytest.raises(ShapeError, match="energy: expected a field with f like x"):
            cupy_raw.descent_run(cupy_raw.MLPField((3,), out_channels=2), theta, x0, 1, rule)
        with pytest.raises(DTypeError, match="rule: expected one of GradientDescent"):
            cupy_raw.descent_run(mine, theta, x0, 1, None)
        with pytest.raises(ShapeError, match=r"state: expected the names \['velocity'\]"):
            cupy_raw.descent_run(mine, theta, x0, 1, rule, state={})
        with pytest.raises(DTypeError, match=r"state\['velocity'\]: expected x0's float64"):
            cupy_raw.descent_run(mine, theta, x0, 1, rule, state={"velocity": x0.astype(np.float32)})


@pytest.mark.parametrize("function", ["descent_run", "field_energy", "conv_field", "coupling_cost", "repulsion"])
def test_host_facing__takes_the_kit_s_cases_to_a_card(function):
    """The kit's cases and laws, on arrays that are not NumPy's; energies and fields of no backend among them."""
    with on(StrictDevice()):
        facing = host_facing(cupy_raw)
        fn = getattr(facing, export(function))
        found = judge.search(function, np.float32, lambda case: judge.judge(case, fn, facing, np.float32), 12, 1)
    assert found.failure is None, found.failure


# ---------------------------------------------------------------------------------------- under the checkers


def launch_all(build):
    for net in NETS:
        mine, _, theta, x0, g_min = problem(net, np.float32)
        for rule in RULES.values():
            run(mine, theta, x0, 3, rule, g_min, device=HostDevice(build))


def test_descent_run__has_no_races():
    """Nor a read of what was never written; and every kernel is launched."""
    launch_all("race")
    assert {name for file, name in launched() if file == "descent.cu"} == {*kernel_names("descent.cu")}


def test_descent_run__stays_in_its_arrays():
    here = f"import sys; sys.path.insert(0, {str(Path(__file__).parent)!r})\n"
    done = run_in_asan(["-c", here + "import test_cupy_raw_descent as t; t.launch_all('asan'); print('all')"], 400)
    assert done.stdout.strip() == "all", done.stderr
