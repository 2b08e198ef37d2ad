"""Views of the tab Dataset: what was found, what was refused, and a page of thumbnails."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable
from typing import Any

from dpd_core.dataset.index import DatasetIndex, ImageRecord

PAGE = 60
MOST_REFUSED = 200
MOST_SIZES = 6

ALL = "All classes"

REPORT_TEMPLATE = """{{#if value.ready}}<div class='ds-report'>
<dl class='ds-numbers'>{{#each value.numbers}}
<div><dd>{{this.count}}</dd><dt>{{this.name}}</dt></div>{{/each}}</dl>
{{#each value.notes}}<p class='ds-note'>{{this}}</p>{{/each}}
<details><summary>Image sizes</summary><table><tbody>
{{#each value.sizes}}<tr><td>{{this.size}}</td><td>{{this.count}}</td></tr>{{/each}}
</tbody></table></details>
{{#if value.refused}}<details open><summary>{{value.refused_title}}</summary><table><tbody>
{{#each value.refused}}<tr><td>{{this.file}}</td><td>{{this.reason}}</td></tr>{{/each}}
</tbody></table></details>{{/if}}
{{#if value.duplicates}}<details><summary>{{value.duplicates_title}}</summary><ul>
{{#each value.duplicates}}<li>{{this}}</li>{{/each}}</ul></details>{{/if}}</div>
{{else}}<p class='ds-empty'>{{value.message}}</p>{{/if}}"""

THUMBNAILS_TEMPLATE = """<div class='ds-grid'>{{#each value.images}}<figure>
<img loading='lazy' src='{{this.src}}' alt='{{this.title}}' title='{{this.title}}'>
<figcaption>{{this.label}} <em>{{this.split}}</em></figcaption></figure>{{/each}}</div>
<p class='ds-note'>{{value.note}}</p>"""

EMPTY = {
    "ready": False,
    "message": "Choose where the images come from, then read them. Each class "
    "is a folder of images.",
}


def report(index: DatasetIndex, result: dict[str, Any]) -> dict[str, Any]:
    """The validation report.

    Args:
        index: The project's images.
        result: What the stage returned.
    """
    sizes = Counter((record.width, record.height) for record in index.images)
    copies = sum(len(group) - 1 for group in index.duplicates)
    train = sum(info.train for info in index.classes.values())
    test = sum(info.test for info in index.classes.values())
    numbers = [
        ("classes", len(index.classes)),
        ("training images", train),
        ("test images", test),
        ("refused files", len(index.refused)),
        ("exact copies", copies),
    ]
    return {
        "ready": True,
        "numbers": [{"name": name, "count": f"{count:,}"} for name, count in numbers],
        "notes": _notes(index, result),
        "sizes": [
            {"size": f"{width} × {height} px", "count": f"{count:,} images"}
            for (width, height), count in sizes.most_common(MOST_SIZES)
        ],
        "refused_title": _title("refused files and why", len(index.refused), MOST_REFUSED),
        "refused": [
            {"file": entry.file, "reason": entry.reason} for entry in index.refused[:MOST_REFUSED]
        ],
        "duplicates_title": _title(
            "groups of identical images, kept on one side of the split",
            len(index.duplicates),
            MOST_REFUSED,
        ),
        "duplicates": [" = ".join(group) for group in index.duplicates[:MOST_REFUSED]],
    }


def balance(index: DatasetIndex) -> list[dict[str, Any]]:
    """Rows of the class chart: ``name``, ``readable``, ``train``, ``test`` and the widths of both
    bars in percent of the largest class."""
    largest = max((info.train + info.test for info in index.classes.values()), default=1) or 1
    return [
        {
            "name": name,
            "readable": info.readable,
            "train": info.train,
            "test": info.test,
            "train_width": round(100 * info.train / largest, 2),
            "test_width": round(100 * info.test / largest, 2),
        }
        for name, info in index.classes.items()
    ]


def class_choices(index: DatasetIndex) -> list[tuple[str, str]]:
    """Choices of the class filter: readable name, value."""
    return [(ALL, ""), *((info.readable, name) for name, info in index.classes.items())]


def thumbnails(
    index: DatasetIndex,
    link: Callable[[ImageRecord], str],
    *,
    class_name: str = "",
    split: str = "",
    page: int = 1,
) -> dict[str, Any]:
    """One page of images.

    Args:
        index: The project's images.
        link: Makes the address of an image's thumbnail.
        class_name, split: Filters; empty for all. Unknown ones match nothing.
        page: From 1; beyond the ends the nearest page is shown.

    Returns:
        ``images``, ``note``, and the ``page`` shown of ``pages``.
    """
    records = index.select(split or None, class_name or None)
    pages = max(math.ceil(len(records) / PAGE), 1)
    page = min(max(page, 1), pages)
    first = (page - 1) * PAGE
    shown = records[first : first + PAGE]
    note = f"{first + 1} to {first + len(shown)} of {len(records)} images"
    return {
        "images": [
            {
                "src": link(record),
                "title": record.id,
                "split": record.split,
                "label": index.classes[record.class_name].readable,
            }
            for record in shown
        ],
        "note": note if shown else "no images",
        "page": page,
        "pages": pages,
    }


def _notes(index: DatasetIndex, result: dict[str, Any]) -> list[str]:
    notes = []
    licence = index.source.get("licence")
    notes.append(
        f"Source: {index.source.get('data') or index.source.get('kind')}"
        + (f", licence {licence}." if licence else ".")
    )
    source = index.source
    if source.get("understood"):
        notes.append(f"Understood as {source.get('layout')}: {source['understood']}.")
    for name, text in (source.get("alternatives") or {}).items():
        notes.append(f"It could also be read with the layout {name}: {text}.")
    if source.get("shown"):
        notes.append(f"Bands: {source['shown']}.")
    for note, which in (source.get("notes") or {}).items():
        notes.append(f"{which}: {note}")
    if result.get("left_out"):
        notes.append(f"{result['left_out']:,} images were left out by the settings.")
    counts = [info.train for info in index.classes.values()]
    if counts and max(counts) > 5 * max(min(counts), 1):
        few = min(index.classes, key=lambda name: index.classes[name].train)
        notes.append(
            f"The classes are unbalanced: {min(counts)} to {max(counts)} training images "
            f"({index.classes[few].readable} has the fewest)."
        )
    return notes


def _title(what: str, count: int, most: int) -> str:
    return f"{count:,} {what}" + (f" (the first {most})" if count > most else "")
