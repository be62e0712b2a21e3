"""The persistent chain on the host device: single steps from the oracle's states, noise, bits, dead chains."""

import re

import numpy as np
import pytest
from chain_nets import NETS, cast, net, run, start_of, theta_of, worst

import ebm_ref
from ebm_fast import cupy_raw
from ebm_fast.cupy_raw import chain, chain_network, chain_plan
from ebm_fast.cupy_raw.device import SHARED, on
from ebm_fast.cupy_raw.source import sources
from ebm_fast.verify.host_build import access_lint, host_device
from ebm_ref import SGLD, ULA
from ebm_ref.contracts import RangeError

BUDGET = {np.float32: 1e-5, np.float64: 1e-12}  # gpu.md's for fp32, and for a test of logic
every_real = pytest.mark.parametrize("dtype", [np.float32, np.float64])
BIG = 2.0**20  # a step beside which x is nothing: x' = -BIG g


@every_real
@pytest.mark.parametrize("name", NETS)
def test_chain__matches_ref_step_by_step(name, dtype):
    """From each of the oracle's states, E, g, |g| and the next state, one step at a time."""
    energy, N = net(name), 1 if name.startswith("cnn") else 3
    path = "layers" if name == "cnn32x3" and dtype == np.float64 else "chain"  # 260,544 bytes in double
    theta, x = theta_of(energy), start_of(energy, N)
    update, oracle = SGLD(0.05, 0.1), net(name, ebm_ref)
    for step in range(2):
        x = x.astype(dtype).astype(np.float64)
        state, args = x.astype(dtype), (cast(theta, dtype), x.astype(dtype), 1)
        lent = cast(args[0], np.float64)
        E, g = oracle.energy_and_grad_x(lent, x)
        far, info = run(energy, *args, SGLD(BIG, 0.0), 5, step, path=path)
        assert worst((state.astype(np.float64) - far) / BIG, g) < BUDGET[dtype]
        assert worst(info.energy[0], E) < BUDGET[dtype]
        assert worst(info.grad_norm[0], np.linalg.norm(g.reshape(N, -1), axis=1)) < BUDGET[dtype]
        got, info = run(energy, *args, update, 5, step, path=path)
        x, wanted = ebm_ref.langevin_run(oracle, lent, x, 1, update, 5, step)
        assert worst(got, x) < BUDGET[dtype]
        assert info.alive.all() and info.nonfinite == 0 == wanted.nonfinite


UPDATES = {
    "ula": ULA(0.02),
    "clip": SGLD(0.3, 0.1, clip=0.01),
    "clip_norm": SGLD(0.3, 0.1, clip_norm=0.05),
    "both": SGLD(0.3, 0.1, clip=0.02, clip_norm=0.05, box=(-0.5, 0.4)),
    "noise_first": SGLD(0.3, 0.1, order="noise_first"),
    "noise_first_box": SGLD(0.3, 2.0, clip=0.02, clip_norm=0.05, box=(-0.5, 0.4), order="noise_first"),
    "still": SGLD(0.0, 0.0),
}


@every_real
@pytest.mark.parametrize("name", ["odd", "mlp_norm"])
@pytest.mark.parametrize("how", UPDATES)
def test_chain__keeps_the_order_of_a_step(how, name, dtype):
    energy, ids = net(name), np.array([7, 2**32 - 1, 3, 4, 5])
    theta, x0 = theta_of(energy, dtype), start_of(energy, 5, dtype)
    args = (3, UPDATES[how], 2**40 + 3, 2**32 - 3, ids, 9)
    got, info = run(energy, theta, x0, *args, path="chain")
    wanted, oracle = ebm_ref.langevin_run(net(name, ebm_ref), cast(theta, np.float64), x0.astype(np.float64), *args)
    for mine, theirs in ((got, wanted), (info.energy, oracle.energy), (info.grad_norm, oracle.grad_norm)):
        assert mine.dtype == dtype and mine.shape == theirs.shape and worst(mine, theirs) < 3 * BUDGET[dtype]


