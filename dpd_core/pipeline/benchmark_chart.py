"""The benchmark's chart: mean accuracies as bars, drawn by Plotly."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from typing import Any

import plotly.graph_objects
from plotly.subplots import make_subplots

_COLOURS = {"real": "#8a8f98", "distilled": "#1b6ca8"}
_BAR, _TITLE = 26, 60
"""Heights in px: of a bar, and of a panel's title with the room around it."""


def chart(rows: Sequence[dict[str, Any]]) -> str:
    """A page that needs no network: bars with whiskers of one standard deviation, hard labels only.

    One panel for each student and number of images per class, best first.
    """
    rows = [row for row in rows if row["labels"] == "hard"]
    keys = sorted({(row["student"], row["ipc"]) for row in rows})
    panels = [
        sorted(
            (row for row in rows if (row["student"], row["ipc"]) == key),
            key=lambda row: row["mean"],  # Plotly begins at the bottom
        )
        for key in keys
    ]
    heights = [_BAR * len(panel) for panel in panels] or [_BAR]
    whole = sum(heights) + _TITLE * len(heights)
    figure = make_subplots(
        rows=len(heights),
        cols=1,
        row_heights=heights,
        vertical_spacing=_TITLE / whole if len(heights) > 1 else None,
        subplot_titles=[f"{escape(student)}, {ipc} images a class" for student, ipc in keys],
    )
    for number, panel in enumerate(panels, start=1):
        figure.add_trace(_bars(panel), row=number, col=1)
    figure.update_xaxes(ticksuffix=" %", rangemode="tozero")
    figure.update_layout(
        height=whole + _TITLE,
        width=820,
        margin={"t": _TITLE, "b": _TITLE},
        showlegend=False,
        template="plotly_white",
    )
    page: str = figure.to_html(include_plotlyjs=True, div_id="chart")
    return page


def _bars(rows: Sequence[dict[str, Any]]) -> plotly.graph_objects.Bar:
    """The bars of one panel, from the bottom."""
    # Plotly takes some tags in a text for markup; a label is only a label.
    names = [escape(row["label"] + " (real)" * (row["kind"] == "real")) for row in rows]
    return plotly.graph_objects.Bar(
        orientation="h",
        y=names,
        x=[100 * row["mean"] for row in rows],
        error_x={"array": [100 * (row["std"] or 0.0) for row in rows]},
        marker_color=[_COLOURS[row["kind"]] for row in rows],
        hovertemplate="%{y}: %{x:.1f} %<extra></extra>",
    )
