"""JAX: one jitted scan over the steps, in float32; a whole update is one jitted function too."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import ebm_ref

from ..gpu import jax_peer as peer
from ..gpu.nets import SEED, starts_of
from .backends import Prepared, moved_far
from .cases import Case
from .oracle import RECIPE, RHO, UPDATE, WALK, joined, moments, parameters, rows_of


def prepare(variant: str, case: Case) -> Prepared:
    """A case; JAX has one variant."""
    key = jax.random.key(SEED)
    if case.bench == "noise":
        draw = jax.jit(lambda key: jax.random.normal(key, (case.n, case.size), jnp.float32))
        return Prepared(lambda: draw(key).block_until_ready(), lambda eta: {"moments": moments(draw(key))})
    spec, theta = case.energy.energy(ebm_ref), peer.jax_theta(parameters(case))
    x0 = jnp.asarray(starts_of(case.energy, case.n))
    if case.bench == "pcd":
        return prepare_pcd(spec, theta, x0, case, key)
    run = peer.jax_run(spec, theta, UPDATE.box, case.K)

    def answers(eta: float) -> dict[str, Any]:
        rows = rows_of(case)
        moved = peer.jax_run(spec, theta, UPDATE.box, WALK)(x0, key, eta, 0.0) - x0
        grad = jax.jit(lambda theta, x: peer.jax_grad(spec, theta, x))(theta, x0)
        return {"grad": np.asarray(grad)[rows], "walk": np.asarray(moved)[rows]}

    return Prepared(lambda: run(x0, key, UPDATE.eta, UPDATE.sigma).block_until_ready(), answers)


def contrastive(spec: Any, theta: Any, x_pos: Any, x_neg: Any) -> Any:
    """The contrastive loss."""
    e_pos, e_neg = peer.jax_energy(spec, theta, x_pos), peer.jax_energy(spec, theta, x_neg)
    return e_pos.mean() - e_neg.mean() + RECIPE.alpha * ((e_pos**2).mean() + (e_neg**2).mean())


def prepare_pcd(spec: Any, theta: Any, data: Any, case: Case, key: Any) -> Prepared:
    """What ebm_ref.train_step does of method pcd, in one jitted function."""
    shape, tree = data.shape[1:], jax.tree.map
    grad = jax.grad(lambda theta, x_pos, x_neg: contrastive(spec, theta, x_pos, x_neg))
    assert UPDATE.box is not None and RECIPE.max_grad_norm is not None
    low, high, most = *UPDATE.box, RECIPE.max_grad_norm

    def chain(theta: Any, x: Any, key: Any) -> Any:
        def step(x: Any, key: Any) -> tuple[Any, None]:
            xi = jax.random.normal(key, x.shape, x.dtype)
            return jnp.clip(x - UPDATE.eta * peer.jax_grad(spec, theta, x) + UPDATE.sigma * xi, low, high), None

        return jax.lax.scan(step, x, jax.random.split(key, case.K))[0]

    def update(state: Any, data: Any) -> Any:
        theta, m, v, ema, slots, t, key = state
        key, *keys = jax.random.split(key, 6)
        idx = jax.random.randint(keys[0], (case.n,), 0, RECIPE.M)
        fresh = jax.random.uniform(keys[1], (case.n,)) < RHO
        restart = jax.random.uniform(keys[2], data.shape, minval=low, maxval=high)
        x0 = jnp.where(fresh.reshape(-1, *(1,) * len(shape)), restart, slots[idx])
        x_neg = chain(theta, x0, keys[3])
        x_pos = jnp.clip(data + RECIPE.sigma_data * jax.random.normal(keys[4], data.shape), low, high)
        grads = grad(theta, x_pos, x_neg)
        norm = jnp.sqrt(sum(jnp.square(g).sum() for g in grads.values()))
        grads, t = tree(lambda g: g * most / jnp.maximum(norm, most), grads), t + 1
        m = tree(lambda m, g: RECIPE.beta1 * m + (1 - RECIPE.beta1) * g, m, grads)
        v = tree(lambda v, g: RECIPE.beta2 * v + (1 - RECIPE.beta2) * g * g, v, grads)
        first, second = 1 - RECIPE.beta1**t, 1 - RECIPE.beta2**t
        theta = tree(lambda y, m, v: y - RECIPE.lr * (m / first) / (jnp.sqrt(v / second) + 1e-8), theta, m, v)
        ema = tree(lambda e, y: RECIPE.ema_decay * e + (1 - RECIPE.ema_decay) * y, ema, theta)
        return theta, m, v, ema, slots.at[idx].set(x_neg), t, key

    zeros, copy = tree(jnp.zeros_like, theta), tree(jnp.copy, theta)
    slots = jax.random.uniform(key, (RECIPE.M, *shape), minval=low, maxval=high)
    held = [(copy, zeros, tree(jnp.copy, zeros), tree(jnp.copy, theta), slots, jnp.zeros((), jnp.float32), key)]
    compiled = jax.jit(update, donate_argnums=0)

    def call() -> None:
        held[0] = jax.block_until_ready(compiled(held[0], data))

    def answers(eta: float) -> dict[str, Any]:
        grads = jax.jit(grad)(theta, data, -data)
        call()
        moved, averaged = ({n: np.abs(np.asarray(held[0][i][n] - theta[n])) for n in theta} for i in (0, 3))
        return {"grad_theta": joined(grads), "moved": moved_far(moved, averaged)}

    return Prepared(call, answers)
