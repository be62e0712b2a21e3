"""coupling_cost and repulsion of cupy_raw on the host build: tiles, order of threads, races. The rest is the kit's."""

import importlib
from pathlib import Path

import numpy as np
import pytest
from cupy_host import DTYPES, moved, normals

import ebm_ref
from ebm_fast import cupy_raw
from ebm_fast.cupy_raw import coupling
from ebm_fast.cupy_raw.device import on
from ebm_fast.verify.host_asan import run_in_asan
from ebm_fast.verify.host_build import host_device, launched
from ebm_ref.contracts import NonFiniteError, RangeError, ShapeError

REPULSION = importlib.import_module("ebm_fast.cupy_raw.repulsion")  # the file, whose name its function has too
SHAPES = [(1, 1), (3, 70), (17, 5), (64, 64), (65, 33), (130, 129)]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", SHAPES)
def test_coupling_cost__is_relatively_right_and_the_same_in_any_tile(shape, dtype):
    """Near pairs among them: by products they would be lost."""
    x0 = normals(1, shape, dtype) + 100
    x1 = (x0[::-1] + normals(2, shape, dtype, 1e-3)).astype(dtype)
    want, found = ebm_ref.coupling_cost(x0.astype(np.float64), x1.astype(np.float64)), []
    for processors in (1, 10**6):
        before = launched()
        with on(host_device(processors=processors)):
            found.append(cupy_raw.coupling_cost(x0, x1))
        name = f"coupling_cost_{'wide' if processors == 1 else 'slim'}"
        assert launched()["coupling.cu", name] == before.get(("coupling.cu", name), 0) + 1
    assert found[0].tobytes() == found[1].tobytes()
    assert np.abs(found[0] / want - 1).max() < (1e-5 if dtype == np.float32 else 1e-13)


def test_coupling_cost__adds_up_in_pieces():
    """2^18 equal squares: one long sum in float32 rounds ten times as much."""
    x0, x1 = np.full((1, 2**18), 0.1, np.float32), np.zeros((1, 2**18), np.float32)
    right, long = 2**18 * float(x0[0, 0]) ** 2, np.cumsum(x0**2, dtype=np.float32)[-1]
    with on(host_device()):
        (cost,) = cupy_raw.coupling_cost(x0, x1)[0]
    assert abs(cost / right - 1) < 3e-5 < 3e-4 < abs(long / right - 1)


@pytest.mark.parametrize("shape", [(66, 9), (64, 8), (68, 3)])
def test_coupling_cost__does_not_ask_for_alignment_or_a_grid(shape, monkeypatch):
    x0, x1 = normals(3, shape, np.float32), normals(4, shape, np.float32)
    with on(host_device(processors=1)):
        want = cupy_raw.coupling_cost(x0, x1)
        assert cupy_raw.coupling_cost(moved(x0), moved(x1, 3)).tobytes() == want.tobytes()
        cost = moved(np.zeros((len(x0), len(x0)), np.float32))
        coupling.cost_apply(x0, x1, cost)
        assert cost.tobytes() == want.tobytes()
        monkeypatch.setattr(coupling, "MAX_Y", 1)
        assert cupy_raw.coupling_cost(x0, x1).tobytes() == want.tobytes()


def test_coupling_cost__refuses_bad_input():
    x = normals(5, (3, 2), np.float32)
    with on(host_device()):
        for bad in (np.where(x == x[1, 1], np.nan, x), np.where(x == x[1, 1], np.inf, x)):
            with pytest.raises(NonFiniteError, match="x0: "):
                cupy_raw.coupling_cost(bad, x)
            with pytest.raises(NonFiniteError, match="x1: "):
                cupy_raw.coupling_cost(x, bad)
        with pytest.raises(ShapeError, match=r"x0: expected \(B, \*shape\) with B >= 1"):
            cupy_raw.coupling_cost(x[:0], x[:0])


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", [(1, 1, 1), (3, 2, 2), (40, 5, 7), (2, 33, 65), (5, 16, 4, 4, 3)])
def test_repulsion__is_the_oracle_s_in_any_order_and_grid(shape, dtype, monkeypatch):
    x = normals(6, shape, dtype) + dtype(3)
    with on(host_device(order="forward")):
        W, push = cupy_raw.repulsion(x, 0.3, 0.7)
    want = ebm_ref.repulsion(x.astype(np.float64), 0.3, 0.7)
    eps = float(np.finfo(dtype).eps)
    assert np.abs(push - want[1]).max() <= 40 * eps * 3 * 0.3 * shape[1] / 0.49
    assert np.abs(W - want[0]).max() <= 100 * eps * np.abs(want[0]).max() + 100 * eps * shape[1] * push[0].size
    monkeypatch.setattr(REPULSION, "MAX_BLOCKS", 1)
    for order in ("reverse", "random"):
        with on(host_device(order=order, seed=3)):
            again = cupy_raw.repulsion(x, 0.3, 0.7)
        assert again[0].tobytes() == W.tobytes() and again[1].tobytes() == push.tobytes()


def test_repulsion__of_a_group_does_not_depend_on_the_others():
    x = normals(7, (9, 4, 37), np.float32)
    with on(host_device()):
        W, push = cupy_raw.repulsion(x, 0.3, 0.7)
        part = cupy_raw.repulsion(x[4:6], 0.3, 0.7)
    assert part[0].tobytes() == W[4:6].tobytes() and part[1].tobytes() == push[4:6].tobytes()


def test_repulsion__refuses_bad_input():
    x = normals(8, (2, 3, 4), np.float32)
    with on(host_device()):
        with pytest.raises(ShapeError, match=r"x: expected \(N, C, \*shape\) with C >= 1"):
            cupy_raw.repulsion(x[:, :0], 0.1, 1.0)
        with pytest.raises(RangeError, match="sigma"):
            cupy_raw.repulsion(x, 0.1, 0.0)


def launch_all(build):
    for processors in (1, 132):
        with on(host_device(build, processors=processors)):
            for shape in SHAPES:
                cupy_raw.coupling_cost(normals(9, shape, np.float32), normals(10, shape, np.float32))
            for shape in ((3, 2, 2), (2, 33, 65), (40, 5, 7)):
                cupy_raw.repulsion(normals(11, shape, np.float32), 0.3, 0.7)


def test_coupling__has_no_races():
    launch_all("race")


def test_coupling__stays_in_its_arrays():
    here = f"import sys; sys.path.insert(0, {str(Path(__file__).parent)!r})\n"
    done = run_in_asan(["-c", here + "import test_cupy_raw_coupling as t; t.launch_all('asan'); print('all')"], 400)
    assert done.stdout.strip() == "all", done.stderr
