"""Label tables beside images: CSV, TSV, JSON, JSON lines, lists of paths, Parquet without images.

A table is read into rows of text; :func:`link` finds the column that names the images, by looking
which values do name images, and then the columns that hold the class, the split and a caption.
"""

from __future__ import annotations

import csv
import io
import json
import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

import pyarrow
import pyarrow.parquet

from dpd_core.dataset import text, words

SUFFIXES = frozenset((".csv", ".tsv", ".txt", ".lst", ".json", ".jsonl", ".ndjson", ".parquet"))
"""Endings of files that may be tables of labels."""

MAX_BYTES = 64 << 20
"""Largest table that is read."""

_SAMPLE = 400
_MATCHED = 0.8
_MOST_COLUMNS = 2000

FILE_COLUMNS = (
    "file_name",
    "filename",
    "file",
    "image_path",
    "filepath",
    "path",
    "image_file",
    "image_name",
    "image",
    "img",
    "image_id",
    "id",
    "name",
    "src",
)
LABEL_COLUMNS = (
    "label_text",
    "label_name",
    "class_name",
    "classname",
    "category_name",
    "label",
    "labels",
    "class",
    "classes",
    "category",
    "target",
    "cls",
    "scene",
    "dx",
    "land_cover",
    "landcover",
    "land_use",
    "landuse",
    "species",
)
_LABEL_WORDS = frozenset(
    """label labels class classes category categories target scene cover landcover landuse lulc dx
    diagnosis species type genre annotation y""".split()  # noqa: SIM905
)
_SPLIT_COLUMNS = frozenset("split set subset phase partition usage fold_name".split())  # noqa: SIM905
_CAPTION_COLUMNS = ("text", "caption", "captions", "description", "sentence", "prompt")


@dataclass(frozen=True)
class Table:
    """Rows of one file, values as text; ``columns`` in their order."""

    path: PurePosixPath
    columns: tuple[str, ...]
    rows: list[dict[str, str]]


@dataclass(frozen=True)
class Linked:
    """What a table says of images.

    Attributes:
        table: Its path.
        column: The column of the classes, ``""`` if it has none.
        labels, kinds, captions: Class, kind of split and caption by image.
        others: Further columns that could be the classes.
        faults: Images whose row says no single class, with the reason.
    """

    table: PurePosixPath
    column: str
    labels: dict[PurePosixPath, str]
    kinds: dict[PurePosixPath, str]
    captions: dict[PurePosixPath, str]
    others: tuple[str, ...] = ()
    faults: dict[PurePosixPath, str] = field(default_factory=dict)


class Names:
    """Finds the image that a text means."""

    def __init__(self, images: Iterable[PurePosixPath]):
        self._paths: dict[str, PurePosixPath] = {}
        self._by_name: dict[str, list[PurePosixPath]] = defaultdict(list)
        for path in images:
            self._paths[path.as_posix().casefold()] = path
            self._by_name[path.name.casefold()].append(path)
            self._by_name[path.stem.casefold()].append(path)

    def find(self, value: str, folder: PurePosixPath) -> PurePosixPath | None:
        """The image, or ``None`` if there is none or more than one of the name.

        Args:
            value: A path of any kind, with or without an ending.
            folder: Where the table lies; images there go before others of the name.
        """
        plain = value.strip().strip("\"'").replace("\\", "/").casefold()
        plain = plain.removeprefix("./").strip("/")
        if not plain:
            return None
        near = self._paths.get((folder / plain).as_posix().casefold()) or self._paths.get(plain)
        if near is not None:
            return near
        found = self._by_name.get(plain.rsplit("/", 1)[-1], [])
        ends = [p for p in found if self._ends_with(p, plain)]
        if ends:
            found = ends
        elif "/" in plain and len(found) > 1:
            return None
        if len(found) > 1:
            found = [path for path in found if path.is_relative_to(folder)] or found
        if len(found) > 1:
            found = [path for path in found if path.parent == folder] or found
        return found[0] if len(found) == 1 else None

    @staticmethod
    def _ends_with(path: PurePosixPath, plain: str) -> bool:
        whole = "/" + path.as_posix().casefold()
        return whole.endswith("/" + plain) or whole.rsplit(".", 1)[0].endswith("/" + plain)


def read(path: Path, name: PurePosixPath) -> Table | None:
    """The rows of a file, or ``None`` if it is no table of any known form."""
    if path.stat().st_size > MAX_BYTES:
        return None
    if path.suffix.lower() == ".parquet":
        return _parquet(path, name)
    try:
        content = text.decode(path.read_bytes())
    except (OSError, UnicodeError):
        return None
    suffix = path.suffix.lower()
    if suffix in (".json", ".jsonl", ".ndjson"):
        return _json(content, name)
    return _list(content, name) if suffix in (".txt", ".lst") else _csv(content, name)


