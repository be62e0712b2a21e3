"""ebm_ref is a backend: every public function and class of its rooms is exported flat."""

from __future__ import annotations

import importlib
import inspect
import pkgutil

import pytest

import ebm_ref

MODULES = [
    name
    for _, name, is_room in pkgutil.walk_packages(ebm_ref.__path__, "ebm_ref.")
    if not is_room and name.split(".")[-1] not in ("contracts", "specs", "parts")
]


@pytest.mark.parametrize("name", MODULES)
def test_ebm_ref__exports_every_public_name(name):
    module = importlib.import_module(name)
    for key, value in vars(module).items():
        if key.startswith("_") or getattr(value, "__module__", None) != name:
            continue
        if inspect.isclass(value) or inspect.isfunction(value):
            assert getattr(ebm_ref, key, None) is value, f"{name}.{key}"
            assert key in ebm_ref.__all__


def test_ebm_ref__exports_nothing_that_is_not_there():
    assert len(set(ebm_ref.__all__)) == len(ebm_ref.__all__)
    assert all(hasattr(ebm_ref, name) for name in ebm_ref.__all__)


def test_ebm_ref__documents_every_public_function():
    for name in ebm_ref.__all__:
        value = getattr(ebm_ref, name)
        if inspect.isfunction(value) or inspect.isclass(value):
            assert (value.__doc__ or "").strip(), name
