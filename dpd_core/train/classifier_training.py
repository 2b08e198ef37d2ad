"""Training the latent classifier, resumable at the epoch.

Every draw of an epoch derives from the seed and the epoch's number, so a run killed at any
moment continues to the weights it would have reached undisturbed.
"""

from __future__ import annotations

import math
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

import torch
from safetensors import SafetensorError
from torch import Tensor, nn
from torch.nn import functional

from dpd_core import storage
from dpd_core.dataset.index import load_index
from dpd_core.errors import DatasetError, JobStopped
from dpd_core.events import Emit, Log, Meter, Metric, ignore
from dpd_core.hardware import Hardware, choose_hardware
from dpd_core.models.checkpoint import load_checkpoint, save_checkpoint
from dpd_core.models.latents import Latents
from dpd_core.project import Project
from dpd_core.prototypes.overrides import read_overrides
from dpd_core.seeding import derive_seed, generator
from dpd_core.train.classifier import (
    CURRENT,
    RECIPE,
    LatentClassifier,
    read_classifier,
    write_classifier,
)

_CHECKPOINT_EPOCHS, _CHECKPOINT_SECONDS = 10, 20.0


def train_classifier(
    latents: Latents,
    labels: Sequence[str],
    *,
    epochs: int,
    seed: int,
    hardware: Hardware,
    folder: Path,
    emit: Emit = ignore,
    stage: str = "train",
    max_steps: int = 0,
) -> LatentClassifier:
    """Train a latent classifier, or find it trained.

    Args:
        latents: Posteriors of the training images.
        labels: Class name of each, N of them.
        epochs: Epochs of the recipe; see ``max_steps``.
        seed: Of weights, validation split and all draws.
        hardware: Device; bfloat16 computes in autocast, other formats in float32.
        folder: Where ``<key>/`` goes, with the checkpoint of an interrupted run or the
            finished weights.
        emit: Gets progress and, at each validation, loss and accuracy.
        stage: Stage name of the events.
        max_steps: Fewer epochs are trained if they would take more optimizer steps than this
            (one epoch at least); 0: no limit.

    Returns:
        The classifier with its best weights, frozen, in evaluation mode, on the CPU.

    Raises:
        DatasetError: fewer than two classes, or a class with a single image.
        ValueError: labels and latents do not fit each other.
    """
    if len(labels) != len(latents.ids):
        raise ValueError(f"{len(labels)} labels for {len(latents.ids)} latents")
    classes = sorted(set(labels))
    _check_classes(classes, labels)
    train, validation = split_rows(latents.ids, labels, seed)
    planned = _capped(epochs, len(train), max_steps)
    key = storage.digest(
        "latent classifier", RECIPE, latents.key, latents.ids, list(labels), planned, seed
    )
    path = folder / key
    if (path / "classifier.json").exists():
        return read_classifier(path)
    if planned < epochs:
        limit = f"to stay within {max_steps} steps"
        emit(Log(stage, f"the latent classifier trains {planned} of {epochs} epochs {limit}"))
    trainer = ClassifierTrainer(
        latents,
        labels,
        classes=classes,
        train=train,
        validation=validation,
        epochs=planned,
        seed=seed,
        hardware=hardware,
    )
    accuracy, epoch = trainer.fit(path / "checkpoint.safetensors", emit, stage)
    classifier = trainer.best_classifier()
    classifier.metadata = {
        "key": key,
        "classes": classes,
        "channels": classifier.channels,
        "recipe": RECIPE,
        "epochs": planned,
        "seed": seed,
        "train": len(train),
        "validation": len(validation),
        "validation_accuracy": accuracy,
        "epoch": epoch,
        "latents": latents.key,
    }
    write_classifier(path, classifier)
    (path / "checkpoint.safetensors").unlink(missing_ok=True)
    return classifier


def project_classifier(
    project: Project,
    latents: Latents,
    *,
    epochs: int,
    max_steps: int = 0,
    emit: Emit = ignore,
    stage: str = "train",
) -> tuple[LatentClassifier, dict[str, Any]]:
    """The classifier of a project's latents, trained if need be, and made the current one.

    Images that people excluded from training are left out.

    Returns:
        The frozen classifier, and its metadata: ``key``, ``validation_accuracy``, ``classes``,
        ``epochs``, ``epoch`` of the best weights, numbers of images and the recipe.
    """
    latents = latents.without(read_overrides(project).excluded)
    class_of = {record.id: record.class_name for record in load_index(project).images}
    folder = project.path("classifier")
    classifier = train_classifier(
        latents,
        [class_of[image_id] for image_id in latents.ids],
        epochs=epochs,
        max_steps=max_steps,
        seed=project.config.seed,
        hardware=choose_hardware(project.config),
        folder=folder,
        emit=emit,
        stage=stage,
    )
    storage.write_json(folder / CURRENT, {"key": classifier.metadata["key"]})
    return classifier, dict(classifier.metadata)


