"""numba_cuda without a card: its threads in any order, Numba's simulator, what the launchers ask of arrays.

Equality with the oracle is the kit's, in the typed build.
"""

import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from duck import Duck

from ebm_fast import numba_cuda
from ebm_fast.numba_cuda.device import Typed, current, launch, on
from ebm_fast.verify import numba_typed
from ebm_ref.contracts import BackendError, DTypeError, RangeError, ShapeError
from ebm_ref.descent_specs import AdamDescent, GradientDescent, LookAheadDescent, NesterovDescent
from ebm_ref.specs import SGLD

ROOT = Path(__file__).parent.parent
DTYPES = pytest.mark.parametrize("dtype", [np.float32, np.float64], ids=["float32", "float64"])
UPDATES = [
    SGLD(0.1, 0.01, clip=0.05, clip_norm=0.1, box=(-1.0, 1.0), order=order)
    for order in ("noise_first", "gradient_first")
]
RULES = [GradientDescent(0.1), NesterovDescent(0.1), LookAheadDescent(0.1), AdamDescent(0.1)]


def numbers(seed, shape, dtype):
    return np.random.default_rng(seed).standard_normal(shape).astype(dtype)


def energies():
    image = {"shape": (4, 5, 2), "channels": (2, 4), "strides": (1, 2), "residual": True}
    yield numba_cuda.ConvEnergy(**image, max_groups=2)
    yield numba_cuda.DeepConvEnergy((4, 4, 2), channels=(2, 4), blocks=(1, 1), max_groups=2)
    yield numba_cuda.MLPEnergy((4, 2), hidden=(5, 3), layer_norm=True, activation="gelu")
    yield numba_cuda.FieldEnergy(next(fields()))


def fields():
    yield numba_cuda.ConvField((4, 4, 2), channels=(2, 3), max_groups=1)
    yield numba_cuda.MLPField((3,), hidden=(4, 2), activation="gelu")


def everything(dtype, N=67, put=lambda a: a):
    """(name, result) of every public function; N is more than the parts into which sums over samples are cut."""
    yield (
        "philox",
        numba_cuda.noise_philox(put(np.arange(8, dtype=np.uint32).reshape(2, 4)), put(np.ones(2, np.uint32))),
    )
    bits = numba_cuda.noise_bits(5, 1, 2, np.arange(N), 6)
    yield "bits", bits
    yield "index", numba_cuda.noise_index(bits, 7)
    yield "permutation", numba_cuda.noise_permutation(5, 1, 2, N)
    u = numba_cuda.noise_uniform(5, 1, 2, np.arange(N), 1, np.float64)
    yield "uniform", numba_cuda.noise_uniform(5, 1, 2, np.arange(N), 6, dtype)
    yield "normal", numba_cuda.noise_normal(5, 1, 2, np.arange(N), 6, dtype)
    x, y = (put(numbers(seed, (N, 5, 4, 2), dtype)) for seed in (1, 2))
    yield "step", numba_cuda.langevin_step(x, y, x, 0.1, 0.2, clip=1.0, clip_norm=0.5, box=(-1.0, 1.0))
    yield "jitter", numba_cuda.langevin_jitter(x, y, 0.1)
    filled = N // 2 + 1
    slots = put(numbers(3, (filled, 5, 4, 2), dtype))
    x0, idx, restart = numba_cuda.buffer_draw(slots, filled, bits[:, 0], u.reshape(N), y, 0.3)
    yield from (("draw.x0", x0), ("draw.idx", idx), ("draw.restart", restart))
    for policy, given in (("in_place", {"idx": idx}), ("fifo", {}), ("reservoir", {"bits": bits[:, 1]})):
        slots = put(numbers(3, (filled, 5, 4, 2), dtype))
        yield f"push.{policy}.ptr", numba_cuda.buffer_push(slots, filled, 2**33, x, policy, **given)
        yield f"push.{policy}", slots
    w, b = put(numbers(4, (3, 2, 2, 3), dtype)), put(numbers(5, (3,), dtype))
    out = numba_cuda.conv2d_forward(x, w, b, 2)
    yield "conv", out
    for name, value in zip(("dx", "dw", "db"), numba_cuda.conv2d_backward(x, w, out, 2), strict=True):
        yield f"conv.{name}", value
    gamma, beta = put(numbers(6, (2,), dtype)), put(numbers(7, (2,), dtype))
    yield "norm", numba_cuda.group_norm_forward(x, gamma, beta, 2)
    for name, value in zip(("dx", "dgamma", "dbeta"), numba_cuda.group_norm_backward(x, gamma, y, 1), strict=True):
        yield f"norm.{name}", value
    if N:
        yield "coupling", numba_cuda.coupling_cost(x, y)
    yield from zip(("repulsion.W", "repulsion"), numba_cuda.repulsion(x, 0.1, 0.7), strict=True)
    for energy in energies():
        yield from of_energy(energy, dtype, N, put)
    for field in fields():
        yield from of_field(field, dtype, N, put)


