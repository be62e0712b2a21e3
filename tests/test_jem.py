"""jem and jem_step: gradients, addresses, class blocks, balancing, other arrays, other backends, bad input."""

from __future__ import annotations

from dataclasses import dataclass
from types import SimpleNamespace

import numpy as np
import pytest
from derivatives import check_theta_gradient, close, random_theta
from duck import Duck

import ebm_ref
from ebm_fast import backend, why_not
from ebm_ref import noise, samplers
from ebm_ref.contracts import Buffer, DataError, DTypeError, RangeError, ShapeError, Stream
from ebm_ref.energies import ClassifierEnergy, ConvEnergy, MLPEnergy
from ebm_ref.noise import noise_bits, noise_index, noise_normal, noise_uniform
from ebm_ref.objectives import (
    JEMTerms,
    balance_ratio,
    balance_reached,
    cross_entropy,
    jem,
    jem_batch,
    jem_step,
    mutual_information,
)
from ebm_ref.samplers import (
    buffer_start,
    class_buffer_start,
    class_gaussian_draw,
    class_gaussians,
    energy_target,
    jempp_run,
    langevin_run,
)
from ebm_ref.specs import SGLD

MLP = ClassifierEnergy(MLPEnergy((3,), (5, 4)), classes=4)
CONV = ClassifierEnergy(ConvEnergy((5, 4, 2), channels=(4, 6), strides=(2, 1), max_groups=2), classes=3)
ALL = JEMTerms(w_x=0.7, w_yx=1.3, w_xy=0.9, w_mi=0.4, alpha=0.1)
BOX = (-1.0, 1.0)
UPDATE = SGLD(0.05, 0.1, clip=0.5, box=BOX)


def case(energy=MLP, n=6, dtype=np.float64, seed=3):
    rng = np.random.default_rng(seed)
    x, x_neg, x_lab, x_neg_y = (rng.uniform(-1, 1, (n, *energy.shape)).astype(dtype) for _ in range(4))
    return random_theta(energy, rng, dtype), x, x_neg, x_lab, rng.integers(0, energy.classes, n), x_neg_y, rng


# --------------------------------------------------------------------------------------------- jem

TERMS = {
    "all": ALL,
    "x": JEMTerms(w_yx=0.0),
    "x alpha": JEMTerms(w_yx=0.0, alpha=0.3),
    "yx": JEMTerms(w_x=0.0),
    "xy": JEMTerms(w_x=0.0, w_yx=0.0, w_xy=1.0),
    "mi": JEMTerms(w_x=0.0, w_yx=0.0, w_mi=1.0),
    "x yx": JEMTerms(),
}


def samples_of(terms, x, x_neg, x_lab, y, x_neg_y):
    """What the terms need, None for the rest."""
    labels = bool(terms.w_yx or terms.w_xy)
    return (
        x if terms.w_x or terms.w_mi else None,
        x_neg if terms.w_x else None,
        x_lab if labels else None,
        y if labels else None,
        x_neg_y if terms.w_xy else None,
    )


@pytest.mark.parametrize("energy", [MLP, CONV], ids=["mlp", "conv"])
@pytest.mark.parametrize("name", TERMS)
def test_jem__is_the_equation(name, energy):
    theta, x, x_neg, x_lab, y, x_neg_y, _ = case(energy)
    t, i = TERMS[name], np.arange(6)
    E, F = energy.energy, energy.logits
    softmax = np.exp(F(theta, x_lab)) / np.exp(F(theta, x_lab)).sum(axis=1, keepdims=True)
    wanted = t.w_x * (E(theta, x).mean() - E(theta, x_neg).mean())
    wanted += t.w_x * t.alpha * ((E(theta, x) ** 2).mean() + (E(theta, x_neg) ** 2).mean())
    wanted -= t.w_yx * np.log(softmax[i, y]).mean()
    wanted += t.w_xy * (F(theta, x_neg_y)[i, y] - F(theta, x_lab)[i, y]).mean()
    wanted -= t.w_mi * mutual_information(F(theta, x))[0]
    loss, _, info = jem(energy, theta, t, *samples_of(t, x, x_neg, x_lab, y, x_neg_y))
    close(loss, wanted, 1e-13)
    if t.w_x:
        close(info["gap"], E(theta, x_neg).mean() - E(theta, x).mean(), 1e-13)
    if t.w_yx:
        assert info["accuracy"] == (F(theta, x_lab).argmax(axis=1) == y).mean()


