"""Views of the tab Export: what an export would hold, and what is there to download."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from app.export.service import Exported
from app.ui.downloads import archive_name, size
from dpd_core.export.plan import ExportPlan

PLAN_TEMPLATE = """{{#if value.rows}}<div class='table-scroll' tabindex='0' role='region'
 aria-label='Files of the export'><table class='numbers'>
<caption>{{value.caption}}</caption>
<thead><tr><th scope='col'>file</th><th scope='col'>number</th><th scope='col'>size</th></tr>
</thead>
<tbody>{{#each value.rows}}<tr><th scope='row'><code>{{this.name}}</code>
<small>{{this.meaning}}</small></th><td>{{this.count}}</td><td>{{this.size}}</td></tr>{{/each}}
</tbody></table></div>
<ul class='verdicts'>{{#each value.notes}}<li class='{{this.tone}}'><b aria-hidden='true'
>{{this.mark}}</b> {{this.text}}</li>{{/each}}</ul>
{{else}}<p class='empty'>{{value.empty}}</p>{{/if}}"""

DOWNLOADS_TEMPLATE = """{{#if value.rows}}<ul class='downloads'>{{#each value.rows}}<li>
<a href='{{this.link}}' download='{{this.save_as}}'>Download {{this.file}}</a>
<span>{{this.note}}</span>{{#if this.warning}}<em>{{this.warning}}</em>{{/if}}</li>{{/each}}</ul>
{{else}}<p class='empty'>{{value.empty}}</p>{{/if}}"""


def plan(found: ExportPlan | None, *, problem: str = "") -> dict[str, Any]:
    """The table of files and what should be known before publishing them."""
    if found is None:
        return {"rows": [], "empty": problem or "There is no distilled set yet."}
    rows = [
        {
            "name": file.name,
            "meaning": file.meaning,
            "count": f"{file.count:,}",
            "size": ("" if file.exact else "about ") + size(file.size),
        }
        for file in found.files
    ]
    notes = []
    if not found.source_licence:
        notes.append(
            _note(
                "even",
                "The licence of the real images is unknown. Make sure that you "
                "may publish what was made from them.",
            )
        )
    else:
        notes.append(
            _note(
                "note",
                f"The real images are under: {found.source_licence}. It may bind this set as well.",
            )
        )
    if found.report is None:
        notes.append(
            _note(
                "even",
                "This set has not been evaluated, and the card will say so. "
                "Evaluate it first to give readers numbers.",
            )
        )
    elif found.report.privacy is not None:
        nearness = found.report.privacy
        notes.append(_note("even" if nearness.copied else "note", nearness.sentence))
    return {
        "rows": rows,
        "notes": notes,
        "caption": f"{found.set_name}.zip: {found.images} images of {found.classes} classes, about "
        f"{size(found.size)}. It loads with datasets.load_dataset as it is.",
    }


def card(found: ExportPlan | None) -> str:
    """The card for a Markdown component: the text, then its header as code."""
    if found is None:
        return ""
    _, header, text = found.card.split("---\n", 2)
    return f"{text.strip()}\n\n---\n\nHeader for the Hub:\n\n```yaml\n{_unfenced(header)}```\n"


def downloads(
    found: Sequence[Exported],
    link: Callable[[Exported], str],
    pushed: str | None,
    project: str = "",
) -> dict[str, Any]:
    """The list of finished exports of a project."""
    rows = []
    for finished in found:
        parts = [
            size(finished.size),
            f"{finished.images} images" if finished.images else "",
            finished.licence or "",
            finished.finished,
        ]
        rows.append(
            {
                "link": link(finished),
                "file": finished.archive.name,
                "save_as": archive_name(project, finished.finished, finished.set_name),
                "note": " · ".join(part for part in parts if part),
                "warning": "The set has been changed since: export it again."
                if finished.outdated
                else "",
            }
        )
    return {"rows": rows, "empty": "Nothing has been exported yet.", "pushed": pushed or ""}


def _note(tone: str, text: str) -> dict[str, str]:
    return {"tone": tone, "mark": {"even": "!", "note": "·"}[tone], "text": text}


def _unfenced(text: str) -> str:
    """YAML that cannot close the fence around it."""
    return text.replace("```", "'''")
