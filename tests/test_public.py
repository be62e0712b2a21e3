"""ebm_ref is a backend: every public function and class of its rooms is exported flat."""

from __future__ import annotations

import importlib
import inspect

import pytest

import ebm_ref

FILES = (
    "jet", "noise", "precision", "rounded", "optim", "diagnostics", "toys", "methods", "recipe", "regularise", "job",
    "state", "train",
)  # fmt: skip
ROOMS = ("layers", "fields", "energies", "samplers", "objectives")


@pytest.mark.parametrize("name", FILES)
def test_ebm_ref__exports_every_public_name_of_a_file(name):
    module = importlib.import_module(f"ebm_ref.{name}")
    for key, value in vars(module).items():
        if not key.startswith("_") and getattr(value, "__module__", None) == module.__name__:
            if inspect.isclass(value) or inspect.isfunction(value):
                assert getattr(ebm_ref, key, None) is value, f"{name}.{key}"
                assert key in ebm_ref.__all__


@pytest.mark.parametrize("name", ROOMS)
def test_ebm_ref__exports_every_public_name_of_a_room(name):
    room = importlib.import_module(f"ebm_ref.{name}")
    for key in room.__all__:
        assert getattr(ebm_ref, key, None) is getattr(room, key), f"{name}.{key}"
        assert key in ebm_ref.__all__


def test_ebm_ref__exports_nothing_that_is_not_there():
    assert len(set(ebm_ref.__all__)) == len(ebm_ref.__all__)
    assert all(hasattr(ebm_ref, name) for name in ebm_ref.__all__)


def test_ebm_ref__documents_every_public_function():
    for name in ebm_ref.__all__:
        value = getattr(ebm_ref, name)
        if inspect.isfunction(value) or inspect.isclass(value):
            assert (value.__doc__ or "").strip(), name
