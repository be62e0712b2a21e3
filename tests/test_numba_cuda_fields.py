"""The fields of numba_cuda and the energy on them, beside what the kit checks in the typed build."""

import pytest
from strict_device import StrictTyped

import ebm_ref
from ebm_fast import numba_cuda, verify
from ebm_fast.numba_cuda.device import on
from ebm_fast.verify.host_facing import host_facing
from ebm_ref.contracts import DTypeError


def test_host_facing__judges_an_energy_on_a_field_as_on_a_card():
    with on(StrictTyped()):
        rows = verify.run([host_facing(numba_cuda)], ["field_energy"], ["float32"], cases=4)
    assert [row.status for row in rows] == ["pass"], verify.format_rows(rows)


def test_field_energy__takes_a_field_of_its_own_backend():
    with pytest.raises(DTypeError, match=r"field: expected a field of numba_cuda, found ebm_ref\.fields"):
        numba_cuda.FieldEnergy(ebm_ref.MLPField((2,), hidden=(3,)))
