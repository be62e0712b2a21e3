"""The compile gate: every kernel, built for every architecture, within its budget; and what the gate must catch."""

import json
from dataclasses import asdict, replace

import numpy as np
import pytest

from ebm_fast.cupy_raw import nvrtc, source
from ebm_fast.cupy_raw.device import launch
from ebm_fast.verify import access, budgets, host_build, offsets, sass
from ebm_ref.contracts import BackendError, MissingExtraError

FLOAT = source.build_defines("float32", 0)
PLANTED = """#include "cuda.cuh"
extern "C" __global__ void planted(real* y, const real* x, const int* at, int n) {
  const int i = threadIdx.x;
  %s
}
EBM_EXPORT(planted)
"""
KEY = ("one.cu", "one", "float.0", "sm_90a")
NONE = sass.Figures(**dict.fromkeys(sass.Figures.__dataclass_fields__, 0))


def missing():
    try:
        nvrtc.load()
        return "" if sass.find_tool("cuobjdump") and sass.find_tool("nvdisasm") else "never"
    except (BackendError, MissingExtraError) as error:
        return str(error)


MISSING = missing()
NEEDS_TOOLS = pytest.mark.skipif(bool(MISSING), reason=MISSING)


@pytest.fixture(scope="session")
def measured():
    if MISSING:
        pytest.skip(MISSING)
    return budgets.measure()


def test_budgets__every_build_compiles_and_exports_its_kernels(measured, record_property):
    figures, problems = measured
    record_property("budgets", budgets.table(figures))
    assert problems == []
    names = {(file, name) for file, _ in source.builds() for name in source.kernel_names(file)}
    assert {key[:2] for key in figures} == names
    assert len(figures) == sum(len(source.kernel_names(file)) for file, _ in source.builds()) * len(nvrtc.ARCHS)


@pytest.mark.parametrize("arch", nvrtc.ARCHS)
@pytest.mark.parametrize("file", source.ORDERS)
def test_budgets__no_stack_no_spills_no_fp64_no_atomics(measured, file, arch):
    mine = {key: found for key, found in measured[0].items() if (key[0], key[3]) == (file, arch)}
    assert mine and budgets.rule_problems(mine) == []


def test_budgets__figures_are_within_the_file(measured):
    written = budgets.read()
    if written["nvrtc"] != nvrtc.version():
        pytest.skip(f"budgets.json was written with NVRTC {written['nvrtc']}, here is {nvrtc.version()}")
    assert budgets.budget_problems(measured[0], written["code"]) == []


@pytest.fixture(scope="session")
def asked():
    if host_build.why_not():
        pytest.skip(host_build.why_not())
    return access.measure()


def test_budgets__accesses_of_every_kernel_are_within_the_file(asked, record_property):
    record_property("budgets", access.table(asked))
    assert access.problems(asked, budgets.read()["access"]) == []


# ---------------------------------------------------------------------------- what the gate must catch


def planted(body, arch="sm_90a", defines=FLOAT):
    """The figures of a kernel with that body, and what RULES say of it."""
    cubin = nvrtc.build("planted.cu", PLANTED % body, source.sources(), defines, arch)
    found = sass.figures(cubin)["planted"]
    return found, budgets.rule_problems({("planted.cu", "planted", budgets.build_name(defines), arch): found})


