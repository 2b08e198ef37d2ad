"""The folder of a job, through which a run and those who follow it talk.

``jobs/<id>/`` holds ``config.json`` (stage, settings, the command that does the same, and the job
that this one is a part of),
``state.json`` (whether it runs, and how it ended), ``events.jsonl`` (everything the stage said)
and ``output.txt`` (what its process printed, where a server started it). Whoever wants something
of a run puts a file named for the request beside them: ``stop``, ``pause``, ``sample_now``.

This module alone reads and writes these files. A stage heeds ``stop`` and ``pause`` at its next
event (see :func:`dpd_core.pipeline.jobs.run_stage`); it takes other requests by :func:`take` at a
moment that suits it, which removes the file: one request is answered once, also if the stage was
not ready for it yet when it was made.
"""

from __future__ import annotations

import contextlib
import datetime
import os
import secrets
import time
from collections.abc import Iterator
from contextvars import ContextVar
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

from dpd_core import storage
from dpd_core.events import Event, from_dict, to_dict
from dpd_core.settings import StageConfig, command_line

STOP = "stop"
"""End at the next event, keeping what is finished."""

PAUSE = "pause"
"""Wait at the next event for as long as the request is there."""

SAMPLE_NOW = "sample_now"
"""Make preview images after the current training step."""

JOB_ID = "DPD_JOB_ID"
"""Environment variable with the id of the job that whoever starts a process has announced."""

_FIX = "Delete the job's folder; it is a protocol and nothing needs it."
_TAIL = 65_536
"""Bytes of an event log's end in which its last events are looked for."""

_listening: ContextVar[Job | None] = ContextVar("job", default=None)