def of_energy(energy, dtype, N, put=lambda a: a):
    name = type(energy).__name__
    shapes = energy.theta_shapes()
    theta = {key: put(numbers(i, shape, dtype) / 2) for i, (key, shape) in enumerate(shapes.items())}
    x, v, w = (put(numbers(90 + k, shape, dtype)) for k, shape in enumerate([(N, *energy.shape)] * 2 + [(N,)]))
    yield f"{name}.energy", energy.energy(theta, x)
    yield f"{name}.grad_x", energy.grad_x(theta, x)
    yield f"{name}.hvp", energy.hvp(theta, x, v)
    for grads in (energy.grad_theta(theta, x, w), energy.grad_theta_along(theta, x, v)):
        yield from ((f"{name}.{key}", grad) for key, grad in grads.items())
    for update in UPDATES:
        chain, info = numba_cuda.langevin_run(energy, theta, x, 2, update, 7, step=3)
        yield from ((f"{name}.{update.order}.{key}", getattr(info, key)) for key in ("energy", "grad_norm", "alive"))
        yield f"{name}.{update.order}", chain


def of_field(field, dtype, N, put=lambda a: a):
    name = type(field).__name__
    shapes = field.theta_shapes()
    theta = {key: put(numbers(i, shape, dtype) / 2) for i, (key, shape) in enumerate(shapes.items())}
    x, v, g, h = (put(numbers(90 + k, (N, *field.shape), dtype)) for k in range(4))
    yield f"{name}.field", field.field(theta, x)
    yield from zip((f"{name}.jvp.f", f"{name}.jvp"), field.field_jvp(theta, x, v), strict=True)
    yield f"{name}.vjp", field.field_vjp(theta, x, g)
    for grads in (field.field_grad_theta(theta, x, g), field.field_grad_theta_along(theta, x, g, h, v)):
        yield from ((f"{name}.{key}", grad) for key, grad in grads.items())
    for rule in RULES:
        K = 18 if rule is RULES[0] else 3  # past a look at who moves, or a few steps
        end, state, info = numba_cuda.descent_run(field, theta, x, K, rule, 0.5)
        yield f"{name}.{type(rule).__name__}", end
        seen = state | info.extra | {"grad_norm": info.grad_norm, "alive": info.alive}
        yield from ((f"{name}.{type(rule).__name__}.{key}", value) for key, value in seen.items())


def frozen(results, get=lambda a: a):
    return {name: np.asarray(get(value)).tobytes() for name, value in results}


@pytest.fixture(scope="module")
def forward():
    """What every function gives, its threads in order: name -> bytes, for each dtype."""
    with on(Typed()):
        return {dtype: frozen(everything(dtype)) for dtype in (np.float32, np.float64)}


@DTYPES
@pytest.mark.parametrize("order", ["reverse", "random"])
def test_numba_cuda__does_not_depend_on_the_order_of_threads(forward, order, dtype):
    with on(Typed(order)):
        found = frozen(everything(dtype))
    assert [name for name in found if found[name] != forward[dtype][name]] == []
    assert set(forward[dtype]) == set(found) and len(found) > 60


@DTYPES
def test_numba_cuda__has_results_for_no_samples(dtype):
    with on(Typed()):
        results = dict(everything(dtype, N=0))
    sums = [
        np.asarray(value) for name, value in results.items() if name.rpartition(".")[2] in ("dw", "db", "w", "dgamma")
    ]
    assert len(sums) > 10 and all((a == 0).all() and a.size for a in sums)
    assert results["conv"].shape == (0, 3, 2, 3) and results["MLPEnergy.noise_first"].shape == (0, 4, 2)


# ----------------------------------------------------------------------------- arrays that are not NumPy's


