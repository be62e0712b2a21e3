"""Places beyond 2^31 elements: every kernel of cupy_raw on arrays that long, and a proof over what is compiled."""

import importlib.util

import pytest
from far_cases import CASES, SMALL, run_case

from ebm_fast.cupy_raw import conv2d, source
from ebm_fast.cupy_raw.source import build_defines, sources
from ebm_fast.verify import host_build, offsets
from ebm_fast.verify.host_device import launched

if host_build.why_not():
    pytest.skip(host_build.why_not(), allow_module_level=True)


@pytest.fixture(autouse=True)
def wide_tiles(monkeypatch):
    monkeypatch.setattr(conv2d, "EACH", 0)  # the tile follows from the columns alone, also for the end alone


RAN = set()


@pytest.mark.parametrize("name", CASES)
def test_far__ends_of_arrays_are_as_when_alone(name):
    before = launched()
    run_case(name)
    RAN.update(kernel for (_, kernel), count in launched().items() if count > before.get((_, kernel), 0))


def test_far__every_kernel_ran():
    if len(RAN) < 10:
        pytest.skip("of this file not every test ran")
    assert {name for file in source.ORDERS for name in source.kernel_names(file)} == RAN and SMALL <= RAN


# ------------------------------------------------------------------------- both see a place that is cut to 32 bits

CUTS = [  # file, text, what stands there in its place, the case that must fail
    ("noise.cu", "(out + n * D, q, D, vector, u)", "(out + (int)(n * D), q, D, vector, u)", "uniform"),
    ("noise.cu", "philox_index(bits[i], n)", "philox_index(bits[(int)i], n)", "index"),
    ("langevin.cu", "quad_load(xi + row,", "quad_load(xi + (int)row,", "langevin step"),
    ("langevin.cu", "quad_store(t + row, q, D, vector, at)", "quad_store(t + (int)row, q, D, vector, at)")
    + ("langevin chain",),
    ("langevin.cu", "energies[counter[0] * N + n]", "energies[(int)(counter[0] * N + n)]", "langevin chain"),
    ("buffer.cu", "quad_load(x + n * D,", "quad_load(x + (int)(n * D),", "buffer, rows of x"),
    ("buffer.cu", "(i64)(keys[i] >> 32)", "(i64)(keys[(int)i] >> 32)", "buffer, places"),
    ("buffer.cu", "quad_store(slots + place * D,", "quad_store(slots + (int)(place * D),", "buffer, slots"),
    ("conv2d.cu", "v = g.src[(src_of[row] + (i64)y * g.cols.size + x) * g.channels + tap.c];")
    + ("v = g.src[(int)((src_of[row] + (i64)y * g.cols.size + x) * g.channels + tap.c)];", "conv2d slim"),
    ("conv2d.cu", "{ g.out[at] =", "{ g.out[(int)at] =", "conv2d narrow"),
    ("conv2d_dw.cu", "dy[(n0 * P * Q + i0 + pixel) * O + j]", "dy[(int)((n0 * P * Q + i0 + pixel) * O + j)]")
    + ("dw wide",),
    ("conv2d_dw.cu", "parts + z * size + (i64)k * O", "parts + (int)(z * size + (i64)k * O)", "dw, parts"),
    ("group_norm.cu", "      y[here] = activation_value(", "      y[(int)here] = activation_value(", "group_norm"),
    ("group_norm.cu", "parts[(i64)chunk * 2 * C + c]", "parts[(int)((i64)chunk * 2 * C + c)]", "group_norm, parts"),
    ("tree.cu", "out[g * size + e]", "out[(int)(g * size + e)]", "tree"),
    ("layers.cu", "y[i] = activation_value(code, x[i]);", "y[i] = activation_value(code, x[(int)i]);", "layers"),
    ("layers.cu", "dx + n * L * C", "dx + (int)(n * L * C)", "pool"),
    ("coupling.cu", "real* const out = cost + row * B + column;", "real* const out = cost + (int)(row * B + column);")
    + ("coupling wide",),
    ("coupling.cu", "x1[(j0 + row) * D + d0 + own]", "x1[(int)((j0 + row) * D + d0 + own)]", "coupling slim"),
    ("repulsion.cu", "push[first + c * D] =", "push[(int)(first + c * D)] =", "repulsion"),
    ("repulsion.cu", "sum += squares[n * D + d]", "sum += squares[(int)(n * D + d)]", "repulsion"),
    ("field.cu", "real* const to = y + upsampled(", "real* const to = y + (int)upsampled(", "upsample"),
    ("field.cu", "* b[n * D + d]", "* b[(int)(n * D + d)]", "head"),
    ("field.cu", "y[i] = add ? y[i] + v : v;", "y[(int)i] = add ? y[i] + v : v;", "head"),
    ("descent.cu", "quad_store(at + i * D, q, D, vector, there)", "quad_store(at + (int)(i * D), q, D, vector, there)")
    + ("descent",),
    ("descent.cu", "grad_norms[k * N + sample]", "grad_norms[(int)(k * N + sample)]", "descent"),
    ("descent.cu", "rows[i]) : 0, row = sample * (D)", "rows[i]) : 0, row = (int)(sample * (D))", "descent, rows"),
    ("descent.cu", "records[k * N + n] = last", "records[(int)(k * N + n)] = last", "descent, records"),
    ("chain.cu", "= x0[first * D + i];", "= x0[(int)first * D + i];", "chain"),
    ("chain.cu", "energies + k * N + first", "energies + (int)(k * N + first)", "chain"),
]
EACH_CUT = pytest.mark.parametrize(("file", "text", "cut", "case"), CUTS)


