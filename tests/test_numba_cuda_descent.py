"""descent_run of numba_cuda beside the oracle's where the kit's few steps do not reach: long runs, sick energies."""

import numpy as np
import pytest
from strict_device import StrictTyped

import ebm_ref
from ebm_fast import numba_cuda, verify
from ebm_fast.numba_cuda import descent
from ebm_fast.numba_cuda.device import Typed, on
from ebm_fast.verify.host_facing import host_facing
from ebm_ref.contracts import DTypeError, ShapeError
from ebm_ref.descent_specs import AdamDescent, GradientDescent, LookAheadDescent, NesterovDescent

RULES = [GradientDescent(0.2), NesterovDescent(0.2, 0.5), LookAheadDescent(0.2), AdamDescent(0.1)]
EVERY_RULE = pytest.mark.parametrize("rule", RULES, ids=lambda rule: type(rule).__name__)
NUMBERS = np.array([[3.0, -1.0], [0.1, 0.2], [-0.0, 0.0], [1.0, 2.0], [30.0, 40.0]])


class Bowl:
    """E(x) = |x|^2 / 2; `calls` counts the evaluations. A number above `edge` has an energy that is none."""

    shape = (2,)

    def __init__(self, edge=np.inf):
        self.edge, self.calls = edge, 0

    def energy_and_grad_x(self, theta, x):
        self.calls += 1
        E = np.where(x.max(axis=1, initial=0) > self.edge, np.nan, 0.5 * (x**2).sum(axis=1))
        return E.astype(x.dtype), x.copy()


class Plain(Bowl):
    """E = 0 and a gradient that is finite anywhere, at infinity too."""

    def energy_and_grad_x(self, theta, x):
        return np.zeros(len(x), x.dtype), 1 / (1 + abs(x))


def both(energy, *args):
    """The results here, and the oracle's."""
    with on(Typed()):
        found = numba_cuda.descent_run(energy, {}, *args)
    return found, ebm_ref.descent_run(energy, {}, *args)


def same(found, wanted):
    (x, state, info), (x_ref, state_ref, info_ref) = found, wanted
    pairs = {"x": (x, x_ref), "energy": (info.energy, info_ref.energy), "norm": (info.grad_norm, info_ref.grad_norm)}
    pairs |= {name: (state[name], state_ref[name]) for name in state_ref}
    for name, (mine, theirs) in pairs.items():
        assert mine.shape == theirs.shape and np.allclose(mine, theirs, 1e-12, 1e-12, equal_nan=True), name
    for name in ("stopped", "nfe"):
        assert np.array_equal(info.extra[name], info_ref.extra[name]), name
    assert np.array_equal(info.alive, info_ref.alive) and info.nonfinite == info_ref.nonfinite
    assert set(state) == set(state_ref)


@EVERY_RULE
@pytest.mark.parametrize("K", [0, 1, descent.LOOK, 3 * descent.LOOK + 5])
def test_descent_run__is_the_oracle_s_through_every_stop(rule, K):
    """Samples that stop at once, late and never; then from there, where all stop at once."""
    found, wanted = both(Bowl(), NUMBERS, K, rule, 0.3)
    same(found, wanted)
    again, wanted = both(Bowl(), found[0], K, rule, 1e9, found[1])
    same(again, wanted)
    if K and "velocity" not in found[1]:  # a sample that still moves stops ahead of where it was
        assert again[0].tobytes() == found[0].tobytes()


@EVERY_RULE
def test_descent_run__ends_soon_after_the_last_stop(rule):
    """The records go on as they were at the last evaluation; Adam's t has counted no step that nobody took."""
    energy = Bowl()
    with on(Typed()):
        _, state, info = numba_cuda.descent_run(energy, {}, NUMBERS, 1000, rule, 1.0)
    assert info.extra["stopped"].all() and energy.calls % descent.LOOK == 0
    last = int(info.extra["nfe"].max())
    assert last <= energy.calls < last + descent.LOOK
    assert (info.grad_norm[last:] == info.grad_norm[last - 1]).all() and np.isfinite(info.energy).all()
    assert int(state.get("t", last)) == last


@EVERY_RULE
def test_descent_run__leaves_who_has_stopped_to_the_bit(rule):
    """The third sample is -0 and stops at once, while others go on; a velocity is 0 there, and -0 + 0 is no -0."""
    start = {"velocity": np.full_like(NUMBERS, -0.0)} if hasattr(rule, "mu") else None
    with on(Typed()):
        x, state, info = numba_cuda.descent_run(Bowl(), {}, NUMBERS, 9, rule, 0.5, start)
    assert x[1:3].tobytes() == NUMBERS[1:3].tobytes() and info.extra["nfe"].tolist()[1:3] == [1, 1]
    assert info.extra["nfe"][4] > 1 and not any(state[name][1:3].any() for name in state if name != "t")


