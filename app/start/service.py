"""What the start page asks of the core and the queue: the plan, its times, and its progress."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from app.server.jobs import JobQueue, JobView
from app.server.uploads import uploaded
from app.ui.messages import of_job
from dpd_core import STAGES
from dpd_core.config import PRESET_NOTES, PRESETS, RunConfig, resolve
from dpd_core.controls import Job
from dpd_core.dataset.index import load_index
from dpd_core.errors import DatasetError, DPDError, ProjectError
from dpd_core.models.files import native_side, resolve_model
from dpd_core.pipeline import estimate, plan
from dpd_core.project import Project
from dpd_core.settings import joined

LOOK_BACK = 80
"""Jobs that are looked through for what a stage's last run took."""


@dataclass(frozen=True)
class Quality:
    """A preset as the page offers it.

    Attributes:
        name: Of :data:`dpd_core.config.PRESETS`.
        note: For whom it is.
        seconds: What all stages are expected to take here.
    """

    name: str
    note: str
    seconds: float


def qualities(project: Project, ipc: int) -> list[Quality]:
    """The presets with their times here."""
    found = []
    for name in PRESETS:
        configs = {stage: resolve(stage, name) for stage in STAGES}
        configs["prototypes"] = configs["prototypes"].replace(ipc=ipc)
        found.append(Quality(name, PRESET_NOTES[name], estimate.seconds(project, configs)))
    return found


def image_side(project: Project) -> int | None:
    """Side in px of the images that will be made; ``None`` for a model that is not here yet."""
    config = project.config
    if config.image_size:
        return config.image_size
    if config.model != "bundled" and not Path(config.model).is_dir():
        return None
    try:
        return native_side(resolve_model(config.model))
    except DPDError:
        return None


def whole_plan(project: Project, quality: str, ipc: int) -> RunConfig:
    """The plan of *Make my data set*: the images as they were read, the rest by the preset.

    Raises:
        ConfigError: no such preset, or a number out of its limits.
        DatasetError: there are no images.
    """
    record = project.record("dataset")
    if record is not None:
        given = {**record["settings"]}
    elif files := uploaded(project):
        given = {"data": str(files[0])}
    else:
        raise DatasetError("there are no images yet.", fix="Drop a folder or a zip first.")
    plain = resolve("dataset", quality).to_dict()
    assignments = [
        f"dataset.{name}={joined(value) if isinstance(value, list) else value}"
        for name, value in given.items()
        if value != plain[name]
    ]
    config = RunConfig(preset=quality, set=(*assignments, f"prototypes.ipc={ipc}"))
    plan.settings(project, config)
    return config


def found_images(project: Project, queue: JobQueue) -> str:
    """A sentence about the images of the project, or about their being read."""
    job = queue.current(project)
    if job is not None and job.stage == "dataset":
        if job.active:
            return f"Reading: {job.message or job.status} …"
        if job.error:
            return of_job(job.error)
    try:
        index = load_index(project)
    except DPDError:
        return ""
    images = sum(info.train + info.test for info in index.classes.values())
    text = f"{images:,} images of {len(index.classes)} classes are there."
    if index.refused:
        text += f" {len(index.refused)} files were refused: the tab Dataset says why."
    return text


def updates(project: Project) -> list[plan.Step]:
    """What a run with the settings of before would do again; empty if nothing was ever made."""
    if project.record("synthesize") is None:
        return []
    try:
        steps = plan.plan(project, RunConfig(update=True, preset="quick"))
    except DPDError:
        return []
    # What was never asked for is not out of date.
    return [step for step in steps if step.reason and project.record(step.stage) is not None]


def update_plan(project: Project, *, retrain: bool) -> RunConfig:
    """The plan of *Update what is out of date*; without training, where only words changed."""
    never = tuple(stage for stage in STAGES if project.record(stage) is None)
    kept = never if retrain else (*never, "train")
    return RunConfig(update=True, preset="quick", keep=kept)


def current_plan(project: Project, queue: JobQueue) -> JobView | None:
    """The plan at work or run last, unless something else was started since."""
    job = queue.current(project)
    return job if job is not None and job.stage == "run" else None


def phases_of(job: JobView) -> list[dict[str, Any]]:
    """The phases of a plan as it last told them."""
    event = next(job.job.last_events("Phases"), None)
    if event is None:  # farther back than the log's end: it is told when phases change
        told = [event for event in job.job.first_events() if event["event"] == "Phases"]
        event = told[-1] if told else None
    return event["phases"] if event else []


def durations(project: Project) -> Mapping[str, float]:
    """Seconds that the last finished run of each stage took."""
    found: dict[str, float] = {}
    for job in reversed(Job.all_in(project.root)[-LOOK_BACK:]):
        if len(found) == len(STAGES):
            break
        try:
            stage, state = job.config["stage"], job.state
            if stage in STAGES and stage not in found and state["status"] == "done":
                found[stage] = float(state["ended"]) - float(state["started"])
        except (ProjectError, KeyError, TypeError, ValueError):  # not begun, or damaged
            continue
    return found
