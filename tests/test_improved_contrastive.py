"""improved_contrastive and icd_step: derivatives, addresses, devices, refusals."""

from __future__ import annotations

import numpy as np
import pytest
from derivatives import check_theta_gradient, close, random_theta
from duck import Duck
from duck_backend import DUCK_BACKEND, Away, inside, outside
from gaussian import Bowl, bowl_theta

import ebm_ref
from ebm_ref import (
    SGLD,
    ULA,
    Augmentation,
    BackendError,
    Buffer,
    ConvEnergy,
    DTypeError,
    ICDTerms,
    MLPEnergy,
    RangeError,
    ShapeError,
    SmoothnessError,
    Stream,
    augment_run,
    buffer_draw,
    buffer_push,
    buffer_start,
    contrastive,
    icd_step,
    improved_contrastive,
    langevin_run,
    neighbour_spread,
    noise_bits,
    noise_normal,
    noise_uniform,
    unrolled_run,
)

BOX = (-1.0, 1.2)
ENERGIES = {
    "mlp": MLPEnergy((3,), (5, 4)),
    "conv": ConvEnergy((4, 3, 2), channels=(4,), strides=(2,), max_groups=2),
}
RULES = {
    "noise_first": SGLD(0.2, 0.1, box=BOX, order="noise_first"),
    "clip": SGLD(0.2, 0.1, clip=0.5, box=BOX),
}


def case(name="mlp", dtype=np.float64, N=6):
    energy, rng = ENERGIES[name], np.random.default_rng(5)
    theta = random_theta(energy, rng, dtype)
    x, x0, reference = (np.clip(rng.normal(size=(N, *energy.shape)), *BOX).astype(dtype) for _ in range(3))
    return energy, theta, x, x0, reference, rng


# ----------------------------------------------------------------------------------- the objective


@pytest.mark.parametrize("depth", [1, 3])
@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("name", ENERGIES)
def test_improved_contrastive__is_the_derivative_of_its_surrogate(name, rule, depth):
    """S(theta) = contrastive(theta; frozen x_K) + kappa_opt mean E(theta_0; x_K(theta)) - kappa_ent spread(x_K(theta)),
    where x_K(theta) re-runs the last `depth` steps.
    """
    energy, theta, x, x0, reference, rng = case(name)
    update, terms, n = RULES[rule], ICDTerms(alpha=0.2, kappa_opt=0.7, kappa_ent=0.4, floor=1e-3), 4
    x_neg, steps, _ = unrolled_run(ebm_ref, energy, theta, x0, depth, update, 8)
    parts = [s.part(n) for s in steps]
    loss, grads, info = improved_contrastive(energy, theta, x, x_neg, parts, update, reference, terms)

    def surrogate(t):
        ends = langevin_run(energy, t, x0, depth, update, 8)[0][:n]
        kl = 0.7 * energy.energy(theta, ends).mean() - 0.4 * neighbour_spread(ends, reference)[0]
        return contrastive(energy, t, x, x_neg, 0.2)[0] + kl

    assert loss == pytest.approx(surrogate(theta), abs=1e-13)
    assert loss == info["loss_contrastive"] + info["loss_opt"] + info["loss_ent"]
    check_theta_gradient(surrogate, grads, theta, rng, 2e-7)


def test_improved_contrastive__without_its_terms_is_contrastive():
    energy, theta, x, x0, _, _ = case()
    x_neg, steps, _ = unrolled_run(ebm_ref, energy, theta, x0, 1, ULA(0.1), 8)
    want = contrastive(energy, theta, x, x_neg, 0.3)
    loss, grads, info = improved_contrastive(
        energy, theta, x, x_neg, steps, ULA(0.1), None, ICDTerms(0.3, kappa_opt=0.0, kappa_ent=0.0)
    )
    assert loss == want[0] and info["gap"] == want[2]["gap"]
    for key in grads:
        np.testing.assert_array_equal(grads[key], want[1][key])