@dataclass(frozen=True)
class Job:
    """A job folder: announced, running or ended."""

    folder: Path

    @classmethod
    def announce(
        cls, project: Path, stage: str, config: StageConfig, *, job_id: str | None = None
    ) -> Job:
        """Make the folder of a job that is to be run.

        Args:
            project: The project's folder.
            stage: What is to be run.
            config: Its settings.
            job_id: Name of the folder; without one, it is made of time, stage and a random part.
        """
        stamp = datetime.datetime.now(datetime.UTC).strftime("%Y%m%d-%H%M%S-%f")
        job = cls(project / "jobs" / (job_id or f"{stamp}-{stage}-{secrets.token_hex(2)}"))
        command = command_line(stage, config, project)
        whole = _listening.get()
        made = {
            "stage": stage,
            "settings": config.to_dict(),
            "command": command,
            "part_of": whole.id if whole else "",
        }
        storage.write_json(job.folder / "config.json", made)
        return job

    @classmethod
    def all_in(cls, project: Path) -> list[Job]:
        """All announced jobs of a project, oldest first."""
        return [cls(path.parent) for path in sorted(project.glob("jobs/*/config.json"))]

    @property
    def id(self) -> str:
        """Name of the folder."""
        return self.folder.name

    @property
    def announced(self) -> bool:
        """Whether there is such a job."""
        return (self.folder / "config.json").exists()

    @property
    def config(self) -> dict[str, Any]:
        """``stage``, ``settings`` and ``command``; see also :attr:`part_of`.

        Raises:
            ProjectError: the file is missing or damaged.
        """
        kinds = {"stage": str, "settings": dict, "command": str}
        return storage.read_record(self.folder / "config.json", kinds, fix=_FIX)

    @property
    def part_of(self) -> str:
        """Id of the job whose part it is; empty for most.

        Raises:
            ProjectError: its file is missing or damaged.
        """
        return str(self.config.get("part_of", ""))

    @property
    def begun(self) -> bool:
        """Whether a process has taken it up."""
        return (self.folder / "state.json").exists()

    @property
    def state(self) -> dict[str, Any]:
        """``status``, ``pid``, ``process_started`` and ``started``; once it has ended also
        ``ended``, and ``result`` or ``error``.

        Raises:
            ProjectError: the file is missing or damaged.
        """
        kinds = {"status": str, "pid": int, "process_started": int | float}
        return storage.read_record(self.folder / "state.json", kinds, fix=_FIX)

    @property
    def status(self) -> str:
        """``running``, ``done``, ``stopped``, ``failed`` or ``interrupted`` (its process is
        gone without having said anything)."""
        state = self.state
        if state["status"] == "running" and not _alive(state["pid"], state["process_started"]):
            return "interrupted"
        return state["status"]

    def begin(self) -> None:
        """Put on record that this process runs it."""
        state = {
            "status": "running",
            "pid": os.getpid(),
            "process_started": psutil.Process().create_time(),
            "started": time.time(),
        }
        storage.write_json(self.folder / "state.json", state)

    def end(self, status: str, **more: Any) -> None:
        """Put on record how it ended: ``result`` or ``error``."""
        state = {**self.state, "status": status, "ended": time.time(), **more}
        storage.write_json(self.folder / "state.json", state)

    def say(self, event: Event) -> None:
        """Write down an event."""
        storage.append_json_line(self._log, to_dict(event))

    def events(self) -> list[dict[str, Any]]:
        """Everything the job has said so far, as dicts of :func:`events.to_dict`."""
        return storage.read_json_lines(self._log)

    def first_events(self) -> Iterator[dict[str, Any]]:
        """What it has said, from the beginning, one by one: for what is said early."""
        with contextlib.suppress(FileNotFoundError), self._log.open("rb") as file:
            yield from filter(None, map(_parsed, file))

    def last_events(self, kind: str) -> Iterator[dict[str, Any]]:
        """Its last events of a kind, newest first, as far as the log's end holds them."""
        try:
            with self._log.open("rb") as file:
                file.seek(max(self._log.stat().st_size - _TAIL, 0))
                lines = file.read().split(b"\n")
        except FileNotFoundError:
            return
        mark = f'"{kind}"'.encode()
        for line in reversed(lines):
            if mark in line and (event := _parsed(line)) and event["event"] == kind:
                yield event

    @property
    def heartbeat(self) -> str:
        """Changes with everything it says."""
        try:
            status = self._log.stat()
        except OSError:
            return "-"
        return f"{status.st_mtime_ns}.{status.st_size}"

    @property
    def output(self) -> Path:
        """Where a server lets its process print to."""
        return self.folder / "output.txt"

    def ask(self, request: str, note: bytes = b"") -> None:
        """Ask something of the run.

        Args:
            request: :data:`STOP`, :data:`PAUSE` or another that its stage takes.
            note: Why, for those who look at the request afterwards.
        """
        storage.write_bytes(self.folder / request, note)

    def asked(self, request: str) -> bool:
        """Whether this is asked of it now."""
        return (self.folder / request).exists()

    def note(self, request: str) -> bytes | None:
        """The note of a request; ``None`` if it is not asked."""
        try:
            return (self.folder / request).read_bytes()
        except OSError:
            return None

    def asked_for(self, request: str) -> float | None:
        """Seconds since this was asked; ``None`` if it is not."""
        try:
            return time.time() - (self.folder / request).stat().st_mtime
        except OSError:
            return None

    def withdraw(self, request: str) -> bool:
        """Take a request back, or take it up; whether it was there."""
        try:
            (self.folder / request).unlink()
        except FileNotFoundError:
            return False
        return True

    @property
    def _log(self) -> Path:
        return self.folder / "events.jsonl"


@contextlib.contextmanager
def listening(job: Job) -> Iterator[None]:
    """Take requests made of this job while the block runs."""
    token = _listening.set(job)
    try:
        yield
    finally:
        _listening.reset(token)


def take(request: str) -> bool:
    """Whether this has been asked for since it was last taken. Without a job nothing is."""
    job = _listening.get()
    return job is not None and job.withdraw(request)


def _parsed(line: bytes) -> dict[str, Any] | None:
    """An event's dict; ``None`` for half a line, or what is no event."""
    try:
        record: dict[str, Any] = storage.parse_json(line)
        from_dict(record)
    except (ValueError, AttributeError, TypeError):
        return None
    return record


def _alive(pid: int, started: float) -> bool:
    """Whether the process is there and is the one that started then, not a later one."""
    try:
        return abs(psutil.Process(pid).create_time() - started) < 1.0
    except (psutil.NoSuchProcess, OverflowError, ValueError):  # a forged number
        return False
