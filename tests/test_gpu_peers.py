"""The peers of the benchmark compute the oracle's function: energies, gradients and steps, on the CPU."""

import importlib
import importlib.util

import numpy as np
import pytest

import ebm_ref
from bench.gpu.functions import SMALL, Exact, function_table
from bench.gpu.nets import NETS, fixture, forward_flops, nets, relative_error, starts_of
from bench.table import relative_error as largest_error
from ebm_ref.specs import SGLD

BUDGET = 1e-5
ENERGIES = [
    ebm_ref.ConvEnergy(shape=(28, 28, 1)),
    ebm_ref.ConvEnergy(shape=(32, 32, 3)),
    ebm_ref.ConvEnergy(
        shape=(9, 8, 2), channels=(4, 6), strides=(2, 1), residual=True, max_groups=2, pool="sum", activation="gelu"
    ),
    ebm_ref.ConvEnergy(
        shape=(9, 8, 2), channels=(4, 6), strides=(2, 1), padding="VALID", max_groups=2, activation="leaky_relu"
    ),
    ebm_ref.ConvEnergy(shape=(5, 7, 1), channels=(3,), strides=(3,), kernel=4, activation="tanh"),
    ebm_ref.MLPEnergy(shape=(2,)),
    ebm_ref.MLPEnergy(shape=(3,), hidden=(8, 5), layer_norm=True, activation="softplus"),
    ebm_ref.MLPEnergy(shape=(2, 2), hidden=(4,), activation="relu"),
    ebm_ref.DeepConvEnergy(shape=(32, 32, 3)),
    ebm_ref.DeepConvEnergy(shape=(9, 8, 2), channels=(4, 6), blocks=(1, 2), stem_stride=1, max_groups=2, pool="sum"),
]
NAMES = [f"{type(energy).__name__}{i}" for i, energy in enumerate(ENERGIES)]


def load(library):
    """The peer's module; a skip that says why where its library is absent."""
    if importlib.util.find_spec(library) is None:
        pytest.skip(f"{library} is not installed: the peers of the GPU benchmark are not checked here")
    return importlib.import_module(f"bench.gpu.{library}_peer")


def problem(energy):
    """theta, x in float32; E, g of the oracle in float64."""
    theta = ebm_ref.theta_init(energy, 3, np.float32)
    for i, name in enumerate(theta):  # no bias at 0, no gamma at 1: each must be seen
        n = ebm_ref.noise_normal(5, 9, 0, np.array([i]), theta[name].size).reshape(theta[name].shape)
        theta[name] = (theta[name] + 0.1 * n).astype(np.float32)
    x = ebm_ref.noise_normal(4, 9, 1, np.arange(3), int(np.prod(energy.shape))).reshape(3, *energy.shape)
    x = x.astype(np.float32)
    E, g = energy.energy_and_grad_x({k: v.astype(np.float64) for k, v in theta.items()}, x.astype(np.float64))
    return theta, x, E, g


@pytest.mark.parametrize("layout", ["channels_last", "contiguous"])
@pytest.mark.parametrize("energy", ENERGIES, ids=NAMES)
def test_torch_peer__matches_ref(energy, layout):
    T = load("torch")
    theta, x, E, g = problem(energy)
    params, put = T.torch_theta(theta, layout), T.torch_samples(x, layout)
    assert relative_error(T.torch_energy(energy, params, put).cpu().numpy(), E) < BUDGET
    assert relative_error(T.torch_numpy(T.torch_grad(energy, params, put)), g) < BUDGET


@pytest.mark.parametrize("energy", ENERGIES, ids=NAMES)
def test_jax_peer__matches_ref(energy):
    J = load("jax")
    theta, x, E, g = problem(energy)
    params = J.jax_theta(theta)
    found = J.jax.jit(lambda params, x: (J.jax_energy(energy, params, x), J.jax_grad(energy, params, x)))(params, x)
    assert relative_error(np.asarray(found[0]), E) < BUDGET
    assert relative_error(np.asarray(found[1]), g) < BUDGET


STEPPED = ENERGIES[2], ENERGIES[5]


