"""Bugs found in the wild: every mutant is rejected, ours pass, the README says so; yours may be next."""

import json
import sys
from dataclasses import asdict
from functools import cache
from math import isclose
from pathlib import Path

import pytest

import ebm_ref
from ebm_fast.app.main import main
from ebm_fast.verify import mutants
from ebm_fast.verify.mutants import CHECKS, MUTANTS, kill_matrix, markdown
from ebm_fast.verify.mutants.table import Check
from ebm_ref.contracts import ConfigError

ROOT = Path(__file__).parent.parent


@cache
def matrix():
    return {kill.name: kill for kill in kill_matrix()}


@pytest.mark.parametrize("name", MUTANTS)
def test_mutants__check_kills_it_and_spares_ours(name):
    kill = matrix()[name]
    assert kill.ours_pass, kill.why
    assert kill.killed, f"{kill.check} does not see that {kill.bug}"


def test_mutants__are_many_and_every_check_has_one():
    assert len(MUTANTS) >= 35
    assert {mutant.check for mutant in MUTANTS.values()} == set(CHECKS)
    assert all(mutant.bug and mutant.source and mutant.wild for mutant in MUTANTS.values())
    assert all(check.law for check in CHECKS.values())


@pytest.mark.parametrize("name", ["denoising_minimiser", "buffer_draw_is_not_padded", "mala_step_keeps_its_law"])
def test_checks__answer_alike_twice(name):
    check = CHECKS[name]
    fn = getattr(ebm_ref, check.function)
    assert check(fn) == check(fn)


@pytest.mark.parametrize("figure", [float("nan"), float("inf"), 1.2, "a word", None])
def test_check__rejects_what_is_no_figure(figure):
    check = Check("name", "denoising", "a law", lambda fn: fn(), 1.0, 0.1)
    assert not check(lambda: figure).passed
    assert check(lambda: 1.05).passed


def test_matrix__a_survivor_is_named(monkeypatch, capsys):
    mutant = MUTANTS["target_sign"]
    monkeypatch.setitem(
        MUTANTS, "target_sign", type(mutant)("target_sign", ebm_ref.denoising, "here", "-", mutant.check)
    )
    for name in [name for name in MUTANTS if name != "target_sign"]:
        monkeypatch.delitem(MUTANTS, name)
    assert main(["verify", "--mutants"]) == 1
    assert capsys.readouterr().out.startswith("SURVIVES    denoising")


def test_matrix__our_own_failure_is_named(monkeypatch, capsys):
    for name in [name for name in MUTANTS if name != "target_sign"]:
        monkeypatch.delitem(MUTANTS, name)
    monkeypatch.setattr(ebm_ref, "denoising", MUTANTS["target_sign"].fn)
    assert main(["verify", "--mutants"]) == 1
    assert capsys.readouterr().out.startswith("OURS FAILS  denoising")


