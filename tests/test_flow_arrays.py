"""Flow matching, projection, distillation and their runs: arrays of another library, float32."""

from __future__ import annotations

from dataclasses import dataclass
from types import SimpleNamespace

import numpy as np
import pytest
from derivatives import random_theta
from duck import Duck
from duck_backend import DUCK_BACKEND, SmoothBowl, inside, outside
from flow_cases import normals

import ebm_ref
from ebm_ref import (
    SGLD,
    FlowMap,
    MLPField,
    TimeField,
    distill_step,
    eulerian,
    flow_matching,
    flow_run,
    flow_step,
    lagrangian,
    progressive,
    projection,
    projection_step,
    student_draw,
    student_pairs,
    student_run,
    teacher_velocity,
    trajectory_regression,
    trajectory_step,
)


@dataclass(frozen=True)
class Scaling:
    """f = x * scale, its first channels, in calls that any array answers; with one channel more it is a trunk."""

    shape: tuple[int, ...]
    more: int = 1

    @property
    def out_shape(self):
        return (self.shape[0] - self.more,)

    def theta_shapes(self):
        return {"scale": self.shape}

    def field(self, theta, x):
        y = x * theta["scale"]
        return y[..., : self.out_shape[0]] + np.sum(y[..., self.out_shape[0] :], axis=-1)[..., None]

    def field_jvp(self, theta, x, v):
        return self.field(theta, x), self.field(theta, v)

    def field_vjp(self, theta, x, g):
        rest = np.sum(g, axis=-1)[..., None] * theta["scale"][self.out_shape[0] :]
        return np.concatenate([g * theta["scale"][: self.out_shape[0]], rest], axis=-1)

    def field_grad_theta(self, theta, x, g):
        rest = np.sum(g, axis=-1)[..., None] * x[..., self.out_shape[0] :]
        return {"scale": np.sum(np.concatenate([g * x[..., : self.out_shape[0]], rest], axis=-1), axis=0)}


FIELD, MAP, ENERGY = TimeField(Scaling((3,))), FlowMap(Scaling((3,)), 2.0), SmoothBowl((2,))
THETA, HELD, BOWL = (
    {"scale": np.array([0.5, -0.7, 0.3])},
    {"scale": np.array([0.1, -0.2, 0.4])},
    {"lam": np.array([1.0, 2.0]), "bias": np.zeros(1)},
)
X, OTHER, T = normals(1, 5, 2), normals(2, 5, 2), np.linspace(0, 1, 5)


def teach(theta):
    return teacher_velocity(ENERGY, theta)


CALLS = {
    "flow_matching": lambda b, a: flow_matching(FIELD, a(THETA), a(X), a(OTHER), a(T)),
    "flow_step": lambda b, a: flow_step(b, FIELD, a(THETA), a(X), 3, 1),
    "projection": lambda b, a: projection(ENERGY, a(BOWL), a(X), a(OTHER), a(T)),
    "projection_step": lambda b, a: projection_step(b, ENERGY, a(BOWL), FIELD, a(THETA), a(X), 3, 1),
    "trajectory": lambda b, a: trajectory_regression(MAP, a(THETA), a(X), a(OTHER), a(T)),
    "progressive": lambda b, a: progressive(MAP, a(THETA), a(HELD), teach(a(BOWL)), a(X), 0.25, 2),
    "progressive, base": lambda b, a: progressive(MAP, a(THETA), a(HELD), teach(a(BOWL)), a(X), 0.25, 0),
    "eulerian": lambda b, a: eulerian(MAP, a(THETA), teach(a(BOWL)), a(X), a(T)),
    "lagrangian": lambda b, a: lagrangian(MAP, a(THETA), teach(a(BOWL)), a(X), a(T)),
    "lagrangian, one h": lambda b, a: lagrangian(MAP, a(THETA), teach(a(BOWL)), a(X), 0.5),
    "distill lagrangian": lambda b, a: distill_step(b, MAP, a(THETA), teach(a(BOWL)), 4, "lagrangian", 0.3, 3, 1),
    "distill eulerian": lambda b, a: distill_step(b, MAP, a(THETA), teach(a(BOWL)), 4, "eulerian", 0.3, 3, 1),
    "student_draw": lambda b, a: student_draw(b, MAP, 6, 3, 1),
    "student_pairs": lambda b, a: student_pairs(b, MAP, teach(a(BOWL)), 6, 0.3, 3, np.float64),
    "student_pairs, blocks": lambda b, a: student_pairs(b, MAP, teach(a(BOWL)), 300, 1.0, 3, np.float64, (-0.5, 1.0)),
    "trajectory_step": lambda b, a: trajectory_step(b, MAP, a(THETA), (a(X), a(OTHER)), 4, 3, 1),
    "flow_run": lambda b, a: flow_run(FIELD, a(THETA), a(X), 3, "euler"),
    "flow_run, heun": lambda b, a: flow_run(FIELD, a(THETA), a(X), 3, "heun"),
}


