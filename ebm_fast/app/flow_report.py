"""The sections of a report on a method of energy flow: the way from noise to samples, and what it costs."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from ebm_ref.contracts import Array

from . import flow_plots, report
from .model import Model
from .paths import landscape, path_states, quality, steps_of, stops
from .run import Run


def flow_sections(run: Run, model: Model, picture: Callable[[Array], bytes]) -> list[tuple[str, str]]:
    """(heading, HTML) of the way, the landscape, the quality by evaluations, and where descent stopped."""
    states = path_states(run, model)
    if run.data.shape == (2,):
        way = report.image(flow_plots.ways(np.stack([x for _, x in states])), f"after {steps_text(run)} steps")
    else:
        way = "".join(report.image(picture(x), f"after {K} steps", True) for K, x in states)
    sections = [("From noise to samples", way)]
    title = "along straight lines from noise (t = 0) to held-out data (t = 1)"
    sections.append(("Landscape", report.image(flow_plots.landscape(landscape(run, model), title), "", alt=title)))
    rows = quality(run, model)
    if len(rows) > 1:
        title = "quality of 1,000 samples by evaluations spent on each"
        sections.append(("Quality and cost", report.image(flow_plots.quality(rows, title), "", alt=title)))
    found = stops(run, model)
    if found is not None:
        title = f"evaluations after which samples stopped (mean {found.mean():.1f} of {run.config.train.K})"
        sections.append(("Early stop", report.image(flow_plots.stops(found, title), "", alt=title)))
    return sections


def steps_text(run: Run) -> str:
    """The numbers of steps in words."""
    return ", ".join(str(K) for K in steps_of(run))
