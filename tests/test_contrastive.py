"""contrastive: the equation and its gradient, exact expectations, and any array that answers NumPy's calls."""

from __future__ import annotations

from math import sqrt
from types import SimpleNamespace

import numpy as np
import pytest
from derivatives import check_theta_gradient, random_theta
from duck import Duck
from gaussian import Bowl, bowl_theta

from ebm_ref import noise, samplers
from ebm_ref.contracts import Buffer, DTypeError, NonFiniteError, RangeError, ShapeError, Stream
from ebm_ref.energies import ConvEnergy, MLPEnergy
from ebm_ref.noise import noise_index, noise_normal, noise_uniform
from ebm_ref.objectives import cd_step, contrastive, pcd_step
from ebm_ref.samplers import buffer_start, langevin_run
from ebm_ref.specs import SGLD, ULA

BOWL = Bowl()
BACKEND = SimpleNamespace(**{name: getattr(samplers, name) for name in samplers.__all__})
for _name in ("noise_bits", "noise_uniform", "noise_normal"):
    setattr(BACKEND, _name, getattr(noise, _name))


def normals(stream, *shape, dtype=np.float64):
    return noise_normal(13, stream, 0, np.arange(shape[0]), int(np.prod(shape[1:])), dtype).reshape(shape)


# ------------------------------------------------------------------------------------- the equation


@pytest.mark.parametrize("alpha", [0.0, 0.1, 2.0])
def test_contrastive__is_the_equation(alpha):
    theta, x_pos, x_neg = bowl_theta(1.5, bias=-0.7), normals(1, 5, 1), 2 * normals(2, 3, 1)
    loss, _, info = contrastive(BOWL, theta, x_pos, x_neg, alpha)
    e_pos = [0.75 * float(v) ** 2 - 0.7 for v in x_pos[:, 0]]
    e_neg = [0.75 * float(v) ** 2 - 0.7 for v in x_neg[:, 0]]
    squares = sum(e**2 for e in e_pos) / 5 + sum(e**2 for e in e_neg) / 3
    assert np.isclose(loss, sum(e_pos) / 5 - sum(e_neg) / 3 + alpha * squares, rtol=1e-13)
    assert np.isclose(info["energy_pos"], sum(e_pos) / 5) and np.isclose(info["energy_neg"], sum(e_neg) / 3)
    assert np.isclose(info["gap"], sum(e_neg) / 3 - sum(e_pos) / 5)


def test_contrastive__squares_each_energy_not_their_mean():
    x = np.array([[1.0], [-1.0]])
    theta = bowl_theta(2.0, bias=-1.0)  # E = x^2 - 1: 0 and 0
    far = np.array([[sqrt(3.0)], [0.0]])  # E = 2 and -1: mean 1/2, mean square 5/2
    loss, _, _ = contrastive(BOWL, theta, x, far, 1.0)
    assert np.isclose(loss, 0 - 0.5 + 2.5)
    loss, _, _ = contrastive(BOWL, theta, far, x, 1.0)  # and the same on the other sign
    assert np.isclose(loss, 0.5 - 0 + 2.5)


@pytest.mark.parametrize("alpha", [0.0, 0.3])
def test_contrastive__is_the_derivative(alpha):
    energy, theta = Bowl((3,)), bowl_theta(0.5, 1.0, 2.0, bias=0.4)
    x_pos, x_neg = normals(1, 6, 3), 1.5 * normals(2, 4, 3)
    _, grads, _ = contrastive(energy, theta, x_pos, x_neg, alpha)
    h = 1e-5
    for name, d in (("lam", 0), ("lam", 1), ("lam", 2), ("bias", 0)):
        losses = []
        for sign in (1, -1):
            near = {key: value.copy() for key, value in theta.items()}
            near[name][d] += sign * h
            losses.append(contrastive(energy, near, x_pos, x_neg, alpha)[0])
        assert np.isclose(grads[name][d], (losses[0] - losses[1]) / (2 * h), rtol=1e-8, atol=1e-9)


