"""Training the latent classifier, resumable at the epoch.

Every draw of an epoch derives from the seed and the epoch's number, so a run killed at any
moment continues to the weights it would have reached undisturbed.
"""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from dpd_core.errors import JobStopped
from dpd_core.events import Emit, Log, Meter, Metric
from dpd_core.hardware import Hardware
from dpd_core.models.checkpoint import load_checkpoint, save_checkpoint
from dpd_core.seeding import derive_seed, generator
from dpd_core.train.classifier_network import RECIPE, LatentClassifier

if TYPE_CHECKING:
    from dpd_core.models.latents import Latents

_CHECKPOINT_EPOCHS, _CHECKPOINT_SECONDS = 10, 20.0


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
        from safetensors import SafetensorError

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
