"""Starting and steering stage runs: the command a user would type, in a process of its own.

Nothing long runs inside a web handler. :class:`JobQueue` puts a run on a waiting list on disk,
starts it when its turn comes, and reads and writes the job folders; so a refresh, a second tab
or a restarted server sees the same jobs.
"""

from __future__ import annotations

import collections
import contextlib
import shutil
import subprocess
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from app.server import environment, wardens, workers
from app.server.arrivals import check_room
from app.server.limits import Limits, folder_size
from app.server.pace import Pace
from app.server.paths import hidden, hide
from app.server.settings import Settings
from app.server.waiting_list import Entry, WaitingList, fair_order
from dpd_core import storage
from dpd_core.config import CONFIGS
from dpd_core.controls import PAUSE, STOP, Job
from dpd_core.errors import ProjectError
from dpd_core.project import Project
from dpd_core.settings import StageConfig, command_words

ACTIVE = ("queued", "starting", "running", "paused")
PLANNED = ("train", "synthesize")
"""Stages of which several runs with other settings may wait one behind the other."""
MOST_PLANNED = 12
"""Most runs of a project that wait."""
_HOUR = 3600.0
_CACHE = "hub"
"""Folder in a job's, for what a stranger's run downloads; removed when it ends."""


@dataclass(frozen=True)
class JobView:
    """What the interface knows of a run.

    Attributes:
        id: Its job id, also the name of its folder.
        stage: Stage name.
        status: ``queued``, ``starting``, ``running``, ``paused``, ``done``, ``stopped``,
            ``failed`` or ``interrupted``.
        command: The command line that does the same.
        job: Its job folder.
        position: Runs that come before it on the waiting list.
        done, total, eta, message: As of the last :class:`~dpd_core.events.Progress`; ``eta`` in
            seconds.
        error: What went wrong, if it failed.
        stopping: Whether it was asked to stop and has not done so yet.
        part_of: Id of the plan whose part it is; empty for most.
        seconds: How long it has been at work, or was.
    """

    id: str
    stage: str
    status: str
    command: str
    job: Job
    position: int = 0
    done: int = 0
    total: int = 0
    eta: float | None = None
    message: str = ""
    error: str = ""
    stopping: bool = False
    part_of: str = ""
    seconds: float | None = None

    @property
    def active(self) -> bool:
        """Whether it is waiting or at work."""
        return self.status in ACTIVE


