"""`ebm sample` and `ebm eval`: what can be done with a finished run."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from ebm_ref.contracts import Array, RangeError, Stream, check_choice, check_count

from .annealing import Annealing, temperature
from .arrays import npz_bytes
from .background import background_open
from .classifying import Attacking, check_attacked
from .draws import draw, fresh_start, sampler_of, usual_steps
from .energies import short
from .placement import to_backend, to_host
from .png import png_bytes
from .results import chain_pixels, results_write
from .run import Run, run_open
from .runfolder import lock_folder, metrics_upto, write_atomic

STARTS = ("buffer", "uniform", "normal")


def sample(folder: Path, n: int, K: int | None, seed: int, start: str | None) -> dict[str, Any]:
    """Draw n samples, write samples.npz (x, energy) and samples.png into the run folder; what was done."""
    check_count("n", n, low=1)
    check_count("seed", seed, low=0, high=2**64 - 1)
    if start is not None:
        check_choice("start", start, STARTS)
    if K is not None:
        check_count("K", K, low=0)
    run, state = run_open(folder)
    noise = "uniform" if sampler_of(run) == "langevin" else "normal"
    if start is None:
        start = noise if state.buffer is None else "buffer"
    if start not in ("buffer", noise):
        raise RangeError(f"start: method {run.config.train.method} starts from {noise} noise; use --start {noise}")
    steps = K if K is not None else run.config.train.K if start == "buffer" else usual_steps(run)
    if start == "buffer" and (state.buffer is None or state.buffer.filled == 0):
        raise RangeError(f"start: {folder} keeps no persistent chains; use --start {noise}")
    with lock_folder(folder):
        model = run.model(state)
        x0 = buffer_start(run, state.buffer, n, seed) if start == "buffer" else fresh_start(run, n, seed)
        x, info = draw(run, model, x0, steps, seed)
        energy = {} if model.energy is None else {"energy": model.energies(x)}
        write_atomic(folder / "samples.npz", npz_bytes({"x": x, **energy}))
        write_atomic(folder / "samples.png", png_bytes(chain_pixels(run, model, x)))
    return {
        "run": str(folder),
        "n": n,
        "K": steps,
        "seed": seed,
        "start": start,
        "backend": short(run.chains_backend),
        "nonfinite": int(info.nonfinite),
        **({"nfe_mean": float(np.mean(info.extra["nfe"]))} if "nfe" in info.extra else {}),
        **{f"{name}_mean": float(values.mean()) for name, values in energy.items()},
        "files": [str(folder / "samples.npz"), str(folder / "samples.png")],
    }


def buffer_start(run: Run, buffer: Any, n: int, seed: int) -> Array:
    """n persistent chains drawn with replacement, by address; an array of the chains' backend."""
    bits = run.backend.noise_bits(seed, Stream.SAMPLE_START, 0, np.arange(n), 1)[:, 0]  # (n,)
    x0 = buffer.slots[(bits.astype(np.uint64) * np.uint64(buffer.filled)) >> np.uint64(32)]  # (n, *shape)
    return x0 if run.chains_backend is run.backend else to_backend(run.chains_backend, to_host(run.backend, x0))


def evaluate_again(
    folder: Path,
    annealing: Annealing | None = None,
    attacking: Attacking | None = None,
    background: Path | None = None,
) -> dict[str, Any]:
    """Recompute summary.json and the pictures from the last good checkpoint; the summary.

    annealing, attacking: slow figures, if asked for   background: folder of the run that the likelihood ratio is
    against. What does not apply to the run is said before any work.
    """
    run, state = run_open(folder)
    model = run.model(state)
    if annealing is not None:
        temperature(run, model)
    if attacking is not None:
        check_attacked(model, run.data)
    against = None if background is None else background_open(background, folder, run, model)
    with lock_folder(folder):
        records = metrics_upto(folder, state.step)[0]
        return results_write(folder, run, state, records, annealing, attacking, against)
