"""jem and jem_step on another backend and on any array that answers NumPy's calls."""

from __future__ import annotations

from dataclasses import dataclass
from types import SimpleNamespace

import numpy as np
import pytest
from derivatives import close
from duck import Duck
from jem_cases import ALL, BOX, MLP, UPDATE, case, step_case

import ebm_ref
from ebm_fast import backend, why_not
from ebm_ref import noise, samplers
from ebm_ref.contracts import Buffer
from ebm_ref.objectives import (
    jem,
    jem_step,
)
from ebm_ref.samplers import (
    buffer_start,
    class_gaussians,
    langevin_run,
)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_jem_step__runs_on_numba_cpu(dtype):
    if why_not("numba_cpu"):
        pytest.skip(why_not("numba_cpu"))
    theta, x, x_lab, y, buffer = step_case(dtype=dtype)
    other = buffer_start(12, (3,), seed=2, box=BOX, dtype=dtype)
    args = (3, UPDATE, ALL, 0.2, 0.4, 9, 5, BOX, "uniform", True)
    want = jem_step(ebm_ref, MLP, theta, x, x_lab, y, buffer, *args)
    loss, grads, _ = jem_step(backend("numba_cpu"), MLP, theta, x, x_lab, y, other, *args)
    tol = 1e-4 if dtype == np.float32 else 1e-12
    close(loss, want[0], tol)
    close(other.slots, buffer.slots, tol)
    for name in theta:
        close(grads[name], want[1][name], tol)


@dataclass(frozen=True)
class Linear:
    """F = x w: the smallest classifier, in calls that any array answers."""

    shape: tuple[int, ...] = (3,)
    classes: int = 4

    def theta_shapes(self):
        return {"w": (3, 4)}

    def logits(self, theta, x):
        return np.matmul(x, theta["w"])

    def energy(self, theta, x):
        return -np.log(np.sum(np.exp(self.logits(theta, x)), axis=1))

    def logits_grad_theta(self, theta, x, dy):
        return {"w": np.matmul(np.transpose(x), dy)}

    def given(self, y):
        return LinearGiven(y)


@dataclass(frozen=True, eq=False)
class LinearGiven:
    y: np.ndarray
    shape: tuple[int, ...] = (3,)

    def energy_and_grad_x(self, theta, x):
        return -(x @ theta["w"])[np.arange(len(x)), self.y], -theta["w"].T[self.y]


LINEAR = Linear()


def duck_backend():
    """The oracle's functions behind a device: arrays go in and come out as ducks, by explicit copies."""

    def inside(value):
        return value.get() if isinstance(value, Duck) else value

    def out_of(module, name):
        return lambda *args: Duck.of(getattr(module, name)(*args))

    def langevin_on_device(energy, theta, x0, *rest, **named):
        host = {name: inside(value) for name, value in theta.items()}
        x, info = langevin_run(energy, host, inside(x0), *rest, **named)
        return Duck.of(x), info

    def push_on_device(slots, filled, ptr, x, policy, idx, bits):
        host = slots.get()
        end = samplers.buffer_push(host, filled, ptr, inside(x), policy, inside(idx), inside(bits))
        slots[...] = Duck.of(host)
        return end

    return SimpleNamespace(
        noise_bits=out_of(noise, "noise_bits"),
        noise_uniform=out_of(noise, "noise_uniform"),
        noise_normal=out_of(noise, "noise_normal"),
        langevin_run=langevin_on_device,
        buffer_push=push_on_device,
    )


def test_jem__runs_on_any_array_that_answers_numpy():
    theta, x, x_neg, x_lab, y, x_neg_y, rng = case()
    theta = {"w": rng.normal(size=(3, 4))}
    want = jem(LINEAR, theta, ALL, x, x_neg, x_lab, y, x_neg_y, balance_weight=True)
    ducks = [Duck.of(a) for a in (x, x_neg, x_lab, x_neg_y)]
    loss, grads, info = jem(LINEAR, {"w": Duck.of(theta["w"])}, ALL, *ducks[:3], y, ducks[3], balance_weight=True)
    assert loss.get() == want[0] and (grads["w"].get() == want[1]["w"]).all()
    assert {name: value.get() for name, value in info.items()} == want[2]


@pytest.mark.parametrize("start", ["uniform", "data_noise", "gaussians"])
def test_jem_step__runs_on_any_array_that_answers_numpy(start):
    _, x, x_lab, y, host = step_case()
    rng = np.random.default_rng(0)
    theta = {"w": rng.normal(size=(3, 4))}
    if start == "gaussians":
        start = class_gaussians(rng.uniform(-1, 1, (40, 3)), np.arange(40) % 4, 4)
    device = Buffer(Duck.of(host.slots), host.filled)
    args = (3, UPDATE, ALL, 0.2, 0.4, 9, 5, BOX, start, True)
    want = jem_step(ebm_ref, LINEAR, theta, x, x_lab, y, host, *args)
    ducks = {"w": Duck.of(theta["w"])}
    loss, grads, _ = jem_step(duck_backend(), LINEAR, ducks, Duck.of(x), Duck.of(x_lab), y, device, *args)
    assert loss.get() == want[0] and (grads["w"].get() == want[1]["w"]).all()
    assert (device.slots.get() == host.slots).all() and device.ptr == host.ptr
