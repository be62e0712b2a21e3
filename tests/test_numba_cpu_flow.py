"""numba_cpu's descent, couplings and repulsion where the kit's problems end: long runs, chunks, held fields."""

import numpy as np
import pytest
from derivatives import close

import ebm_ref
from ebm_fast import backend, why_not
from ebm_ref import AdamDescent, GradientDescent, LookAheadDescent, NesterovDescent, theta_init
from ebm_ref.contracts import DTypeError, ShapeError

if why_not("numba_cpu"):
    pytest.skip(why_not("numba_cpu"), allow_module_level=True)
FAST = backend("numba_cpu")
N, K = 37, 40
RULES = {
    "gradient": GradientDescent(0.1),
    "nesterov": NesterovDescent(0.05),
    "look-ahead": LookAheadDescent(0.1),
    "adam": AdamDescent(0.05, eps=0.1),
}
EACH = pytest.mark.parametrize("rule", RULES.values(), ids=RULES)
NETS = {
    "mlp": lambda b: b.MLPEnergy((3,), hidden=(16,)),
    "field": lambda b: b.ConvField((4, 4, 2), channels=(4, 8), max_groups=2),
    "field-energy": lambda b: b.FieldEnergy(b.MLPField((3,), hidden=(8, 8)), "norm"),
}