def with_cut(file, text, cut):
    source = sources()[file]
    assert source.count(text) == 1
    return source.replace(text, cut)


@EACH_CUT
def test_far__sees_a_cut(file, text, cut, case):
    with pytest.raises(AssertionError):
        run_case(case, {file: with_cut(file, text, cut)})


def needs_nvrtc():
    if not importlib.util.find_spec("cuda.bindings"):
        pytest.skip('pip install "ebm-oracle[gate]": no NVRTC here')


@EACH_CUT
def test_offsets__sees_a_cut(file, text, cut, case):
    needs_nvrtc()
    assert offsets.problems([(file, build_defines("float32", 0))], sources() | {file: with_cut(file, text, cut)})


@pytest.mark.parametrize("file", source.ORDERS)
def test_offsets__no_kernel_computes_a_place_in_32_bits(file):
    needs_nvrtc()
    builds = [build for build in source.builds() if build[0] == file]
    assert len(builds) >= 2 and offsets.problems(builds) == []


KERNEL = """#include "cuda.cuh"
extern "C" __global__ void planted(real* x, const int* at, int n, int D, i64 N, i64 M) {
  EBM_SHARED(int, table, 256);
  EBM_SHARED(i64, wide, 256);
  const int t = threadIdx.x;
  %s
}
EBM_EXPORT(planted)
"""
CAUGHT = {
    "flat": "int i = n * D + t; x[i] = 1;",
    "row": "x += n * D; x[t] = 1;",
    "late": "x[(i64)(n * D) + t] = 1;",
    "grid": "int i = blockIdx.x * blockDim.x + t; x[i] = 1;",
    "blocks of a tile": "x[blockIdx.x * 64 + t] = 1;",
    "shift": "x[n << D] = 1;",
    "unsigned": "x[(u32)n * (u32)D] = 1;",
    "cut": "x[(int)(N * M)] = 1;",
    "cut, unsigned": "x[(u32)(N * M)] = 1;",
    "cut row": "const int row = (int)(N * M); x[row + t] = 1;",
    "loop": "for (int k = t; k < n; k += 32) x[k * D] = 1;",
    "of what is read": "x[at[t] * D] = 1;",
    "read": "x[0] = x[n * D];",
    "through shared memory": "table[t] = n * D + t; __syncthreads(); x[table[255 - t]] = 1;",
    "wide, through shared memory": "wide[t] = n * D; __syncthreads(); x[wide[255 - t]] = 1;",
    "sixteen bytes": "if (ebm_aligned16(x)) ebm_store4(x + 4 * (n * D), ebm_load4(x));",
}
PASSED = {
    "wide": "x[(i64)n * D + t] = 1;",
    "wide row": "x += n * N; x[t] = 1;",
    "grid": "x[blockIdx.x * (i64)blockDim.x + t] = 1;",
    "sum": "x[n + D] = 1;",
    "thread": "x[4 * t + 1024 * (t % 32)] = 1;",
    "remainder": "x[(u32)n % 16 * 64 + t % 7 * 9] = 1;",
    "said": "x[n * D + t] = 1;  // int: below 2^20",
    "said above": "// int: below 2^20\n  x[n * D + t] = 1;",
    "only a bound": "if (t < n * D) x[t] = 1;",
}


def of_kernel(line):
    needs_nvrtc()
    texts = sources() | {"planted.cu": KERNEL % line}
    return offsets.problems([("planted.cu", build_defines("float32", 0))], texts)


@pytest.mark.parametrize("line", CAUGHT.values(), ids=CAUGHT)
def test_offsets__catches(line):
    assert of_kernel(line)


@pytest.mark.parametrize("line", PASSED.values(), ids=PASSED)
def test_offsets__passes(line):
    assert of_kernel(line) == []
