"""Starting and steering stage runs: the command a user would type, in a process of its own.

Nothing long runs inside a web handler. :class:`JobDesk` puts a run on a waiting list on disk,
starts it when its turn comes, and reads and writes the job folders; so a refresh, a second tab
or a restarted server sees the same jobs.
"""

from __future__ import annotations

import contextlib
import json
import os
import shlex
import signal
import subprocess
import sys
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
from filelock import FileLock

from app.server.limits import Limits
from app.server.settings import Settings
from dpd_core import storage
from dpd_core.config import CONFIGS, StageConfig
from dpd_core.errors import ProjectError
from dpd_core.pipeline import jobs
from dpd_core.project import Project

ROOT = Path(__file__).resolve().parents[2]
ACTIVE = ("queued", "starting", "running", "paused")
_START_SECONDS = 60.0
_GRACE_SECONDS = 300.0
_LOOK_SECONDS = 0.5


@dataclass(frozen=True)
class JobView:
    """What the interface knows of a run.

    Attributes:
        id: Its job id, also the name of its folder.
        stage: Stage name.
        status: ``queued``, ``starting``, ``running``, ``paused``, ``done``, ``stopped``,
            ``failed`` or ``interrupted``.
        command: The command line that does the same.
        folder: Its job folder.
        position: Runs that come before it on the waiting list.
        done, total, eta, message: As of the last :class:`~dpd_core.events.Progress`; ``eta`` in
            seconds.
        error: What went wrong, if it failed.
        stopping: Whether it was asked to stop and has not done so yet.
    """

    id: str
    stage: str
    status: str
    command: str
    folder: Path
    position: int = 0
    done: int = 0
    total: int = 0
    eta: float | None = None
    message: str = ""
    error: str = ""
    stopping: bool = False

    @property
    def active(self) -> bool:
        """Whether it is waiting or at work."""
        return self.status in ACTIVE