class JobQueue:
    """The waiting list of all visitors and the processes at work.

    Args:
        settings: The list is in ``home/queue``; ``heavy_jobs`` runs are at work at the same time.
        limits: Asked before a run is put on the list.
        whence: Says where the request being answered came from.
    """

    def __init__(
        self,
        settings: Settings,
        limits: Limits | None = None,
        whence: Callable[[], str] = lambda: "",
    ):
        self.settings, self.limits, self.whence = settings, limits or Limits(settings), whence
        hide(settings)
        self.list = WaitingList(settings.home / "queue")
        self._wardens = wardens.Wardens(settings)
        self._children: list[subprocess.Popen[bytes]] = []
        self._lock = threading.Lock()
        self._tokens: dict[str, str] = {}
        self._starts: collections.deque[tuple[float, str]] = collections.deque(maxlen=10_000)
        hourly = 3.0 * settings.starts_per_hour
        self._pace = Pace(hourly / _HOUR, hourly)

    def start(
        self,
        project: Project,
        stage: str,
        config: StageConfig,
        *,
        token: str | None = None,
        behind: bool = False,
    ) -> str:
        """Put a run on the waiting list; returns its job id. A plan of all stages may wait for the
        project's reading of images, which begins as soon as they are there.

        Args:
            behind: Whether it may wait behind other runs of the project, if it and they are of the
                stages :data:`PLANNED`.
            token: The visitor's Hub token, which the run finds in its environment. It is kept in
                this process's memory until then, and nowhere else.

        Raises:
            ProjectError: a run of this project is waiting or at work already, or the visitor has
                reached a limit.
            ConfigError: a setting that this visitor may not use.
        """
        busy = [job for job in self.jobs(project) if job.active]
        planned = behind and all(name in PLANNED for name in (stage, *(j.stage for j in busy)))
        if planned and len(busy) > MOST_PLANNED:
            raise ProjectError(
                f"{len(busy) - 1} runs of this project wait already.",
                fix="Wait for some of them, or remove one.",
            )
        reading = stage == "run" and all(job.stage == "dataset" for job in busy)
        if busy and not (reading or planned):
            raise ProjectError(
                f"the stage '{busy[0].stage}' of this project is {busy[0].status}.",
                fix="Wait until it has finished, or stop it.",
            )
        self.limits.check_start(project, stage, config, signed_in=bool(token))
        address = self.whence()
        self._check_place(address)
        job = Job.announce(project.root, stage, config)
        if token:
            self._tokens[job.id] = token
        self.list.put(
            Entry(
                job.id,
                str(project.root),
                command_words(stage, config, project.root)[3:],
                time.time(),
                address,
                private=bool(token),
                slice_seconds=self.settings.slice_seconds if self.settings.hosted else 0.0,
            )
        )
        self.dispatch()
        return job.id

    def dispatch(self) -> None:
        """Start what may start, end what must end, and take what has ended off the list."""
        with self._lock, self.list.held():
            self._children = [child for child in self._children if child.poll() is None]
            entries = self.list.entries()
            waiting = [entry for entry in entries if entry.started is None]
            at_work = []
            for entry in entries:
                if entry.started is not None and _has_ended(entry):
                    self._close(entry)
                elif entry.started is not None:
                    at_work.append(entry)
            self._wardens.look(at_work, waiting)
            free = max(self.settings.heavy_jobs - len(at_work), 0)
            working = {entry.project for entry in at_work}
            ready = [entry for entry in waiting if entry.project not in working]
            for entry in fair_order(ready, self._recent())[:free]:
                if entry.project not in working:
                    working.add(entry.project)
                    self._launch(entry)

    def jobs(self, project: Project, last: int = 20) -> list[JobView]:
        """The newest runs of a project, newest first."""
        return self._views(list(reversed(Job.all_in(project.root)[-last:])))

    def _views(self, jobs: Sequence[Job]) -> list[JobView]:
        listed = {entry.job: entry for entry in self.list.entries()}
        waiting = [entry for entry in listed.values() if entry.started is None]
        order = [entry.job for entry in fair_order(waiting, self._recent())]
        return [self._view(job, listed, order) for job in jobs]

    def current(self, project: Project) -> JobView | None:
        """A plan that waits or is at work, else the run at work, else the first that waits, else
        the last one; of a plan the whole."""
        views = self.jobs(project, last=1)
        if views and views[0].stage == "run" and views[0].active:
            return views[0]
        if views and (views[0].status == "queued" or not views[0].active):
            listed = self._listed(project)
            if listed:
                return self._views([Job(listed[0].folder)])[0]
        if views and views[0].part_of:
            whole = Job(project.root / "jobs" / storage.safe_name(views[0].part_of))
            return self._views([whole])[0] if whole.announced else views[0]
        return views[0] if views else None

    def of_stages(self, project: Project, *stages: str) -> JobView | None:
        """Of the runs of some stages the one at work, else the first that waits, else the last."""
        found = [job for job in self.jobs(project) if job.stage in stages]
        active = [job for job in found if job.active][::-1]
        return next((job for job in active if job.status != "queued"), None) or next(
            iter(active or found), None
        )

    def planned(self, project: Project) -> list[JobView]:
        """The runs of a project that wait, in their order, without the one that is next."""
        current = self.current(project)
        waiting = [Job(entry.folder) for entry in self._listed(project) if entry.started is None]
        return [job for job in self._views(waiting) if current is None or job.id != current.id]

    def planned_ids(self, project: Project) -> list[str]:
        """Ids of the runs of a project on the list: cheap enough to ask every second."""
        return [entry.job for entry in self._listed(project)]

    def _listed(self, project: Project) -> list[Entry]:
        root = str(project.root)
        found = [entry for entry in self.list.entries() if entry.project == root]
        return sorted(found, key=lambda entry: (entry.started is None, entry.entered))

    def pause(self, project: Project, job_id: str) -> None:
        """Let a run wait where it is; it keeps its memory."""
        self.find(project, job_id).ask(PAUSE)

    def resume(self, project: Project, job_id: str) -> str:
        """Let a paused run go on, or run an ended one again with the same settings, which
        continues where it was. Returns the job id at work."""
        job = self.find(project, job_id)
        if job.withdraw(PAUSE):
            view = next((job for job in self.jobs(project) if job.id == job_id), None)
            if view is not None and view.active:
                return job_id
        stage, config = _asked_for(job)
        return self.start(project, stage, config)

    def stop(self, project: Project, job_id: str) -> None:
        """Take a waiting run off the list, or ask one at work to stop, keeping its progress."""
        job = self.find(project, job_id)
        with self.list.held():
            for entry in self.list.entries():
                if entry.job == job_id and entry.started is None:
                    self.list.remove(entry)
                    self._tokens.pop(job_id, None)
        job.ask(STOP)

    def find(self, project: Project, job_id: str) -> Job:
        """A run by an id that came from the browser.

        Raises:
            ProjectError: there is none.
        """
        job = Job(project.path("jobs", job_id))
        if job.folder.parent != project.path("jobs") or not job.announced:
            raise ProjectError(f"there is no job {job_id!r}.", fix="Reload the page.")
        return job

    def _check_place(self, address: str) -> None:
        """Whether there is room for another run.

        Raises:
            ProjectError: the disk is nearly full, or too much waits, of this address or at all.
        """
        check_room(self.settings)
        if not self.settings.hosted:
            return
        waiting = [entry for entry in self.list.entries() if entry.started is None]
        here = sum(1 for entry in waiting if address and entry.address == address)
        if len(waiting) >= self.settings.max_waiting or here >= self.settings.max_waiting_here:
            raise ProjectError(
                f"{len(waiting)} runs are waiting already"
                + (f", {here} of them from your address." if here else "."),
                fix="Try again when some of them have ended.",
            )
        wait = self._pace.take(address) if address else 0.0
        if wait:
            raise ProjectError(
                "too many runs were started from your address.",
                fix=f"Try again in {wait / 60 + 1:.0f} minutes.",
            )

    def _recent(self) -> dict[str, int]:
        """How many runs of an address were started within the last hour."""
        since = time.monotonic() - _HOUR
        return collections.Counter(place for when, place in list(self._starts) if when > since)

    def _launch(self, entry: Entry) -> None:
        token = self._tokens.pop(entry.job, None)
        if not entry.folder.is_dir():  # the project was deleted while it waited
            self.list.remove(entry)
            return
        hosted = self.settings.hosted
        known = environment.of_a_run(
            entry.job,
            hosted=hosted,
            token=token,
            cache=entry.folder / _CACHE,
            budget=max(self.settings.quota - folder_size(entry.workspace), 0) if hosted else None,
        )
        child, born = workers.start(
            entry.arguments,
            known,
            Job(entry.folder).output,
            nice=hosted,
            largest_file=self.settings.quota if hosted else 0,
        )
        self._children.append(child)
        self._starts.append((time.monotonic(), entry.address or str(entry.workspace)))
        self.list.put(replace(entry, started=time.time(), pid=child.pid, born=born))

    def _close(self, entry: Entry) -> None:
        """Take a run off the list that has ended, and start it again later if it made way."""
        shutil.rmtree(entry.folder / _CACHE, ignore_errors=True)
        with contextlib.suppress(ProjectError):
            if Job(entry.folder).note(STOP) == wardens.SLICE:
                self._wait_again(entry)
        self.list.remove(entry)

    def _wait_again(self, entry: Entry) -> None:
        ended = Job(entry.folder)
        if ended.status not in ("stopped", "interrupted"):
            return
        job = Job.announce(Path(entry.project), *_asked_for(ended))
        self.list.put(
            replace(
                entry,
                job=job.id,
                entered=time.time(),
                # What cannot be done in so long may not be stopped for ever.
                slice_seconds=2 * entry.slice_seconds,
                started=None,
                pid=0,
                born=0.0,
            )
        )

    def _view(self, job: Job, listed: dict[str, Entry], order: list[str]) -> JobView:
        try:
            return self._readable_view(job, listed, order)
        except (ProjectError, KeyError, TypeError, OSError) as error:
            words = job.id.split("-")
            text = f"what it noted down cannot be read ({hidden(str(error))})"
            stage = words[3] if len(words) > 3 else ""
            return JobView(job.id, stage, "failed", "", job, error=text)

    def _readable_view(self, job: Job, listed: dict[str, Entry], order: list[str]) -> JobView:
        made = job.config
        entry = listed.get(job.id)
        stopped = job.asked(STOP)
        status, error, progress = "stopped", "", {}
        seconds: float | None = None
        if job.begun:
            state = job.state
            status, error = job.status, state.get("error", "")
            if isinstance(begun := state.get("started"), int | float):
                seconds = float(state.get("ended", time.time())) - begun
            if status == "running" and job.asked(PAUSE):
                status = "paused"
            elif status == "interrupted" and stopped:  # it did not listen
                status = "stopped"
            progress = next(job.last_events("Progress"), {})
        elif entry is not None:
            status = "starting" if entry.started is not None else "queued"
        elif not stopped:
            status, error = "failed", _last_words(job)
        return JobView(
            job.id,
            made["stage"],
            status,
            hidden(made["command"]),
            job,
            order.index(job.id) if job.id in order else 0,
            progress.get("done", 0),
            progress.get("total", 0),
            progress.get("eta"),
            hidden(progress.get("message", "")),
            hidden(error),
            stopping=status in ACTIVE and stopped,
            part_of=job.part_of,
            seconds=seconds,
        )


def _has_ended(entry: Entry) -> bool:
    if not entry.folder.is_dir():
        return True
    with contextlib.suppress(ProjectError):  # a torn record says nothing; its process does
        job = Job(entry.folder)
        if job.begun:
            return job.status != "running"
    return workers.find(entry.pid, entry.born) is None


def _asked_for(job: Job) -> tuple[str, StageConfig]:
    """The stage and the settings that a job was made for."""
    made = job.config
    return made["stage"], CONFIGS[made["stage"]].from_dict(made["settings"])


def _last_words(job: Job) -> str:
    """What a worker said that ended before it had made its job."""
    if not job.output.exists():
        return "the server was stopped before it began."
    lines = job.output.read_text(errors="replace").strip().splitlines()
    return next((line for line in reversed(lines) if line.startswith("Error:")), "it ended early.")
