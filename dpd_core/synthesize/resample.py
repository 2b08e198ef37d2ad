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
from dpd_core.hardware import choose_hardware
from dpd_core.models.backbone import model_identity
from dpd_core.models.latents import latents_for
from dpd_core.project import Project
from dpd_core.prototypes.files import Slot, load_members
from dpd_core.synthesize.choice import best, pick
from dpd_core.synthesize.edits import commit, editing
from dpd_core.synthesize.records import BY_SCORE, SlotRecord
from dpd_core.synthesize.resolved import resolved
from dpd_core.synthesize.sampler import Sampler, SlotTask, project_sampler, sampling_backbone
from dpd_core.synthesize.sets import DistilledSet, read_recipe, save_candidates
from dpd_core.synthesize.starts import members_key, slot_members
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
            if sampler.resolved.chooses_together:
                merged = _chosen(project, current, merged, task.round, emit)
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
    if how.from_members and recipe.members != members_key(slot_members(load_members(project))):
        raise ProjectError(
            "the clusters are not those that the set was made from.",
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
        project,
        backbone,
        how,
        latents,
        classifier,
        prototype_ids,
        seed=recipe.seed,
        emit=emit,
        stage=COMMAND,
    )


def _chosen(
    project: Project, current: DistilledSet, merged: SlotRecord, number: int, emit: Emit
) -> SlotRecord:
    """The slot with that of its new candidates chosen which serves the set as it stands best, and
    the best of the new ones kept."""
    new = [candidate for candidate in merged.candidates if candidate.round == number]
    open_to = [candidate.index for candidate in new if not candidate.refused]
    records = [merged if record.slot == merged.slot else record for record in current.slots]
    picked = pick(
        project,
        current.root,
        records,
        {merged.slot: open_to or [merged.image.index]},
        choose_hardware(project.config),
        emit,
        stage=COMMAND,
    )[merged.slot]
    kept = best(picked)
    candidates = tuple(
        replace(candidate, score=picked.scores.get(candidate.index, candidate.score))
        for candidate in merged.candidates
        if candidate.round != number or candidate.index in kept
    )
    for candidate in set(new) - set(candidates):
        if candidate.index not in kept:
            (current.root / merged.candidate_file(candidate)).unlink(missing_ok=True)
    return replace(
        merged,
        candidates=candidates,
        chosen=[candidate.index for candidate in candidates].index(picked.chosen),
        sampled=merged.sampled + len(new),
        refused=merged.refused + sum(candidate.refused for candidate in new),
    )


def _merged(record: SlotRecord, made: SlotRecord, number: int) -> SlotRecord:
    """The slot with the new candidates behind the old ones, and the best new one chosen."""
    first = 1 + max(candidate.index for candidate in record.candidates)
    new = tuple(
        replace(candidate, index=first + candidate.index, round=number)
        for candidate in made.candidates
    )
    return replace(
        record,
        candidates=record.candidates + new,
        chosen=len(record.candidates) + made.chosen,
        chosen_by=BY_SCORE,
        round=number,
    )