def test_improved_contrastive__ignores_a_constant():
    """0.3, 1, without the regulariser: E + c moves no gradient, and that of the output bias is 0."""
    energy, theta, x, x0, reference, _ = case()
    x_neg, steps, _ = unrolled_run(ebm_ref, energy, theta, x0, 2, ULA(0.1), 8)
    terms = ICDTerms(alpha=0.0)
    _, grads, _ = improved_contrastive(energy, theta, x, x_neg, steps, ULA(0.1), reference, terms)
    moved = theta | {"out.b": theta["out.b"] + 3.0}
    _, again, _ = improved_contrastive(energy, moved, x, x_neg, steps, ULA(0.1), reference, terms)
    close(grads["out.b"], [0.0], 1e-14)
    for key in grads:
        close(again[key], grads[key], 1e-13)


def test_improved_contrastive__adds_up_over_parts_of_a_batch():
    energy, theta, x, x0, reference, _ = case()
    update, terms = RULES["noise_first"], ICDTerms(alpha=0.1)
    x_neg, steps, _ = unrolled_run(ebm_ref, energy, theta, x0, 1, update, 8)
    whole = improved_contrastive(energy, theta, x, x_neg, steps, update, reference, terms)
    halves = []
    for part, chains in ((slice(0, 3), np.arange(3)), (slice(3, 6), np.arange(3, 6))):
        some = unrolled_run(ebm_ref, energy, theta, x0[part], 1, update, 8, chains=chains)
        halves.append(improved_contrastive(energy, theta, x[part], some[0], some[1], update, reference, terms))
    assert whole[0] == pytest.approx((halves[0][0] + halves[1][0]) / 2, rel=1e-12)
    for key in whole[1]:
        close((halves[0][1][key] + halves[1][1][key]) / 2, whole[1][key], 1e-12)


# ------------------------------------------------------------------------------------ a whole step


@pytest.mark.parametrize("policy", Buffer.POLICIES)
@pytest.mark.parametrize("depth", [1, 2, 9])
def test_icd_step__is_its_parts_at_their_addresses(policy, depth):
    energy, theta, x, _, _, _ = case("conv")
    update, (seed, t, K), N, C = RULES["noise_first"], (9, 4, 3), 6, 5
    move = Augmentation(shift=1, flip=True, sigma=0.05)
    terms = ICDTerms(alpha=0.3, references=C, depth=depth, samples=4, augmentation=move)
    buffer = buffer_start(8, energy.shape, seed=1, box=BOX, policy=policy, dtype=np.float64)
    slots = buffer.slots.copy()

    bits = noise_bits(seed, Stream.BUFFER_INDEX, t, np.arange(N + C), 1)[:, 0]
    u = noise_uniform(seed, Stream.BUFFER_MASK, t, np.arange(N), 1)[:, 0]
    fresh = (BOX[0] + (BOX[1] - BOX[0]) * noise_uniform(seed, Stream.BUFFER_FRESH, t, np.arange(N), 24)).reshape(
        x.shape
    )
    x0, idx, restart = buffer_draw(slots, 8, bits[:N], u, fresh, 0.3)
    moved = augment_run(ebm_ref, x0, move, seed, t, BOX)
    x0 = np.where(restart[:, None, None, None], x0, moved)
    assert restart.any() and not restart.all()
    first, last = K - min(depth, K), min(depth, K)
    middle = langevin_run(energy, theta, x0, first, update, seed, t * K)[0]
    x_neg, steps, _ = unrolled_run(ebm_ref, energy, theta, middle, last, update, seed, t * K + first)
    np.testing.assert_array_equal(x_neg, langevin_run(energy, theta, x0, K, update, seed, t * K)[0])
    x_pos = np.clip(x + 0.1 * noise_normal(seed, Stream.DATA_NOISE, t, np.arange(N), 24).reshape(x.shape), *BOX)
    theirs = ebm_ref.noise_index(bits[N:], 8)
    same = idx[:4, None] == theirs
    assert same.any()
    parts = [s.part(4) for s in steps]
    want = improved_contrastive(energy, theta, x_pos, x_neg, parts, update, slots[theirs], terms, same)
    bits = noise_bits(seed, Stream.BUFFER_RESERVOIR, t, np.arange(N), 1)[:, 0]
    buffer_push(slots, 8, 0, x_neg, policy, idx=idx, bits=bits)

    loss, grads, info = icd_step(ebm_ref, energy, theta, x, buffer, K, update, terms, 0.1, 0.3, seed, t, BOX)
    assert loss == want[0] and info["chain"].energy.shape == (K, N) and info["chain"].nonfinite == 0
    for key in grads:
        np.testing.assert_array_equal(grads[key], want[1][key])
    np.testing.assert_array_equal(info["x_neg"], x_neg)
    np.testing.assert_array_equal(info["restart"], restart)
    np.testing.assert_array_equal(buffer.slots, slots)
    assert buffer.ptr == N


