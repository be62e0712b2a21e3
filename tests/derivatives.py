"""Central differences of fourth order, and every derivative of an energy held against them."""

import numpy as np

H = 2e-4


def along(f, x, v):
    """d/ds f(x + s v) at s = 0: (8 (f(h) - f(-h)) - (f(2h) - f(-2h))) / (12 h), error O(h^4)."""

    def at(s):
        return f(x + s * v)

    return (8 * (at(H) - at(-H)) - (at(2 * H) - at(-2 * H))) / (12 * H)


def close(found, wanted, tol=1e-8):
    """Equal up to `tol` of the largest wanted number (at least 1)."""
    scale = max(1.0, float(np.abs(wanted).max(initial=0.0)))
    np.testing.assert_allclose(found, wanted, rtol=0, atol=tol * scale)


def random_theta(energy, rng, dtype=np.float64):
    """Nothing at a special value: gamma is not 1 and beta is not 0."""
    return {name: rng.normal(size=shape).astype(dtype) for name, shape in energy.theta_shapes().items()}


def per_sample(a, b):
    """a_n . b_n, (N,)."""
    return (a * b).reshape(len(a), -1).sum(axis=1)


def check_theta_gradient(scalar, grads, theta, rng, tol):
    """grads[name] . u = d/ds scalar(theta + s u) for each parameter on its own."""
    for name, value in theta.items():
        u = rng.normal(size=value.shape)
        wanted = along(lambda p, name=name: scalar(theta | {name: p}), value, u)
        close((grads[name] * u).sum(), wanted, tol)


def check_level_1(energy, theta, x, rng, tol=1e-8):
    v, w = rng.normal(size=x.shape), rng.normal(size=len(x))
    wanted = along(lambda x: energy.energy(theta, x), x, v)
    close(per_sample(energy.grad_x(theta, x), v), wanted, tol)
    y, dx = energy.energy_and_grad_x(theta, x)
    np.testing.assert_array_equal(y, energy.energy(theta, x))
    np.testing.assert_array_equal(dx, energy.grad_x(theta, x))
    grads = energy.grad_theta(theta, x, w)
    check_theta_gradient(lambda t: w @ energy.energy(t, x), grads, theta, rng, tol)


def check_level_2(energy, theta, x, rng, tol=1e-8):
    v = rng.normal(size=x.shape)
    wanted = along(lambda x: energy.grad_x(theta, x), x, v)
    close(energy.hvp(theta, x, v), wanted, tol)
    grads = energy.grad_theta_along(theta, x, v)
    check_theta_gradient(lambda t: (v * energy.grad_x(t, x)).sum(), grads, theta, rng, tol)


def check_level_3(energy, theta, x, rng, tol=1e-8):
    v, w = rng.normal(size=x.shape), rng.normal(size=len(x))
    wanted = along(lambda x: per_sample(v, energy.grad_x(theta, x)), x, v)
    close(energy.curvature(theta, x, v), wanted, tol)
    grads = energy.grad_theta_curvature(theta, x, v, w)
    check_theta_gradient(lambda t: w @ energy.curvature(t, x, v), grads, theta, rng, tol)