class JobDesk:
    """The waiting list of all visitors and the processes at work.

    Args:
        settings: The list is in ``home/queue``; ``heavy_jobs`` runs are at work at the same time.
        limits: Asked before a run is put on the list.
    """

    def __init__(self, settings: Settings, limits: Limits | None = None):
        self.settings, self.limits = settings, limits or Limits(settings)
        self.queue, self.limit = settings.home / "queue", settings.heavy_jobs
        self._children: list[subprocess.Popen[bytes]] = []
        self._thread = threading.Lock()
        self._seen: tuple[float, int] = (0.0, -1)
        self._tokens: dict[str, str] = {}

    def start(
        self, project: Project, stage: str, config: StageConfig, *, token: str | None = None
    ) -> str:
        """Put a run on the waiting list; returns its job id.

        Args:
            token: The visitor's Hub token, which the run finds in its environment. It is kept in
                this process's memory until then, and nowhere else.

        Raises:
            ProjectError: a run of this project is waiting or at work already, or the visitor has
                reached a limit.
            ConfigError: a setting that this visitor may not use.
        """
        busy = [job for job in self.jobs(project) if job.active]
        if busy:
            raise ProjectError(
                f"the stage '{busy[0].stage}' of this project is {busy[0].status}.",
                fix="Wait until it has finished, or stop it.",
            )
        self.limits.check_start(project, stage, config, signed_in=bool(token))
        job = jobs.announce(project, stage, config)
        if token:
            self._tokens[job.id] = token
        storage.write_json(
            self.queue / f"{job.id}.json",
            {
                "job": job.id,
                "project": str(project.root),
                "arguments": _arguments(jobs.command_line(project, stage, config)),
                "entered": time.time(),
                "started": None,
                "pid": None,
            },
        )
        self.dispatch()
        return job.id

    def dispatch(self) -> None:
        """Start what may start, and take what has ended off the list. Every open page asks once
        a second; it is looked into about twice a second at most."""
        if not self._due():
            return
        with self._thread, FileLock(self.queue.parent / ".queue.lock"):
            self._children = [child for child in self._children if child.poll() is None]
            entries = self._entries()
            waiting = [entry for entry in entries if not entry["started"]]
            at_work = []
            for entry in entries:
                if entry["started"] and self._ended(entry):
                    self._path(entry).unlink(missing_ok=True)
                elif entry["started"]:
                    at_work.append(entry)
            if self.settings.hosted:
                self._end_the_overdue(at_work, waited_for=bool(waiting))
            for entry in _fair_order(waiting)[: max(self.limit - len(at_work), 0)]:
                self._launch(entry)

    def _due(self) -> bool:
        """Whether the list has changed or has not been looked at for a while."""
        now = time.monotonic()
        changed = self.queue.stat().st_mtime_ns if self.queue.is_dir() else 0
        with self._thread:
            if changed == self._seen[1] and now - self._seen[0] < _LOOK_SECONDS:
                return False
            self._seen = (now, changed)
        return changed != 0

    def jobs(self, project: Project, last: int = 20) -> list[JobView]:
        """The newest runs of a project, newest first."""
        waiting = {entry["job"]: entry for entry in self._entries()}
        order = [
            entry["job"]
            for entry in _fair_order([entry for entry in waiting.values() if not entry["started"]])
        ]
        folders = sorted(project.path("jobs").glob("*/config.json"), reverse=True)[:last]
        return [self._view(path.parent, waiting, order) for path in folders]

    def current(self, project: Project) -> JobView | None:
        """The run that is waiting or at work, else the last one."""
        views = self.jobs(project, last=1)
        return views[0] if views else None

    def pause(self, project: Project, job_id: str) -> None:
        """Let a run wait where it is; it keeps its memory."""
        storage.write_bytes(self._folder(project, job_id) / "pause", b"")

    def resume(self, project: Project, job_id: str) -> str:
        """Let a paused run go on, or run an ended one again with the same settings, which
        continues where it was. Returns the job id at work."""
        folder = self._folder(project, job_id)
        if (folder / "pause").exists():
            (folder / "pause").unlink()
            return job_id
        made = storage.read_json(folder / "config.json")
        return self.start(
            project, made["stage"], CONFIGS[made["stage"]].from_dict(made["settings"])
        )

    def stop(self, project: Project, job_id: str) -> None:
        """Take a waiting run off the list, or ask one at work to stop, keeping its progress."""
        folder = self._folder(project, job_id)
        with FileLock(self.queue.parent / ".queue.lock"):
            for entry in self._entries():
                if entry["job"] == job_id and not entry["started"]:
                    self._path(entry).unlink(missing_ok=True)
                    self._tokens.pop(job_id, None)
        storage.write_bytes(folder / "stop", b"")

    def events(self, project: Project, job_id: str) -> list[dict[str, Any]]:
        """Everything a run has said, as dicts of :func:`dpd_core.events.to_dict`."""
        return storage.read_json_lines(self._folder(project, job_id) / "events.jsonl")

    def flag(self, project: Project, job_id: str, name: str) -> None:
        """Put a flag that the worker polls, e.g. ``sample_now``."""
        storage.write_bytes(self._folder(project, job_id) / name, b"")

    def _folder(self, project: Project, job_id: str) -> Path:
        folder = project.path("jobs", job_id)
        if folder.parent != project.path("jobs") or not (folder / "config.json").exists():
            raise ProjectError(f"there is no job {job_id!r}.", fix="Reload the page.")
        return folder

    def _entries(self) -> list[dict[str, Any]]:
        entries = []
        for path in sorted(self.queue.glob("*.json")):
            with contextlib.suppress(ProjectError):  # taken off the list meanwhile
                entries.append(storage.read_json(path))
        return entries

    def _path(self, entry: dict[str, Any]) -> Path:
        return self.queue / f"{entry['job']}.json"

    def _launch(self, entry: dict[str, Any]) -> None:
        folder = Path(entry["project"]) / "jobs" / entry["job"]
        token = self._tokens.pop(entry["job"], None)
        if not folder.is_dir():  # the project was deleted while it waited
            self._path(entry).unlink(missing_ok=True)
            return
        environment = {**os.environ, "DPD_JOB_ID": entry["job"]}
        if token is not None:
            environment["HF_TOKEN"] = token
        with (folder / "output.txt").open("wb") as output:
            child = subprocess.Popen(
                [sys.executable, "-m", "dpd_core", *entry["arguments"], "--quiet", "--json"],
                cwd=ROOT,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,  # it outlives the server
            )
        self._children.append(child)
        storage.write_json(self._path(entry), {**entry, "started": time.time(), "pid": child.pid})

    def _ended(self, entry: dict[str, Any]) -> bool:
        folder = Path(entry["project"]) / "jobs" / entry["job"]
        if not folder.is_dir():
            return True
        if (folder / "state.json").exists():
            return jobs.Job(folder).status != "running"
        return not _exists(entry["pid"]) or time.time() - entry["started"] > _START_SECONDS

    def _end_the_overdue(self, at_work: list[dict[str, Any]], *, waited_for: bool) -> None:
        """Stop runs that have had their time, and paused ones that keep others waiting."""
        for entry in at_work:
            folder = Path(entry["project"]) / "jobs" / entry["job"]
            age = time.time() - entry["started"]
            paused = _age(folder / "pause")
            over = age > self.settings.run_seconds or (
                waited_for and paused is not None and paused > self.settings.pause_seconds
            )
            if over and folder.is_dir() and not (folder / "stop").exists():
                storage.write_bytes(folder / "stop", b"")
            if age > self.settings.run_seconds + _GRACE_SECONDS:  # it does not listen
                with contextlib.suppress(ProcessLookupError, PermissionError):
                    os.killpg(entry["pid"], signal.SIGKILL)

    def _view(self, folder: Path, waiting: dict[str, Any], order: list[str]) -> JobView:
        made = storage.read_json(folder / "config.json")
        entry = waiting.get(folder.name)
        status, error, progress = "stopped", "", {}
        if (folder / "state.json").exists():
            status = jobs.Job(folder).status
            error = storage.read_json(folder / "state.json").get("error", "")
            if status == "running" and (folder / "pause").exists():
                status = "paused"
            progress = _last_progress(folder / "events.jsonl")
        elif entry is not None:
            status = "starting" if entry["started"] else "queued"
        elif not (folder / "stop").exists():
            status, error = "failed", _output_tail(folder)
        position = order.index(folder.name) if folder.name in order else 0
        return JobView(
            folder.name,
            made["stage"],
            status,
            made["command"],
            folder,
            position,
            progress.get("done", 0),
            progress.get("total", 0),
            progress.get("eta"),
            progress.get("message", ""),
            error,
            stopping=status in ACTIVE and (folder / "stop").exists(),
        )


