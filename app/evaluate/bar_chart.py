"""Horizontal bars with whiskers and single points: a chart in plain HTML, drawn without a script.

Lengths are shares of the width, so it fits any screen; colours are the theme's. What it shows is
also there as text for screen readers.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from app.ui.html import HTML

TEMPLATE = """{{#if value.rows}}<figure class='bars'>
<figcaption>{{value.title}}</figcaption>
<table aria-label='{{value.title}}'><colgroup><col class='name'><col></colgroup>
<tbody>{{#each value.rows}}<tr class='{{this.kind}}'>
<th scope='row'>{{this.label}}<small>{{this.note}}</small></th>
<td><div class='track' aria-hidden='true'>
{{#if this.reference}}<i class='reference' style='left:{{this.reference}}%'></i>{{/if}}
<i class='bar' style='width:{{this.length}}%'></i>
{{#if this.whisker}}<i class='whisker'
 style='left:{{this.whisker.left}}%;width:{{this.whisker.width}}%'></i>{{/if}}
{{#each this.points}}<i class='point' style='left:{{this}}%'></i>{{/each}}
</div><span class='value'>{{this.text}}</span><span class='sr-only'>{{this.spoken}}</span></td>
</tr>{{/each}}</tbody></table>
<div class='axis' aria-hidden='true'>{{#each value.ticks}}<span
 style='left:{{this.place}}%'>{{this.text}}</span>{{/each}}</div>
<p class='legend'>{{value.legend}}</p></figure>{{/if}}"""


@dataclass(frozen=True)
class Bar:
    """One bar.

    Attributes:
        label: What it stands for.
        note: Smaller text below the label.
        mean: Its length, in the chart's unit.
        std: Half the length of the whisker; ``None`` for no whisker.
        points: Single values.
        kind: ``"ours"``, ``"real"`` or ``"full"``: the colour.
    """

    label: str
    note: str
    mean: float
    std: float | None
    points: Sequence[float]
    kind: str


def bar_chart(elem_id: str) -> HTML:
    """The component; give it what :func:`chart` returns, or ``{}`` for nothing."""
    return HTML({}, html_template=TEMPLATE, elem_id=elem_id)


def chart(
    bars: Sequence[Bar],
    *,
    title: str,
    legend: str,
    high: float,
    step: float,
    unit: str = "",
    reference: float | None = None,
) -> dict[str, Any]:
    """The component's value.

    Args:
        bars: Bars, from above.
        title, legend: Text above and below.
        high: Right end of the axis, whose left end is 0.
        step: Distance of its ticks.
        unit: Written behind the values.
        reference: Where a dashed line crosses all bars, e.g. the level of chance.
    """

    def place(value: float) -> float:
        return round(100 * min(max(value / high, 0.0), 1.0), 2)

    rows = []
    for bar in bars:
        text = f"{bar.mean:.1f}" + (f" ± {bar.std:.1f}" if bar.std is not None else "")
        whisker = None
        if bar.std is not None:
            left = place(bar.mean - bar.std)
            whisker = {"left": left, "width": round(place(bar.mean + bar.std) - left, 2)}
        rows.append(
            {
                "label": bar.label,
                "note": bar.note,
                "kind": bar.kind,
                "text": text + unit,
                "length": place(bar.mean),
                "whisker": whisker,
                "points": [place(point) for point in bar.points],
                "spoken": "Single values: " + ", ".join(f"{p:.1f}{unit}" for p in bar.points),
                "reference": None if reference is None else place(reference),
            }
        )
    ticks = [
        {"place": place(k * step), "text": f"{k * step:g}{unit}"}
        for k in range(int(high / step + 1e-9) + 1)
    ]
    return {"title": title, "legend": legend, "rows": rows, "ticks": ticks}