def link(table: Table, names: Names, column: str = "") -> Linked | None:
    """What the table says of the images, or ``None`` if none of its columns names images.

    Args:
        table: The table.
        names: Of the images.
        column: The column of the classes, if it was chosen.
    """
    folder = table.path.parent
    source = _file_column(table, names, folder)
    if source is None:
        return None
    found = [(names.find(row.get(source, ""), folder), row) for row in table.rows]
    rows = [(path, row) for path, row in found if path is not None]
    if not rows:
        return None
    # "0 forest, 1 river" in classes.txt are numbers of classes, though images be called 0 and 1.
    if words.names_classes(table.path.stem) and all(row[source].isdigit() for _, row in rows):
        return None
    split, caption = _split_column(table, rows, source), _caption_column(table, source)
    kind = words.split_file(table.path.stem) or _folder_kind(table.path)
    kinds = {}
    for path, row in rows:
        said = words.split_file(row.get(split, "")) if split else kind
        if said:
            kinds[path] = said
    captions = {path: row[caption] for path, row in rows if caption and row.get(caption)}
    taken = {source, split, caption}
    columns = _label_columns(table, rows, taken)
    chosen = column if column in table.columns else (columns[0] if columns else "")
    labels = {
        path: row[chosen].strip() for path, row in rows if chosen and row.get(chosen, "").strip()
    }
    faults: dict[PurePosixPath, str] = {}
    if not chosen:
        labels, faults = _one_hot(table, rows, taken)
        chosen = "one column a class" if labels else ""
    return Linked(table.path, chosen, labels, kinds, captions, tuple(columns[1:]), faults)


def _folder_kind(path: PurePosixPath) -> str | None:
    return words.split_folder(path.parent.name) if path.parent.name else None


