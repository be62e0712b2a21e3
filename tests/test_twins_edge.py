"""What the kit's problems cannot hold: chains at the end of the numbers, and energies written by users."""

from importlib import import_module

import numpy as np
import pytest

import ebm_ref
from ebm_fast import backend, why_not
from ebm_ref.specs import SGLD

pytestmark = pytest.mark.skipif(why_not("numba_cpu") is not None, reason=str(why_not("numba_cpu")))
TWINS = [] if why_not("numba_cpu") else [backend("numba_cpu"), import_module("ebm_fast.verify.numba_typed")]
BOTH, EACH = (
    pytest.mark.parametrize("module", modules, ids=lambda module: module.__name__.rpartition(".")[2])
    for modules in ([ebm_ref, *TWINS], TWINS)
)
KINDS = pytest.mark.parametrize("dtype", [np.float32, np.float64])


class Slope:
    """E(x) = 0 with the gradient that it is told: no derivative of anything, but it reaches every number."""

    shape = (2,)

    def __init__(self, slope):
        self.slope = slope

    def theta_shapes(self):
        return {}

    def energy_and_grad_x(self, theta, x):
        return np.zeros(len(x), x.dtype), np.full_like(x, self.slope)


@BOTH
@pytest.mark.parametrize(("dtype", "size"), [(np.float32, 1e30), (np.float32, 1e-30), (np.float64, 1e200)])
def test_langevin_step__clips_a_norm_whose_square_is_no_number(module, dtype, size):
    x, g = np.zeros((20, 3), dtype), np.full((20, 3), size, dtype)
    moved = module.langevin_step(x, g, x, 1.0, 0.0, clip_norm=size / 4)
    assert np.allclose(moved / size, -0.25 / np.sqrt(3), rtol=1e-6)
    _, info = module.langevin_run(Slope(size), {}, x[:, :2], 1, SGLD(0.0, 0.0), seed=0)
    assert np.allclose(info.grad_norm / size, np.sqrt(2), rtol=1e-6) and info.alive.all()


@BOTH
def test_langevin_run__a_bound_beyond_the_numbers_bounds_nothing(module):
    """1e300 is no float32."""
    x0, (wide, plain) = np.zeros((3, 2), np.float32), (SGLD(0.1, 0.0, 1e300, 1e300, (-1e300, 1e300)), SGLD(0.1, 0.0))
    x, info = module.langevin_run(Slope(2.0), {}, x0, 2, wide, seed=0)
    assert info.alive.all() and np.array_equal(x, module.langevin_run(Slope(2.0), {}, x0, 2, plain, seed=0)[0])


@BOTH
@pytest.mark.parametrize("order", ["gradient_first", "noise_first"])
def test_langevin_run__the_box_bounds_a_step_that_overflows(module, order):
    update = SGLD(1e10, 0.1, box=(-1.0, 1.0), order=order)
    x, info = module.langevin_run(Slope(1e30), {}, np.zeros((3, 2), np.float32), 2, update, seed=0)
    assert (x == -1).all() and info.alive.all() and info.nonfinite == 0


class Strict(Slope):
    """E(x) = x[0], and like every energy of the library it refuses what is not finite."""

    def energy(self, theta, x):
        assert np.isfinite(x).all()
        return x[:, 0]

    def energy_and_grad_x(self, theta, x):
        return self.energy(theta, x), np.full_like(x, self.slope)


@BOTH
@pytest.mark.parametrize("network", [False, True])
def test_langevin_run__a_jitter_that_overflows_stops_the_chain_where_it_was(module, network):
    energy = module.MLPEnergy((2,)) if network else Strict(0.0)
    theta, x0 = ebm_ref.theta_init(energy, 0), np.ones((40, 2), np.float32)
    x0[::2] = 0.5
    x, info = module.langevin_run(energy, theta, x0, 2, SGLD(0.0, 3.2e38, order="noise_first"), seed=3)
    assert 0 < info.nonfinite < 40
    dead_at_once = (info.energy[0] == energy.energy(theta, x0)) & ~info.alive
    assert dead_at_once.any() and (x[dead_at_once] == x0[dead_at_once]).all()
    assert np.isfinite(x).all() and (info.energy[1][dead_at_once] == info.energy[0][dead_at_once]).all()


@BOTH
def test_langevin_run__an_energy_may_keep_what_it_was_handed(module):
    class Keeps(Slope):
        def energy_and_grad_x(self, theta, x):
            kept.append(x)
            return super().energy_and_grad_x(theta, x)

    kept = []
    module.langevin_run(Keeps(1.0), {}, np.zeros((2, 2)), 3, SGLD(0.25, 0.0), seed=0)
    assert [float(x[1, 1]) for x in kept] == [0, -0.25, -0.5]