@NEEDS_TOOLS
@pytest.mark.parametrize("arch", nvrtc.ARCHS)
@pytest.mark.parametrize(
    ("body", "figure", "what"),
    [
        ("real t[32] = {}; for (int k = 0; k < n; ++k) t[at[k]] += x[k]; y[i] = t[at[i]];", "spills", "local memory"),
        ("real t[32] = {}; for (int k = 0; k < n; ++k) t[at[k]] += x[k]; y[i] = t[at[i]];", "stack", "bytes of stack"),
        ("y[i] = x[i] * 0.1;", "fp64", "fp64"),
        ("y[i] = (real)(i64)((double)at[i] / 3);", "fp64", "fp64"),
        ("y[i] = x[i] / (double)n;", "fp64", "fp64"),
        ("y[i] = (real)sqrt((double)x[i]);", "fp64", "fp64"),
        ("atomicAdd(y, x[i]);", "atomics", "atomics"),
        ("EBM_SHARED(real, s, 4); s[i] = 0; __syncthreads(); atomicAdd(s, x[i]); __syncthreads(); y[i] = s[0];",)
        + ("atomics", "atomics"),
        ("y[i] = atomicExch((int*)y + 7, n);", "atomics", "atomics"),
    ],
)
def test_budgets__catch_what_is_planted(body, figure, what, arch):
    found, problems = planted(body, arch)
    assert getattr(found, figure) > 0
    assert any(what in problem and problem.startswith(f"planted.cu planted float.0 {arch}: ") for problem in problems)


@NEEDS_TOOLS
@pytest.mark.parametrize("arch", nvrtc.ARCHS)
@pytest.mark.parametrize(
    "body",
    [
        "real t[4]; for (int k = 0; k < 4; ++k) t[k] = x[k * n]; y[i] = t[0] + t[1] + t[2] + t[3];",
        "y[i] = x[i] * (real)0.1 + expf(x[i]) / (real)at[i] + __shfl_xor_sync(0xffffffffu, x[i], 1);",
        "y[i] = (real)(((i64)n * i) / at[i]);",  # 64-bit integer division
        "EBM_SHARED(real, s, 64); s[i] = x[i]; __syncthreads(); y[i] = s[63 - i];",
        "y[i] = (real)__reduce_add_sync(0xffffffffu, at[i]);",
    ],
)
def test_budgets__raise_no_false_alarm(body, arch):
    assert planted(body, arch)[1] == []


@NEEDS_TOOLS
def test_budgets__allow_fp64_in_a_double_build():
    found, problems = planted("y[i] = x[i] * (real)0.1;", defines=source.build_defines("float64", 0))
    assert found.fp64 > 0 and problems == []


@NEEDS_TOOLS
@pytest.mark.parametrize("arch", nvrtc.ARCHS)
def test_figures__count_shared_memory_and_wide_accesses(arch):
    body = "EBM_SHARED(real, s, 96); s[i] = x[i]; __syncthreads(); y[0] = s[n];"
    found, _ = planted(f"{body} ((float4*)y)[i] = ((const float4*)x)[95 - i];", arch)
    assert (found.shared, found.loads, found.wide_loads, found.stores, found.wide_stores) == (384, 2, 1, 2, 1)
    assert planted("y[i] = x[i];", arch)[0].shared == 0 and 0 < found.registers <= 255 and found.instructions > 10


@pytest.mark.parametrize(
    ("pattern", "yes", "no"),
    [
        (
            sass.FP64,
            "DADD DFMA.RM DMUL DSETP.GT.AND DMNMX DMMA.884 MUFU.RCP64H MUFU.RSQ64H F2F.F64.F32 F2F.F32.F64 I2F.F64.S64 "
            "F2I.S64.F64.TRUNC FRND.F64.FLOOR",
            "LDG.E.64 DEPBAR.LE FADD I2F.U64.RP F2I.S64.TRUNC HMMA.1688.F32.TF32 ULDC.64 IMAD.WIDE.U32 MUFU.RCP",
        ),
        (
            sass.ATOMIC,
            "ATOM.E.ADD.STRONG.GPU ATOMG.E.EXCH.STRONG.GPU ATOMS.CAST.SPIN RED.E.ADD.F32.FTZ.RN.STRONG.GPU REDG.E.ADD",
            "REDUX.SUM.S32 STG.E BAR.RED.POPC.DEFER_BLOCKING",
        ),
        (sass.MMA, "HMMA.1688.F32.TF32 HGMMA.64x64x8.F32.TF32 DMMA.884 IMMA.16816.S8.S8", "FFMA IMAD.MOV.U32"),
    ],
)
def test_figures__know_the_instructions(pattern, yes, no):
    assert [opcode for opcode in yes.split() if not pattern.match(opcode)] == []
    assert [opcode for opcode in no.split() if pattern.match(opcode)] == []


