"""The plan of a network says what its program does."""

import json

import numpy as np
from app_runs import run

from ebm_fast import numba_cpu
from ebm_fast.app.main import main
from ebm_fast.numba_cpu.plan import chain_plan


def terms(size, stride):
    """(output, tap) on the image, of a 3 x 3 SAME convolution of a square."""
    out, pad = -(-size // stride), max((-(-size // stride) - 1) * stride + 3 - size, 0) // 2
    line = sum(0 <= p * stride + r - pad < size for p in range(out) for r in range(3))
    return line * line


def test_chain_plan__counts_the_multiply_adds_on_the_image():
    energy = numba_cpu.ConvEnergy(shape=(28, 28, 1), channels=(32, 64), strides=(2, 2))
    rows = chain_plan(energy, 128)["maps"]
    first, second = terms(28, 2) * 32, terms(14, 2) * 32 * 64
    assert [row["multiply_adds"] for row in rows] == [first, second, 64 * 32, 32, 32, 32 * 64, second, first]
    corner = 4 * 32 * 64  # of the 7 x 7 pixels all others have a partner with the same taps, 9 or 6 of them
    assert rows[1]["lone"] == corner and rows[2]["lone"] == 64 * 32  # a vector has no neighbours


def test_chain_plan__follows_the_width_of_the_tile():
    energy = numba_cpu.MLPEnergy((2,), (16, 16))
    for N in (1, 50, 5000):
        plan = chain_plan(energy, N, np.float64)
        assert plan["tile"] == energy.tile_width(np.empty((N, 2))) and plan["tiles"] == -(-N // plan["tile"])
        assert [row["pixels"] for row in plan["maps"]] == [1] * 6


def test_doctor__prints_the_plan_of_a_preset(capsys):
    run("doctor", "--plan", "toy2d", "--json")
    plan = json.loads(capsys.readouterr().out)
    assert plan["samples"] == 256 and [row["O"] for row in plan["maps"]][:3] == [128, 128, 1]
    run("doctor", "--plan", "toy2d")
    assert "linear maps of one step" in capsys.readouterr().out
    assert main(["doctor", "--plan", "toy3d"]) == 2
    assert "choose from" in capsys.readouterr().err
