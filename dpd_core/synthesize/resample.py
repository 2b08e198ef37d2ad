"""Sampling slots of a finished distilled set anew: more candidates, from the next round of seeds.

Everything comes from the set's own recipe (settings, adapter, classifier, captions), not from what
the project has become since, so the set stays one of its recipe. The new candidates are added to
the slot's; the best of them becomes its image, which is how the old one is rejected. A round's
seeds derive from (project seed, class, slot, round, candidate), so the same request on a copy of
the set gives the same images.
"""

from __future__ import annotations

from typing import Any

from dpd_core import storage
from dpd_core.captions.log import Caption
from dpd_core.config import ResampleConfig, SynthesizeConfig
from dpd_core.errors import ConfigError, ProjectError
from dpd_core.events import Emit, Making, Meter, Preview, ignore
from dpd_core.models.backbone import model_identity
from dpd_core.models.latents import latents_for
from dpd_core.project import Project
from dpd_core.synthesize import edits as set_edits
from dpd_core.synthesize.sets import DistilledSet
from dpd_core.synthesize.slot_files import save_candidates
from dpd_core.synthesize.stage import Sampler, Task, project_sampler, sampling_backbone
from dpd_core.synthesize.strategies import get_strategy
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
    emit(Making(COMMAND, project.relative(distilled.root)))
    sampler = _sampler(project, distilled, records, emit)
    meter = Meter(emit, COMMAND, len(records), message="sampling candidates")
    for task, made, images in sampler.fill([_task(record) for record in records]):
        with set_edits.editing(project, distilled.name) as current:
            record = set_edits.slot_record(current, task.class_name, task.slot)
            merged = _merged(record, made, task.round)
            first = len(record["candidates"])
            save_candidates(current.root, merged, images, first=first)
            set_edits.commit(project, current, [merged])
        path = project.relative(distilled.root / task.file)
        emit(Preview(COMMAND, task.slot, path, task.caption.text))
        meter.advance()
    names = [set_edits.slot_name(record["class"], record["slot"]) for record in records]
    return {"set": distilled.name, "slots": names}


def _asked(distilled: DistilledSet, config: ResampleConfig) -> list[dict[str, Any]]:
    wanted = dict.fromkeys(set_edits.read_slot_name(name) for name in config.slots if name)
    if not wanted:
        raise ConfigError(
            "no slot is named.", where="resample.slots", fix="Name at least one, as CLASS/NUMBER."
        )
    records = [set_edits.slot_record(distilled, *key) for key in wanted]
    for record in records:
        if record.get("pinned"):
            name = set_edits.slot_name(record["class"], record["slot"])
            raise ProjectError(f"{name} is pinned.", where=distilled.root, fix="Unpin it first.")
    return records


def _task(record: dict[str, Any]) -> Task:
    caption = Caption(
        record["caption"], "", record.get("caption_version", 0), "", record["prototype_id"]
    )
    return Task(
        record["class"],
        record["slot"],
        record["prototype_id"],
        record.get("prototype_file", ""),
        caption,
        round=record.get("round", 0) + 1,
    )


def _sampler(
    project: Project, distilled: DistilledSet, records: list[dict[str, Any]], emit: Emit
) -> Sampler:
    """What made the set, loaded again."""
    recipe = storage.read_json(distilled.root / "recipe.json")["recipe"]
    again = "Make the set again."
    if recipe["model"] != model_identity(project.config):
        raise ProjectError(
            "the project's model or image size is not the set's any more.",
            where=distilled.root,
            fix=again,
        )
    config = SynthesizeConfig.from_dict(recipe["settings"])
    latents = latents_for(project, ("train",), emit=emit, stage=COMMAND)
    lost = {slot.prototype_id for slot in distilled.slots} - set(latents.ids)
    if lost:
        raise ProjectError(
            f"{min(lost)} is a prototype and no training image any more.",
            where=distilled.root,
            fix=again,
        )
    classifier = load_classifier(project, recipe["classifier"])
    adapter = adapters.find_adapter(project, recipe["adapter"]) if recipe["adapter"] else None
    backbone = sampling_backbone(project, adapter, get_strategy(config.strategy), config.decoder)
    prototype_ids: dict[str, list[str]] = {}
    for slot in sorted(distilled.slots, key=lambda slot: (slot.class_name, slot.slot)):
        prototype_ids.setdefault(slot.class_name, []).append(slot.prototype_id)
    return project_sampler(
        project, backbone, classifier, latents, config, prototype_ids, seed=recipe["seed"]
    )


def _merged(record: dict[str, Any], made: dict[str, Any], number: int) -> dict[str, Any]:
    """The slot with the new candidates behind the old ones, and the best new one chosen."""
    first = len(record["candidates"])
    new = [
        {**candidate, "index": first + candidate["index"], "round": number}
        for candidate in made["candidates"]
    ]
    return {
        **record,
        "candidates": record["candidates"] + new,
        "chosen": first + made["chosen"],
        "chosen_by": set_edits.BY_SCORE,
        "round": number,
    }
