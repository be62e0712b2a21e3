"""report.html: one file that holds its pictures, opens without a network, and says what was run and what came out."""

from __future__ import annotations

import base64
from html import escape
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
.columns { display: flex; gap: 3rem; flex-wrap: wrap; } .alarm { color: #a61b1b; }
"""


def image(content: bytes, caption: str, pixels: bool = False) -> str:
    """A figure with the PNG inside the page."""
    uri = "data:image/png;base64," + base64.b64encode(content).decode()
    kind = ' class="pixels"' if pixels else ""
    caption = escape(caption)
    return f'<figure><img{kind} src="{uri}" alt="{caption}"><figcaption>{caption}</figcaption></figure>'


def table(rows: dict[str, Any]) -> str:
    body = "".join(f"<tr><td>{escape(str(k))}</td><td>{escape(cell(v))}</td></tr>" for k, v in rows.items())
    return f"<table>{body}</table>"


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