@BOTH
def test_langevin_run__an_analytic_energy_that_overflows_stops_without_a_warning(module):
    energy = ebm_ref.DoubleWellEnergy((1,))
    x0 = np.array([[1e3], [1.0]], np.float32)
    x, info = module.langevin_run(energy, ebm_ref.theta_init(energy, 0), x0, 8, SGLD(1.0, 0.0), seed=0)
    assert info.alive.tolist() == [False, True] and info.nonfinite == 1 and np.isfinite(x).all()


@BOTH
def test_langevin_run__asks_the_energy_that_a_user_derived(module):
    class Shifted(module.MLPEnergy):
        def energy_and_grad_x(self, theta, x):
            E, g = super().energy_and_grad_x(theta, x)
            return E + 100, 0 * g

    energy, x0 = Shifted((2,), hidden=(3,)), np.ones((2, 2))
    x, info = module.langevin_run(energy, ebm_ref.theta_init(energy, 0, np.float64), x0, 1, SGLD(0.5, 0.0), seed=0)
    assert (x == x0).all() and (info.energy > 50).all()


@BOTH
@pytest.mark.parametrize("policy", ["fifo", "reservoir"])
def test_buffer_push__refuses_a_counter_that_the_buffer_contradicts(module, policy):
    with pytest.raises(ebm_ref.contracts.RangeError, match="ptr"):
        module.buffer_push(np.zeros((4, 1)), 2, 7, np.ones((1, 1)), policy, bits=np.zeros(1, np.uint32))


@BOTH
def test_buffer_push__reservoir_counts_beyond_32_bits(module):
    slots, bits = np.zeros((4, 1)), np.array([2**32 - 1, 1, 3], np.uint32)
    x = np.arange(1.0, 4.0)[:, None]
    assert module.buffer_push(slots, 4, 2**32 + 1, x, "reservoir", bits=bits) == (4, 2**32 + 4)
    assert slots[:, 0].tolist() == [0, 2, 0, 3]  # (bits (c + 1)) >> 32 = too far, 1, 3


@BOTH
@pytest.mark.parametrize("wrong", [{"seed": -1}, {"stream": 2**32}, {"chains": np.zeros(2)}, {"chains": [0, 1]}])
def test_langevin_run__refuses_a_bad_address_without_steps(module, wrong):
    energy = module.MLPEnergy((2,), hidden=(3,))
    args = {"theta": ebm_ref.theta_init(energy, 0, np.float64), "x0": np.zeros((2, 2)), "K": 0, "seed": 0}
    with pytest.raises(ebm_ref.contracts.EbmError, match=next(iter(wrong))):
        module.langevin_run(energy, update=SGLD(0.1, 0.1), **(args | wrong))


@BOTH
def test_langevin_run__counts_steps_beyond_the_type_of_the_first(module):
    args = (Slope(1.0), {}, np.zeros((2, 2)), 3, SGLD(0.1, 0.1), 5)
    small, _ = module.langevin_run(*args, step=np.uint8(254))
    assert (small == module.langevin_run(*args, step=254)[0]).all()


@BOTH
def test_noise_permutation__of_nothing_is_empty(module):
    order = module.noise_permutation(1, 2, 3, 0)
    assert order.shape == (0,) and order.dtype == np.int64


@EACH
@pytest.mark.parametrize("kind", ["silu", "gelu", "softplus", "tanh"])
@KINDS
def test_mlp_energy__activations_have_the_tails_of_the_oracle(module, kind, dtype):
    size = np.concatenate([10.0 ** np.arange(-30, 36), np.linspace(0.1, 30, 60)])
    x, fields = np.concatenate([size, -size])[:, None].astype(dtype), {"hidden": (1,), "activation": kind}
    twin, oracle = module.MLPEnergy((1,), **fields), ebm_ref.MLPEnergy((1,), **fields)
    theta = {name: (np.ones if name.endswith("w") else np.zeros)(s, dtype) for name, s in twin.theta_shapes().items()}
    unit = 16 * np.finfo(dtype).eps
    with np.errstate(over="ignore"):
        wanted = oracle.energy(theta, x), oracle.grad_x(theta, x), oracle.hvp(theta, x, np.ones_like(x))
    found = twin.energy(theta, x), twin.grad_x(theta, x), twin.hvp(theta, x, np.ones_like(x))
    for got, want in zip(found, wanted, strict=True):
        assert np.allclose(got, want, rtol=unit, atol=unit)
    if kind == "softplus":  # e^x for x << 0: no digit is lost, however small it is
        low = (x[:, 0] < -2) & (x[:, 0] > -80)
        assert np.allclose(found[0][low], wanted[0][low], rtol=unit, atol=0)