@pytest.mark.parametrize("name", budgets.CEILINGS)
def test_budgets__a_figure_may_not_grow(name):
    budget = {" ".join(KEY): asdict(NONE)}
    assert budgets.budget_problems({KEY: NONE}, budget) == []
    assert budgets.budget_problems({KEY: replace(NONE, **{name: 1})}, budget) == [
        f"one.cu one float.0 sm_90a: {name} 1, budget 0"
    ]
    assert budgets.budget_problems({KEY: NONE}, {" ".join(KEY): asdict(replace(NONE, **{name: 1}))}) == []


@pytest.mark.parametrize("name", budgets.FLOORS)
def test_budgets__a_wide_access_may_not_go(name):
    budget = {" ".join(KEY): asdict(replace(NONE, **{name: 2}))}
    assert budgets.budget_problems({KEY: replace(NONE, **{name: 1})}, budget) == [
        f"one.cu one float.0 sm_90a: {name} 1, at least 2 wanted"
    ]


def test_budgets__every_figure_is_held():
    assert sorted((*budgets.CEILINGS, *budgets.FLOORS)) == sorted(sass.Figures.__dataclass_fields__)


def test_budgets__the_file_has_exactly_the_kernels_that_exist():
    mine, other = {KEY: NONE}, {"gone.cu gone float.0 sm_80": asdict(NONE)}
    assert budgets.budget_problems(mine, other) == [
        "gone.cu gone float.0 sm_80: in budgets.json, but there is no such kernel",
        "one.cu one float.0 sm_90a: not in budgets.json",
    ]


@NEEDS_TOOLS
def test_budgets__a_kernel_that_is_not_exported_or_does_not_compile_is_a_problem(monkeypatch):
    text = dict(source.sources())
    text["noise.cu"] = PLANTED.replace("EBM_EXPORT(planted)", "EBM_EXPORT(other)") % "y[i] = x[i];"
    for module in (source, nvrtc):
        monkeypatch.setattr(module, "sources", lambda: text)
    nvrtc._digest.cache_clear()
    builds = [("noise.cu", FLOAT)]
    assert budgets.measure(builds, ["sm_80"])[1] == ["noise.cu sm_80: exports ['other'], the cubin has ['planted']"]
    text["noise.cu"] = PLANTED % "y[i] = nothing;"
    nvrtc._digest.cache_clear()
    figures, (problem,) = budgets.measure(builds, ["sm_80"])
    assert figures == {} and 'identifier "nothing" is undefined' in problem
    nvrtc._digest.cache_clear()


@pytest.mark.skipif(bool(host_build.why_not()), reason=str(host_build.why_not()))
@pytest.mark.parametrize(
    ("body", "figure", "count"),
    [
        ("y[i] = x[32 * i];", "sectors", 18.0),  # 32 sectors to load, 4 to store
        ("EBM_SHARED(real, s, 1024); s[32 * i] = x[i]; __syncthreads(); y[i] = s[32 * i];", "passes", 32.0),
        ("EBM_SHARED(real, s, 1056); s[33 * i] = x[i]; __syncthreads(); y[i] = s[33 * i];", "passes", 1.0),
    ],
)
def test_budgets__catch_a_planted_access(monkeypatch, body, figure, count):
    monkeypatch.setitem(source.sources(), "planted.cu", PLANTED % body)
    monkeypatch.setitem(source.ORDERS, "planted.cu", (0,))

    def call():
        y, x = access.numbers(0, 32), access.numbers(1, 1024)
        at = access.put(np.zeros(32, np.int32))
        launch(source.kernel("planted.cu", "planted", np.float32), 1, 32, (y, x, at, np.int32(1)))

    monkeypatch.setattr(access, "CALLS", (call,))
    found = access.measure()
    assert found["planted"][figure] == count
    within = {"planted": dict(found["planted"])}
    assert not [problem for problem in access.problems(found, within) if "planted" in problem]
    within["planted"][figure] /= 1.2
    assert [problem for problem in access.problems(found, within) if "planted" in problem] == [
        f"access: planted takes {count} {figure} a request, budget {count / 1.2}"
    ]


