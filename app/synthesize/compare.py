"""The sets of a project side by side: the settings that differ, and what they score."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from app.ui.differences import differing, word
from app.ui.html import HTML
from app.ui.scores import SetScore

TEMPLATE = """{{#if value.rows}}<div class='compare-sets' tabindex='0' role='region'
aria-label='Sets compared'><table><thead><tr><th scope='col'>Set</th>
{{#each value.settings}}<th scope='col'>{{this}}</th>{{/each}}
{{#each value.scores}}<th scope='col' class='number'>{{this}}</th>{{/each}}</tr></thead>
<tbody>{{#each value.rows}}<tr><th scope='row'>{{this.name}}</th>
{{#each this.settings}}<td>{{this}}</td>{{/each}}
{{#each this.scores}}<td class='number {{this.mark}}'>{{this.text}}</td>{{/each}}</tr>{{/each}}
</tbody></table><p class='small'>{{value.note}}</p></div>
{{else}}<p class='small'>Two finished sets can be compared here.</p>{{/if}}"""

SCORES = ("images", "named right", "accuracy", "pretrained", "FID", "nearer than real")
_HIGH = {"accuracy", "pretrained", "named right"}
_LOW = {"FID", "nearer than real"}


def compared_sets(elem_id: str) -> HTML:
    """The component; its value is :func:`table`."""
    return HTML({"rows": []}, html_template=TEMPLATE, elem_id=elem_id, apply_default_css=False)


def table(found: Sequence[SetScore]) -> dict[str, Any]:
    """The component's value; no rows for fewer than two sets."""
    if len(found) < 2:
        return {"rows": []}
    settings = [{**one.settings, "strategy": one.strategy} for one in found]
    names = [name for name in differing(settings) if name != "name"]
    numbers = {one.name: _scores(one) for one in found}
    best = {name: _best(name, [numbers[one.name][name] for one in found]) for name in SCORES}
    rows = [
        {
            "name": one.name,
            "settings": [word(values.get(name)) for name in names],
            "scores": [
                {
                    "text": _text(name, numbers[one.name][name]),
                    "mark": "best"
                    if numbers[one.name][name] in (best[name],) and best[name]
                    else "",
                }
                for name in SCORES
            ],
        }
        for one, values in zip(found, settings, strict=True)
    ]
    return {
        "settings": [name.replace("_", " ") for name in names],
        "scores": list(SCORES),
        "rows": rows,
        "note": "Settings that are the same in all sets are left out. Accuracy, FID and nearness "
        "are there for sets that were evaluated; compare accuracies only where the evaluation "
        "had the same settings.",
    }


def _scores(found: SetScore) -> dict[str, float | None]:
    return {
        "images": found.images,
        "named right": found.right / found.images if found.images else None,
        "accuracy": found.accuracy,
        "pretrained": found.pretrained,
        "FID": found.fid,
        "nearer than real": found.nearer,
    }


def _best(name: str, values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    if len(known) < 2 or name not in _HIGH | _LOW:
        return None
    return max(known) if name in _HIGH else min(known)


def _text(name: str, value: float | None) -> str:
    if value is None:
        return "–"
    if name == "images":
        return f"{value:,.0f}"
    return f"{value:.1f}" if name == "FID" else f"{value:.1%}"
