"""What goes into an export: the images with their columns, the adapter, and what the card says."""

from __future__ import annotations

import re
import shlex
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from dpd_core import __version__, storage
from dpd_core.config import CONFIGS, ExportConfig, SynthesizeConfig
from dpd_core.dataset.index import DatasetIndex, load_index
from dpd_core.errors import ModelError, ProjectError
from dpd_core.evaluate.report import load_report
from dpd_core.export.card import FEATURES, ORIGIN_FEATURES, CardFacts
from dpd_core.project import Project
from dpd_core.settings import StageConfig, command_words
from dpd_core.synthesize.records import SlotRecord
from dpd_core.synthesize.sets import DistilledSet
from dpd_core.train.adapters import Adapter, find_adapter

PARQUET_ROWS = 1000
"""Images in one Parquet file, which bounds the memory while writing."""
SOFT_LABELS = "soft_labels.json"

# Words that make `datasets` take a folder for a split of its own.
_SPLIT_WORDS = {
    "train",
    "training",
    "validation",
    "valid",
    "dev",
    "val",
    "test",
    "testing",
    "eval",
    "evaluation",
}


@dataclass(frozen=True)
class Row:
    """One exported image.

    Attributes:
        source: The image of the set.
        set_file: Its place below the set's folder.
        metadata: Its line in ``metadata.jsonl``.
    """

    source: Path
    set_file: str
    metadata: dict[str, Any]

    @property
    def file(self) -> str:
        """Its place below ``train/``."""
        return self.metadata["file_name"]

    @property
    def text_file(self) -> str:
        """The place of its caption below ``train/``, where that is written beside it."""
        return str(PurePosixPath(self.file).with_suffix(".txt"))


def class_folder(folder: str) -> str:
    """A class's folder in the export: its folder in the set, unless ``datasets`` would take it
    for a split (a class named "test", say)."""
    words = re.split(r"[-._ 0-9]+", folder.lower())
    if not _SPLIT_WORDS.intersection(words):
        return folder
    return "class" + "".join(words) + storage.digest(folder, length=6)


def export_rows(project: Project, distilled: DistilledSet) -> list[Row]:
    """The images of a set as they are exported.

    Raises:
        ProjectError: the set is empty, an image is missing, or two would be the same file.
    """
    index = load_index(project)
    rows = [_row(record, distilled) for record in distilled.slots]
    origins = [_origin(record, index) for record in distilled.slots]
    if any(map(any, (origin.values() for origin in origins))):
        for row, origin in zip(rows, origins, strict=True):
            row.metadata.update(origin)
    _check_rows(rows)
    return rows


def columns(rows: list[Row]) -> dict[str, str]:
    """The columns of the rows beside the image, and what they mean."""
    known = FEATURES | ORIGIN_FEATURES
    return {name: known[name] for name in rows[0].metadata if name in known}


def _origin(record: SlotRecord, index: DatasetIndex) -> dict[str, str]:
    """When and where the prototype was taken, as texts, empty where it is not known."""
    image = index.by_id.get(record.prototype_id)
    if image is None:
        return dict.fromkeys(ORIGIN_FEATURES, "")
    transform = " ".join(map(repr, image.origin.transform))
    return dict(
        zip(ORIGIN_FEATURES, (image.origin.taken, image.origin.crs, transform), strict=True)
    )


def _row(record: SlotRecord, distilled: DistilledSet) -> Row:
    path = distilled.path(record)
    if not path.is_file():
        raise ProjectError(
            "an image of the distilled set is missing.",
            where=path,
            fix="Run the synthesize stage again.",
        )
    folder, name = record.file.split("/")
    metadata = {
        "file_name": f"{class_folder(folder)}/{name}",
        "label": record.class_name,
        "caption": record.caption,
        "prototype_id": record.prototype_id,
        "slot": record.number,
        "seed": record.image.seed,
        "score": record.score,
        "strategy": distilled.manifest.strategy,
    }
    return Row(path, record.file, metadata)


