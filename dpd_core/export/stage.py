"""The export stage: a distilled set as others can load it.

``export/<set>/`` is an image folder for ``datasets`` with captions, a dataset card, Parquet,
the adapter and a manifest; ``export/<set>.zip`` is the same in one file. Both are the same
bytes whenever they are made from the same set.
"""

from __future__ import annotations

import json
import shutil
import zipfile
from pathlib import Path, PurePosixPath
from typing import Any

import pyarrow
import pyarrow.parquet
from datasets import ClassLabel, Features, Image, Value

from dpd_core import storage
from dpd_core.config import ExportConfig
from dpd_core.errors import ProjectError
from dpd_core.events import Emit, Log, Meter, ignore
from dpd_core.export.card import dataset_card
from dpd_core.export.contents import (
    PARQUET_ROWS,
    SOFT_LABELS,
    Row,
    card_facts,
    columns,
    export_rows,
    files_below,
    set_adapter,
)
from dpd_core.export.html_report import FILE as REPORT
from dpd_core.export.html_report import html_report
from dpd_core.export.manifest import is_export, write_export
from dpd_core.export.push import hub_token, push
from dpd_core.export.soft_labels import soft_labels
from dpd_core.project import Project
from dpd_core.synthesize.sets import DistilledSet
from dpd_core.train.adapters import Adapter

STAGE = "export"


def run(
    project: Project, config: ExportConfig, emit: Emit = ignore, *, token: str | None = None
) -> dict[str, Any]:
    """The export stage.

    Args:
        token: Hub token for ``config.push``; without it the environment's ``HF_TOKEN`` is
            used. It is kept nowhere.

    Raises:
        StageMissing: nothing has been synthesized yet.
        ProjectError: an image is missing, or something else lies where the export would go.
        ConfigError: a push was asked for without a token.
        DPDError: the push failed; the folder is complete all the same.
    """
    token = hub_token(token) if config.push else None
    distilled = DistilledSet.load(project, config.set_name)
    rows = export_rows(project, distilled)
    parent = Path(config.output).expanduser().resolve() if config.output else project.path(STAGE)
    folder = parent / storage.safe_name(distilled.name)
    _check_target(folder)
    meter = Meter(emit, STAGE, len(rows) * (2 if config.parquet else 1), message="writing images")
    with storage.atomic_folder(folder) as temporary:
        _write_images(temporary / "train", rows, meter, text_files=config.text_files)
        if config.parquet:
            _write_parquet(temporary / "parquet", rows, meter)
        adapter = set_adapter(project, distilled) if config.adapter else None
        if adapter is not None:
            _copy_adapter(adapter, temporary)
        if config.soft_labels:
            files = {row.set_file: f"train/{row.file}" for row in rows}
            labels = soft_labels(project, distilled.name, files, emit, STAGE)
            storage.write_json(temporary / SOFT_LABELS, labels)
        facts = card_facts(project, config, distilled, rows, adapter=adapter)
        (temporary / "README.md").write_text(dataset_card(facts), encoding="utf-8")
        page = html_report(facts, rows)
        (temporary / REPORT).write_text(page, encoding="utf-8")
        write_export(
            temporary,
            distilled,
            title=facts.title,
            licence=facts.licence,
            report=facts.report.to_dict() if facts.report else None,
        )
    archive = folder.with_name(folder.name + ".zip")
    write_zip(folder, archive)
    if config.push:
        push(folder, config.push, token=token or "")
        emit(Log(STAGE, f"pushed to https://huggingface.co/datasets/{config.push}"))
    return {
        "set": distilled.name,
        "images": len(rows),
        "folder": _shown(project, folder),
        "archive": _shown(project, archive),
        "bytes": archive.stat().st_size,
        "adapter": adapter is not None,
        "pushed": config.push or None,
    }


def write_zip(folder: Path, archive: Path) -> None:
    """Pack a folder; the same files give the same bytes."""
    with storage.atomic_path(archive) as temporary, zipfile.ZipFile(temporary, "w") as packed:
        for path in files_below(folder):
            name = f"{folder.name}/{path.relative_to(folder).as_posix()}"
            info = zipfile.ZipInfo(name, date_time=(1980, 1, 1, 0, 0, 0))
            info.create_system, info.external_attr = 3, 0o644 << 16
            # Images, Parquet and weights are compressed or incompressible already.
            text = path.suffix in (".json", ".jsonl", ".md", ".txt", ".html")
            info.compress_type = zipfile.ZIP_DEFLATED if text else zipfile.ZIP_STORED
            info.file_size = path.stat().st_size
            with path.open("rb") as source, packed.open(info, "w") as target:
                shutil.copyfileobj(source, target, 1 << 20)


def _check_target(folder: Path) -> None:
    """Refuse to replace anything but an earlier export."""
    empty = folder.is_dir() and not any(folder.iterdir())
    if folder.exists() and not empty and not is_export(folder):
        raise ProjectError(
            "something else lies where the export would go.",
            where=folder,
            fix="Choose another output folder, or move it away.",
        )


def _write_images(folder: Path, rows: list[Row], meter: Meter, *, text_files: bool) -> None:
    for row in meter.over(rows):
        target = folder / row.file
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(row.source, target)
        if text_files:
            (folder / row.text_file).write_text(row.metadata["caption"], encoding="utf-8")
    lines = [json.dumps(row.metadata, ensure_ascii=False, allow_nan=False) for row in rows]
    (folder / "metadata.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")


def _write_parquet(folder: Path, rows: list[Row], meter: Meter) -> None:
    """``train-00000-of-0000n.parquet`` with the images inside, typed for ``datasets``."""
    names = sorted({row.metadata["label"] for row in rows})
    kinds: dict[str, Any] = {
        "label": ClassLabel(names=names),
        "slot": Value("int64"),
        "seed": Value("int64"),
        "score": Value("float64"),
    }
    known = columns(rows)
    features = Features(
        {"image": Image(), **{name: kinds.get(name, Value("string")) for name in known}}
    )
    folder.mkdir()
    parts = [rows[start : start + PARQUET_ROWS] for start in range(0, len(rows), PARQUET_ROWS)]
    for number, part in enumerate(parts):
        records = [
            {
                **{name: row.metadata[name] for name in known},
                "image": {"bytes": row.source.read_bytes(), "path": PurePosixPath(row.file).name},
                "label": names.index(row.metadata["label"]),
            }
            for row in meter.over(part)
        ]
        # datasets.Dataset.to_parquet writes the same, but draws a progress bar.
        table = pyarrow.Table.from_pylist(records, schema=features.arrow_schema)
        pyarrow.parquet.write_table(
            table, folder / f"train-{number:05d}-of-{len(parts):05d}.parquet"
        )


def _copy_adapter(adapter: Adapter, folder: Path) -> None:
    (folder / "adapter").mkdir()
    for file in adapter.files:
        shutil.copyfile(file, folder / "adapter" / file.name)


def _shown(project: Project, path: Path) -> str:
    """Inside the project a relative path, outside the whole one."""
    return project.relative(path) if path.is_relative_to(project.root) else str(path)
