"""What a table of labels says of the images beside it.

:func:`link` finds the column that names the images, by looking which values do name images, and
then the columns that hold the class, the split and a caption.
"""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import Any

from dpd_core.dataset import words
from dpd_core.dataset.tables import Table

_SAMPLE = 400


_MATCHED = 0.8


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
