"""What the tab of the stage ``train`` asks of the core."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from app.server.jobs import JobQueue, JobView
from app.ui.job_status import made_by
from dpd_core.config import TrainConfig
from dpd_core.controls import SAMPLE_NOW
from dpd_core.errors import ModelError, ProjectError
from dpd_core.hardware import choose_hardware
from dpd_core.models.files import folder_at_hand
from dpd_core.project import Project
from dpd_core.train.adapters import Run, chosen_adapter, list_runs
from dpd_core.train.memory import gpu_memory, needed, told

STAGE = "train"


@dataclass(frozen=True)
class Trainings:
    """The trainings of a project as they stand.

    Attributes:
        runs: All, newest first.
        main: The one in front: the one at work, else the newest.
        active: Id of the one at work.
        used: Id of the one whose adapter synthesis takes.
    """

    runs: list[Run]
    main: Run | None
    active: str | None
    used: str | None

    def chosen(self, ids: Sequence[str]) -> list[Run]:
        """The main run, then those of these ids."""
        front = [self.main] if self.main is not None else []
        return front + [run for run in self.runs if run.id in ids and run is not self.main]


def trainings(project: Project, job: JobView | None) -> Trainings:
    """Read a project's trainings; ``job`` is its newest training job."""
    runs = list_runs(project)
    active = made_by(job) if job is not None and job.active else None
    by_id = {run.id: run for run in runs}
    main = by_id.get(active or "", runs[0] if runs else None)
    record = project.record(STAGE)
    used = chosen_adapter(project) or (record["result"].get("adapter") if record else None)
    return Trainings(runs, main, active, used)


def training_job(project: Project, queue: JobQueue) -> JobView | None:
    """The training at work, else the first that waits, else the newest."""
    return queue.of_stages(project, STAGE)


def find_run(project: Project, run_id: Any) -> Run:
    """A training by an id that came from the browser.

    Raises:
        ModelError: there is none.
    """
    for run in list_runs(project):
        if run.id == run_id:
            return run
    raise ModelError("there is no such training.", where=project.root, fix="Reload the page.")


def memory_needed(project: Project, config: TrainConfig) -> str:
    """A sentence on the GPU memory that a training takes; empty where there is nothing to say, or
    the model is not on this machine yet."""
    folder = folder_at_hand(project.config.model)
    if folder is None:
        return ""
    hardware = choose_hardware(project.config)
    estimate = needed(folder, project.config, config, hardware)
    if not estimate.weights + estimate.trained:
        return ""  # its weights are still being downloaded
    said, warning = told(estimate, hardware, detail=f"about {estimate.total:.1f} GB of memory")
    if not said:
        return ""
    if not warning and (there := gpu_memory(hardware)) is not None:
        said += f"; this GPU has {there:.1f} GB"
    text = f"{said[0].upper()}{said[1:]}."
    return f"{text} ⚠ {warning[0].upper()}{warning[1:]}." if warning else text


def sample_now(project: Project, queue: JobQueue) -> None:
    """Ask the training at work for preview images after its current step.

    Raises:
        ProjectError: none is at work.
    """
    job = training_job(project, queue)
    if job is None or job.status not in ("running", "paused", "starting"):
        raise ProjectError("no training is running.", fix="Start one.")
    job.job.ask(SAMPLE_NOW)
