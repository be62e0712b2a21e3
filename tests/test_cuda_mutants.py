"""Bugs planted in the CUDA sources: the kit must find each. A bug that goes unseen is a hole in the kit's cases."""

import numpy as np
import pytest

from ebm_fast.cupy_raw.source import sources
from ebm_fast.verify import host_build, judge
from ebm_fast.verify.host_build import host_device
from ebm_fast.verify.judge import search
from ebm_fast.verify.runner import export

CASES = 200  # what a run of the kit draws; the search ends at the first case that fails

MUTANTS = [  # file, text, what stands there in its place, the function that must fail
    ("philox.cuh", "k1 += 0xBB67AE85u;", "k1 += 0xBB67AE84u;", "noise_bits"),
    ("noise.cu", "at.c[3], key[0], key[1]));", "at.c[3], key[1], key[0]));", "noise_philox"),
    ("philox.cuh", "(i64)((u64)bits * n >> 32)", "(i64)(bits % n)", "noise_index"),
    ("noise.cu", "(u64)words[i] << 32 | (u64)i", "(u64)(words[i] >> 16) << 48 | (u64)i", "noise_permutation"),
    ("conv2d.cu", "if (m0 >= pixels) return;", "if (m0 >= (BM * BJ == 4096 ? 64 : pixels)) return;", "conv2d_forward"),
    ("conv2d.cu", "if (m0 >= pixels) return;", "if (m0 >= (BM * BJ == 4096 ? 64 : pixels)) return;", "conv2d_backward"),
    ("quad.cuh", "if (4 * q + j < D) row[", "if (4 * q + j < D - 1) row[", "noise_bits"),
    ("rows.cuh", "v[i] += shared[warp * ROW_SUMS + i]", "v[i] = shared[warp * ROW_SUMS + i]", "langevin_step"),
    ("langevin.cu", "langevin_clip(v.c[j], clip));\n    }\n    real", "v.c[j]);\n    }\n    real", "langevin_step"),
    ("langevin.cu", "  counter[1] += 1;", "", "langevin_run"),
    ("langevin.cu", "langevin_finite(energy) && ", "", "langevin_run"),
    ("chain_update.cuh", "langevin_clip(at.memory[d + head.g], u.clip)", "at.memory[d + head.g]", "langevin_run"),
    (
        "chain_update.cuh",
        "slice.mine && chain_alive(head, at, slice.n)) chain_copy(head, at, slice, head.x,",
    )
    + ("slice.mine) chain_copy(head, at, slice, head.x,", "langevin_run"),
    ("buffer.cu", "return u < rho;", "return u <= rho;", "buffer_draw"),
    ("buffer.cu", "wins = i + M >= N;", "wins = true;", "buffer_push"),
    ("conv2d.cuh", "? (taps - a - 1) / stride + 1", "? (taps - a - 1) / stride", "conv2d_backward"),
    ("conv2d.cuh", "(u32)y < (u32)height", "(u32)y + 1 < (u32)height", "conv2d_forward"),
    ("conv2d.cu", "      __syncthreads();  // the table is written, the last tile is read\n", "", "conv2d_forward"),
    ("conv2d_dw.cu", "(left_over < CHUNK ? left_over : CHUNK)", "CHUNK", "conv2d_backward"),
    ("group_norm.cu", "sqrt(var + eps)};", "sqrt(var)};", "group_norm_forward"),
    ("group_norm.cu", "const Jet g = gamma[c] * (", "const Jet g = (", "group_norm_backward"),
    ("jet.cuh", "a.c[0] * b.c[1] + a.c[1] * b.c[0];", "a.c[0] * b.c[1];", "mlp_energy"),
    ("activation.cuh", "x * (z - s)", "x * (z + s)", "mlp_energy"),
    ("coupling.cu", "            part[i][j] = (real)0;\n", "", "coupling_cost"),
    ("coupling.cu", " || d0 + DEPTH >= D)", ")", "coupling_cost"),
    ("repulsion.cu", "sum / (real)C", "sum / (real)D", "repulsion"),
    ("repulsion.cu", "W[n] = -strength * sum", "W[n] = strength * sum", "repulsion"),
    ("field.cu", "z[i] = a.c[JET - 1];", "z[i] = a.c[0];", "mlp_field"),
    ("field.cu", "to[C] = v;", "to[0] = v;", "conv_field"),
    ("field.cu", "(from[0] + from[C])", "(from[0] + from[0])", "conv_field"),
    ("field.cu", "y[i] = add ? y[i] + v : v;", "y[i] = v;", "field_energy"),
    ("field.cu", "sum = sum + a[n * D + d]", "sum = a[n * D + d]", "field_energy"),
    ("descent.cu", "if (small) quad_store", "if (false) quad_store", "descent_run"),
    ("descent.cu", "there.c[j] += mu * ahead.c[j];", "there.c[j] += ahead.c[j];", "descent_run"),
    ("descent.cu", "stopped[sample] = small;", "stopped[sample] = false;", "descent_run"),
    ("descent.cu", "alive[n] = true;\n    stopped[n]", "alive[n] = n != 1;\n    stopped[n]", "descent_run"),
    ("descent.cu", "corrections[2 * k];", "corrections[0];", "descent_run"),
    ("descent.cu", "k = own; k < K; ++k", "k = own + 1; k < K; ++k", "descent_run"),
]


@pytest.mark.parametrize(("file", "text", "bug", "function"), MUTANTS)
def test_mutants__kit_finds_a_planted_bug(file, text, bug, function, monkeypatch):
    source = sources()[file]
    assert source.count(text) == 1
    device = host_device(sources={file: source.replace(text, bug, 1)})
    device.seconds, device.in_turn = 20.0, host_build.CARDS
    monkeypatch.setattr(host_build, "_device", device)
    monkeypatch.setattr(judge, "SHRINK", 1)
    fn, real = getattr(host_build, export(function)), np.float32
    found = search(function, real, lambda case: judge.judge(case, fn, host_build, real), CASES, 1)
    assert found.failure is not None
