"""Refining a sampled set as a whole, so that what it teaches holds for the real images.

The images of all slots are moved together, by few and small steps, down the loss of
:mod:`dpd_core.students.ridge`; labels stay hard, one image stays one image. The features are those
of small students of the set itself, as it stands: a pool of them at different moments of their
training, which goes on while the set changes (FRePo: Zhou, Nezhadarya, Ba, NeurIPS 2022). It needs
real training images and nothing of the test split.

A student normalises what it is tested on by the statistics of what it has learnt from, so the real
images are seen under the batch statistics of the set. Under their own, a set can drift away from
them unnoticed; students of it then fail.

A refined image depends on all the others, so it is made for the set, not for a slot: it becomes
one more candidate of each slot. Pinned slots are seen by the others and stay as they are. The
refined images are chosen if students of the refined set know more of the real training images than
students of the sampled one: where a set is as good as it gets, moving its images only adds noise.
The same set, settings and seed give the same images, and a stopped run continues from its
checkpoint.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

from dpd_core.dataset.images import to_square
from dpd_core.dataset.index import load_index
from dpd_core.errors import ModelError, ProjectError
from dpd_core.events import Emit, Log, Meter
from dpd_core.hardware import Hardware
from dpd_core.models.backbone import Backbone
from dpd_core.models.checkpoint import run_steps
from dpd_core.project import Project
from dpd_core.seeding import derive_seed, generator
from dpd_core.students import training as students
from dpd_core.students.networks import Student, build_student, resized
from dpd_core.students.ridge import (
    SIDE,
    RealImages,
    norm_momentum,
    normalised_features,
    one_hot,
    real_images,
    ridge_loss,
)
from dpd_core.students.training import augmented, to_float
from dpd_core.synthesize.records import Candidate, SlotRecord
from dpd_core.synthesize.selection import Candidates, margin
from dpd_core.synthesize.sets import put_in_place, save_candidates
from dpd_core.train.classifier import LatentClassifier

STAGE = "synthesize"
RATE = 0.005
"""Step size of Adam, in grey levels from 0 to 1."""
POOL = 4
"""Students in the pool."""
LAST_AGE = 200
"""Training steps after which a student of the pool makes place for a new one."""
STUDENT_STEPS, STUDENT_BATCH = 2, 32
"""Training steps that a student takes after each step of the set, and images in each."""
REAL_BATCH = 128
"""Real images a step, as many of each class (at least two)."""
SET_BATCH = 512
"""Images of the set that one step moves; of a larger set, others in each step."""
CHECKPOINT_STEPS = 10
VALIDATION_STUDENTS, VALIDATION_BATCH = 2, 32
"""Students of each set that decide between the sampled and the refined images; they are trained for
as many steps as the set was refined."""
VALIDATION_IMAGES = 2000
"""Real training images that they are asked about at most."""
_ENCODE_BATCH = 32


def refine_set(
    project: Project,
    root: Path,
    records: Sequence[SlotRecord],
    steps: int,
    backbone: Backbone,
    classifier: LatentClassifier,
    emit: Emit,
) -> list[SlotRecord]:
    """Give each slot its refined candidate.

    Args:
        project: With its training images.
        root: The set's folder.
        records: All slots of the set, in its order.
        steps: Steps of refining.
        backbone: Encodes the refined images for their score.
        classifier: Gives the score.
        emit: Gets progress.

    Returns:
        The records as they stand now; those that have a refined candidate already are untouched.

    Raises:
        ProjectError: an image of the set is missing.
        ModelError: the loss is no longer finite.
    """
    if all(record.is_refined or record.pinned for record in records):
        return list(records)
    side = min(SIDE, backbone.image_size)
    real = real_images(project, load_index(project), side=side, emit=emit, stage=STAGE)
    images = np.stack([_sampled(root, record) for record in records])
    labels = np.array([real.classes.index(record.class_name) for record in records])
    refiner = Refiner(
        images,
        labels,
        real.pixels,
        real.labels,
        fixed=np.array([record.pinned for record in records]),
        seed=project.config.seed,
        hardware=backbone.hardware,
        rate=RATE,
    )
    meter = Meter(emit, STAGE, steps, message="refining the set")
    checkpoint = root / "refinement.safetensors"
    refined = refiner.run(steps, checkpoint, lambda done, loss: meter.advance())
    meter = Meter(emit, STAGE, 2 * VALIDATION_STUDENTS * steps, message="judging the refined set")
    before, after = (
        _worth(pixels, labels, real, steps, project.config.seed, backbone.hardware, meter)
        for pixels in (images, refined)
    )
    better = after > before
    emit(
        Log(
            STAGE,
            f"students of the refined set name {after:.1%} of the real training images, "
            f"those of the sampled one {before:.1%}; the "
            f"{'refined' if better else 'sampled'} images are chosen",
        )
    )
    finished = _finished(root, records, refined, backbone, classifier, chosen=better)
    checkpoint.unlink(missing_ok=True)
    return finished


def _worth(
    images: np.ndarray,
    labels: np.ndarray,
    real: RealImages,
    steps: int,
    seed: int,
    hardware: Hardware,
    meter: Meter,
) -> float:
    """The share of real training images (of many, of some) that students of a set, uint8
    (N, H, W, 3) with its columns, name rightly; in [0, 1]."""
    side, rows = real.pixels.shape[1], slice(None, None, -(-len(real.ids) // VALIDATION_IMAGES))
    seen = np.stack([np.asarray(to_square(Image.fromarray(image), side)) for image in images])
    shares = []
    for number in range(VALIDATION_STUDENTS):
        student = students.train_student(
            seen,
            labels,
            len(real.classes),
            steps=steps,
            batch_size=VALIDATION_BATCH,
            seed=derive_seed(seed, "judge", number),
            hardware=hardware,
            on_step=lambda done, loss: meter.advance(),
        )
        shares.append(
            students.accuracy(student, real.pixels[rows], real.labels[rows], hardware=hardware)
        )
    return float(np.mean(shares))


def _sampled(root: Path, record: SlotRecord) -> np.ndarray:
    """The slot's image before refinement, also if the process died after choosing the refined."""
    chosen = record.image
    if chosen.refined_from is not None:
        chosen = record.candidates[chosen.refined_from]
    path = root / record.candidate_file(chosen)
    if not path.exists():
        raise ProjectError("an image of the set is missing.", where=path, fix="Make the set again.")
    with Image.open(path) as image:
        return np.asarray(image.convert("RGB"), dtype=np.uint8)


