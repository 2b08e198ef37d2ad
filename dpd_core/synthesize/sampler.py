"""From slots to candidates: sampling under guidance, and the choice among a slot's candidates.

Each candidate has its own seed, derived from (project seed, class, slot, candidate). Candidates of
several slots share a batch, whose shape is always the same, so that a slot made again alone is the
same image.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any

import numpy as np
import torch
from torch import Tensor

from dpd_core.dataset.images import to_square
from dpd_core.dataset.index import load_index
from dpd_core.dataset.pixels import open_record
from dpd_core.errors import ModelError
from dpd_core.events import Emit, ignore
from dpd_core.models.backbone import Backbone, load_backbone
from dpd_core.models.guidance import spherical_target
from dpd_core.models.latents import Latents
from dpd_core.models.prompts import Prompts
from dpd_core.models.sampling import sample
from dpd_core.project import Project
from dpd_core.prototypes.files import Slot, load_members
from dpd_core.seeding import derive_seed
from dpd_core.students.copies import Likeness
from dpd_core.synthesize.guard import CopyGuard, copy_guard
from dpd_core.synthesize.guides import ClassContext, build_guide, class_context
from dpd_core.synthesize.records import Candidate, SlotRecord
from dpd_core.synthesize.resolved import ResolvedSynthesis
from dpd_core.synthesize.selection import RULES, Candidates
from dpd_core.synthesize.sets import slot_file
from dpd_core.synthesize.starts import MemberStarts, slot_members
from dpd_core.train.adapters import Adapter
from dpd_core.train.classifier import LatentClassifier

STAGE = "synthesize"


@dataclass(frozen=True)
class SlotTask:
    """One slot to be filled.

    Attributes:
        slot: The slot.
        caption, caption_version: Its text, and the text's version in the caption log.
        prototype_id: Image id of its prototype; empty only where the strategy needs none.
        round: How often it has been sampled before; each round has seeds of its own.
    """

    slot: Slot
    caption: str
    prototype_id: str = ""
    caption_version: int = 0
    round: int = 0

    def seed(self, seed: int, candidate: int) -> int:
        """The seed of a candidate in a project of a seed."""
        rounds = ("round", self.round) if self.round else ()
        return derive_seed(seed, STAGE, *self.slot, *rounds, candidate)


@dataclass(frozen=True)
class Samples:
    """What was sampled for a slot, n candidates.

    Attributes:
        task: For what.
        images: uint8 (n, H, W, 3).
        latents: (n, C, h, w).
        logits: Of the latent classifier, (n, classes); ``None`` without one.
        seeds: Of the candidates.
        members: Ids of the images that each one's start was joined of; empty: of another start.
    """

    task: SlotTask
    images: Tensor
    latents: Tensor
    logits: Tensor | None
    seeds: list[int]
    members: list[tuple[str, ...]]


class Sampler:
    """Samples slots with one model, one way of synthesis and one seed; see :func:`project_sampler`.

    Args:
        backbone: The model.
        resolved: How.
        seed: The set's seed.
        latents: Of the training images, the prototypes among them; needed where the way of
            synthesis needs prototypes, and for choosing.
        classifier: The latent classifier; needed where it steers, and for choosing.
        context: What guidance and selection know of the classes.
        starts: Where sampling starts from members.
        guard: Refuses candidates; ``None``: refuses none.
    """

    def __init__(
        self,
        backbone: Backbone,
        resolved: ResolvedSynthesis,
        seed: int,
        *,
        latents: Latents | None = None,
        classifier: LatentClassifier | None = None,
        context: ClassContext | None = None,
        starts: MemberStarts | None = None,
        guard: CopyGuard | None = None,
    ):
        self.backbone, self.resolved, self.seed = backbone, resolved, seed
        self.latents, self.starts, self.guard = latents, starts, guard
        self.context = context or ClassContext()
        self.classifier = classifier
        if classifier is not None:
            self.classifier = classifier.to(backbone.device).eval().requires_grad_(False)

    def fill(
        self, tasks: Sequence[SlotTask], *, processes: Any = None
    ) -> Iterator[tuple[SlotTask, SlotRecord, np.ndarray]]:
        """Sample slots and choose.

        Args:
            tasks: The slots.
            processes: The state of ``accelerate``, if several processes share the work.

        Yields:
            Each task with its record and the images of all its candidates, uint8 (n, H, W, 3).

        Raises:
            ModelError: what the model gives is not finite.
        """
        for samples in self.sample(tasks, processes=processes):
            yield samples.task, self._record(samples), samples.images.numpy()

    def sample(
        self,
        tasks: Sequence[SlotTask],
        *,
        processes: Any = None,
        on_step: Callable[[], None] | None = None,
    ) -> Iterator[Samples]:
        """Sample slots; arguments and errors as of :meth:`fill`.

        Args:
            on_step: Called after each step of each batch; may raise to stop.
        """
        prompts = self.backbone.encode_prompts([task.caption for task in tasks])
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
            yield from self._sample_group([tasks[row] for row in group], group, prompts, on_step)

    @property
    def _slots_per_batch(self) -> int:
        return max(self.resolved.batch_size // self.resolved.candidates, 1)

    def _sample_group(
        self,
        tasks: list[SlotTask],
        rows: list[int],
        prompts: Prompts,
        on_step: Callable[[], None] | None,
    ) -> Iterator[Samples]:
        resolved, count = self.resolved, self.resolved.candidates
        # A group that is not full is padded by repeating its last slot: kernels may round
        # differently for another batch size.
        padding = self._slots_per_batch - len(tasks)
        full = tasks + [tasks[-1]] * padding
        seeds = [task.seed(self.seed, candidate) for task in full for candidate in range(count)]
        noise, directions = self._noise(seeds)
        prototypes = self._prototypes(full)
        target = None if prototypes is None else prototypes.repeat_interleave(count, dim=0)
        origin, members = self._origins(full, seeds)
        embeddings = prompts.batch(
            [row for row in [*rows, *[rows[-1]] * padding] for _ in range(count)]
        )
        guide = None
        if target is not None:
            guide = build_guide(
                resolved,
                self.context,
                self.classifier,
                [task.slot.class_name for task in full for _ in range(count)],
                target,
                spherical_target(target, directions) if resolved.spherical else target,
            )
        sampled = sample(
            self.backbone,
            noise=noise,
            embeddings=embeddings,
            unconditional=prompts.unconditional(embeddings),
            steps=resolved.steps,
            scheduler=resolved.scheduler,
            cfg=resolved.cfg,
            guide=guide,
            origin=target if origin is None else origin,
            strength=resolved.strength,
            on_step=on_step,
        )
        logits = self._logits(sampled)
        _check_finite(tasks, sampled, logits)
        images = self.backbone.decode_latents(sampled).cpu()
        for place, task in enumerate(tasks):
            part = slice(place * count, (place + 1) * count)
            yield Samples(
                task,
                images[part],
                sampled[part].cpu(),
                None if logits is None else logits[part],
                seeds[part],
                members[part],
            )

    def _noise(self, seeds: list[int]) -> tuple[Tensor, Tensor]:
        """Noise and a direction of each candidate, (B, C, h, w) each."""
        draws = [
            torch.randn(
                2, *self.backbone.latent_shape, generator=torch.Generator().manual_seed(seed)
            )
            for seed in seeds
        ]
        noise, directions = torch.stack(draws).unbind(1)
        return noise, directions

    def _origins(
        self, tasks: Sequence[SlotTask], seeds: Sequence[int]
    ) -> tuple[Tensor | None, list[tuple[str, ...]]]:
        """The latents that each candidate starts from, (B, C, h, w), and the members they are of;
        ``None`` where the start is not of members."""
        if not self.resolved.from_members:
            return None, [()] * len(seeds)
        assert self.starts is not None, "members are needed, and no starts given"
        count = self.resolved.candidates
        made = [
            self.starts.start(task.slot, seed)
            for task, seed in zip(
                (task for task in tasks for _ in range(count)), seeds, strict=True
            )
        ]
        images = np.stack([image for image, _ in made])
        return self.backbone.encode_images(images).mean, [members for _, members in made]

    def _prototypes(self, tasks: Sequence[SlotTask]) -> Tensor | None:
        if self.latents is None:
            assert not self.resolved.needs_prototype, "prototypes are needed, and no latents given"
            return None
        return torch.stack([self.latents.of(task.prototype_id).mean for task in tasks])

    @torch.no_grad()
    def _logits(self, latents: Tensor) -> Tensor | None:
        return None if self.classifier is None else self.classifier(latents).float().cpu()

    def _record(self, samples: Samples) -> SlotRecord:
        """The slot with its candidates scored and the best chosen."""
        assert (
            self.classifier is not None and self.latents is not None and samples.logits is not None
        )
        task, classes = samples.task, self.classifier.classes
        class_name, number = task.slot
        prototype = self.latents.of(task.prototype_id).mean
        candidates = Candidates(
            samples.logits,
            classes.index(class_name),
            samples.latents,
            prototype,
            self.context.others(class_name, prototype),
            self.context.difficulty(class_name, number),
        )
        # Where the set is chosen together, this is only where the search begins.
        rule = "margin" if self.resolved.chooses_together else self.resolved.rule
        scores = RULES[rule](candidates)
        count = len(scores)
        alike, refused = None, np.zeros(count, dtype=bool)
        if self.guard is not None:
            alike = self.guard.likeness(samples.images.numpy())
            refused = self.guard.refuses(alike)
        passed = ~refused if not refused.all() else _least_near(alike, self.guard)
        predicted = samples.logits.argmax(1).tolist()
        return SlotRecord(
            class_name=class_name,
            number=number,
            file=slot_file(task.slot),
            size=self.backbone.image_size,
            prototype_id=task.prototype_id,
            caption=task.caption,
            caption_version=task.caption_version,
            candidates=tuple(
                Candidate(
                    index,
                    seed,
                    round(score, 6),
                    classes[column],
                    members=samples.members[index],
                    features=None if alike is None else round(float(alike.features[index]), 4),
                    layout=None if alike is None else round(float(alike.layout[index]), 4),
                    refused=bool(refused[index]),
                )
                for index, (seed, score, column) in enumerate(
                    zip(samples.seeds, scores.tolist(), predicted, strict=True)
                )
            ),
            chosen=int(scores.masked_fill(~torch.from_numpy(passed), -torch.inf).argmax()),
        )


def project_sampler(
    project: Project,
    backbone: Backbone,
    resolved: ResolvedSynthesis,
    latents: Latents,
    classifier: LatentClassifier | None,
    prototype_ids: Mapping[str, Sequence[str]],
    *,
    seed: int,
    emit: Emit = ignore,
    stage: str = STAGE,
) -> Sampler:
    """The sampler of a set of this project.

    Args:
        project: With its training images.
        backbone, resolved, latents, classifier: What makes the set; without a classifier nothing
            can be chosen.
        prototype_ids: *All* prototypes of the set by class name, in the order of the slots, also if
            only some slots are going to be sampled: guidance and selection look at the others.
        seed: The set's seed.
        emit, stage: Progress.
    """
    records = {record.id: record for record in load_index(project).images}
    context = ClassContext()
    if classifier is not None:
        labels = {record.id: record.class_name for record in records.values()}
        context = class_context(prototype_ids, labels, latents, classifier, resolved, seed=seed)

    starts, guard = None, None
    if resolved.from_members:

        def image(image_id: str) -> np.ndarray:
            return np.asarray(to_square(open_record(records[image_id]), backbone.image_size))

        members = {
            image_id: member
            for image_id, member in load_members(project).items()
            if image_id in records
        }
        starts = MemberStarts(slot_members(members), image)
    if classifier is not None:  # without one nothing is chosen, so nothing is refused
        guard = copy_guard(project, resolved.max_similarity, backbone.hardware, emit, stage=stage)
    return Sampler(
        backbone,
        resolved,
        seed,
        latents=latents,
        classifier=classifier,
        context=context,
        starts=starts,
        guard=guard,
    )


def sampling_backbone(
    project: Project, adapter: Adapter | None, resolved: ResolvedSynthesis
) -> Backbone:
    """The model that samples.

    Args:
        project: Names the model.
        adapter: Merged into it.
        resolved: Says which decoder decodes.

    Raises:
        ModelError: a tuned decoder is asked for, and there is none.
    """
    there = adapter is not None and adapter.has_decoder
    if resolved.decoder_required and not there:
        raise ModelError(
            "the adapter has no tuned decoder.",
            where="synthesize.decoder",
            fix="Train with --decoder-steps 200, or leave the choice to the strategy.",
        )
    return load_backbone(
        project,
        adapter=adapter.folder if adapter else None,
        decoder=resolved.tuned_decoder and there,
    )


def _least_near(found: Likeness | None, guard: CopyGuard | None) -> np.ndarray:
    """Of candidates that are all refused the one that is least near, bool (n,)."""
    assert found is not None and guard is not None
    above = np.maximum(found.features - guard.features, found.layout - guard.layout)
    return np.arange(len(above)) == above.argmin()


def _check_finite(tasks: Sequence[SlotTask], *values: Tensor | None) -> None:
    if all(value is None or bool(torch.isfinite(value).all()) for value in values):
        return
    names = ", ".join(str(task.slot) for task in tasks)
    raise ModelError(
        f"what the model makes of {names} is not finite.",
        where="synthesize",
        fix="Train the adapter with a smaller learning rate, or use --dtype float32.",
    )


def _groups(rows: list[int], size: int) -> Iterator[list[int]]:
    for start in range(0, len(rows), size):
        yield rows[start : start + size]
