"""One training step of a joint energy-based model: data noise, chains from a buffer in class blocks, `jem`.

    jem_step   x_pos = box(x + sigma_data xi), x_lab likewise
               x_neg: N chains.  conditional=False: from anywhere in the buffer, K steps on E(x)
                                 conditional=True:  y ~ U{0..C-1}, from block y, K steps on E(x, y), p(y) uniform
               x_neg_y (w_xy):   one chain a label, from block y, K steps on E(x, y)
               loss and gradient by `jem`; then x_neg, then x_neg_y go back where they came from
    jem_batch  indices of a semi-supervised step: x from all data, x_lab from the labelled part, two permutations

conditional=False classifies better, conditional=True samples better (the source's finding): its chains move on a single
logit, and p(x) is what they give if the classes are balanced and each block has mixed.

Addresses: chain n of x_neg, and of its data noise and restarts, is n; chain i of x_lab and of x_neg_y is N + i. Step k
of training step t draws at counter t K + k, with balance="steps" at t K_max + k. The class of chain n is word 0 of
CLASS_INDEX, of its informative restart word 1; a conditional chain restarts in its own class. With inner > 1 a step is
a move along a frozen gradient (samplers/jempp.py), of which there are K inner.

balance, in this project's own names (balance.py says what each one biases): "weight" shrinks the negative half to the
size of the positive one; "steps" lengthens the chains of x_neg, K at a time and at most to K_max, until
mean E(x_neg) <= mean E(x_pos) + delta; "energy_target" returns the next eta in info["eta"], which is
the same one where the gap is not finite: the loss is not finite then either. The last two read two numbers back from
the arrays.

Source: Grathwohl et al. 2020, arXiv:1912.03263, algorithm 1 and its code (blocks, conditional chains, restarts).
Level: 1, and `logits`, `logits_grad_theta`, `given` of a classifier. Twins: none; it takes the module.
"""

from __future__ import annotations

from functools import lru_cache
from math import isfinite
from types import ModuleType

import numpy as np

from ..contracts import (
    Array,
    Buffer,
    DataError,
    DTypeError,
    Energy,
    Params,
    RangeError,
    ShapeError,
    Stream,
    check_array,
    check_choice,
    check_count,
    check_labels,
    check_number,
)
from ..noise import noise_permutation
from ..samplers.adaptation import energy_target
from ..samplers.class_buffer import ClassGaussians, class_block
from ..specs import Box, Update, check_box
from .balance import BALANCES
from .jem import Info, JEMTerms, JointEnergy, jem
from .jem_chains import STARTS, JEMDraws, Start, chain_length


def jem_step(
    backend: ModuleType,
    energy: JointEnergy,
    theta: Params,
    x: Array,
    x_lab: Array | None,
    y: Array | None,
    buffer: Buffer,
    K: int,
    update: Update,
    terms: JEMTerms,
    sigma_data: float,
    rho: float,
    seed: int,
    step: int,
    box: Box | None,
    start: Start = "uniform",
    conditional: bool = False,
    inner: int = 1,
    balance: str | None = None,
    delta: float = 0.0,
    K_max: int | None = None,
    kappa: float = 0.0,
    eta_bounds: tuple[float, float] = (1e-3, 1e3),
) -> tuple[Array, Params, Info]:
    """`jem` on noised data and on K Langevin steps from the buffer, which is advanced in place, last of all.

    backend: module with noise_uniform, noise_normal, noise_bits, langevin_run, buffer_draw, buffer_push
    x: (N, *shape) data   x_lab, y: (N_lab, *shape), (N_lab,) NumPy integers; both None where w_yx = w_xy = 0
    buffer: M slots; in C blocks, full and in_place for conditional chains and w_xy   rho: probability of a restart
    start: a restart is "uniform" in the box, "data_noise" or a draw of ClassGaussians
    K: gradients of a chain   inner: moves along each, as in `jempp_run`
    delta, K_max: of balance="steps"   kappa, eta_bounds: of balance="energy_target"
    returns loss, grads, info; info adds x_neg, chain (ChainInfo), restart, and where they are, y_neg, x_neg_y, eta, K.
    Raises ShapeError, DTypeError, RangeError, NonFiniteError (x, x_lab, buffer).
    """
    _check_step(energy, x, x_lab, y, buffer, terms, sigma_data, box, start, conditional, balance)
    check_number("kappa", kappa, low=0.0)
    _check_bounds(eta_bounds)
    length = chain_length(K, inner, K_max, delta, balance)
    draws = JEMDraws(backend, seed, step, energy.classes, box, update, inner, length)
    N, N_lab = x.shape[0], 0 if x_lab is None else x_lab.shape[0]
    chains, labelled = np.arange(N), np.arange(N, N + N_lab)
    info: Info = {}
    pushed: list[tuple[Array, Array, Array]] = []  # states, where they go, their addresses
    x_neg = x_neg_y = None

    x_pos = draws.noised(x, sigma_data, Stream.DATA_NOISE, chains)  # (N, *shape)
    if x_lab is not None:
        x_lab = draws.noised(x_lab, sigma_data, Stream.DATA_NOISE, labelled)  # (N_lab, *shape)
    if terms.w_x:
        y_neg = draws.class_index(chains, 0) if conditional else None  # (N,)
        fresh = draws.fresh(start, x, y_neg, sigma_data, chains)  # (N, *shape)
        x0, idx, info["restart"] = draws.place(buffer, y_neg, fresh, rho, chains)
        on: Energy = energy if y_neg is None else energy.given(y_neg)
        x_neg, info["chain"] = draws.moved(on, theta, x0, K, chains)
        if balance == "steps":
            x_neg, info["K"] = draws.lengthened(on, energy, theta, x_pos, x_neg, K, delta)
        pushed.append((x_neg, idx, chains))
        info |= {"x_neg": x_neg} | ({} if y_neg is None else {"y_neg": y_neg})
    if terms.w_xy and x_lab is not None:
        fresh = draws.fresh(start, x_lab, y, sigma_data, labelled)  # (N_lab, *shape)
        x0, idx, _ = draws.place(buffer, y, fresh, rho, labelled)
        x_neg_y, info["chain_y"] = draws.moved(energy.given(y), theta, x0, K, labelled)
        pushed.append((x_neg_y, idx, labelled))
        info["x_neg_y"] = x_neg_y

    given = x_pos if terms.w_x or terms.w_mi else None
    loss, grads, measured = jem(energy, theta, terms, given, x_neg, x_lab, y, x_neg_y, balance == "weight")
    if balance == "energy_target":
        gap = float(measured["gap"])
        info["eta"] = energy_target(update.eta, gap, kappa, *eta_bounds) if isfinite(gap) else update.eta
    for states, idx, ids in pushed:
        bits = backend.noise_bits(seed, Stream.BUFFER_RESERVOIR, step, ids, 1)[:, 0]
        buffer.filled, buffer.ptr = backend.buffer_push(
            buffer.slots, buffer.filled, buffer.ptr, states, buffer.policy, idx=idx, bits=bits
        )
    return loss, grads, measured | info