def test_budgets__accesses_of_a_kernel_that_only_one_side_has_are_a_problem(monkeypatch):
    monkeypatch.setattr(source, "ORDERS", {"noise.cu": (0,)})
    monkeypatch.setattr(source, "kernel_names", lambda file: ("one", "idle"))
    row = {"sectors": 4.0, "passes": 1.0}
    assert access.problems({"one": row, "new": row}, {"one": row, "old": row}) == [
        "access: no call launches idle",
        "access: new is not in budgets.json",
        "access: old is in budgets.json, but not launched",
    ]


def test_budgets__main_writes_what_it_measured(tmp_path, monkeypatch, capsys):
    figures, asked = {KEY: replace(NONE, registers=40, wide_loads=2)}, {}
    (tmp_path / "budgets.json").write_text('{"nvrtc": "13.0", "code": {}, "access": {}}')
    monkeypatch.setattr(budgets, "files", lambda package: tmp_path)
    monkeypatch.setattr(budgets, "measure", lambda: (dict(figures), []))
    narrow = []
    monkeypatch.setattr(offsets, "problems", lambda: list(narrow))
    monkeypatch.setattr(access, "measure", lambda: asked)
    monkeypatch.setattr(access, "problems", lambda found, written: ["accesses differ"] * (found != written))
    monkeypatch.setattr(nvrtc, "version", lambda: "13.0")
    assert budgets.main([]) == 1 and "not in budgets.json" in capsys.readouterr().out
    assert budgets.main(["--update"]) == 0 and budgets.main([]) == 0
    assert "one.cu one" in capsys.readouterr().out
    assert json.loads((tmp_path / "budgets.json").read_text())["code"][" ".join(KEY)]["registers"] == 40
    figures[KEY] = replace(figures[KEY], registers=41)
    assert budgets.main([]) == 1 and "registers 41, budget 40" in capsys.readouterr().out
    monkeypatch.setattr(nvrtc, "version", lambda: "13.1")  # another compiler: RULES alone are held
    assert budgets.main([]) == 0
    figures[KEY] = replace(figures[KEY], atomics=1)
    assert budgets.main([]) == 1 and "1 atomics, expected none" in capsys.readouterr().out
    figures[KEY] = NONE
    asked["one"] = {"sectors": 4.0, "sectors_ideal": 4.0, "passes": 1.0, "passes_ideal": 1.0}
    assert budgets.main([]) == 1 and "accesses differ" in capsys.readouterr().out
    assert budgets.main(["--update"]) == 0 and json.loads((tmp_path / "budgets.json").read_text())["access"] == asked
    narrow.append("one.cu:1: one computes a place in 32 bits")
    assert budgets.main([]) == 1 and "a place in 32 bits" in capsys.readouterr().out
    narrow.clear()
    monkeypatch.setattr(budgets, "measure", lambda: ({}, ["noise.cu does not compile"]))
    before = (tmp_path / "budgets.json").read_text()
    assert budgets.main(["--update"]) == 1 and (tmp_path / "budgets.json").read_text() == before


def test_find_tool__says_what_to_install(monkeypatch):
    class Finder:
        @staticmethod
        def find_nvidia_binary_utility(name):
            return None

    sass.find_tool.cache_clear()
    monkeypatch.setattr(sass, "require", lambda module, extra: Finder)
    with pytest.raises(BackendError, match=r'nvdisasm is not installed: pip install "ebm-oracle\[gate\]"'):
        sass.find_tool("nvdisasm")


@NEEDS_TOOLS
def test_figures__say_that_a_file_is_no_cubin():
    with pytest.raises(BackendError, match="cuobjdump: "):
        sass.figures(b"\x7fELF, but no more")
