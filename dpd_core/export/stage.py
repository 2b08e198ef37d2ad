"""The export stage: a distilled set as others can load it.

``export/<set>/`` is an image folder for ``datasets`` with captions, a dataset card, Parquet,
the adapter and a manifest; ``export/<set>.zip`` is the same in one file. Both are the same
bytes whenever they are made from the same set.
"""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

from dpd_core import __version__, storage
from dpd_core.config import CONFIGS, ExportConfig, SynthesizeConfig
from dpd_core.errors import ConfigError, DPDError, ModelError, ProjectError
from dpd_core.events import Emit, Log, Meter, ignore
from dpd_core.export.card import FEATURES, CardFacts, dataset_card
from dpd_core.project import Project
from dpd_core.settings import StageConfig, command_words
from dpd_core.synthesize.sets import DistilledSet, Slot
from dpd_core.synthesize.strategies import STRATEGIES, Strategy

if TYPE_CHECKING:
    from dpd_core.train.adapters import Adapter

STAGE = "export"
FORMAT = "dpd-studio-export"
PARQUET_ROWS = 1000
"""Images in one Parquet file, which bounds the memory while writing."""
SOFT_LABELS = "soft_labels.json"
TOKEN_VARIABLES = ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN")

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
    """One exported image: where it comes from and its line in ``metadata.jsonl``."""

    source: Path
    metadata: dict[str, Any]

    @property
    def file(self) -> str:
        """Its place below ``train/``."""
        return self.metadata["file_name"]


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
    token = _token(token) if config.push else None
    distilled = DistilledSet.load(project, config.set_name)
    rows = export_rows(distilled)
    parent = Path(config.output).expanduser().resolve() if config.output else project.path(STAGE)
    folder = parent / storage.safe_name(distilled.name)
    _check_target(folder)
    meter = Meter(emit, STAGE, len(rows) * (2 if config.parquet else 1), message="writing images")
    with storage.atomic_folder(folder) as temporary:
        _write_images(temporary / "train", rows, meter)
        if config.parquet:
            _write_parquet(temporary / "parquet", rows, meter)
        adapter = set_adapter(project, distilled) if config.adapter else None
        if adapter is not None:
            _copy_adapter(adapter, temporary)
        if config.soft_labels:
            _write_soft_labels(project, distilled, rows, temporary, emit)
        facts = card_facts(project, config, distilled, adapter=adapter)
        (temporary / "README.md").write_text(dataset_card(facts), encoding="utf-8")
        _write_manifest(temporary, distilled, facts)
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


def push(folder: Path, repository: str, *, token: str) -> None:
    """Upload an exported folder to a Hub data set, made private if it does not exist yet.

    Raises:
        DPDError: no network, no such token, no right to write, or a bad repository id.
    """
    from huggingface_hub import HfApi
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, OfflineModeIsEnabled

    api = HfApi(token=token)
    fix = "The export itself is complete; check the network, the id and the token's rights."
    try:
        api.create_repo(repository, repo_type="dataset", private=True, exist_ok=True)
        api.upload_folder(
            folder_path=folder,
            repo_id=repository,
            repo_type="dataset",
            commit_message="Distilled set from DPD Studio",
        )
    except (HFValidationError, HfHubHTTPError, OfflineModeIsEnabled, OSError) as error:
        message = str(error).replace(token, "…").splitlines()[0] if str(error) else ""
        raise DPDError(
            f"the push failed ({type(error).__name__}: {message}).", where=repository, fix=fix
        ) from None
    except Exception as error:  # told apart below
        # The HTTP library's own errors differ between versions of huggingface_hub.
        if not type(error).__module__.startswith(("http", "requests", "urllib3")):
            raise
        raise DPDError(
            f"the Hub cannot be reached ({type(error).__name__}).", where=repository, fix=fix
        ) from None


def write_zip(folder: Path, archive: Path) -> None:
    """Pack a folder; the same files give the same bytes."""
    with storage.atomic_path(archive) as temporary, zipfile.ZipFile(temporary, "w") as packed:
        for path in _files(folder):
            name = f"{folder.name}/{path.relative_to(folder).as_posix()}"
            info = zipfile.ZipInfo(name, date_time=(1980, 1, 1, 0, 0, 0))
            info.create_system, info.external_attr = 3, 0o644 << 16
            # Images, Parquet and weights are compressed or incompressible already.
            text = path.suffix in (".json", ".jsonl", ".md")
            info.compress_type = zipfile.ZIP_DEFLATED if text else zipfile.ZIP_STORED
            info.file_size = path.stat().st_size
            with path.open("rb") as source, packed.open(info, "w") as target:
                shutil.copyfileobj(source, target, 1 << 20)