def _file_column(table: Table, names: Names, folder: PurePosixPath) -> str | None:
    """The column most of whose values name images; of several, the one usually called so."""
    sample = table.rows[:: max(1, len(table.rows) // _SAMPLE)]
    best: tuple[float, int, str] | None = None
    for column in table.columns:
        hits = sum(names.find(row.get(column, ""), folder) is not None for row in sample)
        share = hits / max(len(sample), 1)
        plain = _plain(column)
        rank = FILE_COLUMNS.index(plain) if plain in FILE_COLUMNS else len(FILE_COLUMNS)
        # A list of a whole data set may lie beside a part of it; an index column of numbers may
        # by chance name images called 1.jpg, 2.jpg.
        if hits and (share >= _MATCHED or rank < len(FILE_COLUMNS)):
            entry = (round(share, 1), -rank, column)
            best = max(best, entry) if best else entry
    return best[2] if best else None


def _split_column(table: Table, rows: Sequence[tuple[Any, Mapping[str, str]]], source: str) -> str:
    for column in table.columns:
        if column != source and _plain(column) in _SPLIT_COLUMNS:
            values = {row.get(column, "") for _, row in rows}
            if all(words.split_file(value) for value in values if value):
                return column
    return ""


def _caption_column(table: Table, source: str) -> str:
    plain = {_plain(column): column for column in reversed(table.columns) if column != source}
    return next((plain[name] for name in _CAPTION_COLUMNS if name in plain), "")


def _label_columns(
    table: Table, rows: Sequence[tuple[Any, Mapping[str, str]]], taken: set[str]
) -> list[str]:
    """Columns that may hold the classes, the likeliest first."""
    ranked = []
    for number, column in enumerate(table.columns):
        if column in taken:
            continue
        values = Counter(row.get(column, "").strip() for _, row in rows)
        values.pop("", None)
        plain = _plain(column)
        known = plain in LABEL_COLUMNS or bool(_LABEL_WORDS & set(words.words(column)))
        repeats = len(values) <= max(1, len(rows) // 2)
        if not values or not (known or column == "" or plain == "column_2") or not repeats:
            continue
        numeric = all(re.fullmatch(r"-?\d+(\.\d+)?", value) for value in values)
        rank = LABEL_COLUMNS.index(plain) if plain in LABEL_COLUMNS else len(LABEL_COLUMNS)
        ranked.append((numeric, not known, rank, number, column))
    return [entry[-1] for entry in sorted(ranked)]


def _one_hot(
    table: Table, rows: Sequence[tuple[PurePosixPath, Mapping[str, str]]], taken: set[str]
) -> tuple[dict[PurePosixPath, str], dict[PurePosixPath, str]]:
    """Classes from one column a class holding 1 for the row's class and 0 else."""
    columns = [
        column
        for column in table.columns
        if column not in taken
        and {_number(row.get(column, "")) for _, row in rows} in ({0.0, 1.0}, {0.0})
    ]
    if len(columns) < 2:
        return {}, {}
    labels, faults = {}, {}
    for path, row in rows:
        ones = [column for column in columns if _number(row.get(column, "")) == 1.0]
        if len(ones) == 1:
            labels[path] = ones[0].strip()
        else:
            faults[path] = f"its row in {table.path} names {len(ones)} classes; one is needed."
    return (labels, faults) if len(labels) >= _MATCHED * len(rows) else ({}, {})


def _number(value: str) -> float | None:
    try:
        return float(value)
    except ValueError:
        return None


def _plain(column: str) -> str:
    return "_".join(words.words(column))


def _csv(content: str, name: PurePosixPath) -> Table | None:
    first = content[:8192]
    if name.suffix.lower() == ".tsv":
        delimiter = "\t"
    else:
        line = first.splitlines()[0] if first.strip() else ""
        delimiter = max(",;\t|", key=lambda mark: (line.count(mark), mark == ","))
    try:
        lines = [row for row in csv.reader(io.StringIO(content), delimiter=delimiter) if row]
    except csv.Error:
        return None
    if not lines or max(map(len, lines[:50])) > _MOST_COLUMNS:
        return None
    header = [cell.strip() for cell in lines[0]]
    if _has_header(header):
        # The unnamed first column is the row number that pandas writes.
        columns = [cell or f"unnamed_{k}" for k, cell in enumerate(header, start=1)]
        lines = lines[1:]
    else:
        columns = [f"column_{k}" for k in range(1, len(header) + 1)]
    return Table(name, tuple(columns), [dict(zip(columns, row, strict=False)) for row in lines])


def _has_header(cells: Sequence[str]) -> bool:
    """A first row with a file name or a number in it is data."""
    looks = re.compile(r".*\.(jpe?g|png|tiff?|webp|bmp|gif|jp2)|-?\d+(\.\d+)?|.+/.+", re.IGNORECASE)
    return not any(looks.fullmatch(cell) for cell in cells)


def _list(content: str, name: PurePosixPath) -> Table | None:
    """A list of paths, one a line, each perhaps with a class behind it."""
    lines = [line.strip() for line in content.splitlines()]
    lines = [line for line in lines if line and not line.startswith("#")]
    if not lines:
        return None
    rows = []
    for line in lines:
        path, label = line, ""
        match = re.fullmatch(r"(.+?\.\w{3,4}|\S+?)[\s,;]+(\S.*)", line)
        if match:
            path, label = match.groups()
        rows.append({"file": path, "label": label})
    return Table(name, ("file", "label"), rows)


def _json(content: str, name: PurePosixPath) -> Table | None:
    try:
        value = json.loads(content)
    except ValueError:
        try:
            value = [json.loads(line) for line in content.splitlines() if line.strip()]
        except (ValueError, RecursionError):
            return None
    except RecursionError:
        return None
    rows = _records(value)
    if not rows:
        return None
    flat = [{str(k): _cell(v) for k, v in row.items()} for row in rows if isinstance(row, dict)]
    columns = dict.fromkeys(key for row in flat[:1000] for key in row)
    if not columns or len(columns) > _MOST_COLUMNS:
        return None
    return Table(name, tuple(columns), flat)


def _records(value: Any) -> list[Any]:
    """Rows from the forms in which labels come as JSON: a list of records; COCO's images,
    annotations and categories; class → paths; path → class."""
    if isinstance(value, list):
        return value
    if not isinstance(value, dict):
        return []
    if isinstance(value.get("images"), list) and isinstance(value.get("annotations"), list):
        return _coco(value)
    if isinstance(value.get("labels"), dict) and isinstance(value.get("classes"), list):
        known = dict(enumerate(value["classes"]))
        return [{"file": k, "label": known.get(v, v)} for k, v in value["labels"].items()]
    if value and all(isinstance(entry, list) for entry in value.values()):
        return [{"file": p, "label": k} for k, paths in value.items() for p in paths]
    if value and all(isinstance(entry, str | int) for entry in value.values()):
        return [{"file": k, "label": v} for k, v in value.items()]
    if value and all(isinstance(entry, dict) for entry in value.values()):
        return [{"file": k, **entry} for k, entry in value.items()]
    return []


def _coco(value: dict[str, Any]) -> list[dict[str, Any]]:
    try:
        categories = {entry["id"]: entry["name"] for entry in value.get("categories", [])}
        labels: dict[Any, set[str]] = defaultdict(set)
        for entry in value["annotations"]:
            category = entry["category_id"]
            labels[entry["image_id"]].add(str(categories.get(category, category)))
        return [
            {"file_name": image["file_name"], "label": next(iter(found))}
            for image in value["images"]
            if len(found := labels.get(image["id"], set())) == 1
        ]
    except (KeyError, TypeError):
        return []


def _cell(value: Any) -> str:
    if value is None or isinstance(value, dict):
        return ""
    if isinstance(value, list):
        return _cell(value[0]) if len(value) == 1 else ""
    return str(value)


def _parquet(path: Path, name: PurePosixPath) -> Table | None:
    """A Parquet file without images inside."""
    try:
        schema = pyarrow.parquet.read_schema(path)
        plain = [field.name for field in schema if not pyarrow.types.is_nested(field.type)]
        rows = pyarrow.parquet.read_table(path, columns=plain).to_pylist()
    except (pyarrow.ArrowException, OSError):
        return None
    return Table(name, tuple(plain), [{k: _cell(v) for k, v in row.items()} for row in rows])