@pytest.mark.parametrize("energy", [MLP, CONV], ids=["mlp", "conv"])
@pytest.mark.parametrize("name", TERMS)
def test_jem__is_the_derivative(name, energy):
    theta, *arrays, rng = case(energy)
    samples = samples_of(TERMS[name], *arrays)
    _, grads, _ = jem(energy, theta, TERMS[name], *samples)
    check_theta_gradient(lambda t: jem(energy, t, TERMS[name], *samples)[0], grads, theta, rng, 1e-7)


def test_jem__with_balance_weight_is_the_derivative_for_a_constant_ratio():
    theta, x, x_neg, x_lab, y, _, rng = case()
    _, grads, info = jem(MLP, theta, JEMTerms(alpha=0.1), x_neg, 3 * x, x_lab, y, balance_weight=True)
    ratio = info["ratio"]
    g_pos, g_neg = (MLP.grad_theta(theta, s, np.full(6, 1 / 6)) for s in (x_neg, 3 * x))
    norms = [np.sqrt(sum((g**2).sum() for g in half.values())) for half in (g_pos, g_neg)]
    assert np.isclose(ratio, min(norms[0] / norms[1], 1)) and 0 < ratio < 1

    def scalar(t):
        e_pos, e_neg = MLP.energy(t, x_neg), MLP.energy(t, 3 * x)
        value = e_pos.mean() - ratio * e_neg.mean() + 0.1 * ((e_pos**2).mean() + (e_neg**2).mean())
        return value + cross_entropy(MLP.logits(t, x_lab), y)[0]

    check_theta_gradient(scalar, grads, theta, rng, 1e-7)


def test_jem__with_balance_weight_no_longer_ignores_a_constant():
    """What the docs call its bias: a constant c on E moves the loss by (1 - r) c."""
    theta, x, x_neg, *_ = case()
    terms = JEMTerms(w_yx=0.0)
    shifted = theta | {"out.b": theta["out.b"] - 2.0}  # E + 2
    a = jem(MLP, theta, terms, x_neg, 3 * x, balance_weight=True)
    b = jem(MLP, shifted, terms, x_neg, 3 * x, balance_weight=True)
    close(b[0] - a[0], 2 * (1 - a[2]["ratio"]), 1e-12)
    assert a[2]["ratio"] < 1


def test_jem__adds_up_over_parts_and_ignores_order():
    theta, x, x_neg, x_lab, y, x_neg_y, rng = case()
    terms = JEMTerms(0.7, 1.3, 0.9, 0.0, 0.1)  # the information couples a batch
    whole = jem(MLP, theta, terms, x, x_neg, x_lab, y, x_neg_y)
    parts = [jem(MLP, theta, terms, *(a[k] for a in (x, x_neg, x_lab, y, x_neg_y))) for k in (slice(3), slice(3, 6))]
    order = rng.permutation(6)
    mixed = jem(MLP, theta, ALL, *(a[order] for a in (x, x_neg, x_lab, y, x_neg_y)))
    full = jem(MLP, theta, ALL, x, x_neg, x_lab, y, x_neg_y)
    close(whole[0], (parts[0][0] + parts[1][0]) / 2, 1e-12)
    close(mixed[0], full[0], 1e-12)
    for name in theta:
        close(whole[1][name], (parts[0][1][name] + parts[1][1][name]) / 2, 1e-12)
        close(mixed[1][name], full[1][name], 1e-12)


@pytest.mark.parametrize("energy", [MLP, CONV], ids=["mlp", "conv"])
def test_jem__keeps_float32(energy):
    theta, *arrays, _ = case(energy, dtype=np.float32)
    loss, grads, info = jem(energy, theta, ALL, *arrays, balance_weight=True)
    assert loss.dtype == np.float32 and {g.dtype for g in grads.values()} == {np.dtype(np.float32)}
    assert info["loss_yx"].dtype == np.float32