def split_rows(ids: Sequence[str], labels: Sequence[str], seed: int) -> tuple[list[int], list[int]]:
    """Rows to train on and rows to validate on.

    A tenth of each class, at least one image, is drawn by a generator of the class's own.

    Returns:
        Training rows and validation rows, both in order.
    """
    members: dict[str, list[int]] = {}
    for row in sorted(range(len(ids)), key=lambda row: ids[row]):
        members.setdefault(labels[row], []).append(row)
    train, validation = [], []
    for name, rows in members.items():
        draw = generator(seed, "classifier", "validation", name)
        order = [rows[place] for place in torch.randperm(len(rows), generator=draw).tolist()]
        count = min(max(1, round(RECIPE["validation"] * len(rows))), len(rows) - 1)
        validation += order[:count]
        train += order[count:]
    return sorted(train), sorted(validation)


def learning_rate(epoch: int, epochs: int) -> float:
    """Learning rate of an epoch (from 0): linear warm-up from a hundredth, then cosine."""
    peak, last = RECIPE["learning_rate"], RECIPE["last_learning_rate"]
    warmup = min(RECIPE["warmup_epochs"], epochs - 1)
    if epoch < warmup:
        start = RECIPE["warmup_start"]
        return peak * (start + (1 - start) * epoch / warmup)
    share = (epoch - warmup) / (epochs - warmup)
    return last + (peak - last) * 0.5 * (1 + math.cos(math.pi * share))