def leaves(value):
    if isinstance(value, (tuple, list)):
        return [leaf for part in value for leaf in leaves(part)]
    if isinstance(value, dict):
        return leaves(list(value.values()))
    return leaves([value.energy, value.grad_norm, value.alive]) if hasattr(value, "alive") else [value]


@pytest.mark.parametrize("name", CALLS)
def test_flow__runs_on_any_array_that_answers_numpy(name):
    want, found = CALLS[name](ebm_ref, lambda value: value), CALLS[name](DUCK_BACKEND, outside)
    for wanted, got in zip(leaves(want), leaves(found), strict=True):
        if not hasattr(wanted, "dtype"):  # a number of the host
            assert got == wanted
            continue
        assert isinstance(got, Duck)
        np.testing.assert_allclose(inside(got), wanted, rtol=0, atol=1e-15)


def test_student_run__starts_the_backend_s_chain():
    """The chain is the backend's own, on what the map gives."""
    seen = []

    def langevin_run(energy, theta, x, K, update, seed, step, chains):
        seen.append((x, K, update, seed, step))
        return x, None

    backend = SimpleNamespace(noise_normal=ebm_ref.noise_normal, langevin_run=langevin_run)
    x, _ = student_run(backend, MAP, outside(THETA), ENERGY, BOWL, Duck.of(X), 0.5, 4, SGLD(0.1, 0.1), 3, 9)
    assert seen[0][1:] == (4, SGLD(0.1, 0.1), 3, 9)
    np.testing.assert_array_equal(x.get(), MAP.flow(THETA, X, 0.5))


@pytest.mark.parametrize("lesson", ["trajectory", "lagrangian", "eulerian"])
def test_students__keep_float32(lesson):
    flow_map = FlowMap(MLPField((3,), (5,), out_channels=2), 1.0)
    theta = random_theta(flow_map, np.random.default_rng(1), np.float32)
    bowl = {name: value.astype(np.float32) for name, value in BOWL.items()}

    def step(theta, bowl, dtype):
        if lesson != "trajectory":
            return distill_step(ebm_ref, flow_map, theta, teach(bowl), 4, lesson, 0.3, 3, 1)
        pairs = student_pairs(ebm_ref, flow_map, teach(bowl), 9, 0.3, 3, dtype)
        assert all(x.dtype == dtype for x in pairs)
        return trajectory_step(ebm_ref, flow_map, theta, pairs, 4, 3, 1)

    loss, grads, info = step(theta, bowl, np.float32)
    info.pop("idx", None)
    found = leaves([loss, grads, info])
    assert all(value.dtype == np.float32 for value in found if hasattr(value, "dtype"))
    wide = {name: value.astype(np.float64) for name, value in theta.items()}
    assert loss == pytest.approx(step(wide, BOWL, np.float64)[0], rel=1e-4)


def test_progressive__and_projection_keep_float32():
    flow_map = FlowMap(MLPField((3,), (5,), out_channels=2), 1.0)
    theta = random_theta(flow_map, np.random.default_rng(1), np.float32)
    bowl = {name: value.astype(np.float32) for name, value in BOWL.items()}
    x = X.astype(np.float32)
    for result in (
        progressive(flow_map, theta, theta, teach(bowl), x, 0.25, 2),
        progressive(flow_map, theta, theta, teach(bowl), x, 0.25, 0),
        projection(ENERGY, bowl, x, x),
    ):
        assert all(value.dtype == np.float32 for value in leaves(list(result)))
