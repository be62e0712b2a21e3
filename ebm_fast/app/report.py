"""report.html: one file that holds its pictures, opens without a network, and says what was run and what came out."""

from __future__ import annotations

import base64
from html import escape
from pathlib import Path
from shlex import quote
from typing import Any

STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; color: #1c2733; background: #fff; max-width: 1060px; margin: 2rem auto;
       padding: 0 1rem; }
h1 { font-size: 1.5rem; margin-bottom: 0; } h2 { font-size: 1.1rem; margin-top: 2.2rem; }
p.lead { color: #52606d; margin-top: .2rem; }
img { max-width: 100%; border-radius: 4px; } img.pixels { image-rendering: pixelated; }
figure { display: inline-block; margin: 0 1rem 1rem 0; vertical-align: top; } figcaption { color: #52606d; }
table { border-collapse: collapse; } td { padding: .15rem 1.2rem .15rem 0; border-bottom: 1px solid #e4e7eb;
       font-variant-numeric: tabular-nums; vertical-align: top; } td:first-child { color: #52606d; }
td.note { color: #52606d; padding-right: 0; } .alarm { color: #a61b1b; }
code { font-size: .95em; background: #f2f4f7; padding: .1rem .3rem; border-radius: 3px; overflow-wrap: anywhere; }
"""

# what a figure says, by its name or by the part before the first "_"
MEANINGS = {
    "gap": "mean E(samples) - mean E(data): near 0 when the chains follow the model",
    "log_z": "log of the integral of exp(-E) over the box, by quadrature",
    "log_z_error": "how far a coarser grid is from it",
    "log_likelihood": "mean log p of the held-out samples, normalised over the box",
    "accuracy": "of the model as a classifier, on the held-out samples",
    "nll": "mean -log p(y | x) of the held-out samples",
    "brier": "mean squared distance of p(y | x) from the truth: 0 is perfect",
    "ece": "calibration error: how far confidence and accuracy are apart, in 15 bins",
    "parameters": "whose samples and energies these are: ema, the moving average, or theta itself",
    "nonfinite": "chains that met a number that is not finite and stopped",
    "auroc": "how often a held-out sample scores above one of this set: 1 is perfect, 0.5 is chance",
    "fpr95": "the share of this set that passes where 95 % of the held-out samples pass: 0 is perfect",
    "aupr": "area under precision and recall, of the held-out samples (in) or of this set (out), at their numbers",
    "temperature": "T of softmax(F / T), fitted on one half of the held-out samples; before and after are of the other",
    "probe_accuracy": "of a ridge regression on what the last layer sees, on the held-out samples",
    "robust_accuracy": "what the attack leaves of the accuracy",
    "frechet_feature": "squared distance of the Gaussians fitted to features of samples and of real ones: not FID",
    "mmd_rbf": "squared maximum mean discrepancy of the same features: 0 for one law",
    "class_score": "exp of the mutual information of samples and that classifier's classes: 10 at best; not IS",
    "ais_log_z": "log mean w of annealed importance sampling; see ais_bound",
    "ais_reverse_log_z": "-log mean 1/w of chains from the samples back to the base; see ais_reverse_bound",
    "ais_width": "the reverse figure minus the forward one, in nats",
    "ais_ess": "how many equal weights vary as little: near 1, one chain decides",
    "precision": "the share of samples that lie among real ones: compare precision_real",
    "recall": "the share of real samples that lie among the samples: compare recall_real",
    "precision_real": "the same for one half of the real samples against the other",
    "recall_real": "the same for one half of the real samples against the other",
    "classes_covered": "classes to which a classifier gives at least 2 % of the samples",
    "class_shares": "the share of the samples in each class",
    "classifier_accuracy": "of that classifier, on the held-out samples",
}


def image(content: bytes, caption: str, pixels: bool = False, alt: str = "") -> str:
    """A figure with the PNG inside the page; `alt` says what is shown where the caption does not."""
    uri = "data:image/png;base64," + base64.b64encode(content).decode()
    kind = ' class="pixels"' if pixels else ""
    below = f"<figcaption>{escape(caption)}</figcaption>" if caption else ""
    return f'<figure><img{kind} src="{uri}" alt="{escape(alt or caption)}">{below}</figure>'


def table(rows: dict[str, Any]) -> str:
    body = "".join(f"<tr><td>{escape(str(k))}</td><td>{escape(cell(v))}</td></tr>" for k, v in rows.items())
    return f"<table>{body}</table>"


def figures_table(figures: dict[str, Any]) -> str:
    """Each figure with what it says."""
    body = ""
    for key, value in figures.items():
        note = MEANINGS.get(key, MEANINGS.get(key.partition("_")[0], ""))
        note = "standard error of the line above" if key.endswith("_se") else note
        body += f'<tr><td>{escape(key)}</td><td>{escape(cell(value))}</td><td class="note">{escape(note)}</td></tr>'
    return f"<table>{body}</table>"


def commands(folder: Path, preset: str, steps: int) -> str:
    """What can be done with this run next."""
    name = quote(str(folder))
    lines = (
        (f"ebm sample {name} --n 64", "more samples"),
        (f"ebm sample {name} --start uniform", "samples by chains from noise"),
        (f"ebm train {preset} --out {name} --resume --steps {2 * steps}", "train on"),
    )
    return "".join(f"<p><code>{escape(line)}</code> {what}</p>" for line, what in lines)


def cell(value: Any) -> str:
    """A value as a reader wants it: four significant digits, lists without brackets."""
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, (list, tuple)):
        return ", ".join(cell(v) for v in value) or "none"
    return "none" if value is None else str(value)


def page(title: str, lead: str, sections: list[tuple[str, str]]) -> str:
    """The whole document; `sections` are (heading, HTML)."""
    body = "\n".join(f"<h2>{escape(heading)}</h2>\n{content}" for heading, content in sections)
    return (
        f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><title>{escape(title)}</title>'
        f"<style>{STYLE}</style></head>\n<body><h1>{escape(title)}</h1>\n"
        f'<p class="lead">{escape(lead)}</p>\n{body}\n</body></html>\n'
    )
