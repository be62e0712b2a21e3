"""langevin_run of the CUDA backend on the host device: its paths, any energy, edges, refusals."""

from dataclasses import dataclass

import numpy as np
import pytest
from chain_nets import cast, net, run, start_of, theta_of, worst

import ebm_ref
from ebm_fast import cupy_raw
from ebm_fast.cupy_raw.device import on
from ebm_fast.verify.host_build import host_device, launched
from ebm_ref import SGLD, ULA
from ebm_ref.contracts import DTypeError, NonFiniteError, RangeError, ShapeError

ORDERS = ("gradient_first", "noise_first")


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("name", ["residual", "mlp_norm"])
def test_langevin_run__paths_agree(name, order):
    energy, update = net(name), SGLD(0.1, 0.1, clip_norm=0.5, box=(-2.0, 2.0), order=order)
    theta, x0 = theta_of(energy), start_of(energy, 4)
    runs = {path: run(energy, theta, x0, 3, update, 6, 2, path=path) for path in ("auto", "chain", "layers")}
    assert np.array_equal(runs["auto"][0], runs["chain"][0])
    x, info = runs["layers"]
    assert worst(runs["chain"][0], x) < 1e-12 and worst(runs["chain"][1].energy, info.energy) < 1e-12
    assert worst(runs["chain"][1].grad_norm, info.grad_norm) < 1e-12


def test_langevin_run__takes_the_deep_network_by_layers():
    fields = {"shape": (8, 8, 3), "channels": (4, 8), "blocks": (1, 1), "max_groups": 2}
    energy, update = cupy_raw.DeepConvEnergy(**fields), SGLD(0.1, 0.05)
    theta, x0 = theta_of(energy), start_of(energy, 2)
    before = launched().get(("chain.cu", "chain_run"), 0)
    got, info = run(energy, theta, x0, 2, update, 6)
    assert launched().get(("chain.cu", "chain_run"), 0) == before
    wanted, oracle = ebm_ref.langevin_run(ebm_ref.DeepConvEnergy(**fields), theta, x0, 2, update, 6)
    assert worst(got, wanted) < 1e-12 and worst(info.energy, oracle.energy) < 1e-12
    with pytest.raises(RangeError, match="path: chain runs .* found DeepConvEnergy"):
        run(energy, theta, x0, 2, update, 6, path="chain")


@dataclass
class Keeper:
    """A user's energy |x|^2 / 2 that keeps what it is handed, and answers E in float64."""

    shape: tuple = (3,)

    def __post_init__(self):
        self.seen = []

    def energy_and_grad_x(self, theta, x):
        self.seen.append((x, x.copy()))
        return 0.5 * np.sum(x.astype(np.float64) ** 2, axis=1), x


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_langevin_run__runs_any_energy(order, dtype):
    energy, update, x0 = Keeper(), SGLD(0.1, 0.2, order=order), start_of(Keeper(), 5, dtype)
    start = x0.copy()
    got, info = run(energy, {}, x0, 4, update, 3, 9)
    wanted, oracle = ebm_ref.langevin_run(Keeper(), {}, x0, 4, update, 3, 9)
    assert got.dtype == info.energy.dtype == dtype and worst(got, wanted) < (1e-6 if dtype == np.float32 else 1e-14)
    assert worst(info.energy, oracle.energy) < 1e-6 and np.array_equal(x0, start)
    assert all(np.array_equal(kept, copy) for kept, copy in energy.seen)  # what it was handed stays what it was
    with pytest.raises(RangeError, match="path: layers runs .* found Keeper"):
        run(energy, {}, x0, 4, update, 3, path="layers")


def test_langevin_run__calls_an_energy_that_a_user_derived():
    class Doubled(cupy_raw.MLPEnergy):
        def energy_and_grad_x(self, theta, x):
            E, g = super().energy_and_grad_x(theta, x)
            return 2 * E, 2 * g

    energy = Doubled((2,), (4,))
    theta, x0 = theta_of(energy), start_of(energy, 3)
    got, _ = run(energy, theta, x0, 2, ULA(0.1), 1)
    plain, _ = run(cupy_raw.MLPEnergy((2,), (4,)), theta, x0, 2, SGLD(0.1, 0.1**0.5), 1)
    assert worst(got, plain) < 1e-12
    with pytest.raises(RangeError, match="path: chain runs .* found Doubled"):
        run(energy, theta, x0, 2, ULA(0.1), 1, path="chain")


@pytest.mark.parametrize("path", ["chain", "layers"])
@pytest.mark.parametrize("N, K", [(3, 0), (0, 2), (0, 0)])
def test_langevin_run__nothing_to_do(N, K, path):
    energy = net("mlp_relu")
    x0 = start_of(energy, N)
    got, info = run(energy, theta_of(energy), x0, K, ULA(0.1), 1, path=path)
    assert np.array_equal(got, x0) and got is not x0
    assert info.energy.shape == info.grad_norm.shape == (K, N)
    assert info.alive.shape == (N,) and info.alive.dtype == bool and info.alive.all() and info.nonfinite == 0


def test_langevin_run__takes_ids_of_host_and_device_and_the_last_step():
    energy, x0 = net("mlp_relu"), start_of(net("mlp_relu"), 3)
    theta, dev = theta_of(energy), host_device()
    ids = np.array([5, 2**32 - 1, 0])
    wanted, _ = ebm_ref.langevin_run(net("mlp_relu", ebm_ref), theta, x0, 2, ULA(0.1), 1, 2**32 - 2, ids)
    for chains in (ids, ids.astype(np.uint32), dev.put(ids.astype(np.uint32))):
        with on(dev):
            got, _ = cupy_raw.langevin_run(energy, theta, x0, 2, ULA(0.1), 1, 2**32 - 2, chains)
        assert worst(got, wanted) < 1e-12


REFUSED = {
    "x0": ({"x0": [1.0]}, DTypeError),
    "shape": ({"x0": np.ones((2, 4))}, ShapeError),
    "nan": ({"x0": np.full((2, 5), np.nan)}, NonFiniteError),
    "K": ({"K": -1}, RangeError),
    "step": ({"step": 2**32 - 1}, RangeError),
    "update": ({"update": 0.1}, DTypeError),
    "chains": ({"chains": np.arange(3)}, ShapeError),
    "theta": ({"theta": {}}, ShapeError),
    "path": ({"path": "fast"}, RangeError),
}


@pytest.mark.parametrize("what", REFUSED)
def test_langevin_run__refuses(what):
    energy = net("mlp_relu")
    args = {"energy": energy, "theta": theta_of(energy), "x0": start_of(energy, 2), "K": 2, "update": ULA(0.1)}
    changed, error = REFUSED[what]
    with pytest.raises(error, match=next(iter(changed))):
        run(**(args | {"seed": 0} | changed))


@pytest.mark.parametrize("path", ["chain", "layers"])
def test_langevin_run__refuses_theta_of_another_dtype(path):
    energy = net("mlp_relu")
    with pytest.raises(DTypeError, match="theta"):
        run(energy, cast(theta_of(energy), np.float32), start_of(energy, 2), 1, ULA(0.1), 0, path=path)
