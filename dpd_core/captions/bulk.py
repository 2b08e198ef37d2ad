"""Many captions at once: find and replace, and captions as a JSON or CSV file."""

from __future__ import annotations

import csv
import io
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

# The standard library's matcher cannot be stopped; this one takes a timeout.
import regex as regular_expressions

from dpd_core import storage
from dpd_core.captions.log import Change, State, replay, writing
from dpd_core.captions.text import checked_caption
from dpd_core.errors import CaptionError
from dpd_core.project import Project
from dpd_core.prototypes.files import Prototype, Slot, list_prototypes

MAX_PATTERN = 500
"""Longest pattern or replacement in characters."""

_SEARCH_SECONDS = 1.0
_MAX_REPEATS = 10_000
_MAX_FILE_BYTES = 8 << 20
_COLUMNS = ("class", "cluster_id", "prototype", "caption", "author", "version")


@dataclass(frozen=True)
class Replacement:
    """What a find-and-replace does, or did.

    Attributes:
        changes: The captions that change.
        matches: Number of places found in them.
    """

    changes: list[Change]
    matches: int


def find_replace(
    project: Project,
    pattern: str,
    replacement: str,
    *,
    regex: bool = False,
    ignore_case: bool = False,
    whole_words: bool = False,
    scope: Iterable[tuple[str, int]] | None = None,
    apply: bool = False,
    expected: Replacement | None = None,
) -> Replacement:
    """Replace text in many captions, or show what that would do.

    Args:
        project: The project.
        pattern: Text to find, at most :data:`MAX_PATTERN` characters.
        replacement: Text to put there; with ``regex`` it may name groups (``\\\\1``,
            ``\\\\g<name>``).
        regex: Take the pattern for a regular expression. A search that computes for longer
            than a second is ended with an error.
        ignore_case: Find capital and small letters alike.
        whole_words: Find only what is not part of a longer word.
        scope: Class names and cluster numbers to look at; ``None``: all.
        apply: Make the changes, as one operation that one :func:`undo` takes back.
        expected: The preview a person agreed to. If the same search would by now do anything
            else, nothing is changed.

    Raises:
        CaptionError: a bad pattern, a caption that would become unacceptable, or captions that
            are no longer those of the preview.
    """
    compiled = _compile(pattern, replacement, regex, ignore_case, whole_words)
    template = replacement if regex else replacement.replace("\\", "\\\\")
    chosen = None if scope is None else set(scope)

    def search(state: State, prototypes: list[Prototype]) -> Replacement:
        inside = [
            prototype for prototype in prototypes if chosen is None or prototype.slot in chosen
        ]
        return _search(state, inside, compiled, template)

    if not apply:
        return search(replay(project), list_prototypes(project))
    with writing(project) as log:
        found = search(log.state, log.prototypes)
        if expected is not None and found != expected:
            raise CaptionError(
                "the captions have been changed since the preview.",
                fix="Look at the new preview, then replace.",
            )
        log.write_changes(found.changes, "bulk", source=f"replace {pattern!r} by {replacement!r}")
        return found


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


def _compile(
    pattern: str, replacement: str, regex: bool, ignore_case: bool, whole_words: bool
) -> regular_expressions.Pattern[str]:
    if not pattern:
        raise CaptionError("there is nothing to find.", fix="Write the text to find.")
    if max(len(pattern), len(replacement)) > MAX_PATTERN:
        raise CaptionError(
            "the pattern or replacement is too long.", fix=f"Use at most {MAX_PATTERN} characters."
        )
    if regex and _counted_repeats(pattern) > _MAX_REPEATS:
        raise CaptionError(
            "the expression repeats too often.",
            where=pattern,
            fix=f"Keep the product of its {{...}} counts below {_MAX_REPEATS:,}.",
        )
    if regex and (fault := _unbounded(pattern)):
        raise CaptionError(
            f"{fault} is not allowed in the expression.",
            where=pattern,
            fix="Write it without; the memory that it takes has no bound.",
        )
    source = pattern if regex else regular_expressions.escape(pattern)
    if whole_words:
        source = rf"(?<!\w)(?:{source})(?!\w)"
    flags = regular_expressions.IGNORECASE if ignore_case else 0
    try:
        return regular_expressions.compile(source, flags)
    except (regular_expressions.error, RecursionError, OverflowError, ValueError) as error:
        raise CaptionError(
            f"not a regular expression ({error}).",
            where=pattern,
            fix="Mend it, or search for plain text.",
        ) from error


def _counted_repeats(pattern: str) -> int:
    """The product of all ``{n,m}`` counts: compiling takes memory in proportion to it, and no
    timeout covers compiling."""
    product = 1
    for counts in regular_expressions.findall(r"\{\s*(\d*)\s*,?\s*(\d*)\s*\}", pattern):
        product *= max([1, *(int(count) for count in counts if count)])
    return product


def _unbounded(pattern: str) -> str:
    """What of an expression takes memory without a bound: calls of a part by itself, and fuzzy
    matching; empty if nothing does."""
    # Escaped characters mean themselves, and \\p{…}, \\N{…} and the like name a character.
    plain = regular_expressions.sub(r"\\[pPNxugoL]\{[^{}]*\}|\\.", "", pattern)
    # A set ends at its first bracket at the earliest, so that nothing can hide in one.
    plain = regular_expressions.sub(r"\[\^?[^\]]*\]", "", plain)
    if regular_expressions.search(r"\(\?(?:R|[+-]?\d|&|P>)", plain):
        return "recursion"
    if regular_expressions.search(r"\{[^{}]*[A-Za-z<>=:][^{}]*\}|\(\?[a-zA-Z0-9]*[be]", plain):
        return "fuzzy matching"
    return ""


def _search(
    state: State,
    prototypes: list[Prototype],
    pattern: regular_expressions.Pattern[str],
    template: str,
) -> Replacement:
    changes, matches = [], 0
    end = time.monotonic() + _SEARCH_SECONDS
    for prototype in prototypes:
        caption = state.captions.get(prototype.key)
        if caption is None:
            continue
        try:
            left = max(end - time.monotonic(), 0.001)
            text, count = pattern.subn(template, caption.text, timeout=left)
        except TimeoutError:
            raise CaptionError(
                "the search takes too long.",
                where=pattern.pattern,
                fix="Use a simpler expression: repeats inside repeats, such as (a+)+, explode.",
            ) from None
        except (regular_expressions.error, IndexError, KeyError, MemoryError) as error:
            raise CaptionError(
                f"the replacement does not fit the pattern ({error}).",
                where=template,
                fix="Name only groups the pattern has.",
            ) from error
        if text == caption.text:
            continue
        text = checked_caption(
            text, where=f"{prototype.class_name}, cluster {prototype.cluster_id}"
        )
        matches += count
        changes.append(_change(prototype, state, text))
    return Replacement(changes, matches)


def _change(prototype: Prototype, state: State, text: str) -> Change:
    old = state.captions.get(prototype.key)
    return Change(
        prototype.class_name,
        prototype.cluster_id,
        prototype.id,
        old.text if old else None,
        text,
        state.versions[prototype.key],
    )


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
            changes.append(_change(prototype, state, text))
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


__all__ = ["MAX_PATTERN", "Replacement", "export_captions", "find_replace", "import_captions"]