class OnDuck(Typed):
    """A card of sorts: its arrays refuse every silent conversion to NumPy, as CuPy's do."""

    def adopt(self, name, x):
        if not isinstance(x, Duck):
            raise DTypeError(f"{name}: expected an array on a card, found {type(x).__name__}")
        return x

    def array(self, name, x):
        return Duck(np.ascontiguousarray(self.adopt(name, x).get()))

    def empty(self, shape, dtype):
        return Duck(super().empty(shape, dtype))

    def put(self, x):
        return Duck(np.array(x))

    def get(self, x):
        return x.get()

    def launch(self, body, dtype, order, n, args):
        super().launch(body, dtype, order, n, [a._inside if isinstance(a, Duck) else a for a in args])


def like_cupy(monkeypatch):
    """The methods that CuPy's arrays have beside those of a Duck, and the truth and value of a single number."""
    for name in ("astype", "min", "max", "all"):
        monkeypatch.setattr(
            Duck, name, lambda self, *a, name=name: Duck(getattr(self._inside, name)(*a)), raising=False
        )
    for name in ("__bool__", "__int__"):
        monkeypatch.setattr(Duck, name, lambda self, name=name: getattr(self._inside, name)())


def test_numba_cuda__asks_of_arrays_what_cupy_s_answer(forward, monkeypatch):
    like_cupy(monkeypatch)
    monkeypatch.setattr(OnDuck, "array", OnDuck.adopt)  # the cases have no gaps; `buffer_push` writes to its own
    with on(OnDuck()):
        found = frozen(everything(np.float32, put=Duck.of), lambda a: a.get() if isinstance(a, Duck) else a)
        with pytest.raises(DTypeError, match="x: expected an array on a card"):
            numba_cuda.langevin_jitter(np.zeros((1, 2)), Duck.of(np.zeros((1, 2))), 0.1)
    assert [name for name in found if found[name] != forward[np.float32][name]] == []


def test_langevin_run__of_a_network_is_the_run_of_any_energy():
    class Derived(numba_cuda.ConvEnergy):
        def energy_and_grad_x(self, theta, x):
            asked.append(x.shape)
            return super().energy_and_grad_x(theta, x)

    energy, asked = next(energies()), []
    derived = Derived(**vars(energy))
    with on(Typed()):
        one, two = (frozen(of_energy(some, np.float64, 3)) for some in (energy, derived))
    assert list(one.values()) == list(two.values()) and len(asked) >= 4


def test_langevin_step__refuses_a_number():
    one = np.array(1.0)
    with on(Typed()):
        for call in (
            lambda: numba_cuda.langevin_step(one, one, one, 0.1, 0.1),
            lambda: numba_cuda.langevin_jitter(one, one, 0.1),
        ):
            with pytest.raises(ShapeError, match="x: expected .*found a number"):
                call()


def test_buffer_push__writes_to_slots_with_gaps():
    wide = np.zeros((4, 6))
    with on(Typed()):
        numba_cuda.buffer_push(wide[:, ::2], 4, 0, np.ones((2, 3)), "in_place", idx=np.array([3, 1]))
    assert wide[:, ::2].tolist() == [[0] * 3, [1] * 3, [0] * 3, [1] * 3] and not wide[:, 1::2].any()


# ----------------------------------------------------------------------------------- devices and builds


def test_current__says_that_there_is_no_card():
    cuda = pytest.importorskip("numba.cuda")
    if cuda.is_available():
        pytest.skip("a card is here")
    with pytest.raises(BackendError, match="needs a CUDA card"):
        numba_cuda.noise_bits(0, 0, 0, np.arange(1), 1)


def test_card__takes_arrays_on_a_card_alone():
    card = pytest.importorskip("ebm_fast.numba_cuda.card")

    class Own:
        def __init__(self, made=None, device=0):
            self.made, self.device = made, SimpleNamespace(id=device)

    runtime = SimpleNamespace(getDevice=lambda: 0)
    cupy = SimpleNamespace(ndarray=Own, cuda=SimpleNamespace(runtime=runtime))
    cupy.asarray, cupy.from_dlpack = lambda x: Own(("asarray", x)), lambda x: Own(("from_dlpack", x), x.number)
    here = card.Card.__new__(card.Card)
    here.cupy = cupy
    own, numba, torch = Own(), SimpleNamespace(__cuda_array_interface__={}), Shared()
    managed = Shared(13)
    assert here.adopt("x", own) is own and here.adopt("x", numba).made == ("asarray", numba)
    assert here.adopt("x", torch).made == ("from_dlpack", torch)
    assert here.adopt("x", managed).made == ("from_dlpack", managed)
    for far in (Own(device=1), Shared(number=1)):
        with pytest.raises(DTypeError, match="x: expected an array on CUDA device 0, found one on 1"):
            here.adopt("x", far)
    with pytest.raises(DTypeError, match="x: .*CUDA card, found ndarray in host memory; cupy.asarray"):
        here.adopt("x", np.zeros(2))
    for other in ([1.0], SimpleNamespace(__dlpack_device__=lambda: (1, 0))):
        with pytest.raises(DTypeError, match="x: expected an array on a CUDA card"):
            here.adopt("x", other)


