"""numba_cuda compiled for a card on a machine without one: every kernel, and what none of them may hold."""

import importlib
import importlib.util
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from ebm_fast.numba_cuda import build

ROOT = Path(__file__).parent.parent
NO_COMPILER = None if importlib.util.find_spec("numba_cuda") else 'pip install "ebm-oracle[cuda13]": no numba-cuda here'


def ptx_module():
    if NO_COMPILER:
        pytest.skip(NO_COMPILER)
    return importlib.import_module("ebm_fast.numba_cuda.ptx")


def test_ptx__is_made_of_every_body_in_both_real_types():
    ptx = ptx_module()
    assert {b.body for b in ptx.builds()} == set(build.BODIES)
    single, double = ({(b.body, b.order) for b in ptx.builds() if b.dtype == dtype} for dtype in ("float32", "float64"))
    assert double <= single and all(name.endswith(("_block", "_one")) for name, _ in single - double)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_ptx__holds_no_double_in_single_no_stack_and_no_atomic(dtype):
    ptx = ptx_module()
    wrong = {str(b): lines for b in ptx.builds() if b.dtype == dtype and (lines := ptx.misuse(b))}
    assert wrong == {}


def planted_double(i, x):
    x[i] = x[i] * (np.float64(1) / np.float64(3))  # times a third, which is no float32


def planted_stack(i, x):
    table = cuda.local.array(4, np.float32)
    for k in range(4):
        table[k] = x[k]
    x[i] = table[np.int64(x[i]) % 4]


def planted_atomic(i, x):
    cuda.atomic.add(x, 0, x[i])


cuda = SimpleNamespace()  # numba.cuda, where it is there


@pytest.mark.parametrize(
    ("body", "found"), [(planted_double, ".f64"), (planted_stack, "local"), (planted_atomic, "atom")]
)
def test_misuse__sees_what_it_is_for(body, found, monkeypatch):
    ptx = ptx_module()
    monkeypatch.setitem(globals(), "cuda", importlib.import_module("numba.cuda"))
    monkeypatch.setitem(build.BODIES, body.__name__, body)
    argument = importlib.import_module("numba").typeof(np.zeros(2, np.float32))
    lines = ptx.misuse(ptx.Build(body.__name__, "float32", 0, (argument,)))
    assert lines and all(found in line for line in lines)


def test_ptx__compiles_where_numpy_has_no_row_stack():
    """As in NumPy 2.5; in a process of its own, because Numba loads its functions once."""
    code = (
        "import warnings; warnings.simplefilter('ignore')\n"
        "import numpy as np; np.__dict__.pop('row_stack', None)\n"
        "np.__all__ = [name for name in np.__all__ if name != 'row_stack']\n"
        "from ebm_fast.numba_cuda.ptx import builds, ptx\n"
        "assert not hasattr(np, 'row_stack') and '.entry' in ptx(builds()[0])"
    )
    ptx_module()
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
