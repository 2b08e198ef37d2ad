"""Parquet files with images inside: which columns, which split, and rows made files.

Rows become image files in the project, byte for byte, so that everything after works on files.
Local files are read with pyarrow, a batch at a time; tables of the ``datasets`` library come here
as Arrow batches too, so that both are understood by the same rules.
"""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import pyarrow
import pyarrow.parquet
from pyarrow import types

from dpd_core import storage
from dpd_core.dataset import words
from dpd_core.dataset.found import Found, Item, Refusal, class_name
from dpd_core.dataset.images import IMAGE_SUFFIXES
from dpd_core.dataset.tables import LABEL_COLUMNS
from dpd_core.errors import DatasetError, first_line
from dpd_core.events import Emit, Meter
from dpd_core.project import Project

REPORT = "rows.json"

_BATCH = 256
_VERSION = 2

_IMAGE_WORDS = frozenset(
    ["image", "images", "img", "picture", "pictures", "photo", "scene", "tile", "jpg", "png"]
)
_NOT_THE_IMAGE = frozenset(
    ["thumbnail", "thumb", "preview", "mask", "label", "segmentation", "depth", "small"]
)
_LABEL_WORDS = frozenset(
    ["label", "class", "category", "target", "scene", "cover", "landcover", "landuse", "type"]
)
_NOT_CLASSES = frozenset(
    ["id", "path", "file", "filename", "name", "url", "split", "caption", "text"]
)
_CAPTIONS = ("caption", "text", "description", "prompt")

_SIGNATURES = (
    (b"\xff\xd8\xff", ".jpg"),
    (b"\x89PNG", ".png"),
    (b"II*\0", ".tif"),
    (b"MM\0*", ".tif"),
    (b"II+\0", ".tif"),
    (b"MM\0+", ".tif"),
    (b"GIF8", ".gif"),
    (b"BM", ".bmp"),
    (b"RIFF", ".webp"),
    (b"\0\0\0\x0cjP", ".jp2"),
    (b"\xff\x4f\xff\x51", ".j2k"),
)


@dataclass(frozen=True)
class Columns:
    """The columns that are used: ``names`` are those of numbered classes, ``others`` what else
    could have been the images or the classes."""

    image: str
    label: str
    names: tuple[str, ...] | None
    caption: str | None
    other_images: tuple[str, ...]
    other_labels: tuple[str, ...]

    @property
    def text(self) -> str:
        """Said to the user."""
        text = f"Parquet: images from the column {self.image}, classes from {self.label}"
        if self.other_images:
            text += f" (not the images in {', '.join(self.other_images)})"
        return text


@dataclass(frozen=True)
class Part:
    """The rows of one split: ``kind`` is what its name says."""

    name: str
    kind: str | None
    columns: Columns
    rows: int
    batches: Iterable[pyarrow.RecordBatch]


def has_images(path: Path) -> bool:
    """Whether a Parquet file has a column of images (``True`` also if it cannot be read, so that
    the reason is said later)."""
    try:
        schema = pyarrow.parquet.read_schema(path)
    except (pyarrow.ArrowException, OSError):
        return True
    return bool(_image_columns(schema))


def side_by_side(files: Sequence[PurePosixPath]) -> dict[PurePosixPath, list[PurePosixPath]]:
    """The files by the folder of their data set: its own without split folders."""
    groups: dict[PurePosixPath, list[PurePosixPath]] = {}
    for file in files:
        parts = [part for part in file.parent.parts if words.split_folder(part) is None]
        groups.setdefault(PurePosixPath(*parts), []).append(file)
    return groups


