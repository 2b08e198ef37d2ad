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
from collections import Counter, OrderedDict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, NamedTuple

from filelock import FileLock, Timeout

from dpd_core import storage
from dpd_core.errors import CaptionConflict, CaptionError, ProjectError
from dpd_core.project import Project
from dpd_core.prototypes.files import Prototype, list_prototypes

PEOPLE = ("human", "bulk", "import")
"""Authors whose captions no captioner overwrites."""

MACHINES = ("vlm", "template")
"""Authors whose captions the next run of the stage may replace."""

Key = tuple[str, str]
"""Class name and prototype image id: what a caption is filed under."""


@dataclass(frozen=True)
class Caption:
    """A caption as it stands.

    Attributes:
        text: The caption.
        author: ``vlm``, ``template``, ``human``, ``bulk`` or ``import``.
        version: How often it has been changed, from 1; undoing counts as a change.
        source: Captioner, file or pattern it came from; may be empty.
        prototype_id: Image id of its prototype.
    """

    text: str
    author: str
    version: int
    source: str
    prototype_id: str

    @property
    def by_hand(self) -> bool:
        """Whether a person decided on this text, so that no captioner may replace it."""
        return self.author in PEOPLE


@dataclass(frozen=True)
class Entry:
    """One line of the log: one change of one caption.

    Attributes:
        id: Number of the line's change, from 1.
        time: When, ISO 8601 in UTC.
        kind: ``set``, ``reset`` (a person gives the caption back to the machine), ``undo`` or
            ``redo``.
        author, source: See :class:`Caption`; of the text that now stands.
        class_name, cluster_id, prototype_id: Whose caption; the cluster's number is the one at
            that time.
        before, after: Text before and after; ``None`` where there was or is none.
        batch: Operation the line belongs to: the id of its first line.
        of: Number of lines in that operation.
        target: For undo and redo: the operation undone or done again.
    """

    id: int
    time: str
    kind: str
    author: str
    source: str
    class_name: str
    cluster_id: int
    prototype_id: str
    before: str | None
    after: str | None
    batch: int
    of: int
    target: int | None = None

    @property
    def key(self) -> Key:
        """What the caption is filed under."""
        return self.class_name, self.prototype_id

    def to_json(self) -> dict[str, Any]:
        """The line as JSON."""
        record = {
            "id": self.id,
            "time": self.time,
            "kind": self.kind,
            "author": self.author,
            "source": self.source,
            "class": self.class_name,
            "cluster_id": self.cluster_id,
            "prototype": self.prototype_id,
            "before": self.before,
            "after": self.after,
            "batch": self.batch,
            "of": self.of,
        }
        return record if self.target is None else {**record, "target": self.target}

    @classmethod
    def from_json(cls, record: dict[str, Any]) -> Entry:
        """The inverse of :meth:`to_json`; raises KeyError, TypeError or ValueError."""
        if record["kind"] not in ("set", "reset", "undo", "redo"):
            raise ValueError(f"unknown kind {record['kind']!r}")
        if record["author"] not in (*PEOPLE, *MACHINES, ""):
            raise ValueError(f"unknown author {record['author']!r}")
        for name in ("before", "after"):
            if record[name] is not None and not isinstance(record[name], str):
                raise ValueError(f"{name} is not a text")
        return cls(
            int(record["id"]),
            str(record["time"]),
            record["kind"],
            record["author"],
            str(record["source"]),
            str(record["class"]),
            int(record["cluster_id"]),
            str(record["prototype"]),
            record["before"],
            record["after"],
            int(record["batch"]),
            int(record["of"]),
            record.get("target"),
        )


@dataclass(frozen=True)
class Change:
    """A caption's text before and after, done or proposed.

    Attributes:
        version: Version of the caption before the change; 0 where there is none. A proposed
            change is refused if the caption has another version by then.
    """

    class_name: str
    cluster_id: int
    prototype_id: str
    before: str | None
    after: str | None
    version: int

    @property
    def key(self) -> Key:
        """What the caption is filed under."""
        return self.class_name, self.prototype_id


class Draft(NamedTuple):
    """A caption to be written; its ``text`` is ``None`` to leave the prototype without one."""

    key: Key
    cluster_id: int
    text: str | None
    author: str
    source: str


@dataclass
class State:
    """What a replay of the log gives.

    Attributes:
        captions: Caption by key; a key whose first caption was undone has none.
        versions: Number of changes by key.
        done, undone: Operations of people that can be undone, and done again; the last is next.
        entries: The log's lines, those of cut-off operations left out.
        next_id: Id of the next line.
    """

    captions: dict[Key, Caption] = field(default_factory=dict)
    versions: Counter[Key] = field(default_factory=Counter)
    done: list[Operation] = field(default_factory=list)
    undone: list[Operation] = field(default_factory=list)
    entries: list[Entry] = field(default_factory=list)
    next_id: int = 1

    def copy(self) -> State:
        """A state of its own, to be changed without changing this one."""
        return State(
            dict(self.captions),
            Counter(self.versions),
            list(self.done),
            list(self.undone),
            list(self.entries),
            self.next_id,
        )

    def apply(self, entries: list[Entry]) -> None:
        """Take over one whole operation."""
        before = {entry.key: self.captions.get(entry.key) for entry in entries}
        for entry in entries:
            self._apply_entry(entry)
        first = entries[0]
        if first.kind == "undo" and self.done:
            self.undone.append(self.done.pop())
        elif first.kind == "redo" and self.undone:
            self.done.append(replace(self.undone.pop(), before=before))
        elif first.kind == "reset" or (first.kind == "set" and first.author in PEOPLE):
            after = {entry.key: self.captions.get(entry.key) for entry in entries}
            clusters = {entry.key: entry.cluster_id for entry in entries}
            self.done.append(Operation(first.batch, before, after, clusters))
            self.undone.clear()

    def _apply_entry(self, entry: Entry) -> None:
        key = entry.key
        self.versions[key] += 1
        self.entries.append(entry)
        if entry.after is None:
            self.captions.pop(key, None)
            return
        self.captions[key] = Caption(
            entry.after, entry.author, self.versions[key], entry.source, entry.prototype_id
        )


@dataclass(frozen=True)
class Operation:
    """What one undo takes back: the captions before and after, by key."""

    id: int
    before: dict[Key, Caption | None]
    after: dict[Key, Caption | None]
    clusters: dict[Key, int]


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
