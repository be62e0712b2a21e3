"""What a run leaves for people: summary.json, samples.png, curves.png, report.html, and the snapshots on the way."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from ebm_ref.contracts import Array, flat_size
from ebm_ref.train import TrainState

from . import plots, report
from .annealing import Annealing, annealing_figures
from .arrays import npy_read
from .background import Background, background_figures
from .classifying import Attacking, attacked
from .draws import draw, fresh_start, origin, sampler_of, usual_steps
from .energies import short
from .evaluate import SAMPLES, choose_chains, evaluate
from .flow_report import flow_sections
from .model import Model
from .placement import to_host
from .png import grid_pixels, plane_pixels, png_bytes
from .run import Run
from .runfolder import SNAPSHOTS, os_errors, write_atomic

SHOWN = 100  # chains in a picture of images or vectors
SNAPSHOT = 16  # chains in a snapshot
FRESH = 64  # chains from fresh noise in the report
PLANE = 160  # points along an axis of the plane


def snapshot_write(folder: Path, run: Run, state: TrainState) -> None:
    """Keep a few persistent chains at steps 0, 1, 2, 5, 10, 20, 50, 100, ..."""
    digits = str(state.step)
    if state.buffer is None or not (digits[0] in "0125" and set(digits[1:]) <= {"0"}):
        return
    chains = to_host(run.backend, state.buffer.slots[:SNAPSHOT])
    with os_errors(folder):
        (folder / SNAPSHOTS).mkdir(exist_ok=True)
        np.save(folder / SNAPSHOTS / f"step-{state.step:09d}.npy", chains, allow_pickle=False)


def snapshots_read(folder: Path, step: int) -> list[tuple[int, Array]]:
    """(step, chains) in order, up to `step`."""
    paths = sorted((folder / SNAPSHOTS).glob("step-*.npy"))
    found = [(int(path.stem.removeprefix("step-")), path) for path in paths]
    return [(at, npy_read(path)) for at, path in found if at <= step]


def results_write(
    folder: Path,
    run: Run,
    state: TrainState,
    records: list[dict[str, Any]],
    annealing: Annealing | None = None,
    attacking: Attacking | None = None,
    background: Background | None = None,
) -> dict[str, Any]:
    """Evaluate the state, write summary.json and the pictures; the summary.

    annealing, attacking, background: figures that are made where they are asked for.
    """
    model = run.model(state)
    chains, source = model_chains(run, state, model)
    figures, energies = evaluate(model, run.data, chains, run.seed, run.config.train.box)
    if annealing is not None:
        figures |= annealing_figures(run, model, chains, annealing)
    if attacking is not None:
        figures |= attacked(model, run.data, attacking, run.seed)
    if background is not None:
        figures |= background_figures(run, model, background)
    rollbacks = [text for r in records for text in r.get("rollback", [])]
    summary = {
        "preset": run.config.preset,
        "method": run.config.train.method,
        "backend": run.config.run.backend,
        "chains_backend": short(run.chains_backend),
        "steps": state.step,
        "seed": run.seed,
        "seconds_train": float(records[-1]["seconds"]) if records else 0.0,
        "parameters": "ema" if run.config.train.ema_decay else "theta",
        "samples": source,
        **({"eta": state.eta} if state.eta is not None else {}),
        "nonfinite": int(sum(record.get("nonfinite", 0) for record in records)),
        "alarms": [f"step {r['step']}: {text}" for r in records for text in r.get("alarms", [])],
        **({"rollbacks": rollbacks} if run.config.run.rollback else {}),
        **figures,
    }
    write_atomic(folder / "samples.png", png_bytes(chain_pixels(run, model, chains)))
    if run.config.run.report:
        curves = plots.curves(records, summary)
        write_atomic(folder / "curves.png", curves)
        html = report_html(folder, run, model, state, chains, energies, summary, curves)
        write_atomic(folder / "report.html", html.encode())
    write_atomic(folder / "summary.json", (json.dumps(summary, indent=1) + "\n").encode())
    return summary


def model_chains(run: Run, state: TrainState, model: Model) -> tuple[Array, str]:
    """(samples that stand for the model, where they come from)."""
    if state.buffer is not None:
        chains = choose_chains(run.backend, state.buffer, run.seed)
        return chains, f"{len(chains)} of {state.buffer.filled} persistent chains"
    K = usual_steps(run)
    x, _ = draw(run, model, fresh_start(run, SAMPLES, run.seed), K, run.seed)
    return x, origin(run, SAMPLES, K)


def chain_pixels(run: Run, model: Model, chains: Array) -> Array:
    """A picture of samples: a grid of images, dots over the energy of a plane, or vectors as rows of grey."""
    if run.data.is_image:
        return grid_pixels(chains[:SHOWN], run.box)
    if run.data.shape == (2,):
        level, extent = plane_energy(run, model)
        return plane_pixels(-np.minimum(level, np.quantile(level, 0.45)), chains, extent).repeat(3, 0).repeat(3, 1)
    rows = chains[:SHOWN].reshape(1, -1, flat_size(run.data.shape), 1)  # (1, chains, D, 1): one row a chain
    return grid_pixels(rows, run.box, side=480)


def plane_energy(run: Run, model: Model) -> tuple[Array, tuple[float, float, float, float]]:
    """(E on a square grid, row 0 at the bottom, 0 without one; its extent: the box, or a frame around the data)."""
    low, high = run.config.train.box or (float(run.data.train.min()) - 0.5, float(run.data.train.max()) + 0.5)
    if model.energy is None:
        return np.zeros((PLANE, PLANE)), (low, high, low, high)
    axis = np.linspace(low, high, PLANE, dtype=run.data.train.dtype)
    points = np.stack(np.meshgrid(axis, axis), axis=-1).reshape(-1, 2)  # (n n, 2), x fastest
    return model.energies(points).reshape(PLANE, PLANE), (low, high, low, high)


def report_html(
    folder: Path,
    run: Run,
    model: Model,
    state: TrainState,
    chains: Array,
    energies: dict[str, Array],
    summary: dict[str, Any],
    curves: bytes,
) -> str:
    """The report: pictures first, then the curves, then every figure and setting."""

    def draw_picture(x: Array) -> bytes:
        return png_bytes(chain_pixels(run, model, x))

    alarms = "".join(f'<p class="alarm">{report.escape(text)}</p>' for text in summary["alarms"][:20])
    sections = [("Alarms", alarms)] if alarms else []
    if run.data.shape == (2,):
        level, extent = plane_energy(run, model)
        caption = f"low E is bright; the samples are {summary['samples']}"
        sections.append(("Samples", report.image(plots.plane(level, extent, run.data.test, chains), caption)))
    else:
        shown = min(SHOWN, len(chains))
        samples = report.image(draw_picture(chains), f"{shown} samples of {summary['samples']}", True)
        real = report.image(draw_picture(run.data.test[:SHOWN]), "real, held out from the training", True)
        sections.append(("Samples", samples + real))
    if run.data.is_image and state.buffer is not None:
        pictures = [report.image(draw_picture(x), f"step {at}", True) for at, x in snapshots_read(folder, state.step)]
        sections.append(("Persistent chains during training", "".join(pictures)))

    if sampler_of(run) == "langevin":
        sections.append(fresh_section(run, model, summary, draw_picture))
    else:
        sections += flow_sections(run, model, draw_picture)

    settings = {f"{section}.{k}": v for section, t in run.config.tables().items() for k, v in t.items()}
    sections += [
        ("Training", report.image(curves, "", alt="gap, mean energies and gradient norm over the steps")),
        *(
            [("Energies", report.image(plots.histogram(energies), "", alt="histograms of E on each set"))]
            if energies
            else []
        ),
        ("Figures", report.figures_table({k: v for k, v in summary.items() if k not in ("preset", "alarms")})),
        ("Settings", report.table(settings)),
        ("Go on", report.commands(folder, run.config.preset, state.step)),
    ]
    title = f"{run.config.preset}: {run.config.kind} by {run.config.train.method.upper()}"
    by = "" if run.chains_backend is run.backend else f"; chains and energies on {short(run.chains_backend)}"
    lead = f"{state.step} steps on {run.config.run.backend}, {summary['seconds_train']:.0f} s; seed {run.seed}{by}"
    return report.page(title, lead, sections)


def fresh_section(
    run: Run, model: Model, summary: dict[str, Any], picture: Callable[[Array], bytes]
) -> tuple[str, str]:
    """Chains from fresh noise, and their energies on the way."""
    K = usual_steps(run)
    fresh, info = draw(run, model, fresh_start(run, FRESH, run.seed), K, run.seed)
    title = f"energy along {FRESH} chains of {K} steps from uniform noise"
    trajectories = report.image(plots.trajectories(info.energy, summary["energy_data"], title), "", alt=title)
    after = report.image(picture(fresh), f"the chains after {K} steps", True) if run.data.is_image else ""
    return "Chains from fresh noise", after + trajectories
