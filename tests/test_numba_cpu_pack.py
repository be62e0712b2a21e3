"""Packing: weights in the order in which `gather` reads them."""

import numpy as np
import pytest

from ebm_fast.numba_cpu.gather import BLOCK, block_sizes, pack_weights, packed_size


@pytest.mark.parametrize("transposed", [False, True])
@pytest.mark.parametrize("O", [1, 2, 3, BLOCK, 2 * BLOCK + 1, 2 * BLOCK + 3, BLOCK + 7])
def test_pack_weights__orders_blocks_taps_inputs_outputs(O, transposed):
    taps, C = 3, 2
    w, sums = np.random.default_rng(O).standard_normal((taps, C, O)), np.array([[0, 2], [1, 0]])
    given = np.ascontiguousarray(w.transpose(0, 2, 1)) if transposed else w
    W = np.full(packed_size(taps + 2, C, O) + 3, np.nan)
    pack_weights(given, sums, W, 2, transposed)
    all_taps = [*w, *(w[a] + w[b] for a, b in sums)]
    expected, o = [], 0
    for block in block_sizes(O):
        for tap in all_taps:
            expected += [tap[c, k] if k < O else 0.0 for c in range(C) for k in range(o, o + block)]
        o += block
    assert np.array_equal(W[2:-1], expected) and np.isnan(W[[0, 1, -1]]).all()
