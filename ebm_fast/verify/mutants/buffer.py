"""The replay buffer as a process: who is drawn, what a restart is, what is stored, how much of it."""

from __future__ import annotations

from typing import Any

import numpy as np

import ebm_ref
from ebm_ref.contracts import Array, Stream

from .parts import normals, uniforms
from .table import Function, check_of, mutant_of

# ------------------------------------------------------------------------------------------ checks


@check_of("buffer_draw", want=0.0, allowed=0.0)
def buffer_draw_reaches_every_slot(fn: Function) -> float:
    """127 slots, 200 batches of 64: slots that are never drawn (a given one is missed with probability 1e-44)."""
    slots, seen = np.zeros((127, 1)), np.zeros(127, bool)
    words = ebm_ref.noise_bits(1, Stream.BUFFER_INDEX, 0, np.arange(200), 64)
    for bits in words:
        seen[np.asarray(fn(slots, 127, bits, np.ones(64), np.zeros((64, 1)), 0.0)[1])] = True
    return float(np.count_nonzero(~seen))


@check_of("buffer_draw", want=1.0, allowed=0.15)
def buffer_draw_restarts_afresh(fn: Function) -> float:
    """slots all 5, rho = 1, fresh ~ N(0, 1): sd of the starts (1,000 draws)."""
    bits = ebm_ref.noise_bits(2, Stream.BUFFER_INDEX, 0, np.arange(1000), 1)[:, 0]
    x0, *_ = fn(np.full((8, 1), 5.0), 8, bits, uniforms(2, 0, 1000), normals(2, 1, 1000), 1.0)
    return float(np.std(x0))


@check_of("buffer_draw", want=0.0, allowed=0.0)
def buffer_draw_is_not_padded(fn: Function) -> float:
    """4 samples stored, 64 asked for, rho = 0: rows that are fresh."""
    bits = ebm_ref.noise_bits(3, Stream.BUFFER_INDEX, 0, np.arange(64), 1)[:, 0]
    x0, *_ = fn(np.zeros((128, 1)), 4, bits, uniforms(3, 0, 64), np.ones((64, 1)), 0.0)
    return float(np.count_nonzero(x0))


@check_of("buffer_push", want=10000.0, allowed=0.0)
def buffer_push_stays_within(fn: Function) -> float:
    """79 batches of 128 into 10,000 slots: samples that the buffer says it holds."""
    slots, filled, ptr = np.zeros((10000, 1)), 0, 0
    for _ in range(79):
        filled, ptr = fn(slots, filled, ptr, np.ones((128, 1)), "fifo")
    return float(filled)


@check_of("buffer_push", want=1.0)
def buffer_push_keeps_its_values(fn: Function) -> float:
    """pushed and drawn 100 times without a step between: mean over the first mean."""
    x = np.linspace(0.1, 0.9, 500)[:, None]
    slots = x.copy()
    for _ in range(100):
        fn(slots, 500, 0, slots.copy(), "in_place", np.arange(500))
    return float(slots.mean() / x.mean())


@check_of("buffer_push", want=200.0)
def buffer_push_keeps_large_values(fn: Function) -> float:
    """a pixel of 200 is stored as 200."""
    slots = np.zeros((1, 1))
    fn(slots, 1, 0, np.full((1, 1), 200.0), "in_place", np.arange(1))
    return float(slots[0, 0])


# ----------------------------------------------------------------------------------------- mutants


@mutant_of("buffer_draw_reaches_every_slot", "torchebm core/base_loss.py:306", "0 -> 63 of 127 never drawn")
def stride_and_offset(slots: Array, filled: int, bits: Array, u: Array, fresh: Array, rho: float) -> Any:
    """one draw from each of B strata of floor(M / B) slots: the rest is never chosen"""
    stride = max(1, filled // len(bits))
    idx = (np.arange(len(bits)) * stride + ebm_ref.noise_index(bits, stride)) % filled
    return slots[idx], idx, np.zeros(len(bits), bool)


@mutant_of("buffer_draw_restarts_afresh", "torchebm core/base_loss.py:316", "sd of starts 1 -> .0099")
def restart_is_a_jitter(slots: Array, filled: int, bits: Array, u: Array, fresh: Array, rho: float) -> Any:
    """a restart adds 0.01 xi to the old sample"""
    x0, idx, _ = ebm_ref.buffer_draw(slots, filled, bits, np.ones_like(u), fresh, 0.0)
    restart = u < rho
    return x0 + 0.01 * np.where(restart[:, None], fresh, 0.0), idx, restart


@mutant_of("buffer_draw_is_not_padded", "artifex models/energy/mcmc.py, SampleBuffer", "0 -> 60 of 64 fresh")
def padded_with_noise(slots: Array, filled: int, bits: Array, u: Array, fresh: Array, rho: float) -> Any:
    """a short buffer is filled up with fresh noise"""
    x0, idx, restart = ebm_ref.buffer_draw(slots, filled, bits, u, fresh, rho)
    x0[filled:], restart[filled:] = fresh[filled:], True
    return x0, idx, restart


@mutant_of("buffer_push_stays_within", "improved_contrastive_divergence utils.py", "10,000 -> 10,112")
def fuller_than_full(
    slots: Array, filled: int, ptr: int, x: Array, policy: str, idx: Any = None, bits: Any = None
) -> tuple[int, int]:
    """a batch goes in whole while there is any room"""
    _, ptr = ebm_ref.buffer_push(slots, min(filled, len(slots)), ptr, x, policy, idx, bits)
    return filled + len(x) if filled < len(slots) else filled, ptr


@mutant_of("buffer_push_keeps_its_values", "openai ebm_code_release, improved_contrastive_divergence", "1 -> 0.676")
def stored_in_bytes(
    slots: Array, filled: int, ptr: int, x: Array, policy: str, idx: Any = None, bits: Any = None
) -> tuple[int, int]:
    """stored as floor(255 x), read as (that + u) / 256: darker by 255/256 each time"""
    coarse = (np.floor(255 * x) + uniforms(4, int(1e6 * x.mean()), len(x))[:, None]) / 256
    return ebm_ref.buffer_push(slots, filled, ptr, coarse, policy, idx, bits)


@mutant_of("buffer_push_keeps_large_values", "improved_contrastive_divergence utils.py, _encode_sample")
def bytes_that_wrap(
    slots: Array, filled: int, ptr: int, x: Array, policy: str, idx: Any = None, bits: Any = None
) -> tuple[int, int]:
    """multiplied by 255 whatever the range, in 8 bits"""
    wrapped = (255 * x).astype(np.int64).astype(np.uint8).astype(x.dtype) / 255
    return ebm_ref.buffer_push(slots, filled, ptr, wrapped, policy, idx, bits)