def test_jem__takes_a_batch_of_one():
    theta, x, x_neg, x_lab, y, x_neg_y, _ = case(n=1)
    loss, _, info = jem(MLP, theta, ALL, x, x_neg, x_lab, y, x_neg_y)
    assert np.isfinite(loss) and info["mutual_information"] == 0


# --------------------------------------------------------------------------------- balancing rules


def test_balance_ratio__is_the_equation():
    g = {"a": np.array([3.0]), "b": np.array([[4.0]])}  # norm 5
    tenth = {name: 0.1 * value for name, value in g.items()}
    none = {name: 0 * value for name, value in g.items()}
    assert np.isclose(balance_ratio(tenth, g), 0.1) and balance_ratio(g, tenth) == 1 and balance_ratio(g, g) == 1
    assert balance_ratio(none, g) == 0 and balance_ratio(g, none) == 1 and balance_ratio(none, none) == 0


def test_balance_reached__is_the_equation():
    assert balance_reached(1.0, 1.0, 0.0) and balance_reached(1.0, 1.5, 0.5) and not balance_reached(1.0, 1.6, 0.5)
    assert not balance_reached(1.0, np.nan, 0.5)


# ---------------------------------------------------------------------------------------- jem_step


def step_case(M=12, dtype=np.float64):
    theta, x, _, x_lab, y, _, _ = case(dtype=dtype)
    return theta, x, x_lab[:4], y[:4], buffer_start(M, (3,), seed=2, box=BOX, dtype=dtype)


@pytest.mark.parametrize("conditional", [False, True])
def test_jem_step__is_its_parts_at_their_addresses(conditional):
    theta, x, x_lab, y, buffer = step_case()
    seed, t, K, chains, labelled = 9, 5, 3, np.arange(6), np.arange(6, 10)
    slots = buffer.slots.copy()

    def noised(s, ids):
        return np.clip(s + 0.2 * noise_normal(seed, Stream.DATA_NOISE, t, ids, 3), *BOX)

    def start(ids, classes):
        fresh = -1 + 2 * noise_uniform(seed, Stream.BUFFER_FRESH, t, ids, 3)
        bits = noise_bits(seed, Stream.BUFFER_INDEX, t, ids, 1)[:, 0]
        idx = noise_index(bits, 12) if classes is None else 3 * classes + noise_index(bits, 3)
        restart = noise_uniform(seed, Stream.BUFFER_MASK, t, ids, 1)[:, 0] < 0.4
        return np.where(restart[:, None], fresh, slots[idx]), idx, restart

    y_neg = noise_index(noise_bits(seed, Stream.CLASS_INDEX, t, chains, 1)[:, 0], 4) if conditional else None
    x0, idx, restart = start(chains, y_neg)
    x_neg, _ = langevin_run(MLP.given(y_neg) if conditional else MLP, theta, x0, K, UPDATE, seed, t * K)
    x0, idx_y, _ = start(labelled, y)
    x_neg_y, _ = langevin_run(MLP.given(y), theta, x0, K, UPDATE, seed, t * K, labelled)
    want = jem(MLP, theta, ALL, noised(x, chains), x_neg, noised(x_lab, labelled), y, x_neg_y)
    for place, state in [*zip(idx, x_neg, strict=True), *zip(idx_y, x_neg_y, strict=True)]:
        slots[place] = state

    args = (K, UPDATE, ALL, 0.2, 0.4, seed, t, BOX, "uniform", conditional)
    loss, grads, info = jem_step(ebm_ref, MLP, theta, x, x_lab, y, buffer, *args)
    assert loss == want[0] and all((grads[name] == want[1][name]).all() for name in theta)
    assert (info["x_neg"] == x_neg).all() and (info["x_neg_y"] == x_neg_y).all()
    assert (info["restart"] == restart).all() and 0 < restart.sum() < 6
    assert (buffer.slots == slots).all()
    if conditional:
        assert (info["y_neg"] == y_neg).all() and len(set(y_neg.tolist())) > 1


