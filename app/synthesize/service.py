"""What the tab of the stage ``synthesize`` asks of the core."""

from __future__ import annotations

import gradio as gr

from app.server.jobs import JobQueue, JobView
from app.synthesize.view import SetView
from app.ui.html import sent
from app.ui.job_status import made_by
from dpd_core import storage
from dpd_core.config import ResampleConfig
from dpd_core.errors import DPDError, ProjectError
from dpd_core.evaluate.report import load_report
from dpd_core.project import Project
from dpd_core.prototypes.files import Slot
from dpd_core.synthesize.records import PlannedSlot
from dpd_core.synthesize.sets import (
    DistilledSet,
    begun_sets,
    filled_slots,
    is_finished,
    list_sets,
    read_manifest,
    read_recipe,
    set_folder,
)
from dpd_core.train import adapters

_COMMANDS = ("synthesize", "resample")


def set_names(project: Project) -> list[str]:
    """Names of the sets, finished or not: the one at work or made last first."""
    found = dict.fromkeys(list_sets(project), 0.0) | begun_sets(project)
    return sorted(found, key=lambda name: (-found[name], name))


def latest_set(project: Project, queue: JobQueue) -> str:
    """The set that is being made, else the one made last; empty if there is none."""
    names = set_names(project)
    job = synthesis_job(project, queue)
    if job is not None and job.active and job.stage == "synthesize":
        folder = made_by(job)
        for name in names:
            if storage.safe_name(name) == folder:
                return name
    record = project.record("synthesize")
    last = record["result"].get("set") if record else None
    return last if last in names else next(iter(names), "")


def synthesis_job(project: Project, queue: JobQueue) -> JobView | None:
    """The job at work that makes or changes a set, else the first that waits, else the newest."""
    return queue.of_stages(project, *_COMMANDS)


def read_set(project: Project, queue: JobQueue, name: str) -> SetView | None:
    """A set by name, finished or not; ``None`` for no name.

    Raises:
        ProjectError: there is no such set, or it is damaged.
    """
    if not name:
        return None
    root = set_folder(project, name)
    if is_finished(root):
        records = list(read_manifest(root).slots)
        planned = [PlannedSlot(*r.slot, r.prototype_id, r.caption) for r in records]
    elif (root / "recipe.json").exists():
        planned, records = list(read_recipe(root).slots), filled_slots(root)
    else:
        raise ProjectError(
            f"there is no set {name!r}.", where=project.root, fix="Choose another one."
        )
    slots = {record.slot: record for record in records}
    rule = ""
    if (root / "recipe.json").exists():
        rule = str(read_recipe(root).strategy.get("rule", ""))
    busy = _busy(project, queue, name)
    finished = is_finished(root)
    nearness = _nearness(project, name) if finished else ""
    return SetView(name, root, sorted(planned), slots, finished, busy, nearness, rule)


def _nearness(project: Project, name: str) -> str:
    """How near the set comes to real images, as its evaluation has it; empty without one."""
    report = load_report(project, name)
    if report is None or report.privacy is None:
        return ""
    if report.manifest != DistilledSet.load(project, name).digest:
        return "The set was changed after it was evaluated: evaluate it again."
    return report.privacy.sentence


def check_keep(project: Project, name: str) -> str:
    """A set whose pinned images are to be kept, from the browser; empty for none.

    Raises:
        ProjectError: there is no such finished set.
    """
    if name and name not in list_sets(project):
        raise ProjectError(f"there is no finished set {name!r}.", fix="Choose another one.")
    return name


def adapter_choices(project: Project) -> list[tuple[str, str]]:
    """(label, value) of the adapters synthesis can take."""
    found = adapters.list_adapters(project)[::-1]
    try:
        latest = f"latest ({adapters.find_adapter(project).id[:6]})"
    except DPDError:
        latest = "latest"
    return [
        (latest, "latest"),
        ("none: the plain model", "none"),
        *((f"{adapter.id[:6]}, finished {adapter.finished[:16]}", adapter.id) for adapter in found),
    ]


def pinned_sets(project: Project, queue: JobQueue) -> list[tuple[str, str]]:
    """(label, value) of the finished sets that have pinned images, after "none"."""
    choices = [("no set: sample all images", "")]
    for name in list_sets(project):
        pinned = sum(record.pinned for record in read_manifest(set_folder(project, name)).slots)
        if pinned:
            choices.append((f"{name} ({pinned} pinned)", name))
    return choices


def resample(project: Project, queue: JobQueue, set_name: str, slot: Slot) -> str:
    """Start the job that gives a slot new candidates; returns its id.

    Raises:
        ProjectError: no such slot, a pinned one, or a job is at work.
    """
    if DistilledSet.load(project, set_name).find(slot).pinned:
        raise ProjectError("the image is pinned.", fix="Unpin it first.")
    config = ResampleConfig(set_name=set_name, slots=(str(slot),))
    return queue.start(project, "resample", config)


def slot_of(event: gr.EventData) -> tuple[str, Slot]:
    """Set and slot of an event from the browser.

    Raises:
        ProjectError: it does not name them.
    """
    name, class_name, number = (sent(event, key) for key in ("set", "class_name", "slot"))
    if not isinstance(name, str) or not isinstance(class_name, str) or type(number) is not int:
        raise ProjectError("the page sent something unusable.", fix="Reload the page.")
    return name, Slot(class_name, number)


def _busy(project: Project, queue: JobQueue, name: str) -> frozenset[Slot]:
    """Slots of a set that the job at work samples anew."""
    job = synthesis_job(project, queue)
    if job is None or not job.active or job.stage != "resample":
        return frozenset()
    settings = ResampleConfig.from_dict(job.job.config["settings"])
    if settings.set_name != name:
        return frozenset()
    return frozenset(Slot.parse(slot) for slot in settings.slots if slot)
