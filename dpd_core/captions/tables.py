"""Captions as a file to edit elsewhere: a table (CSV), or the published JSON format."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from dpd_core import storage
from dpd_core.captions.log import replay, writing
from dpd_core.captions.records import Change, State
from dpd_core.captions.text import checked_caption
from dpd_core.errors import CaptionError
from dpd_core.project import Project
from dpd_core.prototypes.files import Prototype, Slot, list_prototypes

_MAX_FILE_BYTES = 8 << 20


_COLUMNS = ("class", "cluster_id", "prototype", "caption", "author", "version")


def export_captions(project: Project, path: Path) -> int:
    """Write the current captions to a file and return how many.

    ``.json`` is the published prototype format, ``.csv`` a table with the columns class,
    cluster_id, prototype, caption, author and version. There, a text that a spreadsheet would take
    for a formula begins with an apostrophe; :func:`import_captions` takes it away again.

    Raises:
        CaptionError: another file ending.
        StageMissing: there are no prototypes.
    """
    kind = _kind(path)
    state = replay(project)
    captions = [
        (prototype, state.captions.get(prototype.key)) for prototype in list_prototypes(project)
    ]
    if kind == ".csv":
        table = io.StringIO()
        writer = csv.writer(table, lineterminator="\n")
        writer.writerow(_COLUMNS)
        for prototype, caption in captions:
            if caption is not None:
                texts = map(_as_text, (prototype.class_name, prototype.id, caption.text))
                class_name, image_id, text = texts
                writer.writerow(
                    [
                        class_name,
                        prototype.cluster_id,
                        image_id,
                        text,
                        caption.author,
                        caption.version,
                    ]
                )
        storage.write_bytes(path, table.getvalue().encode())
    else:
        published: dict[str, list[dict[str, Any]]] = {}
        for prototype, caption in captions:
            if caption is not None:
                record = {**prototype.to_json(), "caption": caption.text}
                published.setdefault(prototype.class_name, []).append(record)
        storage.write_json(path, published)
    return sum(caption is not None for _, caption in captions)


def import_captions(project: Project, path: Path, *, apply: bool = True) -> list[Change]:
    """Take captions over from a file that :func:`export_captions` or the published code wrote.

    A row that names its prototype (``prototype`` or ``id``) belongs to that image, whatever its
    cluster's number is now; one that does not belongs to the cluster's number. Every row is
    checked before the first is taken over, as one operation.

    Args:
        project: The project.
        path: A ``.json`` or ``.csv`` file.
        apply: Make the changes; otherwise only return them.

    Returns:
        The captions that differ.

    Raises:
        CaptionError: an unreadable file, or a row that has no class, cluster or caption, does not
            fit this project, or comes twice; the row is named.
    """
    path = Path(path)
    rows = list(_csv_rows(path) if _kind(path) == ".csv" else _json_rows(path))
    if not rows:
        raise CaptionError(
            "there is no caption in the file.", where=path, fix="Export captions to see the format."
        )
    if not apply:
        return _imported(rows, replay(project), list_prototypes(project))
    with writing(project) as log:
        changes = _imported(rows, log.state, log.prototypes)
        log.write_changes(changes, "import", source=path.name)
        return changes


def _kind(path: Path) -> str:
    ending = Path(path).suffix.lower()
    if ending not in (".json", ".csv"):
        raise CaptionError(
            f"got a file ending in {ending or 'nothing'!r}.", where=path, fix="Use .json or .csv."
        )
    return ending


_FORMULA = ("=", "+", "-", "@", "\t", "\r")
"""What a cell begins with that a spreadsheet may run as a formula (OWASP, CSV injection)."""


def _as_text(value: str) -> str:
    """A cell that no spreadsheet takes for a formula."""
    return f"'{value}" if value.lstrip("'").startswith(_FORMULA) else value


def _from_text(value: Any) -> Any:
    """The inverse of :func:`_as_text`; a cell of another kind stays as it is."""
    if isinstance(value, str) and value.startswith("'"):
        return value[1:] if value.lstrip("'").startswith(_FORMULA) else value
    return value


Row = tuple[str, dict[str, Any]]
"""What a row is called in messages, and its values."""


def _csv_rows(path: Path) -> Iterator[Row]:
    # The line numbers are those a spreadsheet shows, as long as no caption holds a line end.
    reader = csv.DictReader(io.StringIO(_read(path), newline=""), strict=True)
    try:
        for number, row in enumerate(reader, start=2):
            texts = {name: _from_text(value) for name, value in row.items()}
            yield f"{path.name}, row {number}", texts
    except csv.Error as error:
        raise CaptionError(
            f"not readable as CSV ({error}).",
            where=path,
            fix="Save it as CSV with commas, in UTF-8.",
        ) from error


def _json_rows(path: Path) -> Iterator[Row]:
    fix = 'It must read {"class": [{"cluster_id": 0, "caption": "..."}]}.'
    try:
        classes = storage.parse_json(_read(path))
    except ValueError as error:
        raise CaptionError(f"not readable as JSON ({error}).", where=path, fix=fix) from error
    if not isinstance(classes, dict):
        raise CaptionError("not in the prototypes' format.", where=path, fix=fix)
    for name, records in classes.items():
        if not isinstance(records, list):
            raise CaptionError(
                "not in the prototypes' format.", where=f"{path.name}, class {name}", fix=fix
            )
        for number, record in enumerate(records, start=1):
            where = f"{path.name}, class {name}, entry {number}"
            if not isinstance(record, dict):
                raise CaptionError("not in the prototypes' format.", where=where, fix=fix)
            yield where, {**record, "class": name}


def _read(path: Path) -> str:
    try:
        if path.stat().st_size > _MAX_FILE_BYTES:
            raise CaptionError(
                "the file is too large for captions.", where=path, fix="Is it the right one?"
            )
        return path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise CaptionError(
            f"not readable ({error}).", where=path, fix="Give a text file in UTF-8."
        ) from error


def _imported(rows: list[Row], state: State, prototypes: list[Prototype]) -> list[Change]:
    by_key = {prototype.key: prototype for prototype in prototypes}
    by_slot = {prototype.slot: prototype for prototype in prototypes}
    seen: dict[tuple[str, str], str] = {}
    changes = []
    for where, row in rows:
        prototype = _row_prototype(where, row, by_key, by_slot)
        if prototype.key in seen:
            raise CaptionError(
                f"the caption was already given by {seen[prototype.key]}.",
                where=where,
                fix="Keep one of the two.",
            )
        seen[prototype.key] = where
        text = row.get("caption")
        if text is None:
            raise CaptionError("the caption is missing.", where=where, fix="Add a value 'caption'.")
        text = checked_caption(text, where=where)
        old = state.captions.get(prototype.key)
        if old is None or old.text != text:
            changes.append(state.proposed(prototype, text))
    return changes


def _row_prototype(
    where: str,
    row: dict[str, Any],
    by_key: dict[tuple[str, str], Prototype],
    by_slot: dict[Slot, Prototype],
) -> Prototype:
    name = row.get("class")
    classes = {prototype.class_name for prototype in by_key.values()}
    if name not in classes:
        what = f"there is no class {name!r}." if name else "the class is missing."
        raise CaptionError(what, where=where, fix=f"Classes here: {', '.join(sorted(classes))}.")
    image_id = row.get("prototype") or row.get("id")
    if image_id:
        if (name, str(image_id)) not in by_key:
            raise CaptionError(
                f"{image_id!r} is not a prototype of this project.",
                where=where,
                fix="Leave the row out; it describes another image.",
            )
        return by_key[name, str(image_id)]
    try:
        return by_slot[Slot(str(name), int(row["cluster_id"]))]
    except (KeyError, TypeError, ValueError):
        raise CaptionError(
            f"there is no cluster {row.get('cluster_id')!r} in the class {name!r}.",
            where=where,
            fix="Give the number of a cluster as 'cluster_id'.",
        ) from None