def middle(norms):
    """Between two of them: no decision is close."""
    return float(np.sort(norms)[N // 2 : N // 2 + 2].mean())


def problem(net, dtype=np.float64):
    """The twin, the oracle, theta, x0, and a bound that some samples meet early, some late and some never."""
    fast, ref = NETS[net](FAST), NETS[net](ebm_ref)
    theta = theta_init(ref, 1, dtype)
    x0 = np.random.default_rng(2).normal(size=(N, *ref.shape)).astype(dtype)
    norms = ebm_ref.descent_run(ref, theta, x0, K, RULES["gradient"])[2].grad_norm
    return fast, ref, theta, x0, middle(norms[K // 2])


class Unknown:
    """What descent asks of an energy or a field, and nothing that the backend could recognise."""

    def __init__(self, network):
        self.shape = network.shape
        if hasattr(network, "field_vjp"):
            self.out_shape, self.field = network.out_shape, network.field
        else:
            self.energy_and_grad_x = network.energy_and_grad_x


@EACH
@pytest.mark.parametrize("net", NETS)
def test_descent_run__is_the_oracle_s_path(net, rule, record_property):
    record_property("twin", "numba_cpu")
    fast, ref, theta, x0, g_min = problem(net)
    x, state, info = FAST.descent_run(fast, theta, x0, K, rule, g_min)
    y, after, wanted = ebm_ref.descent_run(ref, theta, x0, K, rule, g_min)
    close(x, y, 1e-9)
    close(info.energy, wanted.energy, 1e-9)
    close(info.grad_norm, wanted.grad_norm, 1e-9)
    assert list(state) == list(after)
    for name, a in after.items():
        close(state[name], a, 1e-9)
    for name in ("stopped", "nfe"):
        assert np.array_equal(info.extra[name], wanted.extra[name])
        assert info.extra[name].dtype == wanted.extra[name].dtype
    assert 0 < info.extra["stopped"].sum() and len(np.unique(info.extra["nfe"])) >= 3


@EACH
@pytest.mark.parametrize("net", NETS)
def test_descent_run__does_not_depend_on_its_chunks(net, rule, monkeypatch):
    """To the bit: chunks of 1, 3 and 8 steps, batches, threads; an unknown energy within rounding."""
    fast, _, theta, x0, g_min = problem(net, np.float32)
    whole = FAST.descent_run(fast, theta, x0, K, rule, g_min)
    part = FAST.descent_run(fast, theta, x0[20:25], K, rule, g_min)
    assert np.array_equal(part[0], whole[0][20:25])
    for chunk, threads in ((1, "1"), (3, "3")):
        monkeypatch.setattr(FAST.descent, "CHUNK", chunk)
        monkeypatch.setenv("EBM_NUM_THREADS", threads)
        again = FAST.descent_run(fast, theta, x0, K, rule, g_min)
        assert np.array_equal(again[0], whole[0]) and np.array_equal(again[2].grad_norm, whole[2].grad_norm)
        assert np.array_equal(again[2].extra["nfe"], whole[2].extra["nfe"])
        assert all(np.array_equal(again[1][name], whole[1][name]) for name in whole[1])
    stranger = FAST.descent_run(Unknown(fast), theta, x0, 6, rule)
    close(stranger[0], FAST.descent_run(fast, theta, x0, 6, rule)[0], 1e-5)


@EACH
def test_descent_run__of_two_runs_is_one(rule):
    fast, _, theta, x0, _ = problem("mlp")
    x, state, _ = FAST.descent_run(fast, theta, x0, 15, rule)
    there, _, _ = FAST.descent_run(fast, theta, x, K - 15, rule, state=state)
    close(there, FAST.descent_run(fast, theta, x0, K, rule)[0], 1e-12)


def test_descent_run__evaluates_the_active_rows_only():
    seen = []

    class Counting(Unknown):
        def __init__(self, network):
            super().__init__(network)
            inner = self.energy_and_grad_x
            self.energy_and_grad_x = lambda theta, x: seen.append(len(x)) or inner(theta, x)

    fast, _, theta, x0, g_min = problem("mlp")
    _, _, info = FAST.descent_run(Counting(fast), theta, x0, K, RULES["gradient"], g_min)
    assert sum(seen) == info.extra["nfe"].sum() < N * K
    runs, run = [], FAST.program.Program.run
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            FAST.program.Program, "run", lambda P, W, inputs, *a: runs.append(len(inputs[0])) or run(P, W, inputs, *a)
        )
        _, _, fused = FAST.descent_run(fast, theta, x0, K, RULES["gradient"], g_min)
        assert len(runs) <= -(-K // FAST.descent.CHUNK) and runs[-1] < runs[0] == N
        assert np.array_equal(fused.extra["nfe"], info.extra["nfe"])
        runs.clear()
        FAST.descent_run(fast, theta, x0, K, RULES["gradient"])
        assert runs == [N]


def test_descent_run__stops_what_is_not_finite_and_nothing_else():
    fast, ref, theta, x0, _ = problem("field-energy")
    sick = x0.copy()
    sick[3] = 1e200
    x, _, info = FAST.descent_run(fast, theta, sick, K, RULES["gradient"])
    assert np.array_equal(x[3], sick[3]) and info.nonfinite == 1 and np.flatnonzero(~info.alive).tolist() == [3]
    assert info.extra["nfe"][3] == 1 and (np.delete(info.extra["nfe"], 3) == K).all()
    close(np.delete(x, 3, 0), np.delete(FAST.descent_run(fast, theta, x0, K, RULES["gradient"])[0], 3, 0), 1e-12)


def test_descent_run__refuses_what_is_not_held():
    """A field of x and a time, one that is not like x, and what is neither an energy nor a field."""
    timed = ebm_ref.TimeField(FAST.MLPField((4,), hidden=(8,), out_channels=3))
    x0 = np.zeros((N, 3))
    narrow = FAST.MLPField((3,), hidden=(8,), out_channels=2)
    for energy, error in ((timed, DTypeError), (narrow, ShapeError), (3, DTypeError)):
        with pytest.raises(error, match="^energy: expected"):
            FAST.descent_run(energy, {}, x0, K, RULES["gradient"])


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

    (_, fast), (trunk, ref) = field_of(FAST), field_of(ebm_ref)
    theta = theta_init(trunk, 1, np.float64)
    x0 = rng.normal(size=(N, 3))
    norms = np.linalg.norm(ref.field(theta, x0), axis=1)
    args = (theta, x0, K, RULES["look-ahead"], middle(norms))
    (x, _, info), (wanted, _, also) = FAST.descent_run(fast, *args), ebm_ref.descent_run(ref, *args)
    close(x, wanted, 1e-10)
    assert np.array_equal(info.extra["nfe"], also.extra["nfe"]) and info.energy.shape == (0, N)


@pytest.mark.parametrize(("dtype", "tol"), [(np.float32, 2e-6), (np.float64, 1e-14)])
@pytest.mark.parametrize("shape", [(1, 1), (129, 3), (67, 28, 28, 1)])
def test_coupling_cost__is_relatively_right_for_any_number_of_threads(shape, dtype, tol, monkeypatch):
    rng = np.random.default_rng(0)
    x0, x1 = (rng.normal(loc=30, size=shape).astype(dtype) for _ in range(2))
    wide = ebm_ref.coupling_cost(x0.astype(np.float64), x1.astype(np.float64))
    found = []
    for threads in ("1", "2", "3"):
        monkeypatch.setenv("EBM_NUM_THREADS", threads)
        found.append(FAST.coupling_cost(x0, x1))
    assert found[0].dtype == dtype and all(np.array_equal(found[0], a) for a in found)
    assert (np.abs(found[0] - wide) <= tol * wide).all()


@pytest.mark.parametrize("ties", [False, True])
def test_coupling_assign__is_the_oracle_s_and_the_least(ties):
    rng = np.random.default_rng(5)
    for B in (1, 2, 6, 7, 90):
        cost = rng.integers(0, 4, (B, B)).astype(float) if ties else rng.normal(size=(B, B))
        idx = FAST.coupling_assign(cost)
        assert np.array_equal(idx, ebm_ref.coupling_assign(cost)) and idx.dtype == np.int64
        if B <= 7:
            rows, least = np.arange(B), ebm_ref.coupling_exact(cost)
            assert np.isclose(cost[rows, idx].sum(), cost[rows, least].sum(), rtol=0, atol=1e-12)


def test_repulsion__is_the_oracle_s_on_large_groups(monkeypatch):
    x = np.random.default_rng(6).normal(loc=100, size=(5, 40, 9, 9)).astype(np.float32)
    W, push = ebm_ref.repulsion(x.astype(np.float64), 0.3, 1.7)
    found = FAST.repulsion(x, 0.3, 1.7)
    monkeypatch.setenv("EBM_NUM_THREADS", "1")
    again = FAST.repulsion(x, 0.3, 1.7)
    assert all(np.array_equal(a, b) and a.dtype == np.float32 for a, b in zip(found, again, strict=True))
    np.testing.assert_allclose(found[0], W, rtol=1e-6)
    close(found[1], push, 1e-6)
