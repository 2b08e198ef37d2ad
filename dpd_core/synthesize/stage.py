"""From slots to candidates to chosen images, resumable at the image.

A *slot* is one image of the distilled set: class, number, prototype, caption. For each slot
several candidates are sampled and one is kept. Each candidate has its own seed, derived from
(project seed, class, slot, candidate); candidates of several slots share a batch, whose shape
is always the same, so that a slot made again alone is the same image.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from dpd_core import storage
from dpd_core.captions.edits import current_captions
from dpd_core.captions.log import Caption
from dpd_core.config import SynthesizeConfig
from dpd_core.dataset.images import to_square
from dpd_core.dataset.index import load_index
from dpd_core.dataset.pixels import open_record
from dpd_core.errors import ModelError
from dpd_core.events import Emit, Log, Making, Meter, Preview, ignore
from dpd_core.hardware import choose_hardware
from dpd_core.models.backbone import Backbone, Prompts, load_backbone, model_identity
from dpd_core.models.guidance import spherical_target
from dpd_core.models.latents import Latents, latents_for
from dpd_core.models.sampling import sample
from dpd_core.project import Project
from dpd_core.prototypes.files import Slot, load_prototypes
from dpd_core.seeding import derive_seed
from dpd_core.synthesize import edits as set_edits
from dpd_core.synthesize.contact_sheet import write_contact_sheet
from dpd_core.synthesize.guides import Surroundings, build_guide, survey
from dpd_core.synthesize.refine import refine_set
from dpd_core.synthesize.selection import RULES, Candidates
from dpd_core.synthesize.sets import DistilledSet, set_folder, write_manifest
from dpd_core.synthesize.slot_files import finish_slot, save_candidates, slot_path, take_over_slot
from dpd_core.synthesize.strategies import Strategy, get_strategy
from dpd_core.train import adapters
from dpd_core.train.adapters import Adapter
from dpd_core.train.classifier import LatentClassifier, load_classifier

STAGE = "synthesize"


@dataclass(frozen=True)
class Task:
    """One slot to be filled."""

    class_name: str
    slot: int
    prototype_id: str
    prototype_file: str
    caption: Caption
    round: int = 0
    """How often the slot has been sampled before; each round has seeds of its own."""

    @property
    def file(self) -> str:
        """Where its image goes, relative to the set's folder."""
        return f"{storage.safe_name(self.class_name)}/{self.slot:03d}.png"