def load(
    project: Project,
    root: Path,
    files: Sequence[PurePosixPath],
    *,
    data: str,
    emit: Emit,
    column: str = "",
) -> Found:
    """Read Parquet files below a folder; the split is what their names or folders say.

    Args:
        project: The rows become files in it.
        root, files: The folder, and the files relative to it.
        data: Name of the source.
        emit: Progress.
        column: The column of the classes, if it was chosen.

    Raises:
        DatasetError: not readable, or without an image or class column.
    """
    by_split: dict[tuple[str, str | None], list[PurePosixPath]] = {}
    for file in sorted(files):
        folder = next(filter(None, map(words.split_folder, reversed(file.parent.parts))), None)
        kind = words.split_file(file.stem) or folder
        by_split.setdefault((kind or "", kind), []).append(file)
    if list(by_split) == [("", None)]:
        by_split = {("train", None): by_split["", None]}
    digests = {f.as_posix(): storage.file_digest(root / f) for f in sorted(files)}
    target = project.path("dataset", "hub", storage.digest(_VERSION, digests, column))
    parts = []
    for (name, kind), members in by_split.items():
        try:
            opened = [pyarrow.parquet.ParquetFile(root / file) for file in members]
        except (pyarrow.ArrowException, OSError) as error:
            raise DatasetError(
                f"the Parquet files cannot be read: {first_line(error)}.",
                where=data,
                fix="Write them again; images belong inside, as bytes.",
            ) from error
        columns = choose_columns(opened[0].schema_arrow, data, column)
        rows = sum(file.metadata.num_rows for file in opened)
        parts.append(Part(name, kind, columns, rows, _batches(opened, columns, data)))
    if not (target / REPORT).exists():
        write(target, parts, data=data, emit=emit, downloads=())
    return found(target, parts, data=data, licence=None)


def _batches(
    files: Sequence[pyarrow.parquet.ParquetFile], columns: Columns, data: str
) -> Iterator[pyarrow.RecordBatch]:
    wanted = [c for c in (columns.image, columns.label, columns.caption) if c]
    for file in files:
        try:
            yield from file.iter_batches(batch_size=_BATCH, columns=wanted)
        except (pyarrow.ArrowException, OSError, KeyError) as error:
            raise DatasetError(
                f"a Parquet file cannot be read: {first_line(error)}.",
                where=data,
                fix="Get or write it again; all files need the same columns.",
            ) from error


def choose_columns(schema: pyarrow.Schema, data: str, column: str = "") -> Columns:
    """The image and class columns of a table, by type and name.

    Raises:
        DatasetError: there is none, saying of which kind.
    """
    images = _image_columns(schema)
    if not images:
        raise DatasetError(
            f"the data set has no image column; its columns are {_listed(schema)}.",
            where=data,
            fix="Images belong into a column of bytes, or of structs with bytes and path.",
        )
    features = _features(schema)
    labels = _label_columns(schema, images, features)
    if column and column not in schema.names:
        raise DatasetError(
            f"there is no column {column}; the columns are {_listed(schema)}.", where=data
        )
    if not labels and not column:
        raise DatasetError(
            f"the data set has no class column; its columns are {_listed(schema)}.",
            where=data,
            fix="A column of texts or whole numbers named label is needed, or name yours with "
            "--layout parquet:COLUMN.",
        )
    label = column or labels[0]
    names = features.get(label, {}).get("names")
    captions = [c for c in _CAPTIONS if c in schema.names and c != label]
    return Columns(
        images[0],
        label,
        tuple(map(str, names)) if names else None,
        captions[0] if captions and _is_text(schema.field(captions[0]).type) else None,
        tuple(images[1:]),
        tuple(name for name in labels if name != label),
    )


def _listed(schema: pyarrow.Schema) -> str:
    return ", ".join(f"{field.name} ({str(field.type)[:40]})" for field in schema)


def _features(schema: pyarrow.Schema) -> dict[str, Any]:
    """What the ``datasets`` library noted of the columns."""
    try:
        noted = json.loads((schema.metadata or {}).get(b"huggingface", b"{}"))
        features = noted["info"]["features"]
    except (ValueError, KeyError, TypeError):
        return {}
    flat = {}
    for name, feature in features.items() if isinstance(features, dict) else ():
        inner = feature.get("feature", feature) if isinstance(feature, dict) else None
        flat[name] = inner if isinstance(inner, dict) else {}
    return flat