def class_folder(folder: str) -> str:
    """A class's folder in the export: its folder in the set, unless ``datasets`` would take it
    for a split (a class named "test", say)."""
    words = re.split(r"[-._ 0-9]+", folder.lower())
    if not _SPLIT_WORDS.intersection(words):
        return folder
    return "class" + "".join(words) + storage.digest(folder, length=6)


def export_rows(distilled: DistilledSet) -> list[Row]:
    """The images of a set as they are exported.

    Raises:
        ProjectError: the set is empty, an image is missing, or two would be the same file.
    """
    rows = [
        _row(slot, record, distilled)
        for slot, record in zip(distilled.slots, distilled.manifest["slots"], strict=True)
    ]
    _check_rows(rows)
    return rows


def _row(slot: Slot, record: dict[str, Any], distilled: DistilledSet) -> Row:
    parts = slot.path.resolve().relative_to(distilled.root.resolve()).parts
    if len(parts) != 2 or not slot.path.is_file():
        what = "is missing" if len(parts) == 2 else "has no class folder"
        raise ProjectError(
            f"an image of the distilled set {what}.",
            where=slot.path,
            fix="Run the synthesize stage again.",
        )
    metadata = {
        "file_name": f"{class_folder(parts[0])}/{parts[1]}",
        "label": slot.class_name,
        "caption": slot.caption,
        "prototype_id": slot.prototype_id,
        "slot": slot.slot,
        "seed": slot.candidates[record["chosen"]].get("seed", 0),
        "score": float(slot.score),
        "strategy": str(distilled.manifest.get("strategy", "")),
    }
    return Row(slot.path, metadata)


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


def _check_target(folder: Path) -> None:
    """Refuse to replace anything but an earlier export."""
    if not folder.exists():
        return
    manifest = folder / "manifest.json"
    if folder.is_dir() and not any(folder.iterdir()):
        return
    if manifest.is_file():
        content = storage.read_json(manifest, fix="Delete the export's folder.")
        if isinstance(content, dict) and content.get("format") == FORMAT:
            return
    raise ProjectError(
        "something else lies where the export would go.",
        where=folder,
        fix="Choose another output folder, or move it away.",
    )


def _write_images(folder: Path, rows: list[Row], meter: Meter) -> None:
    for row in meter.over(rows):
        target = folder / row.file
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(row.source, target)
    lines = [json.dumps(row.metadata, ensure_ascii=False, allow_nan=False) for row in rows]
    (folder / "metadata.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")