@pytest.mark.parametrize("alpha", [0.0, 0.3])
@pytest.mark.parametrize("energy", [MLPEnergy((3,), (5,)), ConvEnergy((6, 5, 2), channels=(4, 4), strides=(2, 1))])
def test_contrastive__of_a_network_is_the_derivative(energy, alpha):
    rng = np.random.default_rng(3)
    theta = random_theta(energy, rng)
    x_pos, x_neg = normals(1, 6, *energy.shape), 1.5 * normals(2, 4, *energy.shape)
    grads = contrastive(energy, theta, x_pos, x_neg, alpha)[1]
    assert set(grads) == set(theta)
    check_theta_gradient(lambda t: contrastive(energy, t, x_pos, x_neg, alpha)[0], grads, theta, rng, 1e-8)


def test_contrastive__ignores_a_constant_without_the_regulariser():
    x_pos, x_neg = normals(1, 8, 1), normals(2, 8, 1)
    _, a, _ = contrastive(BOWL, bowl_theta(1.0), x_pos, x_neg, 0.0)
    _, b, _ = contrastive(BOWL, bowl_theta(1.0, bias=5.0), x_pos, x_neg, 0.0)
    assert a["bias"] == b["bias"] == 0.0 and a["lam"] == b["lam"]


def test_contrastive__adds_up_over_parts_of_a_batch():
    theta, x_pos, x_neg = bowl_theta(1.0), normals(1, 6, 1), normals(2, 6, 1)
    loss, grads, _ = contrastive(BOWL, theta, x_pos, x_neg, 0.2)
    halves = [contrastive(BOWL, theta, x_pos[part], x_neg[part], 0.2) for part in (slice(0, 3), slice(3, 6))]
    assert np.isclose(loss, (halves[0][0] + halves[1][0]) / 2, rtol=1e-13)
    assert np.allclose(grads["lam"], (halves[0][1]["lam"] + halves[1][1]["lam"]) / 2, rtol=1e-13)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_cd_step__of_no_steps_is_exactly_zero(dtype):
    energy, x = Bowl((3,)), normals(1, 7, 3, dtype=dtype)
    theta = bowl_theta(0.3, 0.7, 1.9, bias=0.6, dtype=dtype)
    loss, grads, info = cd_step(BACKEND, energy, theta, x, 0, ULA(0.1), 0.0, 0.3, 1, 4)
    assert loss == 0 and info["gap"] == 0
    assert all((grad == 0).all() and grad.dtype == dtype for grad in grads.values())


# -------------------------------------------------------------------------------- the steps' parts


@pytest.mark.parametrize("box", [None, (-0.5, 0.6)])
def test_cd_step__starts_its_chains_at_the_noised_data(box):
    x, theta, update = normals(1, 6, 1), bowl_theta(1.0), SGLD(0.1, 0.2, box=box)
    xi = noise_normal(9, Stream.DATA_NOISE, 5, np.arange(6), 1)
    x_pos = x + 0.3 * xi
    x_pos = x_pos if box is None else np.clip(x_pos, *box)
    x_neg, _ = langevin_run(BOWL, theta, x_pos, 4, update, 9, step=20)
    want = contrastive(BOWL, theta, x_pos, x_neg, 0.1)
    loss, grads, info = cd_step(BACKEND, BOWL, theta, x, 4, update, 0.1, 0.3, 9, 5, box)
    assert loss == want[0] and grads["lam"] == want[1]["lam"] and (info["x_neg"] == x_neg).all()
    assert info["chain"].energy.shape == (4, 6)


