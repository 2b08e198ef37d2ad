"""Whether a finished stage is still what a run of it would make now.

A stage is *current* while its settings, the ids of the stages it was made from and what people
have written by hand since (:mod:`dpd_core.pipeline.hand_edits`) are the ones on record, and
everything before it is current too. ``run`` skips current stages, so it can be started again after
any end.

It is asked here and not of the project itself, because the answer takes what people write, and
the modules that know it (captions, labels, adapters, sets) all work on a project.
"""

from __future__ import annotations

from typing import Any

from dpd_core.config import ProjectConfig
from dpd_core.pipeline.hand_edits import HandEdits, matches
from dpd_core.project import Project
from dpd_core.settings import StageConfig

UPSTREAM: dict[str, tuple[str, ...]] = {
    "dataset": (),
    "prototypes": ("dataset",),
    "captions": ("prototypes",),
    "train": ("captions",),
    "synthesize": ("captions", "train"),
    "evaluate": ("synthesize",),
    "export": ("synthesize",),
}
"""The stages whose results a stage reads; an id carries everything before it along."""


def inputs_now(project: Project, stage: str) -> dict[str, Any]:
    """From what a stage would be made now: the ids of the stages before it, and under
    ``by_hand`` the digests of what people have written.

    Ask before the stage starts: captions may be edited while it runs.
    """
    stages = project.manifest()["stages"]
    return {**_upstream_ids(stage, stages), "by_hand": HandEdits(project).of(stage)}


def is_current(project: Project, stage: str, config: StageConfig | None = None) -> bool:
    """Whether the stage is finished, with these settings (if given) and from what the stages
    before it, and people, say now."""
    return _is_current(stage, config, project.manifest(), HandEdits(project))


def _is_current(
    stage: str, config: StageConfig | None, manifest: dict[str, Any], edits: HandEdits
) -> bool:
    record = manifest["stages"].get(stage)
    if record is None:
        return False
    recorded = dict(record["inputs"])
    by_hand = recorded.pop("by_hand", {})
    if recorded != _upstream_ids(stage, manifest["stages"]):
        return False
    if record["project_settings"] != ProjectConfig.from_dict(manifest["settings"]).to_dict():
        return False
    if config is not None and config.to_dict() != record["settings"]:
        return False
    used = record["result"].get("set")
    return matches(by_hand, edits.of(stage), used=used) and all(
        _is_current(earlier, None, manifest, edits) for earlier in UPSTREAM[stage]
    )


def _upstream_ids(stage: str, stages: dict[str, Any]) -> dict[str, str]:
    return {name: stages[name]["id"] for name in UPSTREAM[stage] if name in stages}
