"""Sampling slots of a finished distilled set anew: more candidates, from the next round of seeds.

Everything comes from the set's own recipe (settings, adapter, classifier, captions), not from what
the project has become since, so the set stays one of its recipe. The new candidates are added to
the slot's; the best of them becomes its image, which is how the old one is rejected. A round's
seeds derive from (project seed, class, slot, round, candidate), so the same request on a copy of
the set gives the same images.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from dpd_core.config import ResampleConfig, SynthesizeConfig
from dpd_core.errors import ConfigError, ProjectError
from dpd_core.events import Began, Emit, Meter, Preview, ignore
from dpd_core.models.backbone import model_identity
from dpd_core.models.latents import latents_for
from dpd_core.project import Project
from dpd_core.prototypes.files import Slot
from dpd_core.synthesize.edits import commit, editing
from dpd_core.synthesize.records import BY_SCORE, SlotRecord
from dpd_core.synthesize.resolved import resolved
from dpd_core.synthesize.sampler import Sampler, SlotTask, project_sampler, sampling_backbone
from dpd_core.synthesize.sets import DistilledSet, read_recipe, save_candidates
from dpd_core.train import adapters
from dpd_core.train.classifier import load_classifier

COMMAND = "resample"


def run(project: Project, config: ResampleConfig, emit: Emit = ignore) -> dict[str, Any]:
    """The command ``resample``: new candidates for the slots named in ``config.slots``.

    Raises:
        ConfigError: no slot is named, or one is not of the form CLASS/NUMBER.
        ProjectError: no such set or slot, a pinned slot, or the set cannot be made any more
            because the model, a prototype or the classifier has changed.
    """
    distilled = DistilledSet.load(project, config.set_name or "latest")
    records = _asked(distilled, config)
    emit(Began(COMMAND, project.relative(distilled.root)))
    sampler = _sampler(project, distilled, emit)
    meter = Meter(emit, COMMAND, len(records), message="sampling candidates")
    for task, made, images in sampler.fill([_task(record) for record in records]):
        with editing(project, distilled.name) as current:
            record = current.find(task.slot)
            merged = save_candidates(
                current.root,
                _merged(record, made, task.round),
                images,
                first=len(record.candidates),
            )
            commit(project, current, [merged])
        path = project.relative(distilled.path(merged))
        emit(Preview(COMMAND, task.slot.number, path, task.caption))
        meter.advance()
    return {"set": distilled.name, "slots": [str(record.slot) for record in records]}


def _asked(distilled: DistilledSet, config: ResampleConfig) -> list[SlotRecord]:
    wanted = dict.fromkeys(Slot.parse(name) for name in config.slots if name)
    if not wanted:
        raise ConfigError(
            "no slot is named.", where="resample.slots", fix="Name at least one, as CLASS/NUMBER."
        )
    records = [distilled.find(slot) for slot in wanted]
    for record in records:
        if record.pinned:
            raise ProjectError(
                f"{record.slot} is pinned.", where=distilled.root, fix="Unpin it first."
            )
    return records


def _task(record: SlotRecord) -> SlotTask:
    return SlotTask(
        record.slot,
        record.caption,
        record.prototype_id,
        record.caption_version,
        round=record.round + 1,
    )


def _sampler(project: Project, distilled: DistilledSet, emit: Emit) -> Sampler:
    """What made the set, loaded again."""
    recipe = read_recipe(distilled.root)
    again = "Make the set again."
    if recipe.model != model_identity(project.config):
        raise ProjectError(
            "the project's model or image size is not the set's any more.",
            where=distilled.root,
            fix=again,
        )
    how = resolved(SynthesizeConfig.from_dict(recipe.settings))
    latents = latents_for(project, ("train",), emit=emit, stage=COMMAND)
    lost = {record.prototype_id for record in distilled.slots} - set(latents.ids)
    if lost:
        raise ProjectError(
            f"{min(lost)} is a prototype and no training image any more.",
            where=distilled.root,
            fix=again,
        )
    classifier = load_classifier(project, recipe.classifier)
    adapter = adapters.find_adapter(project, recipe.adapter) if recipe.adapter else None
    backbone = sampling_backbone(project, adapter, how)
    prototype_ids: dict[str, list[str]] = {}
    for record in sorted(distilled.slots, key=lambda record: record.slot):
        prototype_ids.setdefault(record.class_name, []).append(record.prototype_id)
    return project_sampler(
        project, backbone, how, latents, classifier, prototype_ids, seed=recipe.seed
    )


def _merged(record: SlotRecord, made: SlotRecord, number: int) -> SlotRecord:
    """The slot with the new candidates behind the old ones, and the best new one chosen."""
    first = len(record.candidates)
    new = tuple(
        replace(candidate, index=first + candidate.index, round=number)
        for candidate in made.candidates
    )
    return replace(
        record,
        candidates=record.candidates + new,
        chosen=first + made.chosen,
        chosen_by=BY_SCORE,
        round=number,
    )