def run(project: Project, config: SynthesizeConfig, emit: Emit = ignore) -> dict[str, Any]:
    """The synthesize stage: a distilled set in ``distilled/<name>/``.

    Without a name the set is named after its strategy and a digest of its recipe, so the
    same recipe continues an interrupted set and another recipe starts another set.
    """
    from accelerate import PartialState

    strategy = get_strategy(config.strategy)
    latents = latents_for(project, ("train",), emit=emit, stage=STAGE)
    classifier = load_classifier(project)
    adapter = None if config.adapter == "none" else adapters.find_adapter(project, config.adapter)
    tasks = _tasks(project)
    kept = _kept(project, config, tasks, emit)
    processes = PartialState(cpu=choose_hardware(project.config).device.type == "cpu")
    if processes.num_processes > 1:
        emit(Log(STAGE, f"{processes.num_processes} processes share the work"))
    recipe = {
        "model": model_identity(project.config),
        "adapter": adapter.id if adapter else None,
        "classifier": classifier.metadata["key"],
        "latents": latents.key,
        "seed": project.config.seed,
        "strategy": strategy.definition,
        "settings": config.replace(set_name="").to_dict(),
        "slots": [
            [task.class_name, task.slot, task.prototype_id, task.caption.text] for task in tasks
        ],
    }
    if kept:
        recipe["kept"] = [[*key, record.get("sha256")] for key, (_, record) in sorted(kept.items())]
    identity = storage.digest(recipe)
    name = config.set_name or f"{config.strategy}-{identity[:8]}"
    folder = set_folder(project, name)
    _claim(folder, name, identity, recipe)
    emit(Making(STAGE, project.relative(folder)))
    for task in tasks:
        if (task.class_name, task.slot) in kept and not _is_filled(folder, task):
            take_over_slot(folder, task.file, *kept[task.class_name, task.slot])
    missing = [task for task in tasks if not _is_filled(folder, task)]
    backbone, refine_steps = None, strategy.steps_of_refining(config.refine_steps)
    if missing or (refine_steps and not (folder / "manifest.json").exists()):
        backbone = sampling_backbone(project, adapter, strategy, config.decoder)
    if missing and backbone is not None:
        prototype_ids = {
            name: [task.prototype_id for task in of_class]
            for name, of_class in groupby(tasks, key=lambda task: task.class_name)
        }
        sampler = project_sampler(
            project, backbone, classifier, latents, config, prototype_ids, seed=project.config.seed
        )
        meter = Meter(
            emit, STAGE, len(tasks), done=len(tasks) - len(missing), message="sampling images"
        )
        for task, record, images in sampler.fill(missing, processes=processes):
            save_candidates(folder, record, images)
            finish_slot(folder, record)
            emit(Preview(STAGE, task.slot, project.relative(folder / task.file), task.caption.text))
            meter.advance(processes.num_processes)
    processes.wait_for_everyone()
    slots = [storage.read_json(_record_path(folder, task)) for task in tasks]
    if refine_steps and backbone is not None and processes.is_main_process:
        slots = refine_set(project, config, folder, slots, refine_steps, backbone, classifier, emit)
    manifest = {
        "name": name,
        "strategy": config.strategy,
        "recipe": identity,
        "model": project.config.model,
        "model_identity": recipe["model"],
        "adapter": recipe["adapter"],
        "image_size": slots[0]["size"],
        "seed": project.config.seed,
        "settings": recipe["settings"],
        "slots": slots,
    }
    if processes.is_main_process:
        write_manifest(folder, manifest)
        write_contact_sheet(DistilledSet.load(project, name), load_index(project))
    return {
        "set": name,
        "images": len(slots),
        "strategy": config.strategy,
        "named_right": sum(
            slot["candidates"][slot["chosen"]]["predicted"] == slot["class"] for slot in slots
        )
        / len(slots),
    }


def sampling_backbone(
    project: Project, adapter: Adapter | None, strategy: Strategy, decoder: str = "strategy"
) -> Backbone:
    """The model that a strategy samples with.

    Args:
        project: Names the model.
        adapter: Merged into it.
        strategy: Says whether its images are decoded by the adapter's decoder, where it has one.
        decoder: The setting of that name.

    Raises:
        ModelError: a tuned decoder is asked for, and there is none.
    """
    there = adapter is not None and adapter.has_decoder
    if decoder == "tuned" and not there:
        raise ModelError(
            "the adapter has no tuned decoder.",
            where="synthesize.decoder",
            fix="Train with --decoder-steps 200, or leave the choice to the strategy.",
        )
    tuned = decoder == "tuned" or (decoder == "strategy" and strategy.tuned_decoder)
    return load_backbone(
        project, adapter=adapter.folder if adapter else None, decoder=tuned and there
    )


def project_sampler(
    project: Project,
    backbone: Backbone,
    classifier: LatentClassifier,
    latents: Latents,
    config: SynthesizeConfig,
    prototype_ids: Mapping[str, Sequence[str]],
    *,
    seed: int,
) -> Sampler:
    """The sampler of a set of this project.

    Args:
        project: With its training images.
        backbone, classifier, latents, config: What makes the set.
        prototype_ids: *All* prototypes of the set by class name, in the order of the slots, also if
            only some slots are going to be sampled: guidance and selection look at the others.
        seed: The set's seed.
    """
    strategy, index = get_strategy(config.strategy), load_index(project)
    labels = {record.id: record.class_name for record in index.images}
    surroundings = survey(
        prototype_ids, labels, latents, classifier, strategy, _rule(strategy, config), seed=seed
    )

    records = {record.id: record for record in index.images}

    def original(image_id: str) -> Any:
        return to_square(open_record(records[image_id]), backbone.image_size)

    return Sampler(
        backbone,
        classifier,
        latents,
        strategy,
        config,
        seed,
        surroundings=surroundings,
        original=original,
    )


