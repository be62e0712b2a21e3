"""`ebm eval RUN --background OTHER`: the likelihood ratio of two runs as a score, by `score_likelihood_ratio`.

score          log p(x) - log p_bg(x) + const = E_bg(x) / T_bg - E(x) / T, where log p = -E / T - log Z is what --ais
               aims at: T = sigma^2 / (2 eta) of methods that train by chains, 1 of the others
figures        lr_auroc_SET, lr_aupr_in_SET, lr_aupr_out_SET, lr_fpr95_SET, with errors as in separation.py

The background should know what all such inputs have in common and not what makes these: a run on the same data with
much more noise (sigma_data, smoothing, dsm's level) or a smaller network. Nothing checks that it does.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from ebm_ref.contracts import Array, ConfigError, DTypeError, Params, ShapeError
from ebm_ref.evaluation import score_likelihood_ratio

from .annealing import temperature
from .model import Model
from .ood_sets import ood_sets_of
from .run import Run, run_open
from .separation import told_apart


@dataclass(frozen=True)
class Background:
    """The second run as it was opened, and what it is."""

    model: Model
    T: float
    what: str


def background_open(folder: Path, run_folder: Path, run: Run, model: Model) -> Background:
    """The run in `folder`, to be the background of `run`; neither is changed.

    Raises RunFolderError, ConfigError, CheckpointError where the folder holds no trained run, ConfigError where it is
    the run itself or of other data, ShapeError, DTypeError, RangeError (chains without noise, of either run).
    """
    if folder.resolve() == run_folder.resolve():
        raise ConfigError(f"--background: expected another run, found {folder} itself")
    other, state = run_open(folder)
    if other.data.shape != run.data.shape:
        raise ShapeError(f"--background: expected samples of {run.data.shape}, found {other.data.shape} in {folder}")
    ours, theirs = asdict(run.config.data), asdict(other.config.data)
    for key in ours:
        if key != "path" and ours[key] != theirs[key]:  # a file that moved is still known by its sha256
            raise ConfigError(f"--background: expected data.{key} {ours[key]!r}, found {theirs[key]!r} in {folder}")
    dtypes = run.config.run.dtype, other.config.run.dtype
    if dtypes[0] != dtypes[1]:
        raise DTypeError(f"--background: expected run.dtype {dtypes[0]}, found {dtypes[1]} in {folder}")
    temperature(run, model, "--background")  # raises where there is none
    judged = other.model(state)
    what = f"{folder}: {other.config.kind} by {other.config.train.method}, {state.step} steps, seed {other.seed}"
    return Background(judged, temperature(other, judged, "--background"), what)


def background_figures(run: Run, model: Model, background: Background) -> dict[str, Any]:
    """How well the ratio tells held-out samples from every other set, and what it is a ratio of."""
    T = temperature(run, model, "--background")
    energy, energy_bg = _Cooled(model, T), _Cooled(background.model, background.T)

    def ratio(x: Array) -> Array:
        return score_likelihood_ratio(energy, model.theta, energy_bg, background.model.theta, x)  # type: ignore[arg-type]

    inside = ratio(run.data.test)  # (m,)
    figures: dict[str, Any] = {
        "lr_background": background.what,
        "lr_score": f"E_bg / {background.T:.4g} - E / {T:.4g}",
    }
    for name, others in ood_sets_of(run.data).items():
        figures |= told_apart("lr_", name, inside, ratio(others))
    return figures


class _Cooled:
    """E / T as an energy of NumPy's arrays, wherever its backend computes."""

    def __init__(self, model: Model, T: float) -> None:
        self.model, self.T, self.shape = model, T, tuple(model.energy.shape)
        self.theta_shapes = model.energy.theta_shapes

    def energy(self, theta: Params, x: Array) -> Array:
        return self.model.energies(x) / self.T
