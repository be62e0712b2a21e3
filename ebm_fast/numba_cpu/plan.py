"""The plan of a network: what one step of its chain does to a tile, instruction by instruction.

chain_plan   width and registers of a tile, its scratch, and for each linear map the multiply-adds of a sample:
             those on the image, without padding, and those of pixels that share their weights with none
plan_text    the same for a reader
"""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np

from . import machine as m
from .across import gather_across
from .gather import gather
from .network import Network, chain_program
from .program import Program

MOVES = {m.LOAD: "load", m.STORE: "store", m.READ: "read", m.WRITE: "write", m.FILL: "fill", m.COPY: "copy"}


def chain_plan(network: Network, N: int, dtype: Any = np.float32) -> dict[str, Any]:
    """The plan of a chain of N samples."""
    planned, dtype = network.planned(), np.dtype(dtype)
    width = planned.tile_width(np.empty((N, 1), dtype))
    P = chain_program(planned, dtype, False, width)
    step = P.code[P.ends[0] : P.ends[1]]
    return {
        "samples": N,
        "dtype": dtype.name,
        "tile": width,
        "lanes": P.lanes,
        "tiles": -(-N // width),
        "scratch_bytes": P.scratch_size * dtype.itemsize,
        "weights_bytes": P.packed_size * dtype.itemsize,
        "maps": [map_plan(P, operands) for what, *operands in step if what in (gather, gather_across)],
        "instructions": dict(Counter(MOVES.get(what) or what.__name__ for what, *_ in step)),
    }


def map_plan(P: Program, operands: list[int]) -> dict[str, int]:
    """One linear map: a unit is one to three registers of the output, an entry one tap of them."""
    _, _, _, _, tab, units, _, C, O, _ = operands
    table = np.concatenate(P.tables)
    bounds, registers = table[tab : tab + units + 1], P.width // P.lanes
    pairs, sizes = (np.diff(bounds) - 3) // 4, sum(table[bounds[:-1] + j] >= 0 for j in range(3))
    return {
        "pixels": int(sizes.sum()) // registers,
        "C": C,
        "O": O,
        "multiply_adds": int((sizes * pairs).sum()) * C * O // registers,
        "lone": int(pairs[sizes == 1].sum()) * C * O // registers,
        "units": units,
    }


def plan_text(plan: dict[str, Any]) -> str:
    """The plan for a reader."""
    registers = f"{plan['tile'] / plan['lanes']:g} registers of {plan['lanes']} lanes"
    lanes = registers if plan["tile"] > 1 else "outputs in the lanes"
    lines = [
        f"{plan['samples']} samples of {plan['dtype']}: {plan['tiles']} tiles of {plan['tile']}, {lanes}",
        f"scratch {plan['scratch_bytes'] / 1e6:.2f} MB a thread, packed weights {plan['weights_bytes'] / 1e6:.2f} MB",
        "",
        "linear maps of one step, there and back: multiply-adds of a sample on the image, and the part of them",
        "that shares its weights with no other pixel or register",
    ]
    for row in plan["maps"]:
        part = row["lone"] / max(row["multiply_adds"], 1)
        size = f"{row['pixels']:5} pixels {row['C']:4} -> {row['O']:<4}"
        lines.append(f"  {size} {row['multiply_adds']:10}  {part:.2f}   {row['units']} units")
    counts = ", ".join(f"{name} {count}" for name, count in sorted(plan["instructions"].items()))
    return "\n".join([*lines, "", f"instructions: {counts}"])
