"""The same as far.py for couplings and repulsion."""

from far import I64, F, at_the_end, ending, same

from ebm_fast.cupy_raw import coupling
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