@every_real
@pytest.mark.parametrize("name", ["mlp", "mlp_relu", "odd", "cnn28"])
def test_chain__draws_the_oracles_normals(name, dtype):
    """From 0 with eta = 0 and sigma = 1 the next state is the noise itself; D is no multiple of 4 in mlp and odd.

    The bar in float32 is 1e-7 of the noise by the 2-norm; 1e-6 for one normal, of which one unit in the last place of
    a normal above 4 is nearly half. In float64 it is 1e-14 for one normal.
    """
    energy, ids = net(name), np.array([9, 2, 70000])
    x0 = np.zeros((3, *energy.shape), dtype)
    for order in ("gradient_first", "noise_first"):
        update, theta = SGLD(0.0, 1.0, order=order), theta_of(energy, dtype)
        xi, _ = run(energy, theta, x0, 1, update, 2**50 + 1, 77, ids, path="chain")
        wanted = ebm_ref.noise_normal(2**50 + 1, 7, 77, ids, x0[0].size, dtype).reshape(x0.shape)
        far = np.linalg.norm(xi - wanted) / np.linalg.norm(wanted)
        assert far < (1e-7 if dtype == np.float32 else 1e-15)
        assert np.abs(xi - wanted).max() < (1e-6 if dtype == np.float32 else 1e-14)