class ClassifierTrainer:
    """One training run; everything but the weights stays on the CPU until its batch.

    Args:
        latents: Posteriors of all images.
        labels: Class name of each.
        classes: Class names in the order of the logits.
        train, validation: Rows of the two parts, see :func:`split_rows`.
        epochs: Epochs in all.
        seed: Of weights and draws.
        hardware: bfloat16 computes in autocast, other formats in float32.
    """

    def __init__(
        self,
        latents: Latents,
        labels: Sequence[str],
        *,
        classes: list[str],
        train: list[int],
        validation: list[int],
        epochs: int,
        seed: int,
        hardware: Hardware,
    ):
        self.latents, self.epochs, self.seed = latents, epochs, seed
        self.device, self.hardware = hardware.device, hardware
        column = {name: k for k, name in enumerate(classes)}
        self.targets = torch.tensor([column[label] for label in labels])
        self.train, self.validation = torch.tensor(train), torch.tensor(validation)
        with torch.random.fork_rng(self._cuda):
            torch.manual_seed(derive_seed(seed, "classifier", "weights"))
            self.model = LatentClassifier(classes, latents.mean.shape[1])
        self.model.to(self.device)
        self.optimizer = torch.optim.AdamW(
            self.model.parameters(),
            lr=RECIPE["learning_rate"],
            weight_decay=RECIPE["weight_decay"],
        )
        self.best = {name: value.clone() for name, value in self.model.state_dict().items()}
        self.history: list[dict[str, float]] = []

    @property
    def _cuda(self) -> list[torch.device]:
        return [self.device] if self.device.type == "cuda" else []

    def fit(self, checkpoint: Path, emit: Emit, stage: str) -> tuple[float, int]:
        """Train to the end; returns the best validation accuracy and its epoch (from 1)."""
        done = self._resume(checkpoint, emit, stage)
        meter = Meter(emit, stage, self.epochs, done=done, message="training the latent classifier")
        saved_at, saved = time.monotonic(), done
        try:
            for epoch in range(done, self.epochs):
                loss = self._epoch(epoch)
                done = epoch + 1
                if done % RECIPE["validate_epochs"] == 0 or done == self.epochs:
                    accuracy = self._validate(done, loss)
                    values = {"classifier_loss": loss, "classifier_accuracy": accuracy}
                    emit(Metric(stage, done, values))
                late = time.monotonic() - saved_at > _CHECKPOINT_SECONDS
                if late or done - saved >= _CHECKPOINT_EPOCHS:
                    self._save(checkpoint, done)
                    saved_at, saved = time.monotonic(), done
                meter.advance()
        except JobStopped:
            # Raised by emit, so between two epochs.
            self._save(checkpoint, done)
            raise
        best = self._best_entry()
        return best["accuracy"], int(best["epoch"])

    def best_classifier(self) -> LatentClassifier:
        """The model with its best weights, frozen, on the CPU."""
        self.model.load_state_dict(self.best)
        return self.model.cpu().eval().requires_grad_(False)

    def _epoch(self, epoch: int) -> float:
        """One pass; returns the mean training loss."""
        for group in self.optimizer.param_groups:
            group["lr"] = learning_rate(epoch, self.epochs)
        draw = generator(self.seed, "classifier", "epoch", epoch)
        order = self.train[torch.randperm(len(self.train), generator=draw)]
        self.model.train()
        losses = []
        with torch.random.fork_rng(self._cuda):
            # Dropout draws from the global generator of the device.
            torch.manual_seed(derive_seed(self.seed, "classifier", "dropout", epoch))
            for rows in _batches(order):
                clean, target = self._draw(rows, draw)
                with self.hardware.autocast():
                    logits = self.model(clean)
                loss = functional.cross_entropy(logits, target)
                self.optimizer.zero_grad()
                loss.backward()
                self.optimizer.step()
                losses.append(loss.detach() * len(rows))
        return float(torch.stack(losses).sum()) / len(order)

    def _draw(self, rows: Tensor, draw: torch.Generator) -> tuple[Tensor, Tensor]:
        """Latents (B, C, h, w) sampled from their posteriors and flipped, and their columns."""
        mean, std = self.latents.mean[rows], self.latents.std[rows]
        latents = mean + std * torch.randn(mean.shape, generator=draw)
        flips = torch.rand(len(rows), 2, generator=draw) < RECIPE["flip"]
        for side, dim in ((0, 3), (1, 2)):
            latents = torch.where(flips[:, side, None, None, None], latents.flip(dim), latents)
        return latents.to(self.device), self.targets[rows].to(self.device)

    @torch.no_grad()
    def _validate(self, epoch: int, loss: float) -> float:
        """Accuracy on the posterior means; keeps the weights if no earlier ones were better."""
        self.model.eval()
        right = 0
        for rows in self.validation.split(256):
            with self.hardware.autocast():
                logits = self.model(self.latents.mean[rows].to(self.device))
            right += int((logits.argmax(1).cpu() == self.targets[rows]).sum())
        entry = {"epoch": epoch, "loss": loss, "accuracy": right / len(self.validation)}
        self.history.append(entry)
        if self._best_entry() is entry:
            for name, value in self.model.state_dict().items():
                self.best[name].copy_(value)
        return entry["accuracy"]

    def _best_entry(self) -> dict[str, float]:
        return max(self.history, key=lambda entry: (entry["accuracy"], entry["epoch"]))

    def _state(self) -> dict[str, nn.Parameter]:
        tensors: dict[str, Tensor] = dict(self.model.named_parameters())
        tensors |= dict(self.model.named_buffers())
        tensors |= {f"best/{name}": value for name, value in self.best.items()}
        return cast(dict[str, nn.Parameter], tensors)

    def _save(self, checkpoint: Path, epochs: int) -> None:
        save_checkpoint(
            checkpoint,
            step=epochs,
            parameters=self._state(),
            optimizer=self.optimizer,
            history=self.history,
        )

    def _resume(self, checkpoint: Path, emit: Emit, stage: str) -> int:
        """Epochs that an interrupted run has finished."""
        fresh = {name: value.clone() for name, value in self._state().items()}
        try:
            done, self.history = load_checkpoint(
                checkpoint, parameters=self._state(), optimizer=self.optimizer
            )
        except (SafetensorError, OSError, KeyError, TypeError, ValueError, RuntimeError) as error:
            message = f"{checkpoint} is damaged ({error}); the classifier starts from scratch."
            emit(Log(stage, message, level="warning"))
            with torch.no_grad():
                for name, value in self._state().items():
                    value.copy_(fresh[name])
            self.optimizer.state.clear()
            return 0
        return done


def _batches(order: Tensor) -> list[Tensor]:
    """Batches of the recipe's size; a last one of a single image joins the one before, because
    batch normalisation cannot learn from one value."""
    batches = list(order.split(RECIPE["batch_size"]))
    if len(batches) > 1 and len(batches[-1]) == 1:
        batches[-2:] = [torch.cat(batches[-2:])]
    return batches


def _check_classes(classes: list[str], labels: Sequence[str]) -> None:
    if len(classes) < 2:
        raise DatasetError(
            "a classifier needs at least two classes.",
            where=", ".join(classes),
            fix="Add a class to the data set.",
        )
    counts = Counter(labels)
    single = [name for name, count in counts.items() if count < 2]
    if single:
        raise DatasetError(
            "the class has a single training image; the latent classifier needs one to learn "
            "from and one to validate on.",
            where=single[0],
            fix="Add images or leave the class out.",
        )


def _capped(epochs: int, images: int, max_steps: int) -> int:
    steps = math.ceil(images / RECIPE["batch_size"])
    return epochs if max_steps == 0 else max(1, min(epochs, max_steps // steps))