def test_jem_step__keeps_class_blocks_apart():
    """Every slot that changed lies in the block of a class that was drawn."""
    theta, x, x_lab, y, buffer = step_case(M=400)
    before = buffer.slots.copy()
    _, _, info = jem_step(
        ebm_ref, MLP, theta, x, x_lab, y, buffer, 2, UPDATE, JEMTerms(w_xy=1.0), 0.1, 0.2, 0, 0, BOX, conditional=True
    )
    moved = np.flatnonzero((buffer.slots != before).any(axis=1)) // 100
    assert sorted(moved) == sorted([*info["y_neg"], *y])


def test_jem_step__restarts_from_the_gaussians_of_the_classes():
    theta, x, x_lab, y, buffer = step_case()
    rng = np.random.default_rng(0)
    fit = class_gaussians(rng.uniform(-1, 1, (40, 3)), np.arange(40) % 4, 4)
    xi = noise_normal(9, Stream.BUFFER_FRESH, 5, np.arange(6), 3)
    for conditional, word in ((False, 1), (True, 0)):
        classes = noise_index(noise_bits(9, Stream.CLASS_INDEX, 5, np.arange(6), 2)[:, word], 4)
        want = class_gaussian_draw(fit, classes, xi, BOX)
        args = (0, UPDATE, JEMTerms(), 0.1, 1.0, 9, 5, BOX, fit, conditional)
        _, _, info = jem_step(ebm_ref, MLP, theta, x, x_lab, y, buffer, *args)
        assert (info["x_neg"] == want).all()


def test_jem_step__moves_several_times_along_one_gradient():
    theta, x, x_lab, y, buffer = step_case()
    args = (UPDATE, JEMTerms(), 0.1, 0.4, 9, 5, BOX)
    start, kept = buffer.slots.copy(), buffer_start(12, (3,), seed=2, box=BOX, dtype=np.float64)
    _, _, at = jem_step(ebm_ref, MLP, theta, x, x_lab, y, kept, 0, *args)
    want, _ = jempp_run(ebm_ref, MLP, theta, at["x_neg"], 3, 4, UPDATE, 9, 5 * 12)
    _, _, info = jem_step(ebm_ref, MLP, theta, x, x_lab, y, buffer, 3, *args, inner=4)
    assert (info["x_neg"] == want).all() and (buffer.slots != start).any()


def test_jem_step__lengthens_its_chains_until_they_are_as_low_as_the_data():
    theta, x, x_lab, y, _ = step_case()
    update = SGLD(0.02, 0.0, box=(-3.0, 3.0))

    def step(delta, K_max):
        buffer = buffer_start(12, (3,), seed=2, box=(-3.0, 3.0), dtype=np.float64)
        args = (2, update, JEMTerms(), 0.0, 0.0, 9, 1, (-3.0, 3.0))
        return jem_step(ebm_ref, MLP, theta, x, x_lab, y, buffer, *args, balance="steps", delta=delta, K_max=K_max)[2]

    short, long, capped = step(1e9, 40), step(-1.0, 400), step(-1e9, 7)
    assert short["K"] == 2 and capped["K"] == 7 and 2 < long["K"] < 400
    assert long["gap"] <= -1.0
    plain = buffer_start(12, (3,), seed=2, box=(-3.0, 3.0), dtype=np.float64)
    want, _ = langevin_run(MLP, theta, short["x_neg"], 5, update, 9, 9)  # 7 t + 2, without noise
    assert (capped["x_neg"] == want).all() and plain.ptr == 0


def test_jem_step__lengthened_chains_draw_at_their_own_addresses():
    theta, x, x_lab, y, buffer = step_case()
    update = SGLD(0.05, 0.3, box=BOX)
    args = (update, JEMTerms(), 0.0, 0.0, 9, 3, BOX)
    kept = buffer_start(12, (3,), seed=2, box=BOX, dtype=np.float64)
    _, _, at = jem_step(ebm_ref, MLP, theta, x, x_lab, y, kept, 0, *args)
    want, _ = langevin_run(MLP, theta, at["x_neg"], 7, update, 9, 3 * 7)
    _, _, info = jem_step(ebm_ref, MLP, theta, x, x_lab, y, buffer, 3, *args, balance="steps", delta=-1e9, K_max=7)
    assert (info["x_neg"] == want).all()


