"""numba_cpu's DeepConvEnergy where the kit's problems end: whole tiles and a part, shared products, fused chains."""

import numpy as np
import pytest
from derivatives import close, random_theta

import ebm_ref
from ebm_fast import backend, why_not
from ebm_ref.specs import SGLD

if why_not("numba_cpu"):
    pytest.skip(why_not("numba_cpu"), allow_module_level=True)
FAST = backend("numba_cpu")
NETS = {  # skips that convolve for stride, or for channels alone, and skips that are the input
    "wide": {"shape": (9, 8, 3), "channels": (8, 16), "blocks": (2, 1), "max_groups": 4},
    "narrow": {"shape": (5, 7, 1), "channels": (3, 2, 5), "blocks": (1, 1, 2), "stem_stride": 1, "max_groups": 1}
    | {"activation": "tanh", "pool": "sum"},
    "one pixel": {"shape": (2, 2, 1), "channels": (4,), "blocks": (2,), "max_groups": 2, "activation": "softplus"},
}
EACH = pytest.mark.parametrize("net", NETS)
N = 37  # whole tiles of either precision, and a part


def problem(net, dtype):
    """(the twin, the oracle, theta, x, v, w)."""
    rng = np.random.default_rng(11)
    fast, ref = (b.DeepConvEnergy(**NETS[net]) for b in (FAST, ebm_ref))
    theta = random_theta(ref, rng, dtype)
    x, v = (rng.normal(size=(N, *ref.shape)).astype(dtype) for _ in range(2))
    return fast, ref, theta, x, v, rng.normal(size=N).astype(dtype)


@EACH
@pytest.mark.parametrize(("dtype", "tol"), [(np.float64, 1e-11), (np.float32, 1e-3)])
def test_deep_conv_energy__matches_ref_on_whole_tiles(net, dtype, tol, record_property):
    record_property("twin", "numba_cpu")
    fast, ref, theta, x, v, w = problem(net, dtype)
    wide = {name: a.astype(np.float64) for name, a in theta.items()}, *(a.astype(np.float64) for a in (x, v, w))
    found, wanted = (
        {"E": e.energy(t, x), "dx": e.grad_x(t, x), "hvp": e.hvp(t, x, v)}
        | e.grad_theta(t, x, w)
        | {f"along {name}": a for name, a in e.grad_theta_along(t, x, v).items()}
        for e, (t, x, v, w) in ((fast, (theta, x, v, w)), (ref, wide))
    )
    assert list(found) == list(wanted)
    for name, a in found.items():
        assert a.dtype == dtype and a.shape == wanted[name].shape, name
        close(a, wanted[name], tol)


@EACH
@pytest.mark.parametrize("order", ["gradient_first", "noise_first"])
def test_langevin_run__of_a_deep_network_is_one_program_and_the_oracle_s_chain(net, order, monkeypatch):
    class Wrapped:  # the protocol, and nothing that the backend could recognise
        shape = NETS[net]["shape"]

        def __init__(self, energy):
            self.energy_and_grad_x = energy.energy_and_grad_x

    fast, ref, theta, x, _, _ = problem(net, np.float64)
    args = (theta, x, 4, SGLD(0.05, 0.1, clip=0.5, box=(-2.0, 2.0), order=order), 3, 7, np.arange(N) + 2)
    wanted, also = ebm_ref.langevin_run(ref, *args)
    plain, _ = FAST.langevin_run(Wrapped(fast), *args)
    runs, run = [], FAST.program.Program.run
    monkeypatch.setattr(FAST.program.Program, "run", lambda *args: runs.append(1) or run(*args))
    found, info = FAST.langevin_run(fast, *args)
    assert len(runs) == 1 and np.array_equal(found, plain) and info.alive.all()
    close(found, wanted, 1e-10)
    close(info.energy, also.energy, 1e-10)
    close(info.grad_norm, also.grad_norm, 1e-10)


@EACH
def test_deep_conv_energy__does_not_depend_on_the_batch_nor_on_threads(net, monkeypatch):
    fast, _, theta, x, v, w = problem(net, np.float32)
    whole, grads = fast.grad_x(theta, x), fast.grad_theta(theta, x, w) | {"hvp": fast.hvp(theta, x, v)}
    for n in (1, 5, 20):
        assert np.array_equal(fast.grad_x(theta, x[30 : 30 + n]), whole[30 : 30 + n])
    monkeypatch.setenv("EBM_NUM_THREADS", "3")
    again = fast.grad_theta(theta, x, w) | {"hvp": fast.hvp(theta, x, v)}
    assert all(np.array_equal(grads[name], again[name]) for name in grads)
