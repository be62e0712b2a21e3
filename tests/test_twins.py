"""Every function of every backend through the kit, and every twin's signature against the oracle's."""

import inspect

import numpy as np
import pytest

import ebm_ref
from ebm_fast import verify
from ebm_fast.verify.case import export
from ebm_fast.verify.runner import DTYPES, dtypes_of, open_twin, why_not

SLOW = ("conv_energy", "mlp_energy", "deep_conv_energy", "classifier_energy", "langevin_run")
SLOW += ("mlp_field", "conv_field", "field_energy", "descent_run")
METHODS = ("energy", "grad_x", "energy_and_grad_x", "grad_theta", "grad_theta_along", "hvp")
OF_FIELDS = ("field", "field_jvp", "field_vjp", "field_grad_theta", "field_grad_theta_along")
OF_CLASSES = ("given", "logits", "features", "logits_backward", "logits_grad_x", "logits_grad_theta")
NOT_ON_A_CARD = ["classifier_energy", "coupling_assign"]
PAIRS = [
    pytest.param(function, twin, dtype, id=f"{function}-{twin}-{dtype}")
    for function in verify.FUNCTIONS
    for twin in verify.TWINS
    for dtype in dtypes_of(function, DTYPES)
]


@pytest.mark.parametrize(("function", "twin", "dtype"), PAIRS)
def test_twin__matches_ref(function, twin, dtype, record_property):
    record_property("twin", twin)
    dtypes = [dtype] if dtype in DTYPES else DTYPES  # one of whole numbers has its own
    cases = 12 if function in SLOW else 200 if twin == "host_build" else 25
    (row,) = verify.run([twin], [function], dtypes, cases=cases)
    if row.status == "skip":
        pytest.skip(row.why)
    assert row.status == "pass", f"\n{verify.format_rows([row])}"
    assert row.cases >= 5


@pytest.mark.parametrize("twin", [name for name in verify.TWINS if name not in ("ebm_ref", "naive")])
def test_twin__normals_are_the_oracle_s(twin, record_property):
    """In float32 677,000 of them to 1e-7 by the 2-norm, one alone to 1e-6: two ulps of a normal above 4."""
    record_property("twin", twin)
    if why_not(twin):
        pytest.skip(why_not(twin))
    address = (2**50 + 1, 7, 77, np.arange(330), 2051)
    for dtype, far, furthest in ((np.float32, 1e-7, 1e-6), (np.float64, 1e-15, 1e-14)):
        wanted = ebm_ref.noise_normal(*address, dtype).astype(np.float64)
        error = open_twin(twin).noise_normal(*address, dtype) - wanted
        assert np.linalg.norm(error) < far * np.linalg.norm(wanted)
        assert np.abs(error).max() < furthest


def parameters(callable_):
    return [p for p in inspect.signature(callable_).parameters.values() if p.name != "self"]


def shared_callables(twin):
    """Everything public that the oracle and the twin both have: functions, classes, methods of classes."""
    module = open_twin(twin)
    for name in module.__all__ if hasattr(module, "__all__") else vars(module):
        mine, theirs = getattr(module, name), getattr(ebm_ref, name, None)
        if theirs is None:
            continue
        yield name, mine, theirs
        if inspect.isclass(theirs):
            methods = OF_FIELDS if hasattr(theirs, "field_vjp") else METHODS
            for method in (*methods, *(OF_CLASSES if hasattr(theirs, "logits") else ())):
                yield f"{name}.{method}", getattr(mine, method), getattr(theirs, method)


@pytest.mark.parametrize("twin", [name for name in verify.TWINS if name != "ebm_ref"])
def test_twin__has_the_oracle_s_signature(twin, record_property):
    record_property("twin", twin)
    if why_not(twin):
        pytest.skip(why_not(twin))
    names = []
    for name, mine, theirs in shared_callables(twin):
        wanted, found = parameters(theirs), parameters(mine)
        assert [(p.name, p.default) for p in found[: len(wanted)]] == [(p.name, p.default) for p in wanted], name
        for extra in found[len(wanted) :]:
            assert extra.kind is extra.KEYWORD_ONLY and extra.default is not extra.empty, f"{name}: {extra}"
        names.append(name)
    assert {export(function) for function in verify.PROBLEMS if hasattr(open_twin(twin), export(function))} <= {*names}


@pytest.mark.parametrize(
    ("twin", "leaves_out"),
    [("numba_cpu", []), ("numba_cuda", NOT_ON_A_CARD), ("host_build", NOT_ON_A_CARD)],
)
def test_twin__leaves_out_no_hot_function(twin, leaves_out):
    """host_build has what cupy_raw has. No twin yet: what is not needed on a card, or not hot there."""
    if why_not(twin):
        pytest.skip(why_not(twin))
    module = open_twin(twin)
    assert {name for name in verify.PROBLEMS if not hasattr(module, export(name))} == {*leaves_out}
