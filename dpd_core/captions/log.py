"""The captions and everything that ever happened to them: an append-only log.

``captions/log.jsonl`` holds one line for each change of one caption. The captions are what a
replay of the log gives; nothing else is the truth. ``captions/captions.json`` is a snapshot of
them in the published prototype format, for other programs.

Several lines written together are one *operation* (a find-and-replace, an import, a captioner's
run). It is one step of undo, and holds as a whole or, if a crash cut it off, not at all. Undo and
redo are operations like others, appended behind what they undo. They walk through what people
did; a captioner's run is not theirs to undo, and never writes over what a person wrote.
"""

from __future__ import annotations

import contextlib
import datetime
import threading
import zlib
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from dpd_core import storage
from dpd_core.captions.records import Caption, Change, Draft, Entry, State
from dpd_core.errors import CaptionConflict, CaptionError, ProjectError
from dpd_core.project import Project
from dpd_core.prototypes.files import Prototype, list_prototypes


@dataclass
class _Replayed:
    """How far a log has been replayed.

    Attributes:
        state: What came out.
        cut: Lines by operation, of operations of which lines are missing.
        length, checksum: Bytes of the file that are in the state, and their CRC.
        signature: Inode, size and time of the file when it was read.
    """

    state: State = field(default_factory=State)
    cut: dict[int, list[Entry]] = field(default_factory=dict)
    length: int = 0
    checksum: int = 0
    signature: tuple[int, int, int] = (0, 0, 0)


_KEPT_LOGS = 16
_replayed: OrderedDict[Path, _Replayed] = OrderedDict()
"""The logs that were asked for last. A log only grows, so the next state extends the last one."""
_lock = threading.Lock()


def replay(project: Project) -> State:
    """The state of all captions, from the log.

    Raises:
        CaptionError: the log holds something else than caption entries.
        ProjectError: the log is not readable.
    """
    path = _log_path(project)
    with _lock:
        try:
            status = path.stat()
        except FileNotFoundError:
            return State()
        found = _replayed.pop(path, None)
        signature = (status.st_ino, status.st_size, status.st_mtime_ns)
        if found is None or found.signature != signature:
            found = _extended(path, found)
            found.signature = signature
        _replayed[path] = found
        while len(_replayed) > _KEPT_LOGS:
            _replayed.popitem(last=False)
        return found.state.copy()


def _extended(path: Path, known: _Replayed | None) -> _Replayed:
    """The replay of a file that has changed; what is known of its beginning is not read again."""
    content = path.read_bytes()
    if known is None or zlib.crc32(content[: known.length]) != known.checksum:
        known = _Replayed()
    new = content[known.length :]
    if known.length:
        new = new.removeprefix(b"\n")  # where the last line had lost its end
    lines = new.split(b"\n")
    if not lines[-1] or not _is_json(lines[-1]):
        torn = lines.pop()  # cut off by a crash, or nothing
        content = content[: len(content) - len(torn)]
    try:
        entries = [Entry.from_json(storage.parse_json(line)) for line in lines]
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError) as error:
        storage.read_json_lines(path)  # says which line is not JSON
        raise CaptionError(
            f"not a caption log ({error!r}).", where=path, fix="Restore the file from a copy."
        ) from error
    known.length, known.checksum = len(content), zlib.crc32(content)
    for entry in entries:
        known.state.next_id = max(known.state.next_id, entry.id + 1)
        known.cut.setdefault(entry.batch, []).append(entry)
    # One that stays short was cut off by a crash: whoever wrote it never heard that it was done.
    for batch, operation in list(known.cut.items()):
        if len(operation) == operation[0].of:
            known.state.apply(known.cut.pop(batch))
    return known


def _is_json(line: bytes) -> bool:
    try:
        storage.parse_json(line)
    except ValueError:
        return False
    return True


class LogWriter:
    """The log while it is held for writing; see :func:`writing`.

    Attributes:
        state: The captions, kept up to date by :meth:`write`.
        prototypes: The current ones.
    """

    def __init__(self, project: Project):
        self.project = project
        self.prototypes: list[Prototype] = list_prototypes(project)
        self.state = replay(project)

    def write(
        self, drafts: Sequence[Draft], *, kind: str = "set", target: int | None = None
    ) -> None:
        """Append one operation, if it is not empty, and bring the snapshot up to date.

        Args:
            drafts: One for each caption.
            kind, target: See :class:`Entry`.
        """
        if not drafts:
            return
        now = datetime.datetime.now(datetime.UTC).isoformat(timespec="milliseconds")
        first = self.state.next_id
        entries = []
        for number, draft in enumerate(drafts, start=first):
            old = self.state.captions.get(draft.key)
            entries.append(
                Entry(
                    number,
                    now,
                    kind,
                    draft.author,
                    draft.source,
                    draft.key[0],
                    draft.cluster_id,
                    draft.key[1],
                    old.text if old else None,
                    draft.text,
                    first,
                    len(drafts),
                    target,
                )
            )
        lines = [entry.to_json() for entry in entries]
        storage.append_json_lines(_log_path(self.project), lines, sync=True)
        self.state.apply(entries)
        self.state.next_id += len(entries)
        self.write_snapshot()

    def write_changes(self, changes: Sequence[Change], author: str, *, source: str) -> None:
        """Append proposed changes as one operation, if they still fit."""
        known = {prototype.key for prototype in self.prototypes}
        for change in changes:
            where = f"{change.class_name}, cluster {change.cluster_id}"
            if change.key not in known or self.state.versions[change.key] != change.version:
                raise changed_meanwhile(where, self.state.captions.get(change.key))
        self.write(
            [
                Draft(change.key, change.cluster_id, change.after, author, source)
                for change in changes
            ]
        )

    def write_snapshot(self) -> None:
        """Write ``captions/captions.json``: the prototypes' file with the captions filled in."""
        published: dict[str, list[dict[str, Any]]] = {}
        for prototype in self.prototypes:
            caption = self.state.captions.get(prototype.key)
            record = {**prototype.to_json(), "caption": caption.text if caption else ""}
            record["caption_version"] = caption.version if caption else 0
            record["caption_author"] = caption.author if caption else ""
            published.setdefault(prototype.class_name, []).append(record)
        storage.write_json(snapshot_path(self.project), published)


@contextlib.contextmanager
def writing(project: Project, timeout: float = 30.0) -> Iterator[LogWriter]:
    """Hold the log for writing, so that reading, checking and appending are one.

    The lock is the captions' own and held for milliseconds: captions can be edited while a long
    job holds the project.

    Raises:
        ProjectError: another process holds it for longer than ``timeout`` seconds.
    """
    path = _log_path(project)
    with storage.writable(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            with FileLock(path.with_name(".lock")).acquire(timeout=timeout):
                yield LogWriter(project)
        except Timeout:
            raise ProjectError(
                "another process is writing captions.",
                where=path.parent,
                fix="Try again in a moment.",
            ) from None


def snapshot_path(project: Project) -> Path:
    """Path of ``captions/captions.json``."""
    return project.path("captions", "captions.json")


def _log_path(project: Project) -> Path:
    return project.path("captions", "log.jsonl")


def changed_meanwhile(where: str, caption: Caption | None) -> CaptionConflict:
    """The error for a writer who did not see the caption that stands now."""
    now = f"now: “{caption.text}”, by {caption.author}" if caption else "now: none"
    return CaptionConflict(
        f"the caption has been changed meanwhile ({now}).",
        where=where,
        fix="Look at the new text, then edit again.",
    )
