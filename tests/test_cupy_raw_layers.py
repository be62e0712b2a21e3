"""The CUDA backend's layers, run by the host build: sums in a fixed tree, any number of samples, no race."""

import numpy as np
import pytest
from cuda_layers import BUILD, CONVS, NORMS, conv_problem, empty

from ebm_fast.cupy_raw import conv2d, group_norm, tree
from ebm_fast.cupy_raw.device import on
from ebm_fast.cupy_raw.source import kernel_names
from ebm_fast.verify.host_build import host_device
from ebm_fast.verify.host_device import launched
from ebm_ref.layers.conv2d import conv2d_backward, conv2d_forward
from ebm_ref.layers.group_norm import group_norm_forward


@pytest.fixture(autouse=True)
def device(monkeypatch):
    monkeypatch.setattr(conv2d, "EACH", 0)  # the tile follows from the columns alone
    with on(host_device(BUILD)):
        yield


def pairs(parts):
    """((0 + 1) + (2 + 3)) + ...; of an odd number the last waits for the next level."""
    while len(parts) > 1:
        sums = [a + b for a, b in zip(parts[0::2], parts[1::2], strict=False)]
        parts = sums + parts[len(sums) * 2 :]
    return parts[0]


@pytest.mark.parametrize("n", (1, 2, 3, 15, 16, 17, 31, 33, 257))
def test_tree_sum__is_the_tree_to_the_bit(n):
    parts = np.random.default_rng(n).standard_normal((n, 7)).astype(np.float32)
    out, rest = empty(5, np.float32), empty(2, np.float32)
    tree.tree_sum(parts, n, 7, out, rest, 5, np.float32)
    assert np.array_equal(np.concatenate([out, rest]), pairs(list(parts)))
    assert n < 15 or not np.array_equal(np.concatenate([out, rest]), np.cumsum(parts, axis=0)[-1])


@pytest.mark.parametrize("case", ("grey image, wide", "wide both ways", "narrow both ways"))
def test_conv2d_apply_dw__is_chunks_of_eight_then_the_tree(case):
    geo, _, _, _, _, _, w, b, how = conv_problem(case, np.float32, 0)
    N, rng = 37, np.random.default_rng(1)
    x = rng.standard_normal((N, geo.H, geo.W, geo.C)).astype(np.float32)
    dy = rng.standard_normal((N, geo.P, geo.Q, geo.O)).astype(np.float32)
    dw, db = np.empty_like(w), np.empty_like(b)
    conv2d.conv2d_apply_dw(geo, N, x, dy, dw, db, np.float32, 0, 0)
    chunk = [slice(n, n + tree.CHUNK) for n in range(0, N, tree.CHUNK)]
    wide_x, wide_w, wide_dy = (a.astype(np.float64) for a in (x, w, dy))
    exact = [conv2d_backward(wide_x[c], wide_w, wide_dy[c], *how) for c in chunk]
    for found, place in ((dw, 1), (db, 2)):
        want = pairs([part[place].astype(np.float32) for part in exact])
        assert np.abs(found - want).max() <= 2e-6 * np.abs(want).max()
    grads = [np.empty_like(w) for _ in chunk]
    for c, grad in zip(chunk, grads, strict=True):  # each chunk alone, added in pairs by hand: the same bits
        conv2d.conv2d_apply_dw(geo, len(x[c]), x[c], dy[c], grad, None, np.float32, 0, 0)
    assert np.array_equal(dw, pairs(grads))


def both_grads(order_of_threads, seed):
    geo, N, x, _, dy, _, w, b, _ = conv_problem("wide both ways", np.float32, 1)
    x, dy = (np.ascontiguousarray(np.concatenate([a] * 20)) for a in (x, dy))
    dw, db, (N, L, C, G) = np.empty_like(w), np.empty_like(b), (20 * N, 36, 20, 4)
    gamma, dx, dgamma, dbeta = np.ones(C, np.float32), np.empty_like(x), np.empty(C, "f4"), np.empty(C, "f4")
    with on(host_device(BUILD, order_of_threads, seed)):
        conv2d.conv2d_apply_dw(geo, N, x, dy, dw, db, np.float32, 1, 1)
        sizes, arrays = (N, L, C, G), (x, gamma, gamma, x[::-1].copy(), dx, dgamma, dbeta)
        group_norm.norm_apply_back(*sizes, *arrays, np.float32, 1, 1, 1e-5, "silu")
    return [a.tobytes() for a in (dw, db, dx, dgamma, dbeta)]