@torch.no_grad()
def _finished(
    root: Path,
    records: Sequence[SlotRecord],
    images: np.ndarray,
    backbone: Backbone,
    classifier: LatentClassifier,
    *,
    chosen: bool,
) -> list[SlotRecord]:
    finished = []
    for start in range(0, len(records), _ENCODE_BATCH):
        part = images[start : start + _ENCODE_BATCH]
        latents = backbone.encode_images(part).mean
        logits = classifier(latents.to(backbone.device)).float().cpu()
        for record, image, row, latent in zip(
            records[start : start + _ENCODE_BATCH], part, logits, latents.cpu(), strict=True
        ):
            if record.pinned or record.is_refined:
                finished.append(record)
                continue
            column = classifier.classes.index(record.class_name)
            score = margin(Candidates(row[None], column, latent[None], latent, latent[None][:0]))
            number = len(record.candidates)
            candidate = Candidate(
                number,
                record.image.seed,
                round(float(score), 6),
                classifier.classes[int(row.argmax())],
                refined_from=record.chosen,
            )
            changed = replace(
                record,
                candidates=(*record.candidates, candidate),
                chosen=number if chosen else record.chosen,
            )
            changed = save_candidates(root, changed, image[None], first=number)
            put_in_place(root, changed)
            finished.append(changed)
    return finished


