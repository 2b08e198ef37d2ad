"""What the tab of the stage ``synthesize`` asks of the core."""

from __future__ import annotations

import gradio as gr

from app.server.jobs import JobDesk, JobView
from app.synthesize.view import SetView
from app.ui.html import sent
from app.ui.job_status import made_by
from dpd_core import storage
from dpd_core.config import ResampleConfig
from dpd_core.errors import DPDError, ProjectError
from dpd_core.project import Project
from dpd_core.synthesize import edits as set_edits
from dpd_core.synthesize.sets import list_sets, set_folder
from dpd_core.train import adapters

_COMMANDS = ("synthesize", "resample")


def set_names(project: Project) -> list[str]:
    """Names of the sets, finished or not: the one at work or made last first."""
    found = {}
    for path in project.path("distilled").glob("*/recipe.json"):
        manifest = path.with_name("manifest.json")
        newest = (manifest if manifest.exists() else path).stat().st_mtime
        found[storage.read_record(path, {"name": str}, fix="Delete the folder.")["name"]] = newest
    found |= {name: 0.0 for name in list_sets(project) if name not in found}
    return sorted(found, key=lambda name: (-found[name], name))


def latest_set(project: Project, desk: JobDesk) -> str:
    """The set that is being made, else the one made last; empty if there is none."""
    names = set_names(project)
    job = synthesis_job(project, desk)
    if job is not None and job.active and job.stage == "synthesize":
        folder = made_by(job)
        for name in names:
            if storage.safe_name(name) == folder:
                return name
    record = project.record("synthesize")
    last = record["result"].get("set") if record else None
    return last if last in names else next(iter(names), "")


def synthesis_job(project: Project, desk: JobDesk) -> JobView | None:
    """The newest job that makes or changes a set."""
    return next((job for job in desk.jobs(project) if job.stage in _COMMANDS), None)


def read_set(project: Project, desk: JobDesk, name: str) -> SetView | None:
    """A set by name, finished or not; ``None`` for no name.

    Raises:
        ProjectError: there is no such set, or it is damaged.
    """
    if not name:
        return None
    root = set_folder(project, name)
    fix = "Run the stage 'synthesize' again."
    planned: list[tuple[str, int, str, str]] = []
    finished = (root / "manifest.json").exists()
    try:
        if (root / "recipe.json").exists():
            recipe = storage.read_record(root / "recipe.json", {"recipe": dict}, fix=fix)["recipe"]
            planned = [(str(c), int(s), str(p), str(t)) for c, s, p, t in recipe.get("slots", [])]
        if finished:
            records = storage.read_record(root / "manifest.json", {"slots": list}, fix=fix)["slots"]
        elif planned:
            records = [storage.read_json(path) for path in sorted((root / "slots").glob("*.json"))]
        else:
            raise ProjectError(
                f"there is no set {name!r}.", where=project.root, fix="Choose another one."
            )
        slots = {(record["class"], record["slot"]): record for record in records}
        planned = planned or [
            (*key, record["prototype_id"], record["caption"]) for key, record in slots.items()
        ]
    except (KeyError, TypeError, ValueError) as error:
        raise ProjectError(f"the set is damaged ({error!r}).", where=root, fix=fix) from error
    return SetView(name, root, sorted(planned), slots, finished, _busy(project, desk, name))


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
        *(
            (f"{one.id[:6]}, finished {one.record.get('finished', '')[:16]}", one.id)
            for one in found
        ),
    ]


def pinned_sets(project: Project, desk: JobDesk) -> list[tuple[str, str]]:
    """(label, value) of the finished sets that have pinned images, after "none"."""
    choices = [("no set: sample all images", "")]
    for name in list_sets(project):
        shown = read_set(project, desk, name)
        pinned = sum(bool(one.get("pinned")) for one in shown.slots.values()) if shown else 0
        if pinned:
            choices.append((f"{name} ({pinned} pinned)", name))
    return choices


def resample(project: Project, desk: JobDesk, set_name: str, class_name: str, slot: int) -> str:
    """Start the job that gives a slot new candidates; returns its id.

    Raises:
        ProjectError: no such slot, a pinned one, or a job is at work.
    """
    with set_edits.editing(project, set_name) as distilled:
        record = set_edits.slot_record(distilled, class_name, slot)
    if record.get("pinned"):
        raise ProjectError("the image is pinned.", fix="Unpin it first.")
    name = set_edits.slot_name(class_name, slot)
    return desk.start(project, "resample", ResampleConfig(set_name=set_name, slots=(name,)))


def slot_of(event: gr.EventData) -> tuple[str, str, int]:
    """Set, class and slot of an event from the browser.

    Raises:
        ProjectError: it does not name them.
    """
    name, class_name, slot = (sent(event, key) for key in ("set", "class_name", "slot"))
    if not isinstance(name, str) or not isinstance(class_name, str) or type(slot) is not int:
        raise ProjectError("the page sent something unusable.", fix="Reload the page.")
    return name, class_name, slot


def _busy(project: Project, desk: JobDesk, name: str) -> frozenset[tuple[str, int]]:
    """Slots of a set that the job at work samples anew."""
    job = synthesis_job(project, desk)
    if job is None or not job.active or job.stage != "resample":
        return frozenset()
    settings = job.job.config["settings"]
    if settings.get("set_name") != name:
        return frozenset()
    return frozenset(set_edits.read_slot_name(one) for one in settings["slots"] if one)