def test_jem_step__returns_the_next_eta():
    theta, x, x_lab, y, buffer = step_case()
    args = (2, UPDATE, JEMTerms(), 0.0, 0.0, 9, 1, BOX)
    _, _, info = jem_step(
        ebm_ref, MLP, theta, x, x_lab, y, buffer, *args, balance="energy_target", kappa=0.2, eta_bounds=(0.01, 1.0)
    )
    assert info["eta"] == energy_target(0.05, float(info["gap"]), 0.2, 0.01, 1.0) != 0.05


def test_jem_step__weighs_its_negative_half():
    theta, x, x_lab, y, buffer = step_case()
    args = (2, UPDATE, JEMTerms(), 0.0, 0.0, 9, 1, BOX)
    _, _, info = jem_step(ebm_ref, MLP, theta, x, x_lab, y, buffer, *args, balance="weight")
    assert 0 < info["ratio"] <= 1


def test_jem_batch__is_two_permutations():
    labelled = np.array([3, 8, 5, 1, 9, 0, 7])
    seen, marked = [], []
    for step in range(5):
        idx, idx_lab = jem_batch(10, labelled, 2, 4, step)
        assert idx.shape == idx_lab.shape == (2,)
        seen += idx.tolist()
        marked += idx_lab.tolist()
    assert sorted(seen) == list(range(10)) and len(set(marked[:6])) == 6 and set(marked) <= set(labelled.tolist())
    idx, idx_lab = jem_batch(50, np.arange(50), 25, 4, 0)
    assert (idx != idx_lab).any()  # two shuffles, not one
    assert (jem_batch(10, labelled, 2, 4, 5)[0] != jem_batch(10, labelled, 2, 4, 0)[0]).any()
    assert set(jem_batch(10, labelled[:2], 5, 4, 0)[1].tolist()) == {3, 8}  # fewer labels than a batch
    with pytest.raises(DataError, match="batch of 11"):
        jem_batch(10, labelled, 11, 4, 0)
    with pytest.raises(DataError, match="labelled"):
        jem_batch(10, labelled[:0], 2, 4, 0)
    with pytest.raises(RangeError, match="labelled"):
        jem_batch(9, labelled, 2, 4, 0)


# ------------------------------------------------------------------- other backends, other arrays


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


# --------------------------------------------------------------------------------------- bad input

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


def test_jem_step__informative_start_fills_a_buffer_that_trains():
    """A whole small loop: three classes in the plane, from an informative start, to a classifier that is right."""
    rng = np.random.default_rng(1)
    centres = np.array([[-0.6, -0.5], [0.6, -0.5], [0.0, 0.6]])
    y = np.arange(150) % 3
    x = np.clip(centres[y] + 0.1 * rng.normal(size=(150, 2)), *BOX)
    energy = ClassifierEnergy(MLPEnergy((2,), (16, 16)), 3)
    theta = ebm_ref.theta_init(energy, 0, np.float64)
    opt, fit = ebm_ref.adam_init(theta), class_gaussians(x, y, 3)
    buffer = class_buffer_start(60, fit, seed=0, box=BOX)
    for step in range(60):
        i, j = jem_batch(150, np.arange(150), 30, 0, step)
        args = (5, SGLD(0.02, 0.1, box=BOX), JEMTerms(), 0.03, 0.05, 0, step, BOX, fit, True)
        _, grads, _ = jem_step(ebm_ref, energy, theta, x[i], x[j], y[j], buffer, *args)
        theta, opt = ebm_ref.adam_step(theta, grads, opt, 0.01)
    assert (energy.logits(theta, x).argmax(axis=1) == y).mean() > 0.98
    corners = rng.uniform(-1, 1, (150, 2))
    assert ebm_ref.auroc(-energy.energy(theta, x), -energy.energy(theta, corners)) > 0.8