@pytest.mark.parametrize("start", ["uniform", "data_noise"])
@pytest.mark.parametrize("policy", Buffer.POLICIES)
def test_pcd_step__is_its_parts_at_their_addresses(start, policy):
    x, theta, update, box = normals(1, 6, 2), bowl_theta(1.0, 2.0), SGLD(0.1, 0.2, box=(-1.0, 2.0)), (-1.0, 2.0)
    energy, chains = Bowl((2,)), np.arange(6)
    buffer = buffer_start(10, (2,), seed=9, box=box, policy=policy, dtype=np.float64)
    slots, (seed, t, K) = buffer.slots.copy(), (9, 3, 4)
    bits = noise.noise_bits(seed, Stream.BUFFER_INDEX, t, chains, 1)[:, 0]
    u = noise_uniform(seed, Stream.BUFFER_MASK, t, chains, 1)[:, 0]
    if start == "uniform":
        fresh = -1 + 3 * noise_uniform(seed, Stream.BUFFER_FRESH, t, chains, 2)
    else:
        fresh = np.clip(x + 0.3 * noise_normal(seed, Stream.BUFFER_FRESH, t, chains, 2), *box)
    idx = noise_index(bits, 10)
    x0 = np.where((u < 0.5)[:, None], fresh, slots[idx])
    x_neg, _ = langevin_run(energy, theta, x0, K, update, seed, step=t * K)
    x_pos = np.clip(x + 0.3 * noise_normal(seed, Stream.DATA_NOISE, t, chains, 2), *box)
    want = contrastive(energy, theta, x_pos, x_neg, 0.1)
    bits = noise.noise_bits(seed, Stream.BUFFER_RESERVOIR, t, chains, 1)[:, 0]
    samplers.buffer_push(slots, 10, 0, x_neg, policy, idx=idx, bits=bits)

    loss, grads, info = pcd_step(BACKEND, energy, theta, x, buffer, K, update, 0.1, 0.3, 0.5, seed, t, box, start)
    assert loss == want[0] and (grads["lam"] == want[1]["lam"]).all()
    assert (info["x_neg"] == x_neg).all() and (info["restart"] == (u < 0.5)).all()
    assert (buffer.slots == slots).all() and buffer.ptr == 6 and buffer.filled == 10


def test_cd_step__leaves_its_arguments_alone():
    x, theta = normals(1, 6, 1), bowl_theta(1.0, bias=0.2)
    before = x.copy()
    cd_step(BACKEND, BOWL, theta, x, 3, ULA(0.1), 0.1, 0.3, 0, 0, (-1.0, 1.0))
    buffer = buffer_start(4, (1,), seed=0, dtype=np.float64)
    pcd_step(BACKEND, BOWL, theta, x, buffer, 3, ULA(0.1), 0.1, 0.3, 0.1, 0, 0, (-1.0, 1.0))
    assert (x == before).all() and theta["lam"] == 1.0 and theta["bias"] == 0.2


def test_contrastive__does_not_hide_what_is_not_finite():
    x = np.array([[1e200], [1.0]])
    with np.errstate(over="ignore", invalid="ignore"):
        loss, _, info = contrastive(BOWL, bowl_theta(1.0), x, x[1:], 0.0)
    assert not np.isfinite(loss) and info["gap"] == -np.inf


@pytest.mark.parametrize(
    ("change", "error", "name"),
    [
        ({"x_pos": np.zeros((0, 1))}, ShapeError, "x_pos"),
        ({"x_neg": np.zeros((2, 2))}, ShapeError, "x_neg"),
        ({"x_neg": np.zeros((2, 1), int)}, DTypeError, "x_neg"),
        ({"alpha": -0.1}, RangeError, "alpha"),
        ({"alpha": np.nan}, RangeError, "alpha"),
    ],
)
def test_contrastive__refuses_wrong_arguments(change, error, name):
    args = {"energy": BOWL, "theta": bowl_theta(1.0), "x_pos": np.ones((2, 1)), "x_neg": np.ones((3, 1)), "alpha": 0.1}
    with pytest.raises(error, match=name):
        contrastive(**(args | change))


def test_pcd_step__refuses_wrong_arguments():
    buffer = buffer_start(4, (1,), seed=0, dtype=np.float64)
    x, theta = np.zeros((2, 1)), bowl_theta(1.0)

    def step(x=x, K=1, sigma_data=0.1, rho=0.1, box=(-1.0, 1.0), start="uniform"):
        return pcd_step(BACKEND, BOWL, theta, x, buffer, K, ULA(0.1), 0.1, sigma_data, rho, 0, 0, box, start)

    for change, error in (
        ({"K": -1}, RangeError),
        ({"sigma_data": -1.0}, RangeError),
        ({"rho": 2.0}, RangeError),
        ({"box": None}, RangeError),
        ({"start": "zeros"}, RangeError),
        ({"x": np.full((2, 1), np.nan)}, NonFiniteError),
    ):
        with pytest.raises(error):
            step(**change)
    with pytest.raises(NonFiniteError, match="^x: "):
        cd_step(BACKEND, BOWL, theta, np.full((2, 1), np.nan), 1, ULA(0.1), 0.1, 0.1, 0, 0)


