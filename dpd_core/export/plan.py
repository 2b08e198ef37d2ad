"""What an export would hold, without writing anything."""

from __future__ import annotations

import json
from dataclasses import dataclass

from dpd_core.config import ExportConfig
from dpd_core.evaluate.report import Report, report_path
from dpd_core.export.card import dataset_card
from dpd_core.export.contents import (
    PARQUET_ROWS,
    SOFT_LABELS,
    card_facts,
    export_rows,
    set_adapter,
)
from dpd_core.export.html_report import FILE as REPORT
from dpd_core.export.html_report import MOST_BYTES
from dpd_core.project import Project
from dpd_core.synthesize.sets import DistilledSet

_BYTES_PER_LISTED_FILE = 110
"""Path and SHA-256 of one file in the export's manifest."""
_PARQUET_BYTES_PER_FILE = 5000
_PARQUET_BYTES_PER_IMAGE = 300
"""Captions and columns of one image in Parquet, beside the image itself."""
_PAGE_BYTES, _PAGE_BYTES_PER_IMAGE = 4500, 200
"""The text of the report, and what stands beside each of its images."""
_SOFT_LABELS_BYTES_PER_IMAGE, _SOFT_LABELS_BYTES_PER_CLASS = 60, 11
"""The image's path and one probability in the file of soft labels."""


@dataclass(frozen=True)
class PlannedFiles:
    """Some files of the export.

    Attributes:
        name: Their path below the export's folder, with ``<class>`` for any class.
        meaning: One sentence for a person.
        count: How many.
        size: Bytes of all of them together.
        exact: Whether the size is known or estimated.
    """

    name: str
    meaning: str
    count: int
    size: int
    exact: bool = True


@dataclass(frozen=True)
class ExportPlan:
    """What the export stage would write.

    Attributes:
        set_name: Name of the distilled set, and of the folder.
        images, classes: How many.
        files: The files, in the order in which a person asks for them.
        card: The dataset card (README.md) with its YAML front matter.
        source_licence: Licence of the real images, ``None`` if unknown.
        report: The evaluation that the card quotes, ``None`` if there is none.
    """

    set_name: str
    images: int
    classes: int
    files: list[PlannedFiles]
    card: str
    source_licence: str | None
    report: Report | None

    @property
    def size(self) -> int:
        """Bytes of all files; the zip has about as many, or fewer."""
        return sum(file.size for file in self.files)


def plan_export(project: Project, config: ExportConfig) -> ExportPlan:
    """Plan an export; nothing is written.

    Raises:
        StageMissing: nothing has been synthesized yet.
        ProjectError: no such set, or an image of it is missing.
        ModelError: the adapter's weights are missing.
    """
    distilled = DistilledSet.load(project, config.set_name)
    rows = export_rows(project, distilled)
    images = sum(row.source.stat().st_size for row in rows)
    lines = sum(len(json.dumps(row.metadata, ensure_ascii=False).encode()) + 1 for row in rows)
    adapter = set_adapter(project, distilled) if config.adapter else None
    facts = card_facts(project, config, distilled, rows, adapter=adapter)
    card = dataset_card(facts)
    files = [
        PlannedFiles("train/<class>/*.png", "The images.", len(rows), images),
        PlannedFiles(
            "train/metadata.jsonl",
            "Caption, class, prototype, seed and score of each image.",
            1,
            lines,
        ),
    ]
    if config.text_files:
        size = sum(len(row.metadata["caption"].encode()) for row in rows)
        files.append(
            PlannedFiles("train/<class>/*.txt", "Each image's caption beside it.", len(rows), size)
        )
    if config.parquet:
        parts = -(-len(rows) // PARQUET_ROWS)
        files.append(
            PlannedFiles(
                "parquet/*.parquet",
                "The same images and columns in one table.",
                parts,
                images + _PARQUET_BYTES_PER_IMAGE * len(rows) + _PARQUET_BYTES_PER_FILE * parts,
                exact=False,
            )
        )
    for file in adapter.files if adapter else ():
        files.append(
            PlannedFiles(
                f"adapter/{file.name}", "The adapter that made the images.", 1, file.stat().st_size
            )
        )
    if config.soft_labels:
        per_image = _SOFT_LABELS_BYTES_PER_IMAGE + _SOFT_LABELS_BYTES_PER_CLASS * len(facts.classes)
        files.append(
            PlannedFiles(
                SOFT_LABELS,
                "Class probabilities of each image, by a teacher that has seen all "
                "real training images.",
                1,
                len(rows) * per_image,
                exact=False,
            )
        )
    files.append(PlannedFiles("README.md", "The dataset card.", 1, len(card.encode())))
    shown = min(images, MOST_BYTES) * 4 // 3
    files.append(
        PlannedFiles(
            REPORT,
            "A report to send on: images, captions, accuracy, nearness to real images, settings.",
            1,
            shown + _PAGE_BYTES + _PAGE_BYTES_PER_IMAGE * len(rows),
            exact=False,
        )
    )
    listed = sum(file.count for file in files)
    files.append(
        PlannedFiles(
            "manifest.json",
            "Where each image comes from, and the checksum of each file.",
            1,
            _manifest_size(project, distilled, listed),
            exact=False,
        )
    )
    return ExportPlan(
        distilled.name,
        len(rows),
        len(facts.classes),
        files,
        card,
        facts.source_licence,
        facts.report,
    )


def _manifest_size(project: Project, distilled: DistilledSet, listed: int) -> int:
    quoted = [distilled.root / "manifest.json", report_path(project, distilled.name)]
    there = sum(path.stat().st_size for path in quoted if path.exists())
    return there + _BYTES_PER_LISTED_FILE * listed
