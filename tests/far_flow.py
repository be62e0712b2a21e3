"""The same as far.py for couplings, repulsion, the steps of fields and descent."""

import numpy as np
from far import EDGE, I64, ROWS, F, at_the_end, ending, numbers, reserve, same

from ebm_fast.cupy_raw import coupling, descent, field
from ebm_fast.cupy_raw.device import blocks, current, launch
from ebm_fast.cupy_raw.repulsion import repulsion
from ebm_fast.cupy_raw.source import kernel
from ebm_ref.descent_specs import NesterovDescent

TURN = 2**28  # elements that a grid covers at a time: the last block has the last 256 of so many


def costs(tile):
    """2^17 samples of 2^15 numbers, and as many costs of each."""
    B, D, side = 2**17, 2**15, coupling.TILES[tile]

    def run(x0, x1):
        B = len(x0)
        cost, tiles = current().empty((B, B), F), blocks(B, side)
        args = (x0, x1, cost, I64(B), I64(D))
        launch(kernel("coupling.cu", f"coupling_cost_{tile}", F), (tiles, min(tiles, coupling.MAX_Y)), 256, args)
        return cost[:, -side:]

    at_the_end(run, [ending(seed, (B, D), side) for seed in (40, 41)], side)


def repelled():
    x = ending(42, (9 * TURN // 4, 2, 4), 64)
    push, W = repulsion(x, 0.1, 0.7)[::-1]
    alone = repulsion(x[-64:].copy(), 0.1, 0.7)
    same(push[-64:], alone[1])
    same(W[-64:], alone[0])


def upsampled():
    N, H, W, C, last = 9 * TURN // 16, 2, 2, 4, 16

    def forward(x):
        y = current().empty((len(x), 2 * H, 2 * W, C), F)
        field.upsample_apply(len(x), H, W, C, x, y, F, 0)
        return y

    def back(dy):
        dx = current().empty((len(dy), H, W, C), F)
        field.upsample_apply_back(len(dy), H, W, C, dy, dx, F, 0)
        return dx

    def parts(x):
        y, z = (current().empty((len(x),), F) for _ in range(2))
        field.jet_parts(len(x), x, y, z, F, 1)
        return y, z

    at_the_end(forward, [ending(43, (N, H, W, C), last)], last)
    at_the_end(back, [ending(44, (N, 2 * H, 2 * W, C), last)], last)
    at_the_end(parts, [ending(45, (9 * TURN, 2), 256)], 256, many=2)


def heads():
    N, D, last = 9 * TURN // 4, 4, 64

    def dots(a, b):
        E = current().empty((len(a),), F)
        field.head_dots(len(a), D, a, b, E, 0.5, F, 0)
        return E

    def scaled(a, dE):
        y = current().empty(a.shape, F)
        field.head_scale(len(a), D, a, dE, y, -1.0, F, 0)
        return y

    a, b, dE = ending(46, (N, D), last), ending(47, (N, D), last), ending(48, (N,), last)
    at_the_end(dots, [a, b], last)
    at_the_end(scaled, [a, dE], last)


def descents():
    """A step of 2^29 samples of four numbers, the fifth of five records."""

    def one(x, v, g, E):
        walk = descent.Walk(NesterovDescent(0.1, 0.5), 0.5, x, [v], 5, 0, True)
        walk.counter[:] = 4
        at, point = current().empty(x.shape, F), current().empty((len(x),), np.bool_)
        walk.place(at, point, None)
        walk.move(at, g, E, point, None)
        assert walk.alive[-256:].all() and walk.nfe[-256:].all()
        return at, x, v, walk.energies[4], walk.grad_norms[4]

    arrays = [ending(seed, (ROWS, 4), 256) for seed in (49, 50, 51)] + [ending(52, (ROWS,), 256)]
    wanted = one(*(np.array(a[-256:]) for a in arrays))
    for a, b in zip(one(*arrays), wanted, strict=True):
        same(np.array(a[-256:]), b)


def descent_rows():
    """A step of four samples far apart."""
    N, D, rows = 2**21 + 8, 1024, np.array([0, 2**21, 2**21 + 7, 5])

    def one(x, v, rows):
        walk = descent.Walk(NesterovDescent(0.1, 0.5), 0.0, x, [v], 1, 0, False)
        walk.counter[:] = 0  # of the grid that begins the walk only the last block has run
        for n in rows:
            walk.alive[n], walk.stopped[n], walk.nfe[n] = True, False, 0
        at, point = current().empty((4, D), F), current().empty((4,), np.bool_)
        walk.place(at, point, rows)
        walk.move(at, numbers(53, (4, D)), None, point, rows)
        return x[rows], v[rows], walk.grad_norms[0, rows]

    x, v = reserve((N, D), F), reserve((N, D), F)
    x[rows], v[rows] = numbers(54, (4, D)), numbers(55, (4, D))
    wanted = one(x[rows], v[rows], np.arange(4))
    for a, b in zip(one(x, v, rows), wanted, strict=True):
        same(a, b)


def descent_records():
    N, K = 3 * TURN, 4
    records, nfe = reserve((K, N), F), reserve((N,), I64)
    assert (K - 1) * N > EDGE
    nfe[-256:], records[0, -256:] = 1, numbers(56, 256)
    args = (records, nfe, I64(N), I64(K))
    launch(kernel("descent.cu", "descent_fill", F), min(blocks(N, 256), descent.MAX_BLOCKS), 256, args)
    same(records[K - 1, -256:], numbers(56, 256))