class Ledger:
    """The oracle as a backend that writes down every address it draws at, and refuses one that was drawn before."""

    def __init__(self):
        self.drawn = set()

    def chain(self, energy, theta, x0, K, update, seed, step):
        for k in range(K):
            self.noise_normal(seed, Stream.CHAIN_NOISE, step + k, np.arange(len(x0)), x0[0].size)
        return langevin_run(energy, theta, x0, K, update, seed, step)

    def __getattr__(self, name):
        function = getattr(ebm_ref, name)
        if name == "langevin_run":
            return self.chain
        if name not in ("noise_bits", "noise_uniform", "noise_normal"):
            return function

        def draw(seed, stream, step, chains, D, *dtype):
            spare = 4 if name == "noise_normal" and stream == Stream.AUGMENTATION else 0  # drawn, and not used
            for n in np.asarray(chains):
                for d in range(spare, D):
                    address = (int(stream), int(step), int(n), d)
                    assert address not in self.drawn, f"{name} at {address}, drawn before"
                    self.drawn.add(address)
            return function(seed, stream, step, chains, D, *dtype)

        return draw


@pytest.mark.parametrize("start", ["uniform", "data_noise"])
def test_icd_step__draws_every_number_once(start):
    """Two training steps, all parts on: no two purposes, and no two steps, share an address."""
    energy, theta, x, _, _, _ = case("conv")
    buffer = buffer_start(8, energy.shape, seed=1, policy="reservoir", dtype=np.float64)
    ledger, terms = Ledger(), ICDTerms(depth=2, references=5, augmentation=Augmentation(1, True, 0.1))
    for t in (0, 1):
        icd_step(ledger, energy, theta, x, buffer, 1 + terms.depth, RULES["clip"], terms, 0.1, 0.4, 3, t, BOX, start)
    assert {stream for stream, *_ in ledger.drawn} == {
        Stream.DATA_NOISE, Stream.BUFFER_INDEX, Stream.BUFFER_MASK, Stream.BUFFER_FRESH, Stream.BUFFER_RESERVOIR,
        Stream.CHAIN_NOISE, Stream.AUGMENTATION,
    }  # fmt: skip


def test_icd_step__asks_less_of_an_energy_that_has_no_hvp():
    class NoHvp:
        def __init__(self, energy):
            self._energy = energy

        def __getattr__(self, name):
            if name == "hvp":
                raise AttributeError(name)
            return getattr(self._energy, name)

    energy, theta, x, _, _, _ = case()
    lacking, buffer = NoHvp(energy), buffer_start(8, (3,), seed=1, dtype=np.float64)
    args = (2, ULA(0.1))
    icd_step(ebm_ref, lacking, theta, x, buffer, *args, ICDTerms(), 0.0, 0.1, 0, 0, BOX)
    with pytest.raises(BackendError, match="icd_step needs hvp"):
        icd_step(ebm_ref, lacking, theta, x, buffer, *args, ICDTerms(depth=2), 0.0, 0.1, 0, 0, BOX)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_icd_step__keeps_its_dtype(dtype):
    energy, theta, x, _, _, _ = case("conv", dtype)
    buffer = buffer_start(8, energy.shape, seed=1, dtype=dtype)
    terms = ICDTerms(depth=2, augmentation=Augmentation(1, True, 0.1))
    loss, grads, info = icd_step(ebm_ref, energy, theta, x, buffer, 3, RULES["clip"], terms, 0.1, 0.1, 0, 0, BOX)
    found = [loss, info["x_neg"], info["chain"].energy, buffer.slots, *grads.values()]
    assert {a.dtype for a in found} == {np.dtype(dtype)} and (np.isfinite(loss))


