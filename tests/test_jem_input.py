"""What jem, JEMTerms and jem_step refuse, by name and type."""

from __future__ import annotations

import numpy as np
import pytest
from jem_cases import ALL, BOX, MLP, UPDATE, step_case

import ebm_ref
from ebm_ref.contracts import DTypeError, RangeError, ShapeError
from ebm_ref.objectives import (
    JEMTerms,
    jem,
    jem_step,
)
from ebm_ref.samplers import (
    buffer_start,
    class_gaussians,
)

Z3, ZN = np.zeros((2, 3)), np.zeros((2, 3), np.float16)
LABELS = np.array([0, 3])
FULL = {"x_pos": Z3, "x_neg": Z3, "x_lab": Z3, "y": LABELS, "x_neg_y": Z3}
BAD = [
    ({"y": np.array([0, 4])}, RangeError, r"y: .*\[0, 4\), found 0 to 4"),
    ({"y": np.array([-1, 0])}, RangeError, "y: .*found -1 to 0"),
    ({"y": np.array([0.0, 1.0])}, DTypeError, "y: .*float64"),
    ({"y": [0, 1]}, DTypeError, "y: .*list"),
    ({"y": np.array([0])}, ShapeError, "y: expected shape .2,."),
    ({"y": None}, RangeError, "y: w_yx > 0 needs it"),
    ({"x_neg": None}, RangeError, "x_neg: w_x > 0 needs it"),
    ({"x_neg_y": None}, RangeError, "x_neg_y: w_xy > 0 needs it"),
    ({"x_neg_y": np.zeros((3, 3))}, ShapeError, "x_neg_y"),
    ({"x_pos": Z3[:0]}, ShapeError, "x_pos: expected at least one"),
    ({"x_pos": Z3[:, :2]}, ShapeError, "x_pos"),
    ({"x_lab": ZN}, DTypeError, "x_lab: .*float16"),
    ({"terms": JEMTerms(0.0, 0.0)}, RangeError, "terms: expected a weight above 0"),
    ({"terms": JEMTerms()}, RangeError, "x_neg_y: expected None"),
    ({"terms": None}, DTypeError, "terms: expected JEMTerms"),
]


@pytest.mark.parametrize(("change", "error", "said"), BAD, ids=[said for *_, said in BAD])
def test_jem__refuses_wrong_arguments(change, error, said):
    theta = ebm_ref.theta_init(MLP, 0, np.float64)
    with pytest.raises(error, match=said):
        jem(**({"energy": MLP, "theta": theta, "terms": ALL} | FULL | change))


@pytest.mark.parametrize("name", JEMTerms.__dataclass_fields__)
def test_jem_terms__refuses_a_negative_weight(name):
    with pytest.raises(RangeError, match=name):
        JEMTerms(**{name: -0.1})


FIT = class_gaussians(np.random.default_rng(0).normal(size=(8, 3)), np.arange(8) % 2, 2)
BAD_STEPS = [
    ({"y": np.array([0, 1, 2, 4])}, RangeError, "y: .*found 0 to 4"),
    ({"y": None}, RangeError, "x_lab, y: expected both or neither"),
    ({"x_lab": None, "y": None}, RangeError, "x_lab: w_yx or w_xy > 0 needs it"),
    ({"M": 10, "conditional": True}, RangeError, "M: expected a multiple of the 4 classes, found 10"),
    ({"M": 10, "terms": JEMTerms(w_xy=1.0)}, RangeError, "M: expected a multiple"),
    ({"filled": 8, "conditional": True}, RangeError, "buffer: .*8 of 12"),
    ({"policy": "fifo", "conditional": True}, RangeError, "buffer: .*fifo"),
    ({"balance": "st_jem"}, RangeError, "balance: expected one of steps, weight, energy_target"),
    ({"balance": "steps"}, RangeError, "K_max: .*needs it"),
    ({"balance": "steps", "K_max": 1}, RangeError, "K_max: .*>= 2"),
    ({"K_max": 5}, RangeError, "K_max: expected None"),
    ({"balance": "weight", "terms": JEMTerms(w_x=0.0)}, RangeError, "balance: weight balances the term w_x"),
    ({"start": "zeros"}, RangeError, "start: expected one of uniform, data_noise"),
    ({"start": FIT}, ShapeError, "start: expected Gaussians of 4 classes"),
    ({"box": None}, RangeError, "box"),
    ({"sigma_data": -1.0}, RangeError, "sigma_data"),
    ({"rho": 2.0}, RangeError, "rho"),
    ({"rho": 2.0, "conditional": True}, RangeError, "rho"),
    ({"K": -1}, RangeError, "K"),
    ({"inner": 0}, RangeError, "inner"),
    ({"x": np.zeros((6, 2))}, ShapeError, "x: "),
    ({"x": np.zeros((0, 3))}, ShapeError, "x: expected at least one"),
]


@pytest.mark.parametrize(("change", "error", "said"), BAD_STEPS, ids=[said for *_, said in BAD_STEPS])
def test_jem_step__refuses_wrong_arguments_and_leaves_the_buffer_alone(change, error, said):
    theta, x, x_lab, y, _ = step_case()
    change = dict(change)
    buffer = buffer_start(change.pop("M", 12), (3,), seed=2, box=BOX, dtype=np.float64)
    buffer.filled, buffer.policy = change.pop("filled", buffer.filled), change.pop("policy", "in_place")
    before = buffer.slots.copy()
    args = {"x": x, "x_lab": x_lab, "y": y, "buffer": buffer, "K": 2, "update": UPDATE, "terms": JEMTerms()}
    args |= {"sigma_data": 0.1, "rho": 0.1, "seed": 0, "step": 0, "box": BOX} | change
    with pytest.raises(error, match=said):
        jem_step(ebm_ref, MLP, theta, **args)
    assert (buffer.slots == before).all()