def _image_columns(schema: pyarrow.Schema) -> list[str]:
    """Columns of images, those whose name says so first, small copies and masks last."""

    def holds(kind: pyarrow.DataType) -> bool:
        if types.is_struct(kind):
            return any(f.name == "bytes" and _is_binary(f.type) for f in kind)
        if types.is_list(kind) or types.is_large_list(kind):
            return types.is_struct(kind.value_type) and holds(kind.value_type)
        return _is_binary(kind)

    def rank(name: str) -> tuple[bool, bool]:
        said = set(words.words(name))
        return (bool(said & _NOT_THE_IMAGE), not said & _IMAGE_WORDS)

    return sorted((field.name for field in schema if holds(field.type)), key=rank)


def _is_binary(kind: pyarrow.DataType) -> bool:
    return types.is_binary(kind) or types.is_large_binary(kind)


def _is_text(kind: pyarrow.DataType) -> bool:
    return types.is_string(kind) or types.is_large_string(kind)


def _label_columns(
    schema: pyarrow.Schema, images: Sequence[str], features: Mapping[str, Any]
) -> list[str]:
    """Columns that can hold classes, the likeliest first: named classes, texts, numbers."""
    ranked = []
    for number, field in enumerate(schema):
        kind = field.type
        if types.is_list(kind) or types.is_large_list(kind) or types.is_fixed_size_list(kind):
            kind = kind.value_type
        if types.is_dictionary(kind):
            kind = kind.value_type
        usable = _is_text(kind) or types.is_integer(kind) or types.is_boolean(kind)
        said = words.words(field.name)
        plain = "_".join(said)
        known = plain in LABEL_COLUMNS and plain not in ("name", "id")
        part = bool(set(said) & _LABEL_WORDS) and not set(said) & (_NOT_CLASSES - {"name", "text"})
        named = bool(features.get(field.name, {}).get("names"))
        if field.name in images or not usable or not (known or part or named):
            continue
        rank = LABEL_COLUMNS.index(plain) if known else len(LABEL_COLUMNS)
        ranked.append((not named, not _is_text(kind), not known, rank, number, field.name))
    return [entry[-1] for entry in sorted(ranked)]


def write(
    target: Path, parts: Sequence[Part], *, data: str, emit: Emit, downloads: Sequence[Path]
) -> None:
    """Write the rows as ``<class>/<split>/<name>`` files and their list, whole or not at all.

    Rows may hold a path instead of bytes. Only files below ``downloads`` are read: a foreign
    data set must not pick up files of this machine.
    """
    meter = Meter(emit, "dataset", sum(part.rows for part in parts), message="writing images")
    with storage.atomic_folder(target) as folder:
        writer = _Writer(folder, downloads)
        for part in parts:
            for _ in meter.over(writer.rows(part)):
                pass
        refused = [asdict(entry) for entry in writer.refused]
        storage.write_json(folder / REPORT, {"items": writer.items, "refused": refused})


def found(target: Path, parts: Sequence[Part], *, data: str, licence: str | None) -> Found:
    """What :func:`write` wrote, with sides by the kinds of split."""
    rows = storage.read_json(target / REPORT, fix=f"Delete the folder {target} and start again.")
    if not rows["items"]:
        raise DatasetError("the data set has no labelled images.", where=data)
    sides = words.sides(part.kind for part in parts)
    kinds = {part.name: part.kind for part in parts}
    items, refused = [], [Refusal(**entry) for entry in rows["refused"]]
    for entry in rows["items"]:
        kind = kinds[entry["split"]]
        if sides and kind is None:
            name = f"{entry['class']}/{entry['name']}"
            refused.append(Refusal(name, "it has no split, while others have one."))
            continue
        items.append(
            Item(
                entry["class"],
                entry["name"],
                target / entry["file"],
                sides.get(kind) if kind else None,
                entry.get("caption"),
            )
        )
    columns = parts[0].columns
    said = "the split is ours" if not sides else f"the split is that of {', '.join(kinds)}"
    return Found(
        kind="hub",
        data=data,
        root=None,
        licence=licence,
        copy=target,
        items=items,
        refused=refused,
        reading="parquet",
        text=f"{columns.text}; {said}",
        others={f"parquet:{name}": f"the column {name}" for name in columns.other_labels},
    )