class Refiner:
    """The optimisation of one set. :meth:`run` takes it to the end or to a stop.

    Args:
        images: The sampled set, uint8 (N, H, W, 3).
        labels: Columns, int (N,).
        real: Real training images, uint8 (R, S, S, 3); the set is compared at their size.
        real_labels: Columns, int (R,).
        fixed: Which images stay as they are, bool (N,); ``None``: none.
        seed: Project seed.
        hardware: Where to compute.
        rate: Step size of Adam, in grey levels from 0 to 1.
    """

    def __init__(
        self,
        images: np.ndarray,
        labels: np.ndarray,
        real: np.ndarray,
        real_labels: np.ndarray,
        *,
        seed: int,
        hardware: Hardware,
        rate: float,
        fixed: np.ndarray | None = None,
    ):
        self.hardware, self.seed = hardware, seed
        self.labels = torch.from_numpy(np.asarray(labels, dtype=np.int64)).to(hardware.device)
        self.real, self.real_labels = real, np.asarray(real_labels, dtype=np.int64)
        self.n_classes = int(self.real_labels.max()) + 1
        self.rows = [np.flatnonzero(self.real_labels == column) for column in range(self.n_classes)]
        self.pixels = nn.Parameter(to_float(images, hardware.device))
        moving = np.ones(len(images), dtype=bool) if fixed is None else ~fixed
        self.moving = torch.from_numpy(moving).to(hardware.device)[:, None, None, None]
        self.optimizer = torch.optim.AdamW([self.pixels], rate, betas=(0.9, 0.99), weight_decay=0)
        self.pool = [
            _PooledStudent(
                self.n_classes,
                LAST_AGE * number // POOL,
                derive_seed(seed, "pupil", number),
                hardware,
            )
            for number in range(POOL)
        ]

    def run(
        self, steps: int, checkpoint: Path, on_step: Callable[[int, float], None] | None = None
    ) -> np.ndarray:
        """Refine.

        Args:
            steps: Steps in all.
            checkpoint: Where a stopped run is continued from; removed by the caller.
            on_step: Called with the number of finished steps and the loss; may raise to stop.

        Returns:
            uint8 (N, H, W, 3).
        """
        pool = {
            f"{number}/{name}": value
            for number, student in enumerate(self.pool)
            for name, value in student.state.items()
        }
        run_steps(
            self.step,
            steps,
            checkpoint,
            parameters={"pixels": self.pixels},
            others=pool,
            optimizer=self.optimizer,
            every=CHECKPOINT_STEPS,
            on_step=on_step,
        )
        images = self.pixels.detach().mul(255).round().clamp(0, 255).to(torch.uint8)
        return images.permute(0, 2, 3, 1).cpu().numpy()

    def step(self, number: int) -> float:
        """One step; ``number`` counts from 0 and determines network, real images and crops."""
        draws = generator(self.seed, "refine", number)
        student = self.pool[int(torch.randint(POOL, (), generator=draws))]
        if student.age < student.first_age:
            self._teach(student, student.first_age - student.age, draws)
        loss = self._loss(student.student, draws)
        if not torch.isfinite(loss):
            raise ModelError(
                "the loss of refining is no longer finite.",
                where="synthesize",
                fix="Make the set with --refine-steps 0.",
            )
        (gradient,) = torch.autograd.grad(loss, [self.pixels])
        self.pixels.grad = gradient * self.moving
        self.optimizer.step()
        with torch.no_grad():
            self.pixels.clamp_(0, 1)
        self._teach(student, STUDENT_STEPS, draws)
        if student.age >= LAST_AGE:
            student.renew(derive_seed(self.seed, "pupil", "after", number))
        return float(loss.detach())

    def _loss(self, network: Student, draws: torch.Generator) -> Tensor:
        """The set's loss as one network sees it, a scalar; gradients reach the images."""
        picked = torch.randperm(len(self.labels), generator=draws)[:SET_BATCH].sort().values
        picked = picked.to(self.labels.device)
        real, truth = self._real(draws)
        # With momentum 1 the statistics kept for evaluation are those of this batch alone.
        with self.hardware.autocast(), norm_momentum(network, 1.0):
            support = network.features(augmented(self._seen()[picked], draws))
            network.eval()
            with torch.no_grad():
                queries = network.features(real)
            network.train()
        queries = queries.float()
        mean, deviation = queries.mean(0), queries.std(0) + 1e-4
        return ridge_loss(
            normalised_features(support.float(), mean, deviation),
            one_hot(self.labels[picked], self.n_classes),
            normalised_features(queries, mean, deviation),
            one_hot(truth, self.n_classes),
        )

    def _real(self, draws: torch.Generator) -> tuple[Tensor, Tensor]:
        """Real images, as many of each class, augmented, with their columns."""
        each = max(2, REAL_BATCH // self.n_classes)
        rows = np.concatenate(
            [
                of_class[torch.randperm(len(of_class), generator=draws)[:each]]
                for of_class in self.rows
            ]
        )
        batch = to_float(self.real[rows], self.hardware.device)
        return augmented(batch, draws), torch.from_numpy(self.real_labels[rows]).to(batch.device)

    def _teach(self, student: _PooledStudent, steps: int, draws: torch.Generator) -> None:
        """Train a network on the set as it stands."""
        seen = self._seen().detach()
        for _ in range(steps):
            rows = torch.randperm(len(seen), generator=draws)[:STUDENT_BATCH].to(seen.device)
            student.step(augmented(seen[rows], draws), self.labels[rows])

    def _seen(self) -> Tensor:
        """The images at the size of the real ones."""
        return resized(self.pixels, self.real.shape[1])


class _PooledStudent(students.Training):
    """A student of the set while it is trained.

    Args:
        n_classes: Number of outputs.
        first_age: Training steps after which it is of use.
        seed: Of its first weights.
        hardware: Where to compute.
    """

    def __init__(self, n_classes: int, first_age: int, seed: int, hardware: Hardware):
        super().__init__(build_student("convnet", n_classes, seed=seed), hardware)
        self.n_classes, self.first_age = n_classes, first_age

    def renew(self, seed: int) -> None:
        """Begin anew with other weights."""
        self.restart(build_student("convnet", self.n_classes, seed=seed))