@pytest.mark.parametrize("energy", STEPPED, ids=["conv", "mlp"])
def test_torch_peer__steps_are_the_equation(energy):
    T = load("torch")
    theta, x, *_ = problem(energy)
    update = SGLD(eta=0.1, sigma=0.0, box=(-1.0, 1.0))
    exact = ebm_ref.langevin_run(energy, theta, x, 3, update, 0)[0]
    step = T.torch_step(energy, T.torch_theta(theta, "contiguous"), update.box)
    numbers = T.torch_scalar(0.1), T.torch_scalar(0.0)
    assert (
        relative_error(T.torch_numpy(T.torch_run(step, T.torch_samples(x, "contiguous"), *numbers, 3)), exact) < BUDGET
    )
    still = T.torch_samples(np.zeros((500, *energy.shape), np.float32), "contiguous")
    noisy = T.torch_numpy(step(still, T.torch_scalar(0.0), T.torch_scalar(0.2)))
    assert noisy.std() == pytest.approx(0.2, rel=0.1)


@pytest.mark.parametrize("energy", STEPPED, ids=["conv", "mlp"])
def test_jax_peer__steps_are_the_equation(energy):
    J = load("jax")
    theta, x, *_ = problem(energy)
    update = SGLD(eta=0.1, sigma=0.0, box=(-1.0, 1.0))
    exact = ebm_ref.langevin_run(energy, theta, x, 3, update, 0)[0]
    run = J.jax_run(energy, J.jax_theta(theta), update.box, 3)
    assert relative_error(np.asarray(run(x, J.jax.random.key(0), 0.1, 0.0)), exact) < BUDGET
    noisy = np.asarray(run(np.zeros((500, *energy.shape), np.float32), J.jax.random.key(0), 0.0, 0.2))
    assert noisy.std() == pytest.approx(0.2 * 3**0.5, rel=0.1)


@pytest.mark.parametrize("name", [function.name for function in function_table(None)])
def test_torch_functions__match_ref(name):
    load("torch")
    T = importlib.import_module("bench.gpu.torch_functions")
    function = next(f for f in function_table(T) if f.name == name)
    found = function.torch(T, SMALL)()
    found = [T.to_numpy(x) for x in (found if isinstance(found, tuple) else (found,))]
    if name in T.OWN:
        assert found[0].shape == (SMALL, 784) and found[0].std() == pytest.approx(1.0, abs=0.02)
        return
    exact = function.make(Exact(), lambda x: x.astype(np.float64) if x.dtype == np.float32 else x, SMALL)()
    exact = exact if isinstance(exact, tuple) else (exact,)
    assert [x.shape for x in found] == [x.shape for x in exact]
    assert all(largest_error(a, b) < BUDGET for a, b in zip(found, exact, strict=True))


def test_fixture__is_kept(tmp_path):
    made, again = fixture(NETS[2], tmp_path), fixture(NETS[2], tmp_path)
    assert all(np.array_equal(made[key], again[key]) for key in ("x", "E", "g"))
    spec = NETS[2].energy(ebm_ref)
    theta = {name: value.astype(np.float64) for name, value in ebm_ref.theta_init(spec, 7, np.float32).items()}
    assert np.array_equal(made["g"], spec.grad_x(theta, made["x"].astype(np.float64)))
    assert np.array_equal(starts_of(NETS[2], 40)[:16], made["x"]), "more chains, and the first are others"


def counted(energy):
    """FLOP of one forward pass: every multiplication of a matrix product, counted while the oracle runs."""
    total = 0

    class Counting(np.ndarray):
        def __array_ufunc__(self, ufunc, method, *inputs, **options):
            nonlocal total
            plain = [np.asarray(x) for x in inputs]
            if ufunc is np.matmul:
                total += 2 * plain[0].shape[0] * plain[0].shape[1] * plain[1].shape[1]
            return np.asarray(getattr(ufunc, method)(*plain, **options))

    theta = {name: value.view(Counting) for name, value in ebm_ref.theta_init(energy, 0, np.float64).items()}
    energy.forward(theta, np.ones((1, *energy.shape)))
    return total


@pytest.mark.parametrize("energy", ENERGIES, ids=NAMES)
def test_forward_flops__are_the_products_of_the_oracle(energy):
    assert forward_flops(energy) == counted(energy)


def test_nets__every_small_case_comes_first():
    assert [n for _, n, _ in nets(quick=True)] == [128, 128, 4096, 128]
    names = [(net.name, n) for net, n, _ in nets(quick=False)]
    assert len(names) == len(set(names)) == sum(len(net.sizes) for net in NETS)
