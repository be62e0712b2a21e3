"""Packing: weights in the order in which `gather` and `gather_across` read them."""

import numpy as np
import pytest

from ebm_fast.numba_cpu.across import across_sizes
from ebm_fast.numba_cpu.gather import BLOCK, block_sizes, pack_weights


@pytest.mark.parametrize("transposed", [False, True])
@pytest.mark.parametrize("O", [1, 2, 3, BLOCK, 2 * BLOCK + 1, 2 * BLOCK + 3, BLOCK + 7, 16 * BLOCK + 5])
@pytest.mark.parametrize("sizes", [block_sizes, lambda O: across_sizes(O, np.float64)], ids=["samples", "outputs"])
def test_pack_weights__orders_blocks_taps_inputs_outputs(sizes, O, transposed):
    taps, C, blocks = 3, 2, sizes(O)
    w = np.random.default_rng(O).standard_normal((taps, C, O))
    given = np.ascontiguousarray(w.transpose(0, 2, 1)) if transposed else w
    W = np.full(taps * C * sum(blocks) + 3, np.nan)
    pack_weights(given, blocks, W, 2, transposed)
    expected, o = [], 0
    for block in blocks:
        for tap in w:
            expected += [tap[c, k] if k < O else 0.0 for c in range(C) for k in range(o, o + block)]
        o += block
    assert np.array_equal(W[2:-1], expected) and np.isnan(W[[0, 1, -1]]).all()