def test_cli__mutants_as_json(monkeypatch, capsys):
    for name in [name for name in MUTANTS if CHECKS[MUTANTS[name].check].function != "score_matching"]:
        monkeypatch.delitem(MUTANTS, name)
    assert main(["verify", "--mutants", "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)
    assert [row["name"] for row in rows] == list(MUTANTS) and len(rows) == 4
    keys = {"name", "source", "check", "killed", "wild", "found", "ours"}
    for row in rows:
        assert keys <= set(row) and row["killed"] is True and row["ours_pass"] is True
        assert all(isinstance(row[key], str) for key in keys - {"killed"})


def test_cli__json_of_every_row_is_json():
    for kill in matrix().values():
        json.dumps(asdict(kill) | {"want": str(kill.want)}, allow_nan=False)


# ------------------------------------------------------------------------------------------ README


def test_readme__has_the_kill_matrix():
    """Word for word, figures within 5 % or 0.02: another machine's rounding may flip a decision of a chain."""
    text = (ROOT / "README.md").read_text().split("### Bugs found in the wild")[1].split("\n## ")[0]
    table = [line for line in text.splitlines() if line.startswith("|")]
    wanted = markdown(list(matrix().values())).splitlines()
    assert len(table) == len(wanted), "print it by python -m ebm_fast.verify.mutants"
    assert table[:2] == wanted[:2]
    for line, want in zip(table[2:], wanted[2:], strict=True):
        *words, ours, found = line.rstrip(" |").split(" | ")
        *want_words, want_ours, want_found = want.rstrip(" |").split(" | ")
        assert words == want_words
        assert close(ours, want_ours) and close(found, want_found), (line, want)


def close(a, b):
    try:
        return isclose(float(a), float(b), rel_tol=0.05, abs_tol=0.02)
    except ValueError:
        return a == b


# ----------------------------------------------------------------------------------------- --against

RIVAL = """
import numpy as np
import ebm_ref


def denoising(energy, theta, x, xi, sigma):
    return ebm_ref.denoising(energy, theta, x, xi, sigma)


def upside_down(energy, theta, x, xi, sigma):
    at = x + sigma * xi
    r = energy.grad_x(theta, at) + xi / sigma
    return 0.0, energy.grad_theta_along(theta, at, r / len(x)), {}


class Foreign:  # an array of another library, read through DLPack
    def __init__(self, x):
        self.x = x

    def __dlpack__(self, **options):
        return self.x.__dlpack__(**options)

    def __dlpack_device__(self):
        return self.x.__dlpack_device__()


def foreign_step(x, g, xi, eta, sigma, clip=None, clip_norm=None, box=None):
    return Foreign(ebm_ref.langevin_step(x, g, xi, eta, sigma, clip, clip_norm, box))


def hot_step(x, g, xi, eta, sigma, clip=None, clip_norm=None, box=None):
    return ebm_ref.langevin_step(x, g, xi, eta, np.sqrt(2.0) * sigma, clip, clip_norm, box)


class nested:
    score = staticmethod(denoising)


number = 3
"""


@pytest.fixture
def rival(tmp_path, monkeypatch):
    (tmp_path / "rival_of_ours.py").write_text(RIVAL)
    (tmp_path / "rival_that_breaks.py").write_text("raise RuntimeError('no such driver')")
    monkeypatch.chdir(tmp_path)
    return "rival_of_ours"


def test_against__a_good_function_passes_under_its_own_name(rival, capsys):
    assert main(["verify", "--against", f"{rival}:denoising", "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)
    assert [row["check"] for row in rows] == [name for name, c in CHECKS.items() if c.function == "denoising"]
    assert all(row["passed"] for row in rows)


def test_against__a_bad_function_fails_and_hears_the_law(rival, capsys):
    assert main(["verify", "--against", f"{rival}:upside_down", "--as", "denoising"]) == 1
    out = capsys.readouterr().out
    assert "fail  denoising" in out and "found -0.8, expected 0.8" in out


def test_against__dots_and_classes_resolve(rival):
    assert all(r.passed for r in mutants.against(f"{rival}:nested.score", "denoising"))
    assert all(r.passed for r in mutants.against("ebm_ref:UniformBase"))


def test_against__the_kit_s_cases_come_too(rival):
    pytest.importorskip("hypothesis")
    good = mutants.against(f"{rival}:foreign_step", "langevin_step", cases=5)
    assert {r.check for r in good} >= {"kit_float32", "kit_float64", "langevin_step_heats_up"}
    assert all(r.passed for r in good), [r.why for r in good if not r.passed]
    bad = {r.check: r for r in mutants.against(f"{rival}:hot_step", "langevin_step")}
    assert not bad["kit_float32"].passed and bad["kit_float32"].why


@pytest.mark.parametrize(
    ("argv", "said"),
    [
        (["--against", "rival_of_ours"], "expected MODULE:FUNCTION, found 'rival_of_ours'"),
        (["--against", ":denoising"], "expected MODULE:FUNCTION"),
        (["--against", ""], "expected MODULE:FUNCTION"),
        (["--against", "no_such_module_here:f"], "no_such_module_here does not import: ModuleNotFoundError"),
        (["--against", "rival_that_breaks:f"], "does not import: RuntimeError: no such driver"),
        (["--against", "rival_of_ours:missing"], "rival_of_ours has no missing"),
        (["--against", "rival_of_ours:number"], "expected a function, found rival_of_ours:number of type int"),
        (["--against", "rival_of_ours:upside_down"], "--as: expected one of GuidedField, QuadraticEnergy,"),
        (["--against", "rival_of_ours:denoising", "--as", "train"], "--as: expected one of"),
        (["--as", "denoising"], "--as: expected --against MODULE:FUNCTION beside it"),
        (["--mutants", "--against", "rival_of_ours:denoising"], "--mutants: expected it without --against"),
        (["--mutants", "--twin", "naive"], "--mutants: expected it without --twin"),
        (["--against", "rival_of_ours:denoising", "--deep"], "--against: expected it without --deep"),
    ],
)
def test_against__bad_input_is_one_line(argv, said, rival, capsys):
    assert main(["verify", *argv]) == 2
    err = capsys.readouterr().err
    assert said in err and err.count("\n") == 1


def test_against__leaves_the_path_as_it_was(rival):
    before = list(sys.path)
    with pytest.raises(ConfigError):
        mutants.against("rival_of_ours:missing")
    assert sys.path == before
