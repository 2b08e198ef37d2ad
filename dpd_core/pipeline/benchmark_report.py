"""The benchmark's report: JSON for programs, Markdown and a chart for people.

Each measured set is a file of its own in ``OUT/results``; the report is made from all of them, so
a benchmark can be continued, extended and read at any time.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import asdict
from pathlib import Path
from typing import Any

from dpd_core import storage
from dpd_core.evaluate.report import Report
from dpd_core.hardware import peak_resident_memory
from dpd_core.models.files import resolve_model
from dpd_core.pipeline.benchmark_chart import chart
from dpd_core.students import pretrained

LRS_WEIGHT = 0.5
"""Weight of the improvement over random in the label-robust score; DD-Ranking's default."""
_REAL_ORDER = ("random", "medoid", "herding", "kcenter", "rded", "exchanged", "full")


def add(
    out: Path,
    *,
    ipc: int,
    label: str,
    set_name: str,
    report: Report,
    seconds_per_image: float | None,
    description: str,
) -> None:
    """Store one evaluation: the set's row and those of the real subsets measured beside it.

    Args:
        out: The benchmark's folder.
        ipc: Images per class.
        label: Row of the set in the table.
        set_name: Its name in the report.
        report: What the evaluate stage wrote.
        seconds_per_image: Sampling time; ``None`` if unknown.
        description: Where the method is from.
    """
    protocol = asdict(report.protocol)
    kinds = {
        (report.protocol.student, "hard"): report.accuracy,
        (pretrained.NAME, "hard"): report.accuracy_pretrained,
        (report.protocol.student, "soft"): report.accuracy_soft or {},
    }
    for (student, labels), accuracy in kinds.items():
        for name, entry in accuracy.items():
            ours = name == set_name
            row = {
                "label": label if ours else name,
                "kind": "distilled" if ours else "real",
                "ipc": ipc,
                "student": student,
                "labels": labels,
                "mean": entry.mean,
                "std": entry.std,
                "runs": entry.runs,
                "images": entry.images,
                "seconds_per_image": seconds_per_image if ours else None,
                "source": description if ours else "",
                "protocol": {**protocol, "student": student},
            }
            parts = (f"ipc-{ipc}", student, labels, row["kind"], row["label"])
            file = "--".join(storage.safe_name(str(part)) for part in parts)
            storage.write_json(out / "results" / f"{file}.json", row)


def load(out: Path) -> dict[str, Any]:
    """The report as one value: settings, rows with their scores, costs."""
    rows = [storage.read_json(path) for path in sorted((out / "results").glob("*.json"))]
    for row in rows:
        row["scores"] = _scores(row, rows)
    rows.sort(key=_place)
    settings = storage.read_json(out / "benchmark.json")
    memory = peak_resident_memory()
    return {**settings, "rows": rows, "model": _model_size(out), "memory_mb": memory}


def write(out: Path) -> dict[str, str]:
    """Write ``report.json``, ``report.md`` and ``chart.html``; returns their paths."""
    report = load(out)
    storage.write_json(out / "report.json", report)
    storage.write_bytes(out / "report.md", markdown(report).encode())
    storage.write_bytes(out / "chart.html", chart(report["rows"]).encode())
    return {
        "json": str(out / "report.json"),
        "markdown": str(out / "report.md"),
        "chart": str(out / "chart.html"),
    }


def label_robust_score(ior: float, hlr: float, weight: float = LRS_WEIGHT) -> float:
    """LRS = (e^α − e⁻¹)/(e − e⁻¹), α = w·IOR − (1 − w)·HLR, in [0, 1].

    Source: DD-Ranking (Li et al., 2025).

    Args:
        ior: Improvement over random, accuracies in [0, 1].
        hlr: Hard-label recovery: accuracy of all data less that of the set, with hard labels.
        weight: w.
    """
    alpha = weight * ior - (1 - weight) * hlr
    return (math.exp(alpha) - math.exp(-1)) / (math.e - math.exp(-1))


