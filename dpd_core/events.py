"""What running work says about itself: typed events, each one JSON line.

The core prints nothing. A stage calls ``emit(event)``; the command line draws a progress
line from it, a job appends it to ``events.jsonl``, and the app reads that file.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass, field
from typing import Any, TypeVar

from dpd_core.hardware import peak_memory


@dataclass(frozen=True)
class Event:
    """Base of all events; ``time`` is seconds since the epoch."""

    time: float = field(default_factory=time.time, kw_only=True)


@dataclass(frozen=True)
class Progress(Event):
    """``done`` of ``total`` units; ``eta`` is the expected remaining time in seconds, ``memory``
    the most that the process has held so far, in MB (see :func:`hardware.peak_memory`)."""

    stage: str
    done: int
    total: int
    eta: float | None = None
    message: str = ""
    memory: int | None = None


@dataclass(frozen=True)
class Metric(Event):
    """Measured values at a step, e.g. ``{"loss": 0.1, "consistency": 1.9}``."""

    stage: str
    step: int
    values: dict[str, float]


@dataclass(frozen=True)
class Preview(Event):
    """An image made on the way; ``path`` is relative to the project folder."""

    stage: str
    step: int
    path: str
    caption: str = ""


@dataclass(frozen=True)
class Began(Event):
    """What the stage has begun to fill; ``path`` is a folder, relative to the project."""

    stage: str
    path: str


@dataclass(frozen=True)
class Log(Event):
    """A sentence for a person. ``level`` is ``"info"`` or ``"warning"``."""

    stage: str
    message: str
    level: str = "info"


@dataclass(frozen=True)
class Phases(Event):
    """The phases of a plan, in order: ``stage``, ``name``, ``state`` (``open``, ``running``,
    ``done`` or ``skipped``), the ``seconds`` it is expected to take, and those ``spent``."""

    stage: str
    phases: list[dict[str, Any]]


@dataclass(frozen=True)
class Done(Event):
    """The stage finished; ``result`` is its JSON-able summary."""

    stage: str
    result: dict[str, Any]


@dataclass(frozen=True)
class Failed(Event):
    """The stage ended without finishing; ``stopped`` tells a request from a fault."""

    stage: str
    message: str
    stopped: bool = False


Emit = Callable[[Event], None]

_KINDS: dict[str, type[Event]] = {
    kind.__name__: kind for kind in (Progress, Metric, Preview, Began, Log, Phases, Done, Failed)
}


def ignore(event: Event) -> None:
    """The emitter of someone who does not listen."""


def to_dict(event: Event) -> dict[str, Any]:
    """The event as a JSON-able dict with its kind under ``"event"``."""
    return {"event": type(event).__name__, **asdict(event)}


def from_dict(record: dict[str, Any]) -> Event:
    """The inverse of :func:`to_dict`.

    Raises:
        ValueError: the record is not an event of this version.
    """
    fields = dict(record)
    kind = _KINDS.get(fields.pop("event", ""))
    if kind is None:
        raise ValueError(f"not an event: {record!r}")
    try:
        return kind(**fields)
    except TypeError as error:
        raise ValueError(f"not an event: {record!r}") from error


Item = TypeVar("Item")


_REPORTS = 20
"""Reports that the speed is measured over."""


class Meter:
    """Counts units of work and emits :class:`Progress` with an ETA, at most ~5 a second.

    The ETA is that of the speed of late: what comes once, at the start, says nothing of the rest.

    Args:
        emit: Where the events go.
        stage: Stage name of the events.
        total: Number of units in all.
        done: Units that an earlier, interrupted run already finished. They do not count
            for the speed from which the ETA is computed.
        message: What the units are, e.g. ``"encoding images"``.
    """

    def __init__(self, emit: Emit, stage: str, total: int, *, done: int = 0, message: str = ""):
        self.emit, self.stage, self.total, self.done, self.message = (
            emit,
            stage,
            total,
            done,
            message,
        )
        self._last = 0.0
        self._reports = deque([(time.monotonic(), done)], maxlen=_REPORTS)
        self._report()

    def advance(self, units: int = 1, message: str | None = None) -> None:
        """Count ``units`` as done."""
        self.done += units
        if message is not None:
            self.message = message
        if self.done >= self.total or time.monotonic() - self._last > 0.2:
            self._report()

    def over(self, items: Iterable[Item]) -> Iterator[Item]:
        """Yield the items, counting each when the caller comes back for the next."""
        for item in items:
            yield item
            self.advance()

    def _report(self) -> None:
        self._last = time.monotonic()
        then, done = self._reports[0]
        fresh = self.done - done
        eta = (self._last - then) / fresh * (self.total - self.done) if fresh > 0 else None
        if fresh > 0:
            self._reports.append((self._last, self.done))
        self.emit(Progress(self.stage, self.done, self.total, eta, self.message, peak_memory()))
