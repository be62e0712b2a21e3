"""What the two GPU backends make of every argument: the host's arrays, gaps, addresses, no samples, other types."""

import numpy as np
import pytest
from gpu_calls import BACKENDS, DTYPES, LABELS, calls, off_by_one, run_on, with_gaps

import ebm_ref
from ebm_ref.contracts import DTypeError, EbmError, RangeError, ShapeError
from ebm_ref.specs import ULA

PAIRS = [(backend, name) for backend in BACKENDS for name, call in calls(np.float32).items()
         if call.possible(BACKENDS[backend][0])]  # fmt: skip
EVERY = (
    pytest.mark.parametrize(("backend", "name"), PAIRS),
    pytest.mark.parametrize("dtype", DTYPES),
)


def every(test):
    for mark in EVERY:
        test = mark(test)
    return test


def same(found, wanted):
    assert found.keys() == wanted.keys()
    for name, a in wanted.items():
        assert np.array_equal(found[name], a, equal_nan=True), name


def test_calls__are_of_every_public_function():
    for backend, (module, _, _) in BACKENDS.items():
        mine = [call for name, call in calls(np.float32).items() if (backend, name) in PAIRS]
        assert set().union(*(call.names() for call in mine)) == set(module.__all__)


@every
def test_gpu__takes_gaps_and_any_address(backend, dtype, name):
    """The same bits; slots, which are written to, must have no gaps in cupy_raw."""
    call = calls(dtype)[name]
    wanted = run_on(backend, calls(dtype)[name])
    loose = [each for each in call.arrays() if each != "slots" or backend == "numba_cuda"]
    same(run_on(backend, calls(dtype)[name].changed(with_gaps, loose)), wanted)
    same(run_on(backend, calls(dtype)[name].changed(off_by_one)), wanted)
    for alone in call.arrays():
        if not alone.startswith("theta/"):
            same(run_on(backend, calls(dtype)[name].changed(off_by_one, [alone])), wanted)


@every
def test_gpu__has_results_for_no_samples(backend, dtype, name):
    """Of the oracle's shapes and types; sums are 0."""
    found, wanted = run_on(backend, calls(dtype, 0)[name]), calls(dtype, 0)[name].run(ebm_ref)
    assert found.keys() == wanted.keys()
    for key, a in wanted.items():
        assert np.shape(found[key]) == np.shape(a), key
        assert np.ndim(a) == 0 or found[key].dtype == a.dtype, key
        assert np.array_equal(found[key], a), key


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", [name for name, call in calls(np.float32).items() if call.function == "langevin_run"])
@pytest.mark.parametrize("N", [0, 3])
def test_langevin_run__of_no_steps_is_a_copy(backend, dtype, name, N):
    call = calls(dtype, N, K=0)[name]
    found = run_on(backend, call)
    assert np.array_equal(found["0."], call.args["x0"]) and found["0."] is not call.args["x0"]
    assert found["1.energy"].shape == found["1.grad_norm"].shape == (0, N) and found["1.alive"].all()
    assert found["0."].dtype == found["1.energy"].dtype == dtype and found["1.nonfinite"] == 0


@pytest.mark.parametrize("backend", BACKENDS)
def test_langevin_run__names_what_an_energy_lacks(backend):
    module, on, kind = BACKENDS[backend]
    dev = kind()
    with on(dev), pytest.raises(DTypeError, match="energy: expected .* found object without shape and"):
        module.langevin_run(object(), {}, dev.put_as_it_is(np.zeros((3, 2), np.float32)), 1, ULA(0.1), seed=0)


# ------------------------------------------------------------------------------------------- one bad argument


def refusals(backend, call, change, put_all):
    """argument -> the error of the call in which that one array is changed."""
    module, on, kind = BACKENDS[backend]
    found = {}
    for name in call.arrays():
        bad = change(call.get(name))
        if bad is None:
            continue
        dev = kind()
        put = dev.put_as_it_is if put_all else lambda a, bad=bad, dev=dev: a if a is bad else dev.put_as_it_is(a)
        with on(dev):
            try:
                call.with_array(name, bad).run(module, put)
                found[name] = None
            except EbmError as error:
                found[name] = error
    return found


def says(error, name):
    """Whether the message begins with the argument's name."""
    shown = f"theta['{name[6:]}']" if name.startswith("theta/") else name
    return any(word in str(error).partition(": ")[0] for word in (shown, *shown.split("/")))


@every
def test_gpu__refuses_an_array_of_the_host(backend, dtype, name):
    for argument, error in refusals(backend, calls(dtype)[name], lambda a: a.copy(), put_all=False).items():
        if argument in LABELS and error is None:
            continue  # ids and keys are few, and read before a launch
        assert isinstance(error, DTypeError) and says(error, argument), (argument, error)


OTHER = {"f": (np.float16, np.int32), "i": (np.float32,), "u": (np.float32,)}


@every
@pytest.mark.parametrize("which", [0, 1])
def test_gpu__refuses_an_array_of_another_type(backend, dtype, name, which):
    def other(a):
        kinds = OTHER[a.dtype.kind]
        return a.astype(kinds[which]) if which < len(kinds) else None

    for argument, error in refusals(backend, calls(dtype)[name], other, put_all=True).items():
        assert isinstance(error, DTypeError) and says(error, argument), (argument, error)


@every
def test_gpu__refuses_an_array_of_the_other_precision(backend, dtype, name):
    turned = {np.dtype(np.float32): np.float64, np.dtype(np.float64): np.float32}
    for argument, error in refusals(
        backend, calls(dtype)[name], lambda a: a.astype(turned[a.dtype]) if a.dtype in turned else None, put_all=True
    ).items():
        alone = len([a for a in calls(dtype)[name].args.values() if isinstance(a, np.ndarray)]) == 1
        assert isinstance(error, DTypeError) or (alone and error is None), (argument, error)


# which are good with one more axis in front
ANY_SHAPE = {("philox", "counter"), ("index", "bits"), ("norm", "x"), ("repulsion", "x")}


@every
@pytest.mark.parametrize("more", [lambda a: a[None].copy(), lambda a: np.zeros((), a.dtype)], ids=["one more", "none"])
def test_gpu__refuses_an_array_of_other_axes(backend, dtype, name, more):
    for argument, error in refusals(backend, calls(dtype)[name], more, put_all=True).items():
        if (name, argument) in ANY_SHAPE and error is None:
            continue
        fewer = argument == "slots" and isinstance(error, RangeError)  # one slot of four samples, filled: 4
        assert isinstance(error, ShapeError) or fewer, (argument, error)