@EVERY_RULE
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_descent_run__stops_and_counts_what_is_not_finite(rule, dtype):
    """An energy that is no number, a place ahead that is none, a step to infinity: each at its last finite x."""
    x0, huge = NUMBERS.astype(dtype), np.finfo(dtype).max
    x0[0] = 35.0
    found, wanted = both(Bowl(edge=34.0), x0, 3, rule, 0.5)
    assert found[2].alive.tolist() == [False, True, True, True, False]
    assert np.array_equal(found[2].alive, wanted[2].alive) and found[2].nonfinite == 2
    assert np.array_equal(found[0][[0, 4]], x0[[0, 4]])
    assert np.array_equal(found[2].extra["nfe"], wanted[2].extra["nfe"])
    state = {"velocity": np.ones_like(x0)} if hasattr(rule, "mu") else None
    found, wanted = both(Bowl(), x0, 3, type(rule)(float(huge) / 10), 0.0, state)
    assert np.array_equal(found[2].alive, wanted[2].alive) and np.isfinite(found[0]).all()
    assert np.allclose(found[2].grad_norm, wanted[2].grad_norm, 1e-5)  # the last one, of those that have died
    assert isinstance(rule, AdamDescent) or found[2].nonfinite >= 2
    if hasattr(rule, "mu"):
        x0[0], state = 0.9 * huge, {"velocity": np.where(np.arange(5)[:, None] == 0, 0.9 * huge, x0)}
        found, wanted = both(Bowl(), x0, 2, rule, 0.0, {"velocity": state["velocity"].astype(dtype)})
        assert np.array_equal(found[2].alive, wanted[2].alive) and np.array_equal(found[0][0], x0[0])
        assert not found[1]["velocity"][0].any() and found[2].alive[1:].all()
        state, K = {"velocity": state["velocity"].astype(dtype)}, 1
        found, wanted = both(Plain(), x0, K, rule, 0.0, state)
        assert found[2].alive.tolist() == wanted[2].alive.tolist() == [False, True, True, True, True]
        assert np.allclose(found[2].grad_norm, wanted[2].grad_norm, 1e-5, 0)  # of the first at x, where it is not 0


def test_descent_run__takes_arrays_of_its_device_alone():
    """Its state too; what it is given stays as it was."""
    rule, device = NesterovDescent(0.1), StrictTyped()
    field = numba_cuda.MLPField((2,), hidden=(3,))
    x0, velocity = NUMBERS.copy(), np.ones_like(NUMBERS)
    with on(device):
        theta = {name: device.put(np.ones(shape)) for name, shape in field.theta_shapes().items()}
        there = device.put_as_it_is(x0), {"velocity": device.put_as_it_is(velocity)}
        x, state, _ = numba_cuda.descent_run(field, theta, there[0], 2, rule, 0.0, there[1])
        assert (x0 == NUMBERS).all() and (velocity == 1).all()
        assert not np.array_equal(device.get(state["velocity"]), velocity) and x.shape == x0.shape
        for bad in ((x0, there[1]), (there[0], {"velocity": velocity})):
            with pytest.raises(DTypeError, match="expected an array on the device"):
                numba_cuda.descent_run(field, theta, bad[0], 2, rule, 0.0, bad[1])


def test_descent_run__names_what_it_cannot_follow():
    held = ebm_ref.TimeField(ebm_ref.MLPField((3,), hidden=(3,), out_channels=2))
    wide = numba_cuda.MLPField((2,), hidden=(3,), out_channels=3)
    with on(Typed()):
        for other in (held, object()):
            with pytest.raises(DTypeError, match="energy: expected an energy or a field"):
                numba_cuda.descent_run(other, {}, NUMBERS, 1, RULES[0])
        with pytest.raises(ShapeError, match="energy: expected a field with f like x"):
            numba_cuda.descent_run(wide, {}, NUMBERS, 1, RULES[0])


def test_host_facing__judges_descent_as_on_a_card():
    """An energy and a field of the kit's own among what descends."""
    with on(StrictTyped()):
        rows = verify.run([host_facing(numba_cuda)], ["descent_run"], ["float32"], cases=4)
    assert [row.status for row in rows] == ["pass"], verify.format_rows(rows)
