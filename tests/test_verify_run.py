"""verify.run: its rows, and the typed errors to which it holds a module."""

import json
from dataclasses import asdict

import pytest

import ebm_ref
from ebm_fast import verify
from ebm_fast.verify import misuse, naive
from ebm_fast.verify.case import export
from ebm_fast.verify.close import Failure
from ebm_ref.contracts import EbmError


def test_run__rows_are_plain_records():
    rows = verify.run(["naive"], ["noise_bits", "conv_energy", "buffer_push"], ["float32"], cases=3)
    assert [(row.function, row.status) for row in rows] == [
        ("noise_bits", "pass"),
        ("conv_energy", "skip"),
        ("buffer_push", "pass"),
    ]
    assert "naive has no ConvEnergy" in rows[1].why
    assert len(verify.format_rows(rows).splitlines()) == 4
    keys = {"function", "twin", "dtype", "cases", "worst", "status", "why", "build"}
    assert all(set(json.loads(json.dumps(asdict(row)))) == keys for row in rows)


def test_run__takes_a_module_and_holds_it_to_the_oracle_s_errors():
    rows = verify.run([naive], ["langevin_jitter"], ["float64"], cases=3)
    assert rows[0].status == "pass" and rows[0].twin == "naive"
    with pytest.raises(Failure, match="expected ShapeError"):
        misuse.check_misuse("conv2d_forward", naive.conv2d_forward, naive)


@pytest.mark.parametrize("function", misuse.MISUSE)
def test_misuse__oracle_refuses_each_with_a_typed_error(function):
    case, bads = misuse.MISUSE[function]
    oracle = getattr(ebm_ref, export(function))
    assert misuse.refusal(case, oracle, ebm_ref) is None
    for bad in bads:
        found = misuse.refusal(misuse.misused(case, bad), oracle, ebm_ref)
        assert found is not None and issubclass(found, EbmError), bad
