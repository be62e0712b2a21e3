"""The same as far.py for couplings, repulsion and the steps of fields."""

from far import I64, F, at_the_end, ending, same

from ebm_fast.cupy_raw import coupling, field
from ebm_fast.cupy_raw.device import blocks, current, launch
from ebm_fast.cupy_raw.repulsion import repulsion
from ebm_fast.cupy_raw.source import kernel

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
