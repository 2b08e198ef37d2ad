"""Whether a finished stage is still what a run of it would make now.

A stage is *current* while its settings, the ids of the stages it was made from and what people
have written by hand since are the ones on record, and everything before it is current too. ``run``
skips current stages, so it can be started again after any end.

People write into the project at any time, while no stage runs or while one does: chosen and
excluded prototypes, corrected classes, captions, class names in words, images of a distilled set.
Each has a digest here, which the stages that read it record.

It is asked here and not of the project itself, because the answer takes what people write, and
the modules that know it (captions, labels, adapters, sets) all work on a project.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from dpd_core import storage
from dpd_core.captions.current import captions_digest
from dpd_core.config import ProjectConfig
from dpd_core.dataset.index import read_names
from dpd_core.dataset.labels import read_labels
from dpd_core.errors import DPDError, StageMissing
from dpd_core.pipeline.stages import TABLE
from dpd_core.project import Project
from dpd_core.prototypes.overrides import read_overrides
from dpd_core.settings import StageConfig
from dpd_core.synthesize.edits import choices
from dpd_core.train.adapters import chosen_adapter


def overrides_digest(project: Project) -> str:
    """Digest of the prototypes chosen and the images excluded by hand; empty if there are none."""
    given = read_overrides(project)
    chosen = {name: clusters for name, clusters in given.chosen.items() if clusters}
    return storage.digest(sorted(given.excluded), chosen) if given.excluded or chosen else ""


def labels_digest(project: Project) -> str:
    """Digest of the classes that people corrected."""
    labels = read_labels(project)
    return storage.digest(labels) if labels else ""


def texts_digest(project: Project) -> str:
    """Digest of the captions as they stand; without prototypes there are none."""
    try:
        return captions_digest(project)
    except StageMissing:
        return ""


def names_digest(project: Project) -> str:
    """Digest of the class names that people wrote."""
    names = read_names(project)
    return storage.digest(names) if names else ""


def adapter_digest(project: Project) -> str:
    """Digest of the adapter that was chosen by hand."""
    name = chosen_adapter(project)
    return storage.digest(name) if name else ""


BY_HAND: dict[str, Callable[[Project], str | dict[str, str]]] = {
    "overrides": overrides_digest,
    "labels": labels_digest,
    "texts": texts_digest,
    "names": names_digest,
    "adapter": adapter_digest,
    "set": choices,
}
"""What people write, by the name under which stages record it: its digest, or (``set``) a digest
by the name of each distilled set, of which a stage reads one."""


class HandEdits:
    """The digests of a project, each computed once, when first asked for."""

    def __init__(self, project: Project):
        self.project = project
        self._known: dict[str, str | dict[str, str]] = {}

    def of(self, stage: str) -> dict[str, Any]:
        """The digests that a stage depends on, by name.

        A file that cannot be read has a digest of its own, which no record holds: the stage is
        not current, and running it says what is wrong.
        """
        return {name: self._digest(name) for name in TABLE[stage].by_hand}

    def _digest(self, name: str) -> str | dict[str, str]:
        if name not in self._known:
            try:
                self._known[name] = BY_HAND[name](self.project)
            except DPDError as error:
                self._known[name] = storage.digest("unreadable", name, error.what)
        return self._known[name]


def inputs_now(project: Project, stage: str) -> dict[str, Any]:
    """From what a stage would be made now: the ids of the stages before it, and under
    ``by_hand`` the digests of what people have written.

    Ask before the stage starts: captions may be edited while it runs.
    """
    stages = project.manifest()["stages"]
    return {**_ids_before(stage, stages), "by_hand": HandEdits(project).of(stage)}


def is_current(project: Project, stage: str, config: StageConfig | None = None) -> bool:
    """Whether the stage is finished, with these settings (if given) and from what the stages
    before it, and people, say now."""
    return _is_current(stage, config, project.manifest(), HandEdits(project))


def current_stages(project: Project) -> set[str]:
    """The stages that are current, each with the settings it was run with."""
    manifest, edits = project.manifest(), HandEdits(project)
    return {stage for stage in TABLE if _is_current(stage, None, manifest, edits)}


WRITTEN = {
    "overrides": "prototypes were chosen or images excluded by hand",
    "labels": "classes of images were corrected",
    "texts": "captions were edited",
    "names": "classes were renamed",
    "adapter": "another adapter was chosen",
    "set": "images of the set were changed",
}
"""What it means that a digest of :data:`BY_HAND` is another one, in words."""


def why_stale(project: Project, stage: str, config: StageConfig) -> str:
    """Why a run of this stage with these settings would not be skipped, in words; empty if it
    would be. What is said of an earlier stage is not repeated: it may make the same again."""
    manifest = project.manifest()
    record = manifest["stages"].get(stage)
    if record is None:
        return "it has not run yet"
    if record["project_settings"] != ProjectConfig.from_dict(manifest["settings"]).to_dict():
        return "the model, the device or the seed is another one"
    now, then = config.to_dict(), record["settings"]
    changed = [name for name in now if now[name] != then.get(name)]
    if changed:
        return "settings changed: " + ", ".join(name.replace("_", " ") for name in changed)
    edits = _as_read(HandEdits(project).of(stage), record)
    before = _as_read(record["inputs"].get("by_hand", {}), record)
    written = [WRITTEN[name] for name, digest in edits.items() if digest != before.get(name)]
    if written:
        return " and ".join(written)
    if not is_current(project, stage):
        return "an earlier stage is out of date"
    return ""


def _is_current(
    stage: str, config: StageConfig | None, manifest: dict[str, Any], edits: HandEdits
) -> bool:
    record = manifest["stages"].get(stage)
    if record is None:
        return False
    if config is not None and config.to_dict() != record["settings"]:
        return False
    recorded = dict(record["inputs"])
    by_hand = recorded.pop("by_hand", {})
    return (
        recorded == _ids_before(stage, manifest["stages"])
        and record["project_settings"] == ProjectConfig.from_dict(manifest["settings"]).to_dict()
        and _as_read(by_hand, record) == _as_read(edits.of(stage), record)
        and all(_is_current(earlier, None, manifest, edits) for earlier in TABLE[stage].needs)
    )


def _as_read(by_hand: dict[str, Any], record: dict[str, Any]) -> dict[str, Any]:
    """The digests, of the distilled sets only that of the one which the stage has read: what
    people change in other sets does not count."""
    used = record["result"].get("set")
    return {
        name: value.get(used, "") if isinstance(value, dict) else value
        for name, value in by_hand.items()
    }


def _ids_before(stage: str, stages: dict[str, Any]) -> dict[str, str]:
    return {name: stages[name]["id"] for name in TABLE[stage].needs if name in stages}