def markdown(report: dict[str, Any]) -> str:
    """The tables, one for each student and kind of labels."""
    rows = report["rows"]
    lines = []
    for student, labels in sorted({(row["student"], row["labels"]) for row in rows}):
        part = [row for row in rows if (row["student"], row["labels"]) == (student, labels)]
        lines += [f"### {student}, {labels} labels", "", *_table(part), ""]
    model = report["model"]
    if model:
        lines += [
            f"Model {model['model_mb']} MB, adapter {model['adapter_mb']} MB, peak memory "
            f"{report['memory_mb']} MB.",
            "",
        ]
    return "\n".join(lines)


def _table(rows: list[dict[str, Any]]) -> list[str]:
    numbers = sorted({row["ipc"] for row in rows})
    head = [
        "training set",
        *(f"{ipc} a class" for ipc in numbers),
        "over random",
        "label-robust score",
        "s an image",
    ]
    lines = ["| " + " | ".join(head) + " |", "| --- |" + " ---: |" * (len(head) - 1)]
    for kind, label in dict.fromkeys((row["kind"], row["label"]) for row in rows):
        mine = {row["ipc"]: row for row in rows if (row["kind"], row["label"]) == (kind, label)}
        scores = [row["scores"] for row in mine.values()]
        cells = [_percent(mine.get(ipc)) for ipc in numbers]
        over = [
            f"{score['over_random'] * 100:+.1f}"
            for score in scores
            if score["over_random"] is not None
        ]
        robust = [
            f"{score['label_robust']:.3f}" for score in scores if score["label_robust"] is not None
        ]
        seconds = [
            f"{row['seconds_per_image']:.2f}"
            for row in mine.values()
            if row["seconds_per_image"] is not None
        ]
        name = f"{label} (real)" if kind == "real" else label
        shown = [
            name.replace("|", "\\|"),
            *cells,
            *(" / ".join(x) for x in (over, robust, seconds)),
        ]
        lines.append("| " + " | ".join(shown) + " |")
    return lines


def _percent(row: dict[str, Any] | None) -> str:
    if row is None:
        return ""
    spread = "" if row["std"] is None else f" ± {row['std'] * 100:.1f}"
    return f"{row['mean'] * 100:.1f}{spread}"


def _scores(row: dict[str, Any], rows: Iterable[dict[str, Any]]) -> dict[str, float | None]:
    """Improvement over as many random real images, and the label-robust score."""
    same = [real for real in rows if real["student"] == row["student"] and real["kind"] == "real"]

    def mean(label: str, *, ipc: int | None = None, labels: str = "hard") -> float | None:
        found = [
            real["mean"]
            for real in same
            if real["label"] == label and real["labels"] == labels and ipc in (None, real["ipc"])
        ]
        return found[0] if found else None

    random, full = mean("random", ipc=row["ipc"], labels=row["labels"]), mean("full")
    over = None if random is None or row["label"] == "random" else row["mean"] - random
    robust = None
    if over is not None and full is not None and row["labels"] == "hard":
        robust = label_robust_score(over, full - row["mean"])
    return {"over_random": over, "label_robust": robust}


def _place(row: dict[str, Any]) -> tuple[Any, ...]:
    real = row["kind"] == "real"
    known = _REAL_ORDER.index(row["label"]) if row["label"] in _REAL_ORDER else len(_REAL_ORDER)
    return (
        row["student"],
        row["labels"],
        not real,
        known if real else 0,
        "" if real else row["label"],
        row["ipc"],
    )


def _model_size(out: Path) -> dict[str, float]:
    settings = storage.read_json(out / "benchmark.json")["fixed"]
    folder = resolve_model(settings["project"]["model"])
    adapters = [path.parent for path in out.glob("ipc-*/adapters/*/adapter.json")]
    return {
        "model_mb": _megabytes(folder.rglob("*.safetensors")),
        "adapter_mb": max(
            (_megabytes(adapter.glob("*.safetensors")) for adapter in adapters), default=0.0
        ),
    }


def _megabytes(paths: Iterable[Path]) -> float:
    return round(sum(path.stat().st_size for path in paths) / 2**20, 1)