def _arguments(command: str) -> list[str]:
    return shlex.split(command)[3:]  # without "python -m dpd_core"


def _fair_order(waiting: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """First come, first served, but nobody's second run before everybody's first."""
    turns: dict[str, int] = {}
    ranked = []
    for entry in sorted(waiting, key=lambda entry: entry["entered"]):
        owner = str(Path(entry["project"]).parent)
        turns[owner] = turns.get(owner, 0) + 1
        ranked.append((turns[owner], entry["entered"], entry))
    return [entry for _, _, entry in sorted(ranked, key=lambda rank: rank[:2])]


def _age(path: Path) -> float | None:
    """Seconds since a file was written, or ``None`` if it is not there."""
    try:
        return time.time() - path.stat().st_mtime
    except OSError:
        return None


def _exists(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def _last_progress(path: Path, tail: int = 16_384) -> dict[str, Any]:
    """The last Progress in an event log, reading only its end."""
    if not path.exists():
        return {}
    with path.open("rb") as file:
        file.seek(max(path.stat().st_size - tail, 0))
        lines = file.read().split(b"\n")
    for line in reversed(lines):
        if b'"Progress"' in line:
            with contextlib.suppress(ValueError):
                return json.loads(line)
    return {}


def _output_tail(folder: Path) -> str:
    """What a worker said that ended before it had made its job."""
    path = folder / "output.txt"
    if not path.exists():
        return "the server was stopped before it began."
    lines = path.read_text(errors="replace").strip().splitlines()
    return next((line for line in reversed(lines) if line.startswith("Error:")), "it ended early.")
