"""The synthesize stage: a distilled set, resumable at the image.

For each slot several candidates are sampled and one is kept; a strategy that chooses the set
together does that when all are there. See :mod:`dpd_core.synthesize.sets` for what lies where.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import groupby
from pathlib import Path
from typing import Any

from accelerate import PartialState

from dpd_core.captions.current import current_captions
from dpd_core.config import SynthesizeConfig
from dpd_core.dataset.index import load_index
from dpd_core.events import Began, Emit, Log, Meter, Preview, ignore
from dpd_core.hardware import choose_hardware
from dpd_core.models.backbone import model_identity
from dpd_core.models.latents import Latents, latents_for
from dpd_core.project import Project
from dpd_core.prototypes.files import Slot, load_members, load_prototypes
from dpd_core.synthesize.choice import choose_set
from dpd_core.synthesize.contact_sheet import write_contact_sheet
from dpd_core.synthesize.records import Manifest, PlannedSlot, Recipe, SlotRecord
from dpd_core.synthesize.resolved import ResolvedSynthesis, resolved
from dpd_core.synthesize.sampler import SlotTask, project_sampler, sampling_backbone
from dpd_core.synthesize.sets import (
    DistilledSet,
    claim,
    is_filled,
    is_finished,
    put_in_place,
    read_slot,
    save_candidates,
    set_folder,
    take_over,
    write_manifest,
)
from dpd_core.synthesize.starts import members_key, slot_members
from dpd_core.synthesize.strategies import get_strategy
from dpd_core.train import adapters
from dpd_core.train.adapters import Adapter
from dpd_core.train.classifier import LatentClassifier, load_classifier

STAGE = "synthesize"


def run(project: Project, config: SynthesizeConfig, emit: Emit = ignore) -> dict[str, Any]:
    """The synthesize stage: a distilled set in ``distilled/<name>/``.

    Without a name the set is named after its strategy and a digest of its recipe, so the
    same recipe continues an interrupted set and another recipe starts another set.

    Raises:
        StageMissing: an earlier stage has not been run.
        ConfigError: there is no such strategy.
        ModelError: the model cannot be loaded, or what it makes is not finite.
        ProjectError: another recipe has begun under this name.
    """
    how = resolved(config)
    latents = latents_for(project, ("train",), emit=emit, stage=STAGE)
    classifier = load_classifier(project)
    adapter = None if config.adapter == "none" else adapters.find_adapter(project, config.adapter)
    tasks = _tasks(project)
    kept = _kept(project, config, tasks, emit)
    processes = PartialState(cpu=choose_hardware(project.config).device.type == "cpu")
    if processes.num_processes > 1:
        emit(Log(STAGE, f"{processes.num_processes} processes share the work"))
    recipe = _recipe(project, config, how, adapter, classifier, latents, tasks, kept)
    name = config.set_name or f"{config.strategy}-{recipe.identity[:8]}"
    root = set_folder(project, name)
    claim(root, name, recipe)
    emit(Began(STAGE, project.relative(root)))
    for task in tasks:
        if task.slot in kept and not is_filled(root, task.slot):
            take_over(root, *kept[task.slot])
    missing = [task for task in tasks if not is_filled(root, task.slot)]
    if missing:
        backbone = sampling_backbone(project, adapter, how)
        sampler = project_sampler(
            project,
            backbone,
            how,
            latents,
            classifier,
            _by_class(tasks),
            seed=recipe.seed,
            emit=emit,
        )
        meter = Meter(
            emit, STAGE, len(tasks), done=len(tasks) - len(missing), message="sampling images"
        )
        for task, made, images in sampler.fill(missing, processes=processes):
            record = save_candidates(root, made, images)
            put_in_place(root, record)
            path = project.relative(root / record.file)
            emit(Preview(STAGE, task.slot.number, path, task.caption))
            meter.advance(processes.num_processes)
    processes.wait_for_everyone()
    records = [read_slot(root, task.slot) for task in tasks]
    if processes.is_main_process:
        if how.chooses_together and not is_finished(root):
            records = choose_set(
                project, root, records, choose_hardware(project.config), emit, stage=STAGE
            )
        _finish(project, config, name, recipe, records)
    refused = sum(r.refused or sum(c.refused for c in r.candidates) for r in records)
    sampled = sum(r.sampled or len(r.candidates) for r in records)
    if refused:
        emit(Log(STAGE, f"{refused} of {sampled} candidates refused: too near to a real image"))
    return {
        "set": name,
        "images": len(records),
        "strategy": config.strategy,
        "candidates": sampled,
        "refused": refused,
        "named_right": sum(record.is_right for record in records) / len(records),
    }


def _finish(
    project: Project,
    config: SynthesizeConfig,
    name: str,
    recipe: Recipe,
    records: Sequence[SlotRecord],
) -> None:
    """Write the manifest and the contact sheet."""
    manifest = Manifest(
        name=name,
        strategy=config.strategy,
        recipe=recipe.identity,
        model=project.config.model,
        model_identity=recipe.model,
        adapter=recipe.adapter,
        image_size=records[0].size,
        seed=recipe.seed,
        settings=recipe.settings,
        slots=tuple(records),
    )
    write_manifest(set_folder(project, name), manifest)
    write_contact_sheet(DistilledSet.load(project, name), load_index(project))


def _recipe(
    project: Project,
    config: SynthesizeConfig,
    how: ResolvedSynthesis,
    adapter: Adapter | None,
    classifier: LatentClassifier,
    latents: Latents,
    tasks: Sequence[SlotTask],
    kept: Mapping[Slot, tuple[Path, SlotRecord]],
) -> Recipe:
    return Recipe(
        model=model_identity(project.config),
        adapter=adapter.id if adapter else None,
        classifier=classifier.metadata["key"],
        latents=latents.key,
        seed=project.config.seed,
        strategy=get_strategy(config.strategy).definition,
        settings=config.replace(set_name="").to_dict(),
        slots=tuple(PlannedSlot(*task.slot, task.prototype_id, task.caption) for task in tasks),
        members=members_key(slot_members(load_members(project))) if how.from_members else "",
        kept=tuple((*slot, record.image.sha256) for slot, (_, record) in sorted(kept.items())),
    )


def _tasks(project: Project) -> list[SlotTask]:
    captions = current_captions(project)
    tasks = []
    for class_name, prototypes in sorted(load_prototypes(project).items()):
        for prototype in sorted(prototypes, key=lambda prototype: prototype.cluster_id):
            caption = captions[class_name][prototype.cluster_id]
            tasks.append(SlotTask(prototype.slot, caption.text, prototype.id, caption.version))
    return tasks


def _by_class(tasks: Sequence[SlotTask]) -> dict[str, list[str]]:
    return {
        name: [task.prototype_id for task in of_class]
        for name, of_class in groupby(tasks, key=lambda task: task.slot.class_name)
    }


def _kept(
    project: Project, config: SynthesizeConfig, tasks: Sequence[SlotTask], emit: Emit
) -> dict[Slot, tuple[Path, SlotRecord]]:
    """By slot, the folder and the record of the pinned images to take over."""
    if not config.keep_pinned:
        return {}
    source = DistilledSet.load(project, config.keep_pinned)
    pinned = {
        record.slot: (source.root, replace(record, from_set=source.name))
        for record in source.slots
        if record.pinned
    }
    there = {task.slot for task in tasks}
    for slot in sorted(pinned.keys() - there):
        message = f"the pinned {slot} of {source.name} has no place in this set"
        emit(Log(STAGE, message, "warning"))
    return {slot: pinned[slot] for slot in sorted(pinned.keys() & there)}
