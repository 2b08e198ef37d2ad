"""The page's own files, ``assets/app``: styles, parts of its head, scripts of its components."""

from __future__ import annotations

from pathlib import Path

import gradio as gr
import plotly

ASSETS = Path(__file__).resolve().parents[2] / "assets" / "app"
"""The folder with them."""

PLOTLY = Path(plotly.__file__).parent / "package_data" / "plotly.min.js"
"""Plotly's own copy: nothing is fetched from outside."""


def script(*names: str) -> str:
    """The text of a component's scripts, for ``js_on_load``: one body, with ``dom.js`` first."""
    return "\n".join((ASSETS / name).read_text(encoding="utf-8") for name in ("dom.js", *names))


def plotly_link() -> str:
    """Where the page finds Plotly; for a component's property ``plotly``."""
    gr.set_static_paths([PLOTLY])
    return f"/gradio_api/file={PLOTLY}"