@pytest.mark.parametrize("depth", [1, 2])
def test_icd_step__runs_on_any_array_that_answers_numpy(depth):
    energy, theta, x, _, _, _ = case("conv")
    host = buffer_start(8, energy.shape, seed=1, dtype=np.float64)
    device = Buffer(Duck.of(host.slots), host.filled)
    terms = ICDTerms(depth=depth, references=5, augmentation=Augmentation(1, True, 0.1))
    rest = (3, RULES["noise_first"], terms, 0.1, 0.4, 3, 2, BOX)
    want = icd_step(ebm_ref, energy, theta, x, host, *rest)
    loss, grads, info = icd_step(DUCK_BACKEND, Away(energy), outside(theta), Duck.of(x), device, *rest)
    close(inside(loss), want[0], 1e-13)
    for key in grads:
        close(inside(grads[key]), want[1][key], 1e-12)
    close(inside(device.slots), host.slots, 1e-14)
    assert isinstance(info["chain"].alive, Duck)


@pytest.mark.parametrize("depth", [1, 2])
def test_icd_step__with_the_energy_of_numba_cpu_is_the_oracle_s(depth):
    numba_cpu = pytest.importorskip("ebm_fast.numba_cpu")
    energy, theta, x, _, _, _ = case()
    found = []
    for backend, own in ((ebm_ref, energy), (numba_cpu, numba_cpu.MLPEnergy((3,), (5, 4)))):
        buffer = buffer_start(8, (3,), seed=1, dtype=np.float64)
        args = (3, RULES["noise_first"], ICDTerms(depth=depth, references=5), 0.1, 0.4, 3, 2, BOX)
        loss, grads, _ = icd_step(backend, own, theta, x, buffer, *args)
        found.append({"loss": loss, "slots": buffer.slots, **grads})
    for key in found[0]:
        close(found[1][key], found[0][key], 1e-11)


MLP, THETA, X, X0, REFERENCE, _ = case()
_, STEPS, _ = unrolled_run(ebm_ref, MLP, THETA, X0, 1, ULA(0.1), 8)


def objective(energy=MLP, theta=THETA, x_neg=X0, steps=STEPS, reference=REFERENCE, terms=None, same=None):
    terms = ICDTerms() if terms is None else terms
    return improved_contrastive(energy, theta, X, x_neg, steps, ULA(0.1), reference, terms, same)


def step(energy=MLP, theta=THETA, K=1, terms=None, box=BOX, filled=8, start="uniform"):
    buffer = buffer_start(8, (3,), seed=1, dtype=np.float64)
    buffer.filled = filled
    terms = ICDTerms() if terms is None else terms
    return icd_step(ebm_ref, energy, theta, X, buffer, K, ULA(0.1), terms, 0.1, 0.1, 0, 0, box, start)


RELU = MLPEnergy((3,), (4,), "relu")
REFUSED = {
    "alpha": (RangeError, lambda: ICDTerms(alpha=-1.0)),
    "kappa_ent": (RangeError, lambda: ICDTerms(kappa_ent=float("nan"))),
    "floor: ": (RangeError, lambda: ICDTerms(floor=0.0)),
    "references": (RangeError, lambda: ICDTerms(references=0)),
    "depth": (DTypeError, lambda: ICDTerms(depth=1.0)),
    "samples": (RangeError, lambda: ICDTerms(samples=0)),
    "reference: .*None": (ShapeError, lambda: objective(reference=None)),
    "reference: .*float64": (DTypeError, lambda: objective(reference=REFERENCE.astype(np.float32))),
    "reference: .*one sample": (ShapeError, lambda: objective(reference=REFERENCE[:0])),
    r"same: .*\(6, 6\)": (ShapeError, lambda: objective(same=np.zeros((6, 5), bool))),
    "same: .*int64": (ShapeError, lambda: objective(same=np.zeros((6, 6), int))),
    "steps: .*1 to 3": (ShapeError, lambda: objective(x_neg=X0[:3])),
    "len.steps": (RangeError, lambda: objective(steps=[])),
    "improved_contrastive .*relu": (SmoothnessError, lambda: objective(RELU)),
    "improved_contrastive needs": (BackendError, lambda: objective(Bowl((3,)), bowl_theta(1.0))),
    "icd_step .*relu": (SmoothnessError, lambda: step(RELU, {})),
    "K: ": (RangeError, lambda: step(K=0)),
    "buffer: ": (RangeError, lambda: step(filled=0)),
    "box: ": (RangeError, lambda: step(box=None)),
    "start": (RangeError, lambda: step(start="zeros")),
}


@pytest.mark.parametrize("said", REFUSED)
def test_improved_contrastive__refuses_bad_input_by_name(said):
    error, call = REFUSED[said]
    with pytest.raises(error, match=said):
        call()