def _check_rows(rows: list[Row]) -> None:
    if not rows:
        raise ProjectError("the distilled set is empty.", fix="Run the synthesize stage again.")
    # Compared in lower case: some file systems do not tell A from a.
    owners: dict[str, str] = {}
    for row in rows:
        folder = row.file.split("/")[0].lower()
        if owners.setdefault(folder, row.metadata["label"]) != row.metadata["label"]:
            raise ProjectError(
                f"the classes {owners[folder]!r} and {row.metadata['label']!r} share a folder.",
                where=row.source,
                fix="Rename one of the classes.",
            )
    if len({row.file.lower() for row in rows}) != len(rows):
        raise ProjectError(
            "the manifest names an image twice.", fix="Run the synthesize stage again."
        )


def set_adapter(project: Project, distilled: DistilledSet) -> Adapter | None:
    """The adapter that the set was made with; ``None`` if it was made without.

    Raises:
        ModelError: its weights are gone.
    """
    if distilled.manifest.adapter is None:
        return None
    adapter = find_adapter(project, distilled.manifest.adapter)
    if not adapter.weights.is_file():
        raise ModelError(
            "the adapter's weights are missing.",
            where=adapter.weights,
            fix="Run the train stage again, or export without the adapter.",
        )
    return adapter


def card_facts(
    project: Project,
    config: ExportConfig,
    distilled: DistilledSet,
    rows: list[Row],
    *,
    adapter: Adapter | None,
) -> CardFacts:
    """What the card of an export says; ``rows`` are its images, ``adapter`` goes with them."""
    index, manifest = load_index(project), distilled.manifest
    counts: dict[str, int] = {}
    captions: dict[str, str] = {}
    for record in distilled.slots:
        counts[record.class_name] = counts.get(record.class_name, 0) + 1
        captions.setdefault(record.class_name, record.caption)
    config_used = SynthesizeConfig.from_dict(manifest.settings)
    settings = {name: value for name, value in manifest.settings.items() if name != "set_name"}
    return CardFacts(
        title=config.title or project.name,
        licence=config.licence,
        classes=[
            (name, index.readable(name) if name in index.classes else name, count)
            for name, count in sorted(counts.items())
        ],
        source=f"{without_path(str(index.source.get('data', '')))} "
        f"({index.source.get('kind', 'unknown')})",
        source_licence=index.source.get("licence"),
        provenance=[
            ("generating model", without_path(manifest.model)),
            ("adapter", manifest.adapter or "none"),
            ("strategy", manifest.strategy),
            ("images per class", distilled.ipc),
            ("image size", f"{manifest.image_size} px"),
            ("seed", manifest.seed),
            ("made with", f"DPD Studio {__version__}"),
        ],
        settings=settings,
        commands=_commands(project, config_used),
        report=load_report(project, distilled.name),
        examples=sorted(captions.items())[:5],
        parquet=config.parquet,
        adapter=adapter.loading if adapter else "",
        soft_labels=config.soft_labels,
        text_files=config.text_files,
        columns=columns(rows),
    )


def _commands(project: Project, synthesis: SynthesizeConfig) -> list[str]:
    """The stages' commands without local paths; the set's own settings for its synthesis."""
    configs: list[tuple[str, StageConfig]] = []
    for stage in ("dataset", "prototypes", "captions", "train"):
        record = project.record(stage)
        if record is not None:
            configs.append((stage, CONFIGS[stage].from_dict(record["settings"])))
    configs.append(("synthesize", synthesis))
    commands = []
    for stage, config in configs:
        words = command_words(stage, config, project.root)
        words = ["PROJECT" if word == str(project.root) else without_path(word) for word in words]
        if stage == "dataset":
            shared = project.config
            words += ["--model", without_path(shared.model), "--seed", str(shared.seed)]
        commands.append(shlex.join(words))
    return commands


def without_path(text: str) -> str:
    """A local path's last part: where somebody keeps a file is nobody else's business."""
    if text.startswith(("/", "~", "./", "../", "\\\\")) or re.match(r"[A-Za-z]:[\\/]", text):
        return re.split(r"[\\/]", text.rstrip("\\/"))[-1] or text
    return text


def files_below(folder: Path) -> list[Path]:
    """All files of a folder, in the order of their paths."""
    return [path for path in sorted(folder.rglob("*")) if path.is_file()]
