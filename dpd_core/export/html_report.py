"""The report that one can send: one HTML file that asks nobody for anything.

It holds the images of the set with their captions, what students learn from it beside real images,
how near it comes to the real images, and how it was made. Real images are not in it: whether they
may be handed on is not ours to decide; the set's own record names the prototypes.

Pure functions of plain values. Every text is escaped.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Iterable, Sequence
from html import escape
from typing import Any

from dpd_core.evaluate.report import SIGNIFICANT, Report
from dpd_core.export.card import CardFacts
from dpd_core.export.contents import Row

FILE = "report.html"

MOST_BYTES = 8_000_000
"""Bytes of images that are put into it; what is beyond is counted."""

_STYLE = """body{font:16px/1.5 system-ui,sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem;
color:#1e293b;background:#fff}h1{margin-bottom:0}table{border-collapse:collapse;margin:.5rem 0}
td,th{padding:.2rem .8rem .2rem 0;text-align:left;border-bottom:1px solid #e2e8f0}
td.n{text-align:right}ul.set{list-style:none;display:flex;flex-wrap:wrap;gap:.75rem;padding:0}
ul.set li{width:9rem;font-size:.8rem}ul.set img{width:9rem;height:9rem;border-radius:4px}
pre{white-space:pre-wrap;overflow-wrap:anywhere;background:#f1f5f9;padding:.75rem;font-size:.8rem}
small{color:#475569}@media print{body{margin:0}ul.set li{break-inside:avoid}}"""


def html_report(facts: CardFacts, rows: Sequence[Row]) -> str:
    """The whole page.

    Args:
        facts: What the card says.
        rows: The images, as they are exported.
    """
    total = sum(count for _, _, count in facts.classes)
    readable = {name: words for name, words, _ in facts.classes}
    body = [
        f"<h1>{escape(facts.title)}</h1>",
        f"<p>{total} synthetic images of {len(facts.classes)} classes, distilled from labelled "
        f"real scenes ({escape(facts.source)}). Licence: {escape(facts.licence)}.</p>",
        *_numbers(facts.report),
        *_nearness(facts.report),
        "<h2>The images and their captions</h2>",
        *_images(rows, readable),
        "<h2>How it was made</h2>",
        _table((), [*facts.provenance, ("their licence", facts.source_licence or "unknown")]),
        "<p>Settings of the synthesis:</p>",
        f"<pre>{escape(json.dumps(facts.settings, ensure_ascii=False, indent=1))}</pre>",
        "<p>The commands that do it again:</p>",
        f"<pre>{escape(chr(10).join(facts.commands))}</pre>",
    ]
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width">'
        '<meta http-equiv="Content-Security-Policy" content="default-src \'none\'; '
        "img-src data:; style-src 'unsafe-inline'\">"
        f"<title>{escape(facts.title)}</title><style>{_STYLE}</style></head>\n<body>\n"
        + "\n".join(body)
        + "\n</body></html>\n"
    )


def _numbers(report: Report | None) -> list[str]:
    """What students learn from the set and from real images."""
    if report is None:
        return ["<h2>Accuracy</h2>", "<p>This set has not been evaluated.</p>"]
    protocol = report.protocol
    rows = []
    for name, entry in report.accuracy.items():
        spread = "" if entry.std is None else f" ± {100 * entry.std:.1f}"
        chance = ""
        if entry.p_value is not None:
            sure = entry.p_value < SIGNIFICANT
            chance = f"{'not chance' if sure else 'may be chance'} (p = {entry.p_value:.2f})"
        kind = "this set" if name == report.set else f"{name} (real images)"
        rows.append((kind, entry.images, f"{100 * entry.mean:.1f} %{spread}", chance))
    return [
        "<h2>Accuracy</h2>",
        f"<p>Networks ({escape(protocol.student)}, {protocol.size} px, {protocol.steps} steps) "
        f"trained on each set and tested on {protocol.test_images} real images that none of them "
        f"has seen; mean and sample standard deviation of {len(protocol.seeds)} seeds.</p>",
        _table(("trained on", "images", "accuracy", "difference from this set"), rows),
        *([f"<p>{escape(report.text_image.sentence)}</p>"] if report.text_image else []),
        *(f"<p><small>{escape(note)}</small></p>" for note in report.notes),
    ]


def _nearness(report: Report | None) -> list[str]:
    """How near the images come to real ones."""
    if report is None or report.privacy is None:
        return []
    return ["<h2>Nearness to the real images</h2>", f"<p>{escape(report.privacy.sentence)}</p>"]


def _images(rows: Sequence[Row], readable: dict[str, str]) -> Iterable[str]:
    """The images, as many as go in."""
    used, shown = 0, []
    for row in rows:
        content = row.source.read_bytes()
        used += len(content)
        if used > MOST_BYTES:
            break
        name = readable.get(row.metadata["label"], row.metadata["label"])
        data = base64.b64encode(content).decode()
        shown.append(
            f'<li><img alt="{escape(name)}" src="data:image/png;base64,{data}">'
            f"<b>{escape(name)}</b><br>{escape(row.metadata['caption'])}</li>"
        )
    yield f'<ul class="set">{"".join(shown)}</ul>'
    if len(shown) < len(rows):
        yield f"<p><small>The first {len(shown)} of {len(rows)} images.</small></p>"


def _table(head: Sequence[str], rows: Sequence[Sequence[Any]]) -> str:
    first = "".join(f"<th>{escape(name)}</th>" for name in head)
    cells = ["".join(f"<td>{escape(str(value))}</td>" for value in row) for row in rows]
    lines = [f"<tr>{row}</tr>" for row in cells]
    return f"<table>{f'<tr>{first}</tr>' if head else ''}{''.join(lines)}</table>"
