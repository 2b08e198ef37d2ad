"""Label tables beside images: CSV, TSV, JSON, JSON lines, lists of paths, Parquet without images.

A table is read into rows of text. What its columns mean is found out by
:mod:`dpd_core.dataset.table_links`.
"""

from __future__ import annotations

import csv
import io
import json
import re
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import pyarrow
import pyarrow.parquet

from dpd_core.dataset import text

SUFFIXES = frozenset((".csv", ".tsv", ".txt", ".lst", ".json", ".jsonl", ".ndjson", ".parquet"))
"""Endings of files that may be tables of labels."""

MAX_BYTES = 64 << 20
"""Largest table that is read."""

_MOST_COLUMNS = 2000


@dataclass(frozen=True)
class Table:
    """Rows of one file, values as text; ``columns`` in their order."""

    path: PurePosixPath
    columns: tuple[str, ...]
    rows: list[dict[str, str]]


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