def _check_step(
    energy: JointEnergy,
    x: Array,
    x_lab: Array | None,
    y: Array | None,
    buffer: Buffer,
    terms: JEMTerms,
    sigma_data: float,
    box: Box | None,
    start: Start,
    conditional: bool,
    balance: str | None,
) -> None:
    """Raise on what would be found only after a chain has run."""
    for name, samples in (("x", x), ("x_lab", x_lab)):
        if samples is not None:
            check_array(name, samples, shape=(None, *energy.shape), finite=isinstance(samples, np.ndarray))
            if samples.shape[0] == 0:
                raise ShapeError(f"{name}: expected at least one sample, found none")
    if (x_lab is None) != (y is None):
        raise RangeError("x_lab, y: expected both or neither")
    if (terms.w_yx or terms.w_xy) and x_lab is None:
        raise RangeError("x_lab: w_yx or w_xy > 0 needs it, found None")
    if y is not None and x_lab is not None:
        check_labels("y", y, energy.classes, x_lab.shape[0])
    check_number("sigma_data", sigma_data, low=0.0)
    check_box(box)
    if balance is not None:
        check_choice("balance", balance, BALANCES)
        if not terms.w_x:
            raise RangeError(f"balance: {balance} balances the term w_x, which is 0")
    if isinstance(start, ClassGaussians):
        if start.shape != tuple(energy.shape) or start.classes != energy.classes:
            raise ShapeError(
                f"start: expected Gaussians of {energy.classes} classes and shape {tuple(energy.shape)}, "
                f"found {start.classes} and {start.shape}"
            )
    else:
        check_choice("start", start, STARTS)
    if conditional or terms.w_xy:
        class_block(buffer.slots.shape[0], energy.classes)
        if buffer.policy != "in_place" or buffer.filled < buffer.slots.shape[0]:
            raise RangeError(
                f"buffer: class blocks need policy in_place and every slot filled, found {buffer.policy} and "
                f"{buffer.filled} of {buffer.slots.shape[0]}"
            )


def _check_bounds(eta_bounds: tuple[float, float]) -> None:
    """Raise unless 0 < low < high."""
    if not isinstance(eta_bounds, tuple) or len(eta_bounds) != 2:
        raise DTypeError(f"eta_bounds: expected (low, high), found {eta_bounds!r}")
    check_number("eta_bounds", eta_bounds[0], low=0.0, open_low=True)
    check_number("eta_bounds", eta_bounds[1], low=eta_bounds[0], open_low=True)


def jem_batch(n: int, labelled: Array, batch: int, seed: int, step: int) -> tuple[Array, Array]:
    """Indices into n samples: `batch` of all of them, and `batch` of the labelled ones.

    labelled: (n_lab,) NumPy integers in [0, n), the samples that have labels (np.arange(n): all)
    returns idx (batch,), idx_lab (batch,). Epoch e of the first is permutation e of Stream.DATA_INDEX, as in `train`;
    of the second of Stream.LABELLED_INDEX. What is left of an epoch is dropped. A labelled part smaller than the
    batch is repeated. Raises DTypeError, ShapeError, RangeError, DataError.
    """
    check_count("n", n, low=1)
    check_count("batch", batch, low=1)
    check_count("step", step, low=0)
    check_labels("labelled", labelled, n)
    if n < batch:
        raise DataError(f"n: expected at least one batch of {batch}, found {n}")
    if labelled.size == 0:
        raise DataError("labelled: expected at least one labelled sample, found none")
    repeated = np.resize(labelled, max(labelled.size, batch))
    return (
        _slice(seed, Stream.DATA_INDEX, n, batch, step),
        repeated[_slice(seed, Stream.LABELLED_INDEX, repeated.size, batch, step)],
    )


def _slice(seed: int, stream: int, n: int, batch: int, step: int) -> Array:
    epoch, b = divmod(step, n // batch)
    return _epoch(seed, stream, epoch, n)[b * batch : (b + 1) * batch]


@lru_cache(maxsize=2)
def _epoch(seed: int, stream: int, epoch: int, n: int) -> Array:
    """One permutation; kept until the next ones are asked for."""
    order = noise_permutation(seed, stream, epoch, n)
    order.flags.writeable = False
    return order
