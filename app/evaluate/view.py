"""Views of evaluation reports: what the numbers say, in the order a reader asks.

Pure functions of a :class:`dpd_core.evaluate.report.Report`. All accuracies are shown
in percent.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from app.evaluate.bar_chart import Bar, chart
from dpd_core.evaluate.baselines import BASELINES
from dpd_core.evaluate.report import SIGNIFICANT, Accuracy, Measured, Report

PRETRAINED = "pretrained"
"""The student that is always reported beside the one chosen."""
REALISM_POINTS = 3
"""Points that the pretrained student may lose against random real images."""
_MARKS = {"good": "▲", "bad": "▼", "even": "≈", "note": "·"}

VERDICT_TEMPLATE = """{{#if value.rows}}<ul class='verdicts'>{{#each value.rows}}
<li class='{{this.tone}}'><b aria-hidden='true'>{{this.mark}}</b> {{this.text}}</li>
{{/each}}</ul>{{else}}<p class='empty'>{{value.empty}}</p>{{/if}}"""


def accuracy_chart(reports: Sequence[Report]) -> dict[str, Any]:
    """The bar chart of the accuracies of all sets; baselines that reports share come once."""
    if not reports:
        return {}
    bars: list[Bar] = []
    others: list[Bar] = []
    baselines: dict[tuple[str, tuple[float, ...]], Bar] = {}
    for report in reports:
        for name, entry in report.accuracy.items():
            if name == report.set:
                bars.append(_bar(f"{name} (distilled)", entry, "ours"))
                continue
            key = (name, tuple(entry.runs))
            known = sum(kind == name for kind, _ in baselines)
            label = baseline_label(name)
            if known and key not in baselines:
                label += f", beside {report.set}"
            baselines.setdefault(key, _bar(label, entry, "real" if _sized(name) else "full"))
    for report in reports:
        kinds = {"soft labels": report.accuracy_soft or {}}
        if report.protocol.student != PRETRAINED:
            kinds["pretrained student"] = report.accuracy_pretrained
        for what, entries in kinds.items():
            for name, entry in entries.items():
                own = name == report.set
                label = f"{name} (distilled)" if own else baseline_label(name)
                kind = "ours" if own else "real" if _sized(name) else "full"
                beside = f", beside {report.set}" if len(reports) > 1 and not own else ""
                others.append(_bar(f"{label}, {what}{beside}", entry, kind))
    first = reports[0]
    n_classes, seeds = len(first.confusion.classes), _seeds(reports)
    chance = 100 / n_classes
    return chart(
        [*bars, *baselines.values(), *others],
        title="Accuracy of students trained on each set, tested on "
        f"{first.protocol.test_images} real images",
        legend=f"Bar: mean of {seeds}. Dots: one student each. Whisker: ± one standard deviation. "
        f"Dashed line: guessing among {n_classes} classes, {chance:.1f} %.",
        high=100,
        step=25,
        unit=" %",
        reference=chance,
    )


_LABELS = {
    "random": "random real images",
    "medoid": "medoid real images",
    "herding": "herded real images",
    "kcenter": "k-centre real images",
    "rded": "crops of real images (RDED)",
    "exchanged": "real images chosen for what they teach",
    "full": "all real images",
}


def baseline_label(name: str) -> str:
    """A baseline's name for a person."""
    return _LABELS.get(name, f"{name} (real images)")


def baseline_choices() -> list[tuple[str, str]]:
    """(label, name) of every baseline that the core offers."""
    choices = []
    for name, baseline in BASELINES.items():
        text = baseline.description.split(" (")[0].rstrip(".")
        choices.append((f"{name}: {text[0].lower()}{text[1:]}", name))
    return choices


def verdicts(report: Report | None, *, changed: bool = False) -> dict[str, Any]:
    """Sentences that say whether the set is worth its images, and how sure that is.

    Args:
        changed: Whether the set has been changed since the report was written.
    """
    if report is None:
        return {
            "rows": [],
            "empty": "No report yet. Choose a set and press Evaluate: students "
            "are trained on it and on real images, and tested on real images that none of "
            "them has seen.",
        }
    ours = report.accuracy[report.set]
    rows = []
    if changed:
        rows.append(
            _row(
                "bad",
                "This set has been changed since it was measured: what follows "
                "is about its earlier images. Evaluate it again.",
            )
        )
    for name, entry in report.accuracy.items():
        if name != report.set:
            rows.append(_compared(report, ours, name, entry))
    if ours.std is None:
        rows.append(
            _row(
                "note",
                "One seed only: the differences may be chance. Use three seeds "
                "or more before you believe them.",
            )
        )
    rows += _pretrained(report)
    if report.text_image is not None:
        rows.append(_row("note", report.text_image.sentence))
    rows += [
        _row("note", note) for note in report.notes if not note.startswith(("One seed", "FID"))
    ]
    return {"rows": rows, "empty": "The report compares with no baseline."}


def differing_protocols(reports: Sequence[Report]) -> str:
    """A warning where reports that are shown together were not measured alike, else ``""``."""
    keys = ("student", "size", "steps", "batch_size", "train_images", "test_images")
    different = [
        f"{key.replace('_', ' ')} ({', '.join(dict.fromkeys(values))})"
        for key in keys
        if len(set(values := [str(getattr(report.protocol, key)) for report in reports])) > 1
    ]
    if not different:
        return ""
    return (
        "These reports were not measured alike; they differ in "
        + "; ".join(different)
        + ". Compare each set with its own baselines."
    )


def _compared(report: Report, ours: Accuracy, name: str, entry: Accuracy) -> dict[str, str]:
    """One sentence: the set beside a baseline."""
    mean, other = 100 * ours.mean, 100 * entry.mean
    if not _sized(name) or entry.images > ours.images:
        share = f", {mean / other:.0%} of that" if other else ""
        return _row(
            "note",
            f"All {entry.images} real images reach {other:.1f} %; the "
            f"{ours.images} distilled ones {mean:.1f} %{share}.",
        )
    what = f"{entry.images} {baseline_label(name)} ({mean:.1f} % against {other:.1f} %)"
    p = entry.p_value
    points = abs(mean - other)
    if points < 0.05:
        return _row("even", f"{report.set} equals {what}.")
    if p is None or p < SIGNIFICANT:
        sure = "" if p is None else ", more than the seeds' spread explains"
        if mean > other:
            return _row("good", f"{report.set} beats {what} by {points:.1f} points{sure}.")
        return _row(
            "bad",
            f"{report.set} loses to {what} by {points:.1f} points{sure}: real "
            "images, chosen this way, would serve better.",
        )
    lead = "ahead of" if mean > other else "behind"
    return _row(
        "even",
        f"{report.set} is {points:.1f} points {lead} {what}, which may be "
        f"chance: the seeds differ as much (p = {p:.2f}).",
    )


def _pretrained(report: Report) -> list[dict[str, str]]:
    """One sentence about the pretrained student, which shows first whether images look real."""
    entries = report.accuracy_pretrained
    mean = 100 * entries[report.set].mean
    others = [
        f"{100 * entry.mean:.1f} % from {entry.images} {baseline_label(name)}"
        for name, entry in entries.items()
        if name != report.set
    ]
    beside = f", beside {', '.join(others)}" if others else ""
    random = entries.get("random")
    tone = "note"
    if random is not None:
        tone = "bad" if mean < 100 * random.mean - REALISM_POINTS else "good"
    text = f"A pretrained student reaches {mean:.1f} % from {report.set}{beside}."
    return [_row(tone, text)]


def _row(tone: str, text: str) -> dict[str, str]:
    return {"tone": tone, "mark": _MARKS[tone], "text": text}


def _bar(label: str, entry: Accuracy, kind: str) -> Bar:
    std = entry.std
    return Bar(
        label,
        f"{entry.images} images",
        100 * entry.mean,
        None if std is None else 100 * std,
        [100 * run for run in entry.runs],
        kind,
    )


def _sized(name: str) -> bool:
    return name not in BASELINES or BASELINES[name].sized


def _seeds(reports: Sequence[Report]) -> str:
    counts = sorted({len(report.accuracy[report.set].runs) for report in reports})
    text = " or ".join(map(str, counts))
    return f"{text} seed{'' if counts == [1] else 's'}"


CONFUSION_TEMPLATE = """{{#if value.rows}}<div class='confusion-scroll' tabindex='0' role='region'
 aria-label='Confusion matrix'><table class='confusion'>
<caption>{{value.caption}}</caption>
<thead><tr><th class='corner'>true class</th>{{#each value.names}}<th scope='col'
><span>{{this}}</span></th>{{/each}}</tr></thead>
<tbody>{{#each value.rows}}<tr><th scope='row'>{{this.name}}</th>{{#each this.cells}}<td
 class='{{this.kind}}' style='--share:{{this.share}}%'>{{this.shown}}{{#if this.text}}<span
 class='tip'>{{this.text}}</span>{{/if}}</td>{{/each}}</tr>{{/each}}</tbody></table></div>{{/if}}"""


def confusion(report: Report | None, readable: Callable[[str], str]) -> dict[str, Any]:
    """The confusion matrix of the set's students: rows are true classes, in percent.

    Args:
        readable: A class's name in words.
    """
    if report is None:
        return {}
    names = [readable(name) for name in report.confusion.classes]
    rows = []
    for true, counts in enumerate(report.confusion.matrix):
        total = sum(counts)
        cells = []
        for predicted, count in enumerate(counts):
            share = count / total if total else 0.0
            kind = "right" if predicted == true else "wrong"
            text = ""
            if count or predicted == true:
                what = "recognised" if predicted == true else f"taken for {names[predicted]}"
                text = f"{names[true]}: {count} of {total} {what}"
            shown = f"{100 * share:.0f}" if count else ""
            cells.append(
                {
                    "share": round(75 * share, 1),
                    "kind": kind if count else "none",
                    "shown": shown,
                    "text": text,
                }
            )
        rows.append({"name": names[true], "cells": cells})
    seeds = _seeds([report])
    return {
        "names": names,
        "rows": rows,
        "caption": f"What students of {report.set} take the "
        f"test images for: percent of each true class (row) by predicted class (column), over "
        f"{seeds}. Point at a cell for the counts.",
    }


TABLE_TEMPLATE = """{{#if value.rows}}<div class='table-scroll' tabindex='0' role='region'
 aria-label='{{value.name}}'><table class='numbers'>
<caption>{{value.caption}}</caption>
<thead><tr>{{#each value.columns}}<th scope='col'>{{this}}</th>{{/each}}</tr></thead>
<tbody>{{#each value.rows}}<tr><th scope='row'>{{this.name}}{{#if this.mark}}
<span class='mark'>{{this.mark}}</span>{{/if}}{{#if this.note}}<small>{{this.note}}</small>{{/if}}
</th>{{#each this.cells}}<td class='{{this.kind}}'>{{this.text}}</td>{{/each}}</tr>{{/each}}
</tbody></table></div>{{/if}}"""


def per_class(reports: Sequence[Report], readable: Callable[[str], str]) -> dict[str, Any]:
    """Accuracy by class: the hardest classes of the first report first."""
    if not reports:
        return {}
    columns = _columns(reports)
    own = columns[0][1].per_class
    rows = []
    for name in sorted(own, key=lambda name: (own[name], name)):
        values = [entry.per_class.get(name) for _, entry in columns]
        rows.append({"name": readable(name), "cells": _cells(values, "{:.1f}", 100, best=max)})
    return {
        "name": "Accuracy by class",
        "rows": rows,
        "columns": ["class", *(label for label, _ in columns)],
        "caption": "Accuracy by class in percent, the hardest first; the best of each row is "
        "in bold.",
    }


@dataclass(frozen=True)
class MetricRow:
    """A row of the metrics' table: what it is, what is better, and how it is read and written."""

    name: str
    mark: str
    note: str
    form: str
    value: Callable[[Measured], float]
    best: Callable[[list[float]], float] | None
    any_size: bool = False


def _nearest_to_one(values: list[float]) -> float:
    return min(values, key=lambda value: abs(value - 1))


METRICS = (
    MetricRow(
        "FID",
        "↓ lower is better",
        "Distance between the pretrained features of the set and of the test images, as two "
        "Gaussians. Biased for few images: compare sets of one size only.",
        "{:.1f}",
        lambda measured: measured.fid.value,
        min,
    ),
    MetricRow(
        "KID",
        "↓ lower is better",
        "The same question without that bias: a kernel distance between the features; near 0 "
        "means alike.",
        "{:.4f}",
        lambda measured: measured.kid.value,
        min,
        any_size=True,
    ),
    MetricRow(
        "Coverage",
        "↑ higher is better",
        "How near, on average, a test image finds an image of its class in the set (cosine of the "
        "features).",
        "{:.3f}",
        lambda measured: measured.coverage,
        max,
    ),
    MetricRow(
        "Grain",
        "nearest 1 is best",
        "Energy above half the Nyquist frequency relative to the real test images: less is blur, "
        "more is noise.",
        "{:.2f}",
        lambda measured: measured.grain,
        _nearest_to_one,
        any_size=True,
    ),
)


def metrics(reports: Sequence[Report]) -> dict[str, Any]:
    """The table of distribution metrics, each with one line that explains it."""
    measured = [report for report in reports if report.distribution is not None]
    if not measured:
        return {}
    columns: list[tuple[str, Measured, bool]] = []
    for report, name, label in _named(measured):
        assert report.distribution is not None
        entry = report.distribution.sets[name]
        columns.append((f"{label} ({entry.images})", entry, name == report.set or _sized(name)))
    rows = [
        {
            "name": row.name,
            "mark": row.mark,
            "note": row.note,
            "cells": _cells(
                [row.value(entry) for _, entry, _ in columns],
                row.form,
                1,
                best=row.best,
                among=[sized or row.any_size for _, _, sized in columns],
            ),
        }
        for row in METRICS
    ]
    return {
        "name": "Distribution metrics",
        "rows": rows,
        "columns": ["metric", *(label for label, _, _ in columns)],
        "caption": "Measured against the real test split, in the features of a pretrained network "
        f"({measured[0].protocol.features}). In brackets the number of images; the best of each "
        "row is in bold.",
    }


def _named(reports: Sequence[Report]) -> list[tuple[Report, str, str]]:
    """(report, set name, label) of the columns: the sets first, then baselines once each."""
    ours = [(report, report.set, report.set) for report in reports]
    seen: dict[tuple[str, tuple[float, ...]], tuple[Report, str, str]] = {}
    for report in reports:
        for name, entry in report.accuracy.items():
            if name != report.set:
                label = name if not any(name == k for k, _ in seen) else f"{name} ({report.set})"
                seen.setdefault((name, tuple(entry.runs)), (report, name, label))
    return [*ours, *seen.values()]


def _columns(reports: Sequence[Report]) -> list[tuple[str, Accuracy]]:
    return [(label, report.accuracy[name]) for report, name, label in _named(reports)]


def _cells(
    values: Sequence[float | None],
    form: str,
    scale: float,
    *,
    best: Callable[[list[float]], float] | None,
    among: Sequence[bool] | None = None,
) -> list[dict[str, str]]:
    """Formatted values, the best of those that may compete marked."""
    compete = [
        value
        for value, fair in zip(values, among or [True] * len(values), strict=True)
        if fair and value is not None
    ]
    top = best(compete) if best is not None and len(compete) > 1 else None
    cells = []
    for value, fair in zip(values, among or [True] * len(values), strict=True):
        text = "–" if value is None else form.format(scale * value)
        cells.append({"text": text, "kind": "best" if fair and value == top is not None else ""})
    return cells
