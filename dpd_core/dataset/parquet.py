"""Parquet files with images inside: which split, and rows made files.

Rows become image files in the project, byte for byte, so that everything after works on files.
Local files are read with pyarrow, a batch at a time; tables of the ``datasets`` library come here
as Arrow batches too, so that both are understood by the same rules.
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import pyarrow
import pyarrow.parquet

from dpd_core import storage
from dpd_core.dataset import words
from dpd_core.dataset.found import Found, Item, Refusal, class_name
from dpd_core.dataset.images import IMAGE_SUFFIXES
from dpd_core.dataset.parquet_columns import Columns, choose_columns, image_columns
from dpd_core.errors import DatasetError, first_line
from dpd_core.events import Emit, Meter
from dpd_core.project import Project

REPORT = "rows.json"

_BATCH = 256
_VERSION = 2


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
    return bool(image_columns(schema))


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