class _Writer:
    """Writes rows as files; ``items`` and ``refused`` grow with them."""

    def __init__(self, folder: Path, downloads: Sequence[Path]):
        self.folder, self.downloads = folder, downloads
        self.items: list[dict[str, Any]] = []
        self.refused: list[Refusal] = []
        self._folders: dict[str, str] = {}
        self._taken: set[str] = set()

    def rows(self, part: Part) -> Iterator[None]:
        """Write a split, one row a step."""
        number = 0
        for batch in part.batches:
            for row in batch.to_pylist():
                fault = self._row(part, number, row)
                if fault is not None:
                    self.refused.append(Refusal(f"{part.name} row {number}", fault))
                number += 1
                yield

    def _row(self, part: Part, number: int, row: Mapping[str, Any]) -> str | None:
        columns = part.columns
        name = _class_of(row[columns.label], columns.names)
        if name is None:
            value = row[columns.label]
            several = isinstance(value, list) and len(value) > 1
            return f"it has {len(value)} classes; one is needed." if several else "it has no class."
        content, path = _content(row[columns.image])
        if content is None:
            fault = self._path_fault(path)
            if fault is not None:
                return fault
        head = _head(Path(path)) if content is None else content[:12]
        file_name = self._name(name, part.name, number, path, head)
        file = self.folder / self._folder(name) / file_name
        file.parent.mkdir(parents=True, exist_ok=True)
        if content is None:
            shutil.copyfile(path, file)
        else:
            file.write_bytes(content)
        entry = {
            "class": name,
            "name": file_name,
            "split": part.name,
            "file": file.relative_to(self.folder).as_posix(),
        }
        caption = row.get(columns.caption) if columns.caption else None
        self.items.append({**entry, "caption": caption} if caption else entry)
        return None

    def _path_fault(self, path: str) -> str | None:
        if not path:
            return "it has no image."
        place = Path(path).resolve()
        if not any(place.is_relative_to(folder) for folder in self.downloads):
            return "it holds no image but the path of a file outside the data set."
        return None if place.is_file() else "its image file is missing."

    def _name(self, owner: str, split: str, number: int, path: str, head: bytes) -> str:
        """``<split>/<name>``: the original file name if there is one, else the row's number."""
        original = PurePosixPath(path.replace("\\", "/")).name
        stem = re.sub(r"[^\w.\- ]", "_", PurePosixPath(original).stem)[:100].strip(". ")
        suffix = PurePosixPath(original).suffix.lower()
        if suffix not in IMAGE_SUFFIXES:
            suffix = next((end for sign, end in _SIGNATURES if head.startswith(sign)), ".img")
        name = f"{split}/{stem or format(number, '06d')}{suffix}"
        if f"{owner}/{name}".casefold() in self._taken:
            name = f"{split}/{number:06d}-{stem}{suffix}"
        self._taken.add(f"{owner}/{name}".casefold())
        return name

    def _folder(self, name: str) -> str:
        """A folder for the class that every file system accepts; the name itself is data."""
        if name not in self._folders:
            plain = re.sub(r"[^\w\- ]", "_", name)[:80].strip() or "class"
            if plain.casefold() in {used.casefold() for used in self._folders.values()}:
                plain = f"{plain}-{storage.digest(name, length=8)}"
            self._folders[name] = plain
        return self._folders[name]


def _content(value: Any) -> tuple[bytes | None, str]:
    """Bytes and path of an image cell: bytes alone, a struct, or a list of one."""
    if isinstance(value, list):
        value = value[0] if len(value) == 1 else None
    if isinstance(value, bytes):
        return value, ""
    if not isinstance(value, dict):
        return None, ""
    path = value.get("path")
    return value.get("bytes"), path if isinstance(path, str) else ""


def _class_of(label: Any, names: Sequence[str] | None) -> str | None:
    """The label's name, or ``None``."""
    if isinstance(label, list):
        label = label[0] if len(label) == 1 else None
    if label is None or label == "":
        return None
    if names is not None and isinstance(label, int):
        if not 0 <= label < len(names):
            return None
        label = names[label]
    return class_name(str(label))


def _head(path: Path) -> bytes:
    with path.open("rb") as file:
        return file.read(12)
