"""A job: one stage run of one project, with everything about it in a folder.

``jobs/<id>/`` holds ``config.json`` (stage, settings, the command that does the same),
``events.jsonl`` (everything the stage said) and ``state.json``. Whoever wants to follow a job
reads these files; whoever wants it to stop or to wait puts a file named ``stop`` or ``pause``
beside them, and other requests likewise (see :mod:`dpd_core.controls`).
"""

from __future__ import annotations

import datetime
import importlib
import os
import secrets
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dpd_core import STAGES, controls, storage
from dpd_core.errors import DPDError, JobStopped
from dpd_core.events import Done, Emit, Event, Failed, Log, to_dict
from dpd_core.pipeline.staleness import inputs_now, is_current
from dpd_core.pipeline.verify import files_left
from dpd_core.project import Project
from dpd_core.settings import StageConfig, command_line
from dpd_core.synthesize.edits import mend

MODULES = {
    "dataset": "dpd_core.dataset.stage",
    "prototypes": "dpd_core.prototypes.stage",
    "captions": "dpd_core.captions.stage",
    "train": "dpd_core.train.stage",
    "synthesize": "dpd_core.synthesize.stage",
    "evaluate": "dpd_core.evaluate.stage",
    "export": "dpd_core.export.stage",
    "preview": "dpd_core.synthesize.preview",
    "resample": "dpd_core.synthesize.resample",
}
"""Where each stage's ``run`` lives. Imported when the stage starts, because torch and its
friends take seconds to import."""

_PAUSE_SECONDS = 0.2

_FIX = "Delete the job's folder; it is a protocol and nothing needs it."


@dataclass(frozen=True)
class Job:
    """A job folder, running or ended."""

    folder: Path

    @property
    def id(self) -> str:
        """Name of the folder: time, stage and a random part."""
        return self.folder.name

    @property
    def config(self) -> dict[str, Any]:
        """``stage``, ``settings`` and ``command``."""
        kinds = {"stage": str, "settings": dict, "command": str}
        return storage.read_record(self.folder / "config.json", kinds, fix=_FIX)

    @property
    def status(self) -> str:
        """``running``, ``done``, ``stopped``, ``failed`` or ``interrupted`` (its process is
        gone without having said anything)."""
        kinds = {"status": str, "pid": int, "process_started": int | float}
        state = storage.read_record(self.folder / "state.json", kinds, fix=_FIX)
        if state["status"] == "running" and not _alive(state["pid"], state["process_started"]):
            return "interrupted"
        return state["status"]

    def events(self) -> list[dict[str, Any]]:
        """Everything the job has said so far, as dicts of :func:`events.to_dict`."""
        return storage.read_json_lines(self.folder / "events.jsonl")

    def request_stop(self) -> None:
        """Ask the job to stop at its next event, keeping what it has finished."""
        storage.write_bytes(self.folder / "stop", b"")

    @property
    def stop_requested(self) -> bool:
        """Whether someone asked it to stop."""
        return (self.folder / "stop").exists()

    @property
    def pause_requested(self) -> bool:
        """Whether someone asked it to wait."""
        return (self.folder / "pause").exists()


def list_jobs(project: Project) -> list[Job]:
    """All jobs of a project, oldest first."""
    return [Job(path.parent) for path in sorted(project.path("jobs").glob("*/state.json"))]


def run_stage(
    project: Project,
    stage: str,
    config: StageConfig,
    *,
    listen: Emit | None = None,
    on_start: Callable[[Job], None] | None = None,
) -> dict[str, Any]:
    """Run a stage as a job, in this process, and put its result on record.

    A command that is no stage (``preview``, ``resample``) runs likewise, but leaves no record.

    Args:
        project: The project; locked for as long as the stage runs.
        stage: Stage name.
        config: Its settings.
        listen: Also called with every event.
        on_start: Called with the job once its folder is there.

    Returns:
        The stage's result.

    Raises:
        DPDError: what the stage raised; :class:`JobStopped` if it was asked to stop.
    """
    if not is_main_process():
        return _module(stage).run(project, config, lambda event: None)
    with project.lock():
        storage.tidy(project.root)
        mend(project)
        inputs = inputs_now(project, stage) if stage in STAGES else {}
        job = _new_job(project, stage, config)
        if on_start is not None:
            on_start(job)

        def emit(event: Event) -> None:
            storage.append_json_line(job.folder / "events.jsonl", to_dict(event))
            if listen is not None:
                listen(event)
            while job.pause_requested and not job.stop_requested:
                time.sleep(_PAUSE_SECONDS)
            if job.stop_requested and not isinstance(event, Done | Failed):
                raise JobStopped(
                    "stopped as asked; what was finished is kept.",
                    where=f"job {job.id}",
                    fix="Run the stage again to go on.",
                )

        try:
            with controls.listening(job.folder):
                result = _module(stage).run(project, config, emit)
            if stage in STAGES:
                files = files_left(project, stage, result)
                project.finish(stage, config, result, inputs=inputs, files=files)
        except BaseException as error:
            stopped = isinstance(error, JobStopped | KeyboardInterrupt)
            message = str(error) if isinstance(error, DPDError) else repr(error)
            _end(job, "stopped" if stopped else "failed", error=message)
            emit(Failed(stage, message, stopped))
            raise
        _end(job, "done", result=result)
        emit(Done(stage, result))
        return result


def skip_current(project: Project, stage: str, config: StageConfig, listen: Emit) -> bool:
    """Whether a stage needs no run, because it is finished with these settings; says so."""
    if not is_current(project, stage, config):
        return False
    listen(Log(stage, "is finished already with these settings"))
    return True


def is_main_process() -> bool:
    """Whether this is the first of the processes that a launcher (torchrun, accelerate) started."""
    return int(os.environ.get("RANK", "0")) == 0


def _module(stage: str) -> Any:
    return importlib.import_module(MODULES[stage])


def announce(
    project: Project, stage: str, config: StageConfig, *, job_id: str | None = None
) -> Job:
    """Make the folder of a job that is to be run, with its ``config.json``; without an id, one is
    made of time, stage and a random part."""
    stamp = datetime.datetime.now(datetime.UTC).strftime("%Y%m%d-%H%M%S-%f")
    job = Job(project.path("jobs", job_id or f"{stamp}-{stage}-{secrets.token_hex(2)}"))
    storage.write_json(
        job.folder / "config.json",
        {
            "stage": stage,
            "settings": config.to_dict(),
            "command": command_line(stage, config, project.root),
        },
    )
    return job


def _new_job(project: Project, stage: str, config: StageConfig) -> Job:
    import psutil

    # Whoever starts this process may have announced the job already.
    job = announce(project, stage, config, job_id=os.environ.pop("DPD_JOB_ID", None))
    storage.write_json(
        job.folder / "state.json",
        {
            "status": "running",
            "pid": os.getpid(),
            "process_started": psutil.Process().create_time(),
            "started": time.time(),
        },
    )
    return job


def _end(job: Job, status: str, **more: Any) -> None:
    state = storage.read_json(job.folder / "state.json")
    storage.write_json(
        job.folder / "state.json", {**state, "status": status, "ended": time.time(), **more}
    )


def _alive(pid: int, started: float) -> bool:
    """Whether the process is there and is the one that started then, not a later one."""
    import psutil

    try:
        return abs(psutil.Process(pid).create_time() - started) < 1.0
    except (psutil.NoSuchProcess, OverflowError, ValueError):  # a forged number
        return False
