"""The runs that wait or are at work, one file each; a restarted server goes on with them."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

from filelock import FileLock

from dpd_core import storage
from dpd_core.errors import ProjectError

log = logging.getLogger(__name__)

BROKEN = ".broken"
"""Folder for entries that cannot be read."""


@dataclass(frozen=True)
class Entry:
    """A run on the list.

    Attributes:
        job: Its job id.
        project: Folder of its project.
        arguments: Of ``python -m dpd_core``.
        entered: When it was put on the list, in seconds since 1970.
        address: Where it was asked for; empty on one's own machine.
        private: Whether it was given a token, which nobody keeps: it cannot be started again.
        slice_seconds: How long it may work while others wait; 0 is as long as any.
        started: When it was started, likewise; ``None`` while it waits.
        pid, born: Its process, and when that began, in seconds since 1970.
    """

    job: str
    project: str
    arguments: list[str] = field(default_factory=list)
    entered: float = 0.0
    address: str = ""
    private: bool = False
    slice_seconds: float = 0.0
    started: float | None = None
    pid: int = 0
    born: float = 0.0

    @property
    def folder(self) -> Path:
        """Its job folder."""
        return Path(self.project) / "jobs" / self.job

    @property
    def workspace(self) -> Path:
        """The folder of all projects of its owner."""
        return Path(self.project).parent


class WaitingList:
    """The list on disk.

    Args:
        folder: One file an entry.
    """

    def __init__(self, folder: Path):
        self.folder = folder

    @contextlib.contextmanager
    def held(self) -> Iterator[None]:
        """Alone with the list, also among processes."""
        self.folder.mkdir(parents=True, exist_ok=True)
        with FileLock(self.folder.parent / ".queue.lock"):
            yield

    def entries(self) -> list[Entry]:
        """All of them, oldest first. One that cannot be read is set aside, so that it stops nobody
        else."""
        found = []
        for path in storage.whole(self.folder, "*.json"):
            try:
                found.append(_entry(storage.read_json(path), path.stem))
            except (ProjectError, TypeError, ValueError) as error:
                if path.exists():  # else it was taken off the list meanwhile
                    self._set_aside(path, error)
        return found

    def put(self, entry: Entry) -> None:
        """Add an entry, or write it anew."""
        storage.write_json(self.folder / f"{entry.job}.json", asdict(entry))

    def remove(self, entry: Entry) -> None:
        """Take an entry off the list."""
        (self.folder / f"{entry.job}.json").unlink(missing_ok=True)

    def _set_aside(self, path: Path, error: Exception) -> None:
        log.warning("an entry of the waiting list cannot be read and is set aside: %s", error)
        with contextlib.suppress(OSError):
            aside = self.folder / BROKEN
            aside.mkdir(exist_ok=True)
            path.replace(aside / path.name)


def fair_order(waiting: Sequence[Entry], recent: Mapping[str, int] | None = None) -> list[Entry]:
    """Whose turn it is: nobody's second run before everybody's first, where an address is somebody,
    and on one address a visitor. Whoever makes visitors up waits behind himself only.

    Args:
        waiting: Runs that wait.
        recent: How many runs of an address are at work or were started lately.
    """
    visitors: dict[Path, int] = {}
    ranked = []
    for entry in sorted(waiting, key=lambda entry: entry.entered):
        visitors[entry.workspace] = visitors.get(entry.workspace, 0) + 1
        ranked.append((visitors[entry.workspace], entry.entered, entry))
    places: dict[str, int] = dict(recent or {})
    turns = []
    for turn, entered, entry in sorted(ranked, key=lambda rank: rank[:2]):
        place = entry.address or str(entry.workspace)
        places[place] = places.get(place, 0) + 1
        turns.append((places[place], turn, entered, entry))
    return [turn[-1] for turn in sorted(turns, key=lambda turn: turn[:3])]


def _entry(content: Any, job: str) -> Entry:
    """An entry as read.

    Raises:
        ValueError: something else.
    """
    if not isinstance(content, dict) or content.get("job") != job:
        raise ValueError(f"{job} is no entry")
    entry = Entry(**content)
    kinds = {
        "str": str,
        "float": int | float,
        "float | None": int | float | None,
        "int": int,
        "bool": bool,
        "list[str]": list,
    }
    for column in fields(Entry):
        if not isinstance(getattr(entry, column.name), kinds[str(column.type)]):
            raise ValueError(f"{column.name} of {job} is of another kind")
    return entry
