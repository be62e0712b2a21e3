"""verify.check_energy: energies of any dtype or library pass, and a broken property is named."""

import numpy as np
import pytest

import ebm_ref
from ebm_fast import verify


def quadratic(x):
    return 0.5 * (x**2).sum(axis=1)


def identity(x):
    return x.copy()


def test_check_energy__passes_an_energy_of_any_dtype():
    for dtype in (np.float32, np.float64):
        report = verify.check_energy(quadratic, identity, shape=(3,), hvp=lambda x, v: v.copy(), dtype=dtype)
        assert report.status == "pass", str(report)
        assert [row.function for row in report.rows][-1] == "hvp_is_the_slope"


@pytest.mark.parametrize(
    ("energy", "grad_x", "fails"),
    [
        (quadratic, lambda x: -x, "grad_x_is_the_slope"),
        (quadratic, lambda x: x / len(x), "grad_x_is_per_sample"),
        (quadratic, lambda x: 1.01 * x, "grad_x_is_the_slope"),
        (quadratic, lambda x: x[:, :1], "grad_x_is_per_sample"),
        (lambda x: quadratic(x)[:, None], identity, "energy_is_per_sample"),
        (lambda x: quadratic(x).sum(), identity, "energy_is_per_sample"),
        (lambda x: quadratic(x) - quadratic(x).mean(), identity, "energy_is_per_sample"),
        (lambda x: quadratic(x - x.mean(axis=0)), identity, "energy_is_per_sample"),
        (lambda x: quadratic(x) + np.random.default_rng().normal(), identity, "results_repeat"),
        (quadratic, lambda x: np.multiply(x, 1, out=x) * np.nan, "grad_x_is_per_sample"),
        (lambda x: 1 / 0, identity, "energy_is_per_sample"),
    ],
)
def test_check_energy__names_the_broken_property(energy, grad_x, fails):
    report = verify.check_energy(energy, grad_x, shape=(3,))
    assert report.status == "fail"
    assert fails in [row.function for row in report.rows if row.status == "fail"]
    assert len(report.case) in (1, 2, 3, 5, 8)


def test_check_energy__sees_a_changed_input():
    def energy(x):
        x += 1
        return quadratic(x - 1)

    report = verify.check_energy(energy, identity, shape=(3,))
    assert report.status == "fail"


def test_check_energy__theta_and_second_derivatives():
    energy = ebm_ref.MLPEnergy(shape=(2, 2), hidden=(5,))
    rng = np.random.default_rng(0)
    theta = {name: rng.standard_normal(shape) for name, shape in energy.theta_shapes().items()}
    parts = {"shape": (2, 2), "theta": theta}
    report = verify.check_energy(energy.energy, energy.grad_x, hvp=energy.hvp, grad_theta=energy.grad_theta, **parts)
    assert report.status == "pass", str(report)

    def flipped(theta, x, w):
        return {name: -grad for name, grad in energy.grad_theta(theta, x, w).items()}

    report = verify.check_energy(energy.energy, energy.grad_x, grad_theta=flipped, **parts)
    assert [row.function for row in report.rows if row.status == "fail"] == ["grad_theta_is_the_slope"]

    def doubled(theta, x, v):
        return 2 * energy.hvp(theta, x, v)

    report = verify.check_energy(energy.energy, energy.grad_x, hvp=doubled, **parts)
    assert [row.function for row in report.rows if row.status == "fail"] == ["hvp_is_the_slope"]


class Tensor:
    """As much of another library's array as leaves through DLPack: no __array__, and detach and cpu as in PyTorch."""

    __array__ = None

    def __init__(self, values, tracked=True):
        self._values, self._tracked = values, tracked

    def __dlpack__(self, **keywords):
        if self._tracked:
            raise BufferError("cannot export a tensor that is part of a graph")
        return self._values.__dlpack__(**keywords)

    def __dlpack_device__(self):
        return self._values.__dlpack_device__()

    def detach(self):
        return Tensor(self._values, tracked=False)

    def cpu(self):
        return self

    def energy(self):
        return Tensor(quadratic(self._values))

    def grad(self, sign):
        return Tensor(sign * self._values)


def test_check_energy__takes_tensors_of_another_library():
    def run(sign):
        return verify.check_energy(lambda t: t.energy(), lambda t: t.grad(sign), shape=(3,), to_array=Tensor)

    assert run(1.0).status == "pass", str(run(1.0))
    assert run(-1.0).status == "fail"


def test_check_energy__runs_on_pytorch():
    torch = pytest.importorskip("torch")
    model = torch.nn.Sequential(torch.nn.Linear(4, 8), torch.nn.SiLU(), torch.nn.Linear(8, 1)).double()

    def energy(x):
        return model(x)[:, 0]

    def grad_x(x):
        x = x.clone().requires_grad_(True)
        return torch.autograd.grad(energy(x).sum(), x, create_graph=True)[0]

    assert verify.check_energy(energy, grad_x, shape=(4,), to_array=torch.from_dlpack).status == "pass"
    report = verify.check_energy(energy, lambda x: -grad_x(x), shape=(4,), to_array=torch.from_dlpack)
    assert report.status == "fail"


def quadratic_of(a):
    return lambda x: 0.5 * a * (x**2).sum(axis=1)


@pytest.mark.parametrize(
    ("dtype", "size", "factor", "offset"),
    [(np.float64, 784, 1.001, 0.0), (np.float64, 3, 1.001, 1e6), (np.float32, 7, 1.01, 0.0), (np.float64, 3, 2.0, 1e9)],
)
def test_check_energy__sees_a_gradient_that_is_a_little_wrong(dtype, size, factor, offset):
    def nearly(x):
        g = x.copy()
        g[:, 0] *= dtype(factor)
        return g if size > 7 else x * dtype(factor)

    def shifted(x):
        return quadratic_of(1.0)(x) + dtype(offset)

    assert verify.check_energy(shifted, nearly, shape=(size,), dtype=dtype).status == "fail"
    assert verify.check_energy(shifted, lambda x: x, shape=(size,), dtype=dtype).status == "pass"


def test_check_energy__names_another_dtype():
    report = verify.check_energy(quadratic_of(1.0), lambda x: x.astype(np.float32), shape=(3,))
    assert "grad_x is in the dtype of x" in report.why


def test_check_energy__passes_a_kink():
    assert verify.check_energy(lambda x: np.abs(x).sum(axis=1), np.sign, shape=(3,)).status == "pass"


def test_check_energy__takes_the_parameters_of_pytorch():
    torch = pytest.importorskip("torch")
    theta = {"a": torch.nn.Parameter(torch.arange(1.0, 4.0))}

    def energy(theta, x):
        return 0.5 * (theta["a"] * x**2).sum(dim=1)

    def grad_theta(theta, x, w):
        return {"a": 0.5 * (w[:, None] * x**2).sum(dim=0)}

    parts = {"grad_theta": grad_theta, "theta": theta, "shape": (3,), "to_array": torch.from_dlpack}
    assert verify.check_energy(energy, lambda theta, x: theta["a"] * x, **parts).status == "pass"
