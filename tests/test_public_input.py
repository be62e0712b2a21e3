"""Every public objective, sampler and evaluation refuses bad input by name, with a typed error, before any work.

The names are those of the rooms: one that is in no table, or that takes an argument its call does not give, fails here.
"""

from __future__ import annotations

import inspect
import re
from dataclasses import is_dataclass
from types import ModuleType

import calls_evaluation
import calls_objectives
import calls_samplers
import numpy as np
import pytest
from input_breaks import Watched, breaks

from ebm_ref import evaluation, objectives, samplers
from ebm_ref.contracts import EbmError, ShapeError

TABLES = (
    (objectives, calls_objectives.CALLS),
    (samplers, calls_samplers.CALLS),
    (evaluation, calls_evaluation.CALLS),
)
RECORDS = {  # what a function returns: fields and no rule
    "AISResult", "Attack", "Bracket", "Estimate", "Probe", "Quadrature", "Reliability", "Temperature", "UnrolledStep",
}  # fmt: skip
ELSEWHERE = {"feature_load"}  # reads a file: test_evaluation_inputs
CALLS = {(room, name): call for room, table in TABLES for name, call in table.items()}


def named(key):
    """The name in "name, variant"."""
    return key.split(",")[0]


def public(room):
    """The names of a room that can be called and are no protocol."""
    named = ((name, getattr(room, name)) for name in room.__all__)
    return {name for name, value in named if callable(value) and not getattr(value, "_is_protocol", False)}


@pytest.mark.parametrize(("room", "table"), TABLES, ids=[room.__name__ for room, _ in TABLES])
def test_public_input__has_a_call_of_every_public_name(room, table):
    assert {named(key) for key in table} == public(room) - RECORDS - ELSEWHERE
    for key, call in table.items():
        assert set(call.args()) == set(inspect.signature(getattr(room, named(key))).parameters), key


def test_public_input__records_have_no_rule_of_their_own():
    for name in RECORDS:
        value = getattr(evaluation, name, None) or getattr(samplers, name)
        assert not hasattr(value, "__post_init__") and (is_dataclass(value) or issubclass(value, tuple)), name


def made(call):
    """Fresh arguments, every energy and classifier among them watched; and what they have done."""
    done: list[str] = []

    def watched(value):
        if isinstance(value, list) and value and hasattr(value[0], "energy_and_grad_x"):
            return [Watched(part, done) for part in value]
        plain = isinstance(value, (ModuleType, np.ndarray, dict))
        return Watched(value, done) if not plain and hasattr(value, "theta_shapes") else value

    return {name: watched(value) for name, value in call.args().items()}, done


def ids(cases):
    return [f"{room.__name__.split('.')[-1]}.{name} {argument}: {what}" for room, name, argument, what, *_ in cases]


BROKEN = [
    (room, name, argument, *one)
    for (room, name), call in CALLS.items()
    for argument, value in call.args().items()
    for one in breaks(argument, value, argument in call.signed)
    if one[0] != "a sample more" or call.rows != (argument,)  # a batch alone may have any size
]


@pytest.mark.parametrize(("room", "name"), CALLS, ids=[f"{room.__name__}.{name}" for room, name in CALLS])
def test_public_input__calls_are_valid(room, name):
    call = CALLS[room, name]
    getattr(room, named(name))(**made(call)[0])
    known = {f"{argument}, {what}" for r, n, argument, what, *_ in BROKEN if (r, n) == (room, name)}
    assert set(call.passes) | set(call.late) <= known


@pytest.mark.parametrize(("room", "name", "argument", "what", "value", "errors", "at_odds"), BROKEN, ids=ids(BROKEN))
def test_public_input__names_what_is_wrong(room, name, argument, what, value, errors, at_odds):
    call = CALLS[room, name]
    args, done = made(call)
    args[argument] = value
    function = getattr(room, named(name))
    if f"{argument}, {what}" in call.passes:
        with np.errstate(all="ignore"):
            function(**args)
        return
    with pytest.raises(EbmError) as caught:
        function(**args)
    said = str(caught.value)
    arrays = [key for key, a in args.items() if isinstance(a, (np.ndarray, dict))]
    assert any(re.match(rf"{re.escape(key)}\b", said) for key in (arrays if at_odds else [argument])), said
    assert isinstance(caught.value, errors), repr(caught.value)
    assert "expected" in said or "missing" in said or "unknown" in said, said
    assert done == [] or f"{argument}, {what}" in call.late, f"work was done: {done}"


@pytest.mark.parametrize(
    ("room", "name"), [k for k, c in CALLS.items() if c.rows], ids=[n for (_, n), c in CALLS.items() if c.rows]
)
def test_public_input__of_no_samples(room, name):
    call = CALLS[room, name]
    args, done = made(call)
    args |= {key: args[key][:0] for key in call.rows}
    if call.empty:
        getattr(room, named(name))(**args)
        return
    with pytest.raises(ShapeError) as caught:
        getattr(room, named(name))(**args)
    assert re.match("|".join(rf"{key}\b" for key in call.rows), str(caught.value)), str(caught.value)
    assert done == []
