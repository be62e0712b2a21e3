"""log Z by quadrature and by enumeration, against closed forms."""

from __future__ import annotations

from math import exp, log, pi

import numpy as np
import pytest
from evaluation_parts import rbm_theta
from gaussian import Bowl, bowl_theta

import ebm_ref
from ebm_ref.contracts import RangeError, ShapeError
from ebm_ref.evaluation import log_z_enumeration, log_z_quadrature

LOG_Z = 0.5 * log(pi)  # E = x^2, lambda = 2


def test_log_z_quadrature__is_the_closed_form_in_one_and_two_dimensions():
    line = log_z_quadrature(Bowl((1,)), bowl_theta(2.0, bias=0.3), (-8.0, 8.0))
    assert abs(line.log_z - (LOG_Z - 0.3)) < 1e-13 and line.error < 1e-12 and line.edge < 1e-20
    energy = ebm_ref.QuadraticEnergy((2,))
    theta = {"mu": np.array([0.5, -0.4]), "P": np.array([[2.0, 0.7], [0.7, 1.0]])}
    plane = log_z_quadrature(energy, theta, ((-8.0, 9.0), (-10.0, 10.0)))
    assert abs(plane.log_z - energy.log_z(theta)) < 1e-12 and plane.error < 1e-9
    mixture = ebm_ref.GaussianMixtureEnergy((2,), 2)
    theta = {
        "logit": np.array([0.2, -1.0]),
        "mu": np.array([[1.0, 0.0], [-1.0, 2.0]]),
        "log_sigma": np.array([-0.5, 0.1]),
    }
    plane = log_z_quadrature(mixture, theta, (-9.0, 11.0))
    assert abs(plane.log_z - mixture.log_z(theta)) < 1e-10


def test_log_z_quadrature__says_how_wrong_it_is_and_what_the_box_cuts_off():
    theta = bowl_theta(2.0)
    coarse = log_z_quadrature(Bowl((1,)), theta, (-8.0, 8.0), panels=4, n=2)
    assert 1e-4 < abs(coarse.log_z - LOG_Z) <= coarse.error
    cut = log_z_quadrature(Bowl((1,)), theta, (-1.0, 1.0))
    assert cut.edge == pytest.approx(exp(-1), rel=1e-3) and cut.error < 1e-12 and cut.log_z < LOG_Z - 0.1
    flat = log_z_quadrature(Bowl((2,)), bowl_theta(0.0, 0.0), ((0.0, 2.0), (-1.0, 4.0)))
    assert flat.log_z == pytest.approx(log(10), abs=1e-13) and flat.edge == 1.0


def test_log_z_enumeration__is_the_rbm_s_and_a_product_of_bits():
    energy = ebm_ref.RBMEnergy(9, 4)
    theta = rbm_theta(energy)
    assert abs(log_z_enumeration(energy, theta) - energy.log_z(theta)) < 1e-12
    bits = log_z_enumeration(Bowl((3,)), bowl_theta(1.0, 2.0, -1.0), (-1.0, 0.0, 2.0))
    each = [log(exp(-l / 2) + 1 + exp(-2 * l)) for l in (1.0, 2.0, -1.0)]
    assert abs(bits - sum(each)) < 1e-13


def test_log_z__bad_input_is_refused():
    with pytest.raises(ShapeError, match="one or two dimensions"):
        log_z_quadrature(Bowl((3,)), bowl_theta(1.0, 1.0, 1.0), (-1.0, 1.0))
    with pytest.raises(RangeError, match="even"):
        log_z_quadrature(Bowl(), bowl_theta(1.0), (-1.0, 1.0), panels=5)
    with pytest.raises(RangeError, match="box"):
        log_z_quadrature(Bowl(), bowl_theta(1.0), (1.0, -1.0))
    with pytest.raises(RangeError, match="2\\^24"):
        log_z_enumeration(Bowl((25,)), bowl_theta(*np.ones(25)))