def test_gradients_of_parameters__repeat_to_the_bit_in_any_order_of_threads_and_blocks():
    want = both_grads("forward", 0)
    for order, seed in (("reverse", 0), ("random", 1), ("random", 2)):
        assert both_grads(order, seed) == want


def test_gradients_of_parameters__do_not_depend_on_grid_or_memory(monkeypatch):
    want = both_grads("forward", 0)
    monkeypatch.setattr(tree, "SLAB_BYTES", 0)  # slabs as small as they get
    for module in (tree, conv2d, group_norm):
        monkeypatch.setattr(module, "MAX_Y", 2)
    monkeypatch.setattr(group_norm, "MAX_BLOCKS", 3)
    assert both_grads("forward", 0) == want


@pytest.mark.parametrize(("N", "slabs"), ((8 * 40 - 3, 3), (8 * 300 - 3, 2)))
def test_conv2d_apply_dw__gives_the_same_bits_slab_by_slab(N, slabs, monkeypatch):
    geo, rng = conv2d.geometry(1, 1, 2, 1, 1, 5, 1, "SAME"), np.random.default_rng(8)
    x, dy = rng.standard_normal((N, 2)).astype(np.float32), rng.standard_normal((N, 5)).astype(np.float32)
    found = []
    for memory in (tree.SLAB_BYTES, 0):
        monkeypatch.setattr(tree, "SLAB_BYTES", memory)
        dw, db, chunks = empty((2, 5), np.float32), empty(5, np.float32), -(-N // tree.CHUNK)
        conv2d.conv2d_apply_dw(geo, N, x, dy, dw, db, np.float32, 0, 0)
        found.append((dw.tobytes(), db.tobytes(), -(-chunks // tree.slab_chunks(chunks, 15, 4))))
    assert found[0][:2] == found[1][:2] and (found[0][2], found[1][2]) == (1, slabs)
    assert np.allclose(dw, x.T @ dy, atol=1e-3)


def test_slab_chunks__bounds_the_memory_by_whole_subtrees():
    assert tree.slab_chunks(5, 10, 4) == 5
    slab = tree.slab_chunks(10_000, 10**6, 4)  # 40 GB of partial sums at once
    assert slab == 256 and (slab + 10_000 // slab) * 4 * 10**6 < 2**31


@pytest.mark.parametrize("case", ("wide both ways", "narrow both ways", "grey image, wide"))
def test_layers__take_no_samples(case):
    geo, _, x, _, dy, _, w, b, _ = conv_problem(case, np.float32, 1)
    y, dx, dw, db = dy[:0].copy(), x[:0].copy(), empty(w.shape, np.float32), empty(b.shape, np.float32)
    conv2d.conv2d_apply(geo, 0, x[:0], w, b, y, np.float32, 1)
    conv2d.conv2d_apply_dx(geo, 0, dy[:0], w, dx, np.float32, 1, False)
    conv2d.conv2d_apply_dw(geo, 0, x[:0], dy[:0], dw, db, np.float32, 1, 1)
    assert not dw.any() and not db.any()
    gamma, dgamma, dbeta = np.ones(geo.C, np.float32), empty(geo.C, np.float32), empty(geo.C, np.float32)
    none = x[:0]
    group_norm.norm_apply(0, geo.H * geo.W, geo.C, 1, none, gamma, gamma, dx, np.float32, 1, 1e-5, "silu")
    args = (none, gamma, gamma, none, dx, dgamma, dbeta, np.float32, 1, 1, 1e-5, "silu")
    group_norm.norm_apply_back(0, geo.H * geo.W, geo.C, 1, *args)
    assert not dgamma.any() and not dbeta.any()


def test_layers__take_more_samples_than_a_grid_has_rows():
    N, rng = 70_001, np.random.default_rng(6)
    geo = conv2d.geometry(1, 1, 2, 1, 1, 1, 1, "SAME")
    x, w, b = rng.standard_normal((N, 1, 1, 2)), rng.standard_normal((1, 1, 2, 1)), rng.standard_normal(1)
    y, dw, db = empty((N, 1, 1, 1), np.float64), empty(w.shape, np.float64), empty(1, np.float64)
    conv2d.conv2d_apply(geo, N, x, w, b, y, np.float64, 0)
    assert np.allclose(y, conv2d_forward(x, w, b), rtol=1e-14, atol=1e-14)
    conv2d.conv2d_apply_dw(geo, N, x, y, dw, db, np.float64, 0, 0)
    _, want_w, want_b = conv2d_backward(x, w, y)
    assert np.allclose(dw, want_w, rtol=1e-12) and np.allclose(db, want_b, rtol=1e-12)
    gamma, z = np.ones(2), empty((N, 1, 2), np.float64)
    group_norm.norm_apply(N, 1, 2, 1, x, gamma, gamma, z, np.float64, 0, 1e-3, None)
    assert np.allclose(z, group_norm_forward(x.reshape(N, 1, 2), gamma, gamma, 1, 1e-3), rtol=1e-12, atol=1e-12)


def test_layers__do_not_depend_on_the_grid(monkeypatch):
    def run():
        found = []
        for case in ("wide both ways", "narrow both ways", "narrow out", "stride longer than the kernel"):
            geo, N, x, _, dy, _, w, b, _ = conv_problem(case, np.float32, 1)
            y, dx = np.empty_like(dy), np.empty_like(x)
            conv2d.conv2d_apply(geo, N, x, w, b, y, np.float32, 1)
            conv2d.conv2d_apply_dx(geo, N, dy, w, dx, np.float32, 1, False)
            gamma, z = np.ones(geo.C, np.float32), np.empty_like(x)
            group_norm.norm_apply(N, geo.H * geo.W, geo.C, geo.C, x, gamma, gamma, z, np.float32, 1, 1e-3, "gelu")
            found += [y.tobytes(), dx.tobytes(), z.tobytes()]
        return found

    want = run()
    for module, name, limit in ((conv2d, "MAX_Y", 1), (conv2d, "MAX_BLOCKS", 1), (group_norm, "MAX_BLOCKS", 1)):
        monkeypatch.setattr(module, name, limit)
    assert run() == want


def run_the_problems():
    for case in CONVS:
        for order in (0, 1):
            geo, N, x, _, dy, _, w, b, _ = conv_problem(case, np.float32, order)
            conv2d.conv2d_apply(geo, N, x, w, b, dy.copy(), np.float32, order)
            conv2d.conv2d_apply_dx(geo, N, dy, w, x.copy(), np.float32, order, False)
            conv2d.conv2d_apply_dw(geo, N, x, dy, w.copy(), b.copy(), np.float32, order, order)
    for N, L, C, G in NORMS.values():
        for order in (0, 1):
            x, gamma = np.ones((N, L, C, order + 1), np.float32), np.ones(C, np.float32)
            group_norm.norm_apply(N, L, C, G, x, gamma, gamma, x.copy(), np.float32, order, 1e-3, "tanh")
            args = (x, gamma, gamma, x, x.copy(), gamma.copy(), gamma.copy(), np.float32, order, order, 1e-3, "tanh")
            group_norm.norm_apply_back(N, L, C, G, *args)


def test_problems__run_every_kernel():
    before = launched()
    run_the_problems()
    after = launched()
    files = ("conv2d.cu", "conv2d_dw.cu", "group_norm.cu", "tree.cu")
    idle = [n for f in files for n in kernel_names(f) if after.get((f, n), 0) == before.get((f, n), 0)]
    assert idle == []
    teams = {(1, 2), (2, 4), (8, 4), (16, 2), (32, 1), (32, 8), (64, 4), (128, 2), (256, 1)}  # lanes, side by side
    assert {group_norm.team(L, C, G) for _, L, C, G in NORMS.values()} >= teams


@pytest.mark.parametrize("grid", ("full", "one block"))
def test_kernels__have_no_race(grid, monkeypatch):
    if grid == "one block":  # which then works off all of the problem, part after part
        for module in (tree, conv2d, group_norm):
            monkeypatch.setattr(module, "MAX_Y", 1)
        for module in (conv2d, group_norm):
            monkeypatch.setattr(module, "MAX_BLOCKS", 1)
    with on(host_device("race")):
        run_the_problems()
