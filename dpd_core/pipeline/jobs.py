"""A job: one stage run of one project, with everything about it in a folder.

What the folder holds, and how one asks a run to stop or to wait, is :mod:`dpd_core.controls`.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable, Iterator
from typing import Any

from dpd_core import STAGES, controls, storage
from dpd_core.controls import JOB_ID, PAUSE, STOP, Job
from dpd_core.errors import DPDError, JobStopped
from dpd_core.events import Done, Emit, Event, Failed, Log
from dpd_core.pipeline.stages import COMMANDS
from dpd_core.pipeline.staleness import inputs_now, is_current
from dpd_core.pipeline.verify import files_left
from dpd_core.project import Project
from dpd_core.settings import StageConfig
from dpd_core.synthesize.edits import mend

_PAUSE_SECONDS = 0.2


def run_stage(
    project: Project,
    stage: str,
    config: StageConfig,
    *,
    listen: Emit | None = None,
    on_start: Callable[[Job], None] | None = None,
) -> dict[str, Any]:
    """Run a stage as a job, in this process, and put its result on record.

    A command that is no stage (``preview``, ``resample``) runs likewise, but leaves no record. One
    that runs stages leaves the project to them: what people write is asked for before each.

    Args:
        project: The project; locked for as long as the stage runs.
        stage: Name of the stage or command.
        config: Its settings.
        listen: Also called with every event.
        on_start: Called with the job once its folder is there.

    Returns:
        The stage's result.

    Raises:
        DPDError: what the stage raised; :class:`JobStopped` if it was asked to stop.
    """
    command = COMMANDS[stage]
    if not is_main_process():
        return command.run(project, config, lambda event: None)
    with contextlib.nullcontext() if command.runs_stages else _tidied(project):
        inputs = inputs_now(project, stage) if stage in STAGES else {}
        job = Job.announce(project.root, stage, config, job_id=os.environ.pop(JOB_ID, None))
        job.begin()
        if on_start is not None:
            on_start(job)

        def emit(event: Event) -> None:
            job.say(event)
            if listen is not None:
                listen(event)
            while job.asked(PAUSE) and not job.asked(STOP):
                time.sleep(_PAUSE_SECONDS)
            if job.asked(STOP) and not isinstance(event, Done | Failed):
                raise JobStopped(
                    "stopped as asked; what was finished is kept.",
                    where=f"job {job.id}",
                    fix="Run the stage again to go on.",
                )

        try:
            with controls.listening(job):
                result = command.run(project, config, emit)
            if stage in STAGES:
                files = files_left(project, stage, result)
                project.finish(stage, config, result, inputs=inputs, files=files)
        except BaseException as error:
            stopped = isinstance(error, JobStopped | KeyboardInterrupt)
            message = str(error) if isinstance(error, DPDError) else repr(error)
            if isinstance(error, KeyboardInterrupt):
                message = "stopped as asked; what was finished is kept."
            job.end("stopped" if stopped else "failed", error=message)
            emit(Failed(stage, message, stopped))
            raise
        job.end("done", result=result)
        emit(Done(stage, result))
        return result


@contextlib.contextmanager
def _tidied(project: Project) -> Iterator[None]:
    """The project locked, and without what killed processes have left."""
    with project.lock():
        storage.tidy(project.root)
        mend(project)
        yield


def skip_current(project: Project, stage: str, config: StageConfig, listen: Emit) -> bool:
    """Whether a stage needs no run, because it is finished with these settings; says so."""
    if not is_current(project, stage, config):
        return False
    listen(Log(stage, "is finished already with these settings"))
    return True


def is_main_process() -> bool:
    """Whether this is the first of the processes that a launcher (torchrun, accelerate) started."""
    return int(os.environ.get("RANK", "0")) == 0