class Sampler:
    """Fills slots with one model, strategy and configuration; see :func:`project_sampler`.

    Args:
        surroundings: What guidance and selection know of the classes.
        original: The image of a prototype's id at the model's size; needed where detail is put
            back.
    """

    def __init__(
        self,
        backbone: Backbone,
        classifier: LatentClassifier,
        latents: Latents,
        strategy: Strategy,
        config: SynthesizeConfig,
        seed: int,
        *,
        surroundings: Surroundings | None = None,
        original: Callable[[str], Any] | None = None,
    ):
        self.backbone, self.latents, self.strategy = backbone, latents, strategy
        self.config, self.seed = config, seed
        self.surroundings = surroundings or Surroundings()
        self.original = original
        self.classifier = classifier.to(backbone.device).eval().requires_grad_(False)

    def fill(
        self, tasks: list[Task], *, processes: Any = None
    ) -> Iterator[tuple[Task, dict[str, Any], Tensor]]:
        """Sample slots and choose.

        Yields:
            Each task with its manifest record and all its candidates, uint8 (n, H, W, 3).
        """
        prompts = self.backbone.encode_prompts([task.caption.text for task in tasks])
        lengths = [embedding.shape[0] for embedding in prompts.embeddings]
        # Only texts of one length share a batch: padding a text to its neighbours' length
        # would change its image.
        order = sorted(range(len(tasks)), key=lambda row: lengths[row])
        groups = [
            group
            for _, same in groupby(order, key=lambda row: lengths[row])
            for group in _groups(list(same), self._slots_per_batch)
        ]
        if processes is not None:
            groups = groups[processes.process_index :: processes.num_processes]
        for group in groups:
            yield from self._fill_group([tasks[row] for row in group], group, prompts)

    @property
    def _slots_per_batch(self) -> int:
        return max(self.config.batch_size // self.config.candidates, 1)

    def _fill_group(
        self, tasks: list[Task], rows: list[int], prompts: Prompts
    ) -> Iterator[tuple[Task, dict[str, Any], Tensor]]:
        config, count = self.config, self.config.candidates
        # A group that is not full is padded by repeating its last slot: kernels may round
        # differently for another batch size.
        padding = self._slots_per_batch - len(tasks)
        full = tasks + [tasks[-1]] * padding
        seeds = [
            derive_seed(self.seed, STAGE, task.class_name, task.slot, *_round(task), candidate)
            for task in full
            for candidate in range(count)
        ]
        draws = [
            torch.randn(
                2, *self.backbone.latent_shape, generator=torch.Generator().manual_seed(seed)
            )
            for seed in seeds
        ]
        noise, directions = torch.stack(draws).unbind(1)
        prototypes = torch.stack([self.latents.of(task.prototype_id).mean for task in full])
        target = prototypes.repeat_interleave(count, dim=0)
        embeddings = prompts.batch(
            [row for row in [*rows, *[rows[-1]] * padding] for _ in range(count)]
        )
        guide = build_guide(
            self.strategy,
            config,
            self.surroundings,
            self.classifier,
            [task.class_name for task in full for _ in range(count)],
            target,
            spherical_target(target, directions) if config.spherical else target,
        )
        sampled = sample(
            self.backbone,
            noise=noise,
            embeddings=embeddings,
            unconditional=prompts.unconditional(embeddings),
            steps=config.steps,
            scheduler=config.scheduler,
            cfg=config.cfg or self.strategy.cfg,
            guide=guide,
            origin=target,
            strength=config.strength or self.strategy.strength,
        )
        with torch.no_grad():
            logits = self.classifier(sampled).float().cpu()
        images = self.backbone.decode_latents(sampled).cpu()
        detail = self._detail([task.prototype_id for task in full], prototypes)
        if detail is not None:
            images = images + detail.repeat_interleave(count, dim=0)
            images = images.round().clamp(0, 255).to(torch.uint8)
        for place, task in enumerate(tasks):
            part = slice(place * count, (place + 1) * count)
            record = self._choose(task, logits[part], sampled[part].cpu(), seeds[part])
            yield task, record, images[part]

    def _detail(self, prototype_ids: list[str], latents: Tensor) -> Tensor | None:
        """What the autoencoder loses of the prototypes, float (B, H, W, 3), if it is wanted."""
        share = self.strategy.detail_share(self.config.detail)
        if share == 0 or self.original is None:
            return None
        images = np.stack([np.asarray(self.original(one)) for one in prototype_ids])
        decoded = self.backbone.decode_latents(latents).cpu().float()
        return share * (torch.from_numpy(images).float() - decoded)

    def _choose(
        self, task: Task, logits: Tensor, latents: Tensor, seeds: list[int]
    ) -> dict[str, Any]:
        classes = self.classifier.classes
        prototype = self.latents.of(task.prototype_id).mean
        candidates = Candidates(
            logits,
            classes.index(task.class_name),
            latents,
            prototype,
            self.surroundings.others(task.class_name, prototype),
            self.surroundings.difficulty(task.class_name, task.slot),
        )
        scores = RULES[_rule(self.strategy, self.config)](candidates)
        return {
            "class": task.class_name,
            "slot": task.slot,
            "file": task.file,
            "size": self.backbone.image_size,
            "prototype_id": task.prototype_id,
            "prototype_file": task.prototype_file,
            "caption": task.caption.text,
            "caption_version": task.caption.version,
            "candidates": [
                {
                    "index": index,
                    "seed": seed,
                    "score": round(score, 6),
                    "predicted": classes[predicted],
                }
                for index, (seed, score, predicted) in enumerate(
                    zip(seeds, scores.tolist(), logits.argmax(1).tolist(), strict=True)
                )
            ],
            "chosen": int(scores.argmax()),
            "chosen_by": set_edits.BY_SCORE,
            "pinned": False,
        }


def _rule(strategy: Strategy, config: SynthesizeConfig) -> str:
    return strategy.rule if config.selection == "strategy" else config.selection


def _tasks(project: Project) -> list[Task]:
    captions = current_captions(project)
    return [
        Task(
            class_name,
            entry.cluster_id,
            entry.id,
            entry.file_name,
            captions[class_name][entry.cluster_id],
        )
        for class_name, entries in sorted(load_prototypes(project).items())
        for entry in sorted(entries, key=lambda entry: entry.cluster_id)
    ]


def _claim(folder: Path, name: str, identity: str, recipe: dict[str, Any]) -> None:
    """Make the folder this recipe's, or refuse if another recipe has begun there."""
    path = folder / "recipe.json"
    if path.exists():
        if storage.read_json(path)["identity"] == identity:
            return
        raise DistilledSet.name_taken(name, folder)
    storage.write_json(path, {"name": name, "identity": identity, "recipe": recipe})


def _kept(
    project: Project, config: SynthesizeConfig, tasks: list[Task], emit: Emit
) -> dict[Slot, tuple[Path, dict[str, Any]]]:
    """By slot, the folder and the record of the pinned images to take over."""
    if not config.keep_pinned:
        return {}
    source = DistilledSet.load(project, config.keep_pinned)
    pinned = {
        Slot(record["class"], record["slot"]): (source.root, {**record, "from_set": source.name})
        for record in source.manifest["slots"]
        if record.get("pinned")
    }
    there = {Slot(task.class_name, task.slot) for task in tasks}
    for key in sorted(pinned.keys() - there):
        emit(
            Log(
                STAGE,
                f"the pinned {set_edits.slot_name(*key)} of {source.name} has no place in this set",
                "warning",
            )
        )
    return {key: pinned[key] for key in sorted(pinned.keys() & there)}


def _round(task: Task) -> tuple[str | int, ...]:
    return ("round", task.round) if task.round else ()


def _record_path(folder: Path, task: Task) -> Path:
    return slot_path(folder, task.class_name, task.slot)


def _is_filled(folder: Path, task: Task) -> bool:
    return _record_path(folder, task).exists() and (folder / task.file).exists()


def _groups(rows: list[int], size: int) -> Iterator[list[int]]:
    for start in range(0, len(rows), size):
        yield rows[start : start + size]
