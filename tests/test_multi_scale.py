"""MultiScaleEnergy: the sum over halved images, its derivatives, and what halving keeps."""

from __future__ import annotations

import numpy as np
import pytest
from derivatives import check_level_1, check_level_2, check_level_3, close, random_theta

from ebm_ref import (
    ULA,
    ConvEnergy,
    DTypeError,
    MLPEnergy,
    MultiScaleEnergy,
    QuadraticEnergy,
    ShapeError,
    SmoothnessError,
    langevin_run,
    theta_init,
)

CONV = {"channels": (4,), "strides": (2,), "max_groups": 2}
ENERGY = MultiScaleEnergy((ConvEnergy((5, 6, 2), **CONV), MLPEnergy((3, 3, 2), (4,)), QuadraticEnergy((2, 2, 2))))


def halved(x):
    """Means of the pixels around (2 p, 2 q) that lie inside, by loops."""
    N, H, W, C = x.shape
    y = np.zeros((N, -(-H // 2), -(-W // 2), C))
    for p in range(y.shape[1]):
        for q in range(y.shape[2]):
            rows, columns = slice(max(2 * p - 1, 0), 2 * p + 2), slice(max(2 * q - 1, 0), 2 * q + 2)
            y[:, p, q] = x[:, rows, columns].mean(axis=(1, 2))
    return y


def case(dtype=np.float64):
    rng = np.random.default_rng(4)
    return random_theta(ENERGY, rng, dtype), rng.normal(size=(3, 5, 6, 2)).astype(dtype), rng


def test_multi_scale_energy__is_the_sum_over_halved_images():
    theta, x, _ = case()
    total, at = 0.0, x
    for i, scale in enumerate(ENERGY.scales):
        own = {name: theta[f"{i}.{name}"] for name in scale.theta_shapes()}
        total = total + scale.energy(own, at)
        at = halved(at)
    close(ENERGY.energy(theta, x), total, 1e-13)


def test_multi_scale_energy__levels_1_to_3_are_the_derivatives():
    theta, x, rng = case()
    check_level_1(ENERGY, theta, x, rng)
    check_level_2(ENERGY, theta, x, rng)
    check_level_3(ENERGY, theta, x, rng, 1e-7)


def test_multi_scale_energy__keeps_a_constant_image_at_every_scale():
    one = QuadraticEnergy((3, 3, 1))
    energy = MultiScaleEnergy((QuadraticEnergy((5, 6, 1)), one))
    theta = {name: np.zeros(shape) for name, shape in energy.theta_shapes().items()}
    theta["1.P"], theta["1.mu"] = np.eye(9), np.full(9, 0.7)
    close(energy.energy(theta, np.full((1, 5, 6, 1), 0.7)), [0.0], 1e-15)  # every halved pixel is 0.7


def test_multi_scale_energy__keeps_float32_and_moves_chains():
    theta, x, rng = case(np.float32)
    found = [*ENERGY.energy_and_grad_x(theta, x), *ENERGY.grad_theta(theta, x, np.ones(3, np.float32)).values()]
    found += [ENERGY.hvp(theta, x, x), langevin_run(ENERGY, theta, x, 2, ULA(0.01), 0)[0]]
    assert {a.dtype for a in found} == {np.dtype(np.float32)}
    assert set(theta_init(ENERGY, 0)) == set(theta)


REFUSED = {
    "at least one": (ShapeError, lambda: MultiScaleEnergy(())),
    r"scales\[0\]: expected an energy,": (DTypeError, lambda: MultiScaleEnergy((1,))),
    r"scales\[0\]: .*images": (ShapeError, lambda: MultiScaleEnergy((MLPEnergy((3,), (4,)),))),
    r"scales\[1\]: .*\(3, 3, 2\)": (
        ShapeError,
        lambda: MultiScaleEnergy((ENERGY.scales[0], MLPEnergy((2, 3, 2), (4,)))),
    ),
    "relu": (
        SmoothnessError,
        lambda: MultiScaleEnergy((ENERGY.scales[0], MLPEnergy((3, 3, 2), (4,), "relu"))).require_smooth("hvp"),
    ),
}


@pytest.mark.parametrize("said", REFUSED)
def test_multi_scale_energy__refuses_bad_input_by_name(said):
    error, call = REFUSED[said]
    with pytest.raises(error, match=said):
        call()