class Shared:
    """A tensor of PyTorch: both protocols, and an error of its own from the second where it requires grad."""

    def __init__(self, kind=2, number=0):
        self.kind, self.number = kind, number

    def __dlpack_device__(self):
        return self.kind, self.number

    @property
    def __cuda_array_interface__(self):
        raise RuntimeError("Can't get __cuda_array_interface__ on Variable that requires grad.")


def test_card__says_why_an_array_is_not_shared():
    card = pytest.importorskip("ebm_fast.numba_cuda.card")

    def refuse(x):
        raise BufferError("Can't export tensors that require gradient, use tensor.detach()")

    here = card.Card.__new__(card.Card)
    here.cupy = SimpleNamespace(ndarray=Duck, asarray=refuse, from_dlpack=refuse)
    with pytest.raises(DTypeError, match="x: expected an array that can be shared, found Shared: Can't export"):
        here.adopt("x", Shared())


def next_one(i, x, out):
    out[i] = x[i + 1]


def test_typed__checks_every_index_and_poisons_new_arrays():
    with on(Typed()):
        fresh = current().empty((2,), np.float32)
        assert np.isnan(fresh).all() and (current().empty((2,), np.int64) == 2**63 - 1).all()
        launch(next_one, np.float32, 1, np.arange(2, dtype=np.float32), fresh)
        assert fresh[0] == 1 and np.isnan(fresh[1])
        with pytest.raises(IndexError):
            launch(next_one, np.float32, 2, np.arange(2, dtype=np.float32), fresh)


def test_typed__refuses_an_unknown_order():
    with pytest.raises(RangeError, match="order"):
        Typed("backwards")


def test_numba_typed__is_the_backend_under_its_own_names():
    assert numba_typed.__all__ == numba_cuda.__all__
    assert numba_typed.langevin_step.__wrapped__ is numba_cuda.langevin_step
    with pytest.raises(AttributeError, match="has no mala_run; it exists in ebm_ref"):
        numba_typed.mala_run  # noqa: B018


# ---------------------------------------------------------------------------------------- simulator

SIMULATION = """
import sys
import numpy as np
from ebm_fast.numba_cuda import build, card
from test_numba_cuda import everything

seen, run = set(), card.Simulated.launch
def launch(self, body, *rest):
    seen.add(body.__name__)
    run(self, body, *rest)
card.Simulated.launch = launch
for dtype in ("float32", "float64"):
    np.savez(f"{sys.argv[1]}/{dtype}.npz", **dict(everything(np.dtype(dtype).type, N=2)))
print(sorted(set(build.BODIES) - seen))
"""


def test_numba_cuda__runs_in_the_simulator(record_property, tmp_path):
    """Every kernel, thread by thread in plain Python, gives what the typed build gives, but for roundings."""
    pytest.importorskip("numba.cuda")
    record_property("twin", "numba_cuda")
    env = os.environ | {"NUMBA_ENABLE_CUDASIM": "1", "PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "tests")])}
    command = [sys.executable, "-W", "ignore", "-c", SIMULATION, str(tmp_path)]
    done = subprocess.run(command, env=env, cwd=ROOT, capture_output=True, text=True, timeout=280)
    assert done.returncode == 0, done.stderr
    assert done.stdout == "[]\n"  # no body was left out
    for dtype in (np.float32, np.float64):
        with on(Typed()):
            typed = {name: np.asarray(value) for name, value in everything(dtype, N=2)}
        simulated = np.load(tmp_path / f"{np.dtype(dtype)}.npz")
        assert set(simulated) == set(typed)
        for name, value in typed.items():
            assert simulated[name].dtype == value.dtype, name
            unit = 1e-4 if dtype == np.float32 else 1e-11
            assert np.allclose(simulated[name], value, rtol=unit, atol=unit), name