@pytest.mark.parametrize("name", ["residual", "mlp_norm", "valid"])
def test_chain__keeps_its_bits_however_it_is_split(name):
    """Batch, steps, chains of a block and the order of threads: none changes a bit."""
    energy, ids = net(name), np.arange(20, 27)
    theta, x0 = theta_of(energy, np.float32), start_of(energy, 7, np.float32)
    update = SGLD(0.2, 0.1, order="noise_first", clip_norm=0.3)
    whole, info = run(energy, theta, x0, 3, update, 8, 100, ids)

    def same(part, records, at=slice(None), rows=slice(None)):
        assert np.array_equal(part, whole[at])
        assert np.array_equal(records.energy, info.energy[rows, at])
        assert np.array_equal(records.grad_norm, info.grad_norm[rows, at])

    for at in (slice(0, 1), slice(1, 4), slice(4, 7)):
        same(*run(energy, theta, x0[at], 3, update, 8, 100, ids[at]), at)
    half, _ = run(energy, theta, x0, 1, update, 8, 100, ids)
    same(*run(energy, theta, half, 2, update, 8, 101, ids), rows=slice(1, 3))
    for each in (2, 4, 7):
        for order in ("forward", "reverse", "random"):
            same(*run(energy, theta, x0, 3, update, 8, 100, ids, order=order, processors=-(-7 // each)))


@pytest.mark.parametrize("order", ["gradient_first", "noise_first"])
def test_chain__stops_what_is_not_finite_and_nothing_else(order):
    """Chains 0 and 3 overflow in the energy, chain 5 in the state that the step would reach."""
    energy, dtype = net("mlp_relu"), np.float32
    theta, x0 = theta_of(energy, dtype), start_of(energy, 6, dtype)
    x0[[0, 3]] = 3e38
    x0[5, 1] = 3.4028e38 if order == "noise_first" else 1e30
    update = SGLD(1e9 if order == "gradient_first" else 0.1, 0.1 if order == "gradient_first" else 1e36, order=order)
    got, info = run(energy, theta, x0, 3, update, 1, path="chain")
    with np.errstate(all="ignore"):
        wanted, oracle = ebm_ref.langevin_run(net("mlp_relu", ebm_ref), theta, x0, 3, update, 1)
    assert np.array_equal(info.alive, oracle.alive) and info.nonfinite == oracle.nonfinite
    assert 2 <= info.nonfinite < 6
    assert np.array_equal(got[~info.alive], wanted[~oracle.alive])
    assert np.allclose(got, wanted, rtol=1e-4)
    assert np.allclose(info.energy, oracle.energy, rtol=1e-4, equal_nan=True)


def test_chain__stops_in_the_jitter_and_is_judged_where_it_was():
    """Noise of 3e38 passes the largest float32 in some chains: these keep x, and E is taken there."""
    energy, dtype = net("mlp_relu"), np.float32
    theta, x0 = theta_of(energy, dtype), start_of(energy, 12, dtype)
    update = SGLD(0.1, 3e38, order="noise_first")
    got, info = run(energy, theta, x0, 1, update, 1, path="chain")
    with np.errstate(all="ignore"):
        wanted, oracle = ebm_ref.langevin_run(net("mlp_relu", ebm_ref), theta, x0, 1, update, 1)
    judged = np.isfinite(oracle.energy[0])
    assert judged.any() and np.array_equal(info.alive, oracle.alive)
    assert np.array_equal(got[~info.alive], x0[~info.alive]) and np.allclose(got, wanted, rtol=1e-4)
    assert np.allclose(info.energy, oracle.energy, rtol=1e-4, equal_nan=True)


@pytest.mark.parametrize("name", ["odd", "residual", "strides", "mlp_norm"])
@every_real
def test_chain__runs_clean_in_the_race_build(name, dtype):
    energy = net(name)
    x0 = start_of(energy, 3, dtype)
    x0[1] = np.finfo(dtype).max  # a chain that stops
    update = SGLD(0.1, 0.1, clip_norm=0.1, order="noise_first")
    got, info = run(energy, theta_of(energy, dtype), x0, 2, update, 1, build="race", processors=2)
    assert np.isfinite(got).all() and list(info.alive) == [True, False, True]


def test_chain__says_what_does_not_fit():
    big = cupy_raw.ConvEnergy((40, 40, 1), channels=(32,), strides=(1,))
    theta, x0 = theta_of(big, np.float32), start_of(big, 1, np.float32)
    said = rf'path: a chain of this network needs \d+ bytes .*float32, and a block has {SHARED}; path="layers" works'
    for path in ("auto", "chain"):
        with pytest.raises(RangeError, match=said):
            run(big, theta, x0, 1, ULA(0.1), 0, path=path)
    got, _ = run(big, theta, x0, 1, ULA(0.1), 0, path="layers")
    assert got.shape == x0.shape


def test_chain__takes_strides_beyond_the_image():
    """There a chain has as many classes of pixels as pixels; by the stride there would be 1.6e9."""
    fields = {"shape": (2, 3, 1), "channels": (4, 2), "strides": (3, 40_000), "residual": True, "max_groups": 2}
    energy, oracle = cupy_raw.ConvEnergy(**fields), ebm_ref.ConvEnergy(**fields)
    assert max(op.get("stride", 0) for op in chain_network.plan(energy, False).ops) <= 3
    theta, x0 = theta_of(energy), start_of(energy, 2)
    got, _ = run(energy, theta, x0, 2, ULA(0.1), 1, path="chain")
    assert worst(got, ebm_ref.langevin_run(oracle, theta, x0, 2, ULA(0.1), 1)[0]) < 1e-12


def test_chain__refuses_parameters_that_an_int_cannot_count():
    big = cupy_raw.ConvEnergy((1, 1, 8000), channels=(8000,), strides=(1,), kernel=5)
    with on(host_device()), pytest.raises(RangeError, match=r'path: .* fewer than 2\^30; path="layers" works'):
        chain.chains_per_block(chain_network.plan(big, False), 1, np.float32)


@pytest.mark.parametrize("name", ["cnn28", "mlp"])
def test_chain__asks_little_more_of_memory_than_it_must(name):
    """Reads and writes of a warp: banks and sectors within 6% of the fewest possible."""
    energy = net(name)
    theta, x0 = theta_of(energy, np.float32), start_of(energy, 1 if name == "cnn28" else 16, np.float32)
    kernels = access_lint(lambda: cupy_raw.langevin_run(energy, theta, x0, 1, SGLD(0.1, 0.1), 1, path="chain"))
    asked = kernels["chain_run"]
    assert asked["shared"]["passes"] < 1.06 * asked["shared"]["ideal"]
    assert asked["global"]["sectors"] < 1.06 * asked["global"]["ideal"]


# ------------------------------------------------------------------------------------------ the plan


def test_chain_plan__is_the_kernels_table():
    """The names of the table's columns are the members of the structs that read it, in their order."""
    text = sources()["chain_op.cuh"]
    for struct, names in (("ChainOp", chain_plan.FIELDS), ("ChainHead", chain_plan.HEAD)):
        body = re.search(rf"struct {struct} \{{(.*?)\}};", text, re.S)[1]
        assert re.findall(r"\w+", body.replace("int ", "")) == list(names)
    assert re.findall(r"\w+", re.search(r"enum \{ (LINEAR.*?) \}", text)[1]) == list(chain_plan.KINDS)
    numbers = dict(re.findall(r"(\w+) = (\d+)", re.search(r"enum \{ (STEP.*?) \}", sources()["chain_linear.cuh"])[1]))
    assert chain.STAGES == int(numbers["STAGES"]) and chain.RING == 32 * int(numbers["STEP"])
    assert chain.THREADS == int(re.search(r"CHAIN_THREADS = (\d+)", text)[1])


@pytest.mark.parametrize("noise_first", [False, True])
@pytest.mark.parametrize("name", NETS)
def test_chain_plan__gives_no_place_twice(name, noise_first):
    """Values that are needed at one time lie apart, in whole quads, within the chain's memory."""
    plan = chain_network.plan(net(name), noise_first)
    assert plan.stride % 8 == 4 and plan.params % 4 == 0
    for i, value in enumerate(plan.values):
        assert value.offset % 4 == 0 and 0 <= value.offset and value.offset + value.size <= plan.stride
        for other in plan.values[:i]:
            together = other.first <= value.last and value.first <= other.last
            apart = other.offset + other.size <= value.offset or value.offset + value.size <= other.offset
            assert apart or not together