def _write_parquet(folder: Path, rows: list[Row], meter: Meter) -> None:
    """``train-00000-of-0000n.parquet`` with the images inside, typed for ``datasets``."""
    import pyarrow
    import pyarrow.parquet
    from datasets import ClassLabel, Features, Image, Value

    names = sorted({row.metadata["label"] for row in rows})
    kinds: dict[str, Any] = {
        "label": ClassLabel(names=names),
        "slot": Value("int64"),
        "seed": Value("int64"),
        "score": Value("float64"),
    }
    features = Features(
        {"image": Image(), **{name: kinds.get(name, Value("string")) for name in FEATURES}}
    )
    folder.mkdir()
    parts = [rows[start : start + PARQUET_ROWS] for start in range(0, len(rows), PARQUET_ROWS)]
    for number, part in enumerate(parts):
        records = [
            {
                **{name: row.metadata[name] for name in FEATURES},
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


def _write_soft_labels(
    project: Project, distilled: DistilledSet, rows: list[Row], folder: Path, emit: Emit
) -> None:
    from dpd_core.export.soft_labels import soft_labels

    root = distilled.root.resolve()
    files = {row.source.resolve().relative_to(root).as_posix(): f"train/{row.file}" for row in rows}
    storage.write_json(
        folder / SOFT_LABELS, soft_labels(project, distilled.name, files, emit, STAGE)
    )


def set_adapter(project: Project, distilled: DistilledSet) -> Adapter | None:
    """The adapter that the set was made with; ``None`` if it was made without.

    Raises:
        ModelError: its weights are gone.
    """
    from dpd_core.train import adapters

    name = distilled.manifest.get("adapter")
    if name is None:
        return None
    adapter = adapters.find_adapter(project, name)
    if not adapter.weights.is_file():
        raise ModelError(
            "the adapter's weights are missing.",
            where=adapter.weights,
            fix="Run the train stage again, or export without the adapter.",
        )
    return adapter


def _copy_adapter(adapter: Adapter, folder: Path) -> None:
    (folder / "adapter").mkdir()
    for file in adapter.files:
        shutil.copyfile(file, folder / "adapter" / file.name)


def card_facts(
    project: Project, config: ExportConfig, distilled: DistilledSet, *, adapter: Adapter | None
) -> CardFacts:
    """What the card of an export says; ``adapter`` is the one that goes with it."""
    from dpd_core.dataset.index import load_index
    from dpd_core.evaluate.report import load_report

    index, manifest = load_index(project), distilled.manifest
    counts: dict[str, int] = {}
    captions: dict[str, str] = {}
    for slot in distilled.slots:
        counts[slot.class_name] = counts.get(slot.class_name, 0) + 1
        captions.setdefault(slot.class_name, slot.caption)
    settings = {
        name: value for name, value in manifest.get("settings", {}).items() if name != "set_name"
    }
    return CardFacts(
        title=config.title or project.name,
        licence=config.licence,
        classes=[
            (name, index.readable(name) if name in index.classes else name, count)
            for name, count in sorted(counts.items())
        ],
        source=f"{_without_path(str(index.source.get('data', '')))} "
        f"({index.source.get('kind', 'unknown')})",
        source_licence=index.source.get("licence"),
        provenance=[
            ("generating model", _without_path(str(manifest.get("model", "")))),
            ("adapter", manifest.get("adapter") or "none"),
            ("strategy", manifest.get("strategy", "")),
            ("images per class", distilled.ipc),
            ("image size", f"{manifest.get('image_size')} px"),
            ("seed", manifest.get("seed")),
            ("made with", f"DPD Studio {__version__}"),
        ],
        settings=settings,
        commands=_commands(project, settings),
        report=load_report(project, distilled.name),
        examples=sorted(captions.items())[:5],
        parquet=config.parquet,
        adapter=adapter.loading if adapter else "",
        soft_labels=config.soft_labels,
        detailed=_detailed(manifest),
    )


def _detailed(manifest: dict[str, Any]) -> bool:
    """Whether detail of real images was put back into the set's."""
    # A set of another version may name a strategy that there is no more.
    strategy = STRATEGIES.get(str(manifest.get("strategy")), Strategy("", ""))
    return strategy.detail_share(manifest.get("settings", {}).get("detail", -1.0)) > 0


def _commands(project: Project, synthesis: dict[str, Any]) -> list[str]:
    """The stages' commands without local paths; the set's own settings for its synthesis."""
    configs: list[tuple[str, StageConfig]] = []
    for stage in ("dataset", "prototypes", "captions", "train"):
        record = project.record(stage)
        if record is not None:
            configs.append((stage, CONFIGS[stage].from_dict(record["settings"])))
    known = SynthesizeConfig().to_dict()
    given = {name: value for name, value in synthesis.items() if name in known}
    configs.append(("synthesize", SynthesizeConfig.from_dict(given)))
    commands = []
    for stage, config in configs:
        words = command_words(stage, config, project.root)
        words = ["PROJECT" if word == str(project.root) else _without_path(word) for word in words]
        if stage == "dataset":
            shared = project.config
            words += ["--model", _without_path(shared.model), "--seed", str(shared.seed)]
        commands.append(shlex.join(words))
    return commands


def _without_path(text: str) -> str:
    """A local path's last part: where somebody keeps a file is nobody else's business."""
    if text.startswith(("/", "~", "./", "../", "\\\\")) or re.match(r"[A-Za-z]:[\\/]", text):
        return re.split(r"[\\/]", text.rstrip("\\/"))[-1] or text
    return text


def _write_manifest(folder: Path, distilled: DistilledSet, facts: CardFacts) -> None:
    record = dict(distilled.manifest)
    record["model"] = _without_path(str(record.get("model", "")))
    files = {
        path.relative_to(folder).as_posix(): storage.file_digest(path) for path in _files(folder)
    }
    manifest = {
        "format": FORMAT,
        "version": __version__,
        "set": distilled.name,
        "title": facts.title,
        "licence": facts.licence,
        "files": files,
        "distilled": record,
        "report": facts.report.to_dict() if facts.report else None,
    }
    storage.write_json(folder / "manifest.json", manifest)


def _files(folder: Path) -> Iterator[Path]:
    return (path for path in sorted(folder.rglob("*")) if path.is_file())


def _shown(project: Project, path: Path) -> str:
    """Inside the project a relative path, outside the whole one."""
    return project.relative(path) if path.is_relative_to(project.root) else str(path)


def _token(given: str | None) -> str:
    token = given or next(
        (os.environ[name] for name in TOKEN_VARIABLES if os.environ.get(name)), ""
    )
    if not token:
        raise ConfigError(
            "there is no Hub token.",
            where="export.push",
            fix=f"Set {TOKEN_VARIABLES[0]} to a token that may write, or leave push empty.",
        )
    return token