# ------------------------------------------------------------------- arrays of another library


def test_duck__refuses_silent_conversion():
    x = Duck.of([1.0, 2.0])
    for convert in (np.asarray, float, bool, list, lambda x: x + np.ones(2), lambda x: np.where(np.ones(2), x, x)):
        with pytest.raises(TypeError):
            convert(x)
    assert isinstance(x + 1, Duck) and isinstance(np.mean(x), Duck) and (np.clip(x, 0, 1.5).get() == [1, 1.5]).all()


def test_contrastive__runs_on_any_array_that_answers_numpy():
    theta, x_pos, x_neg = bowl_theta(1.5, bias=0.3), normals(1, 5, 1), normals(2, 3, 1)
    want = contrastive(BOWL, theta, x_pos, x_neg, 0.1)
    ducks = {name: Duck.of(value) for name, value in theta.items()}
    loss, grads, info = contrastive(BOWL, ducks, Duck.of(x_pos), Duck.of(x_neg), 0.1)
    assert loss.get() == want[0] and all((grads[name].get() == want[1][name]).all() for name in theta)
    assert {name: value.get() for name, value in info.items()} == want[2]


def duck_backend():
    """The oracle's functions behind a device: arrays go in and come out as ducks, by explicit copies."""

    def inside(value):
        return value.get() if isinstance(value, Duck) else value

    def noise_on_device(name):
        return lambda *args: Duck.of(getattr(noise, name)(*args))

    def langevin_on_device(energy, theta, x0, K, update, seed, step=0):
        host = {name: inside(value) for name, value in theta.items()}
        x, info = langevin_run(energy, host, inside(x0), K, update, seed, step)
        return Duck.of(x), info

    def draw_on_device(slots, filled, bits, u, fresh, rho):
        return tuple(map(Duck.of, samplers.buffer_draw(*map(inside, (slots, filled, bits, u, fresh, rho)))))

    def push_on_device(slots, filled, ptr, x, policy, idx, bits):
        host = slots.get()
        end = samplers.buffer_push(host, filled, ptr, inside(x), policy, inside(idx), inside(bits))
        slots[...] = Duck.of(host)
        return end

    return SimpleNamespace(
        noise_bits=noise_on_device("noise_bits"),
        noise_uniform=noise_on_device("noise_uniform"),
        noise_normal=noise_on_device("noise_normal"),
        langevin_run=langevin_on_device,
        buffer_draw=draw_on_device,
        buffer_push=push_on_device,
    )


@pytest.mark.parametrize("start", ["uniform", "data_noise"])
def test_pcd_step__runs_on_any_array_that_answers_numpy(start):
    theta, x, box = bowl_theta(1.5), normals(1, 5, 1), (-2.0, 2.0)
    ducks = {name: Duck.of(value) for name, value in theta.items()}
    host = buffer_start(8, (1,), seed=1, box=box, dtype=np.float64)
    device = Buffer(Duck.of(host.slots), host.filled)
    rest = (3, SGLD(0.1, 0.3, box=box), 0.1, 0.2, 0.5, 7, 2, box, start)
    want = pcd_step(BACKEND, BOWL, theta, x, host, *rest)
    loss, grads, _ = pcd_step(duck_backend(), BOWL, ducks, Duck.of(x), device, *rest)
    assert loss.get() == want[0] and grads["lam"].get() == want[1]["lam"]
    assert (device.slots.get() == host.slots).all() and device.ptr == host.ptr


def test_cd_step__runs_on_any_array_that_answers_numpy():
    theta, x = bowl_theta(1.5), normals(1, 5, 1)
    ducks = {name: Duck.of(value) for name, value in theta.items()}
    rest = (3, ULA(0.1), 0.1, 0.2, 7, 2, (-2.0, 2.0))
    want = cd_step(BACKEND, BOWL, theta, x, *rest)
    loss, grads, _ = cd_step(duck_backend(), BOWL, ducks, Duck.of(x), *rest)
    assert loss.get() == want[0] and grads["lam"].get() == want[1]["lam"]
