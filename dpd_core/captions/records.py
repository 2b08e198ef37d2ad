"""The records of the captions: one as it stands, one line of the log, and what a replay gives."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

from dpd_core.prototypes.files import Prototype

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

    def proposed(self, prototype: Prototype, text: str) -> Change:
        """The change of a prototype's caption to another text."""
        old = self.captions.get(prototype.key)
        return Change(
            prototype.class_name,
            prototype.cluster_id,
            prototype.id,
            old.text if old else None,
            text,
            self.versions[prototype.key],
        )

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
