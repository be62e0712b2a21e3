"""Is training healthy, and do the chains mix?

    diagnostics_gap          mean E(x_neg) - mean E(x_pos)
    diagnostics_grad_norms   2-norm of each parameter's gradient
    effective_sample_size    T N / (1 + 2 sum_t rho_t), over N chains of T draws
    split_rhat               sqrt(var_plus / W), every chain cut in two halves
    Alarms                   sentences about a stream of training records

With W the mean variance within chains, B/T the variance of the chains' means and c_t the mean autocovariance,
    var_plus = (T - 1)/T W + B/T,   rho_t = 1 - (W - T/(T-1) c_t) / var_plus,
and the sum over rho_t stops at the first pair rho_2j + rho_2j+1 that is not positive. For a reversible chain every
such pair is positive, so what follows is noise.

Reading a gap: 0 at equilibrium, or 2 alpha (mean E(x_pos)^2 + mean E(x_neg)^2) with the regulariser. A large gap
that stays positive: the chains lag behind the model. Negative: they relax below the data. A falling energy along a
chain is a sign of burn-in, not of health: at equilibrium the mean energy is constant.

Source: Geyer 1992, Practical Markov chain Monte Carlo, section 3.3 (initial positive sequence); Gelman & Rubin 1992;
Vehtari et al. 2021, arXiv:1903.08008, eqs. 3, 4, 10 to 13 (split chains, several chains, the bound T N log10(T N)).
Level: none, these see numbers only. Twins: none.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from math import log10, nan, sqrt

import numpy as np

from .contracts import Array, Params, RangeError, ShapeError, check_array, check_count, check_number


def diagnostics_gap(energy_pos: Array, energy_neg: Array) -> float:
    """mean E(x_neg) - mean E(x_pos).

    energy_pos: (N_pos,) of data   energy_neg: (N_neg,) of model samples. Raises ShapeError, NonFiniteError.
    """
    for name, energies in (("energy_pos", energy_pos), ("energy_neg", energy_neg)):
        check_array(name, energies, ndim=1, finite=True)
        if energies.shape[0] == 0:
            raise ShapeError(f"{name}: expected at least one energy, found none")
    mean_pos = float(np.mean(energy_pos, dtype=np.float64))
    mean_neg = float(np.mean(energy_neg, dtype=np.float64))
    return mean_neg - mean_pos


def diagnostics_grad_norms(grads: Params) -> dict[str, float]:
    """|grads[name]|_2 for each name, in float64."""
    return {name: sqrt(float(np.sum(np.square(g, dtype=np.float64)))) for name, g in grads.items()}


def effective_sample_size(chain: Array) -> float:
    """T N / (1 + 2 sum_t rho_t), at most T N log10(T N).

    chain: (T, N), T draws of one scalar from each of N chains, T >= 4: the standard error of its mean is
    std / sqrt(this). Raises ShapeError, NonFiniteError, and RangeError for a chain that never moves.
    """
    x, W, var_plus = _variances(chain)
    T, N = x.shape
    centred = x - x.mean(axis=0)
    power = np.abs(np.fft.rfft(centred, 2 * T, axis=0)) ** 2  # (T + 1, N); zeros appended, so that nothing wraps
    c = np.fft.irfft(power, 2 * T, axis=0)[:T].mean(axis=1) / T  # (T,) autocovariance
    rho = 1 - (W - T / (T - 1) * c) / var_plus  # (T,)
    pairs = rho[0 : T - T % 2 : 2] + rho[1::2]  # (T // 2,) rho_0 + rho_1, rho_2 + rho_3, ...
    count = int(np.argmax(pairs <= 0)) if (pairs <= 0).any() else pairs.size
    tau = -1 + 2 * float(pairs[:count].sum())  # 1 + 2 sum_t rho_t
    size: float = T * N / max(tau, 1 / log10(T * N))
    return size


def split_rhat(chain: Array) -> float:
    """sqrt(var_plus / W) over the 2 N halves of N chains; near 1 when they agree, 1.01 is a common limit.

    chain: (T, N), T >= 8. Raises ShapeError, NonFiniteError, and RangeError for a chain that never moves.
    """
    check_array("chain", chain, ndim=2)
    half = chain.shape[0] // 2
    halves = np.concatenate([chain[:half], chain[chain.shape[0] - half :]], axis=1)  # (T/2, 2N)
    _, W, var_plus = _variances(halves)
    return sqrt(var_plus / W)


def _variances(chain: Array) -> tuple[Array, float, float]:
    """The chain in float64, W and var_plus."""
    check_array("chain", chain, ndim=2, finite=True)
    T, N = chain.shape
    if T < 4 or N < 1:
        raise ShapeError(f"chain: expected (T, N) with T >= 4 draws (8 to split) and N >= 1, found {chain.shape}")
    x = chain.astype(np.float64)
    W = float(x.var(axis=0, ddof=1).mean())
    between = float(x.mean(axis=0).var(ddof=1)) if N > 1 else 0.0  # B/T
    if W <= 0:
        raise RangeError("chain: expected draws that vary, found a chain that never moves")
    return x, W, (T - 1) / T * W + between


@dataclass
class Alarms:
    """Sentences about a stream of training records: `alarms.update(record)` returns those that are new.

    It looks at the last `window` records and at the `window` before them. Each kind is raised once, and again only
    after a window in which it was quiet.

    stopped     a chain met a number that is not finite
    explosion   mean |E| grew by the factor `growth` from one window to the next, beyond |E| = `large`
    collapse    mean |grad_x E| is below `flat` times its largest window mean: the energy has become flat
    separation  the mean gap is beyond half of 1/alpha, the gap at which the regularised loss has its minimum when
                data and samples are told apart completely (alpha = 0: no such bound, no alarm)
    """

    window: int = 100
    growth: float = 4.0
    large: float = 10.0
    flat: float = 1e-3
    alpha: float = 0.0
    drift: float = 0.05
    _best: float = field(default=0.0, repr=False)
    _records: deque[dict[str, float]] = field(default_factory=deque, repr=False)
    _steepest: float = field(default=0.0, repr=False)
    _quiet: dict[str, int] = field(default_factory=dict, repr=False)

    def __post_init__(self) -> None:
        check_count("window", self.window, low=1)
        check_number("growth", self.growth, low=1.0, open_low=True)
        for name in ("large", "flat", "drift"):
            check_number(name, getattr(self, name), low=0.0, open_low=True)
        check_number("alpha", self.alpha, low=0.0)
        self._records = deque(self._records, maxlen=2 * self.window)

    def update(self, record: dict[str, float]) -> list[str]:
        """New sentences after one more record (energy_pos, energy_neg, grad_x_norm, nonfinite; auroc, auroc_se)."""
        self._records.append(record)
        said = []
        for kind, text in self._states(record).items():
            if text and self._quiet.get(kind, self.window) >= self.window:
                said.append(text)
            self._quiet[kind] = 0 if text else self._quiet.get(kind, self.window) + 1
        return said

    def _states(self, record: dict[str, float]) -> dict[str, str]:
        """What holds now, by kind; an empty text where nothing is wrong."""
        texts = {"stopped": "", "explosion": "", "collapse": "", "separation": ""}
        if "auroc" in record:
            texts["drift"] = self._drift(record["auroc"], record.get("auroc_se") or 0.0)
        if "nonfinite" not in record:  # of a method without chains
            return texts
        if record["nonfinite"] > 0:
            texts["stopped"] = (
                f"{record['nonfinite']:g} chains met a number that is not finite and stopped. Lower eta, "
                "bound x with box, or bound the gradient with clip or clip_norm."
            )
        if "grad_x_norm" not in record or len(self._records) < self.window:  # em does not look at its chains' slopes
            return texts
        slope, size = self._mean("grad_x_norm"), self._mean("size")
        self._steepest = max(self._steepest, slope)
        if slope < self.flat * self._steepest:
            texts["collapse"] = (
                f"Collapse: the mean |grad_x E| fell to {slope:.3g}, from {self._steepest:.3g}. The energy is flat and "
                "chains see noise only. Lower alpha, lower lr, or raise K; check that data and box agree."
            )
        gap = self._mean("gap")
        if gap * self.alpha > 0.5:
            texts["separation"] = (
                f"Separation: the mean gap is {gap:.3g}, of {1 / self.alpha:.3g} = 1/alpha at most. Data and samples "
                "are told apart completely and the chains no longer reach the data. Lower lr or eta, set "
                "max_grad_norm, or raise K and sigma."
            )
        before = self._mean("size", 1)
        if size > self.large and size > self.growth * before:  # False when there is no window before
            texts["explosion"] = (
                f"Explosion: the mean |E| grew from {before:.3g} to {size:.3g} in {self.window} steps. Lower lr, raise "
                "alpha, set max_grad_norm, or raise K and sigma so that the chains follow the model."
            )
        return texts

    def _drift(self, auroc: float, error: float) -> str:
        """How far the AUROC is below its best, where that is far."""
        self._best = max(self._best, auroc)
        if self._best - auroc <= max(self.drift, 5 * error):
            return ""
        return (
            f"Drift: the AUROC against other data fell to {auroc:.3f}, from {self._best:.3f}. What tells data from the "
            "rest is being unlearned. Keep an earlier checkpoint, lower lr, or end the schedule sooner."
        )

    def _mean(self, key: str, back: int = 0) -> float:
        """Mean of a key over the last window (back = 0) or the one before it; NaN when that is not complete."""
        records = list(self._records)
        end = len(records) - back * self.window
        if end < self.window:
            return nan
        part = records[end - self.window : end]
        if key == "size":
            return sum((abs(r["energy_pos"]) + abs(r["energy_neg"])) / 2 for r in part) / self.window
        return sum(r[key] for r in part) / self.window
