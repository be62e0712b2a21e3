"""Wrong draws from the replay buffer, and wrong pushes into it."""

import numpy as np

import ebm_ref
from ebm_fast.verify import naive


def draw_mask_from_index(slots, filled, bits, u, fresh, rho):
    return naive.buffer_draw(slots, filled, bits, (bits + 0.5) / 2**32, fresh, rho)


def draw_leaves_out_the_tail(slots, filled, bits, u, fresh, rho):
    x0, idx, restart = naive.buffer_draw(slots, filled, bits, u, fresh, rho)
    stride = max(1, filled // max(1, len(bits)))
    idx = np.minimum(idx // stride * stride, len(bits) * stride - 1)
    keep = restart.reshape(-1, *[1] * (fresh.ndim - 1))
    return np.where(keep, fresh, slots[idx]), idx, restart


def draw_from_empty_slots(slots, filled, bits, u, fresh, rho):
    return naive.buffer_draw(slots, len(slots), bits, u, fresh, rho)


def draw_jitters_the_old(slots, filled, bits, u, fresh, rho):
    x0, idx, restart = naive.buffer_draw(slots, filled, bits, np.ones_like(u), fresh, 0.0)
    restart = u < rho
    return x0 + (0.01 * restart.reshape(-1, *[1] * (x0.ndim - 1)) * fresh).astype(x0.dtype), idx, restart


def draw_restarts_at_a_tie(slots, filled, bits, u, fresh, rho):
    return naive.buffer_draw(slots, filled, bits, np.where(u == rho, 0.0, u), fresh, rho)


def push_first_wins(slots, filled, ptr, x, policy, idx=None, bits=None):
    if policy != "in_place":
        return ebm_ref.buffer_push(slots, filled, ptr, x, policy, idx, bits)
    return ebm_ref.buffer_push(slots, filled, ptr, x[::-1], policy, idx[::-1], bits)


def push_from_slot_zero(slots, filled, ptr, x, policy, idx=None, bits=None):
    if policy != "fifo" or filled < len(slots):
        return ebm_ref.buffer_push(slots, filled, ptr, x, policy, idx, bits)
    filled, _ = ebm_ref.buffer_push(slots, filled, 0, x, policy)
    return filled, ptr + len(x)


def push_reservoir_off_by_one(slots, filled, ptr, x, policy, idx=None, bits=None):
    if policy != "reservoir" or ptr < len(slots):
        return ebm_ref.buffer_push(slots, filled, ptr, x, policy, idx, bits)
    filled, _ = ebm_ref.buffer_push(slots, filled, max(len(slots), ptr - 1), x, policy, None, bits)
    return filled, ptr + len(x)
