"""The latent classifier: tells the class from an unpooled latent, not from pixels.

The published DPD recipe: convolution stem of 64 channels, three stages of two residual blocks
(64, 128, 256 channels; strides 1, 2, 2), global average pooling, dropout 0.1; AdamW 1e-3,
weight decay 1e-3, 5 warm-up epochs, then cosine to 1e-6, batch 128; the posterior is sampled
anew in each step and flipped both ways with probability 0.5; 10 % of each class validate, every
fifth epoch and at the end, and the weights with the best accuracy (the last of equals) are
kept. Normalisation is BatchNorm, as published.

Every draw of an epoch derives from the seed and the epoch's number, so a run killed at any
moment continues to the weights it would have reached undisturbed.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from dpd_core import storage
from dpd_core.checkpoint import load_checkpoint, save_checkpoint
from dpd_core.errors import DatasetError, ProjectError, StageMissing
from dpd_core.events import Emit, Log, Meter, Metric, ignore
from dpd_core.hardware import Hardware, choose_hardware
from dpd_core.seeding import derive_seed, generator

if TYPE_CHECKING:
    from dpd_core.latents import Latents
    from dpd_core.project import Project

RECIPE: dict[str, Any] = {
    "version": 1, "widths": [64, 128, 256], "blocks": 2, "strides": [1, 2, 2], "dropout": 0.1,
    "learning_rate": 1e-3, "last_learning_rate": 1e-6, "weight_decay": 1e-3, "warmup_epochs": 5,
    "warmup_start": 0.01, "batch_size": 128, "flip": 0.5, "validation": 0.1,
    "validate_epochs": 5,
}  # fmt: skip
"""The published hyper-parameters; part of a trained classifier's key."""

CPU_STEPS = 3000
"""Most optimizer steps on a processor unless said otherwise: a collection of 20,000 images
would take a day for 200 epochs there."""

_CHECKPOINT_EPOCHS, _CHECKPOINT_SECONDS = 10, 20.0
_CURRENT = "current.json"


class ResidualBlock(nn.Module):
    """Two 3 × 3 convolutions with batch normalisation beside an identity (He et al., 2016)."""

    def __init__(self, channels: int, width: int, stride: int):
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(channels, width, 3, stride, 1, bias=False),
            nn.BatchNorm2d(width),
            nn.ReLU(inplace=True),
            nn.Conv2d(width, width, 3, 1, 1, bias=False),
            nn.BatchNorm2d(width),
        )
        self.shortcut: nn.Module = nn.Identity()
        if stride != 1 or channels != width:
            self.shortcut = nn.Sequential(
                nn.Conv2d(channels, width, 1, stride, bias=False), nn.BatchNorm2d(width)
            )

    def forward(self, x: Tensor) -> Tensor:
        """(B, channels, h, w) → (B, width, ⌈h/stride⌉, ⌈w/stride⌉)."""
        return functional.relu(self.body(x) + self.shortcut(x))


class LatentClassifier(nn.Module):
    """Logits of clean latents.

    Args:
        classes: Class names; column k of the logits is ``classes[k]``.
        channels: Channels of the latents: 4 for the Stable Diffusion family, 16 for newer
            autoencoders.

    Attributes:
        metadata: What is known of the training: ``key``, ``validation_accuracy``, ``epoch``, …
    """

    def __init__(self, classes: Sequence[str], channels: int = 4):
        super().__init__()
        self.classes = list(classes)
        self.channels = channels
        self.metadata: dict[str, Any] = {}
        widths = RECIPE["widths"]
        self.stem = nn.Sequential(
            nn.Conv2d(channels, widths[0], 3, 1, 1, bias=False),
            nn.BatchNorm2d(widths[0]),
            nn.ReLU(inplace=True),
        )
        blocks, width = [], widths[0]
        for wider, stride in zip(widths, RECIPE["strides"], strict=True):
            for number in range(RECIPE["blocks"]):
                blocks.append(ResidualBlock(width, wider, 1 if number else stride))
                width = wider
        self.blocks = nn.Sequential(*blocks)
        self.dropout = nn.Dropout(RECIPE["dropout"])
        self.head = nn.Linear(width, len(self.classes))

    def forward(self, latents: Tensor) -> Tensor:
        """Logits, float32 (B, classes), of unpooled latents (B, C, h, w).

        Gradients reach ``latents`` also when the weights are frozen, which is what the
        consistency loss lives on.
        """
        features = self.blocks(self.stem(latents.to(self.head.weight.dtype)))
        return self.head(self.dropout(features.mean((2, 3)))).float()


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
    max_steps: int | None = None,
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
            (one epoch at least); 0: no limit; ``None``: 0 on accelerators, :data:`CPU_STEPS`
            on processors.

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
    if max_steps is None:
        max_steps = CPU_STEPS if hardware.device.type == "cpu" else 0
    planned = _capped(epochs, len(train), max_steps)
    key = storage.digest(
        "latent classifier", RECIPE, latents.key, latents.ids, list(labels), planned, seed
    )
    path = folder / key
    if (path / "classifier.json").exists():
        return read_classifier(path)
    if planned < epochs:
        emit(Log(stage, f"the latent classifier trains {planned} of {epochs} epochs, "
                        f"which is {max_steps} steps."))  # fmt: skip
    trainer = _Trainer(latents, labels, classes, train, validation, planned, seed, hardware)
    accuracy, epoch = trainer.fit(path / "checkpoint.safetensors", emit, stage)
    classifier = trainer.best_classifier()
    classifier.metadata = {
        "key": key, "classes": classes, "channels": classifier.channels, "recipe": RECIPE,
        "epochs": planned, "seed": seed, "train": len(train), "validation": len(validation),
        "validation_accuracy": accuracy, "epoch": epoch, "latents": latents.key,
    }  # fmt: skip
    _write(path, classifier)
    (path / "checkpoint.safetensors").unlink(missing_ok=True)
    return classifier


def project_classifier(
    project: Project, latents: Latents, *, epochs: int, emit: Emit = ignore, stage: str = "train"
) -> tuple[LatentClassifier, dict[str, Any]]:
    """The classifier of a project's latents, trained if need be, and made the current one.

    Returns:
        The frozen classifier, and its metadata: ``key``, ``validation_accuracy``, ``classes``,
        ``epochs``, ``epoch`` of the best weights, numbers of images and the recipe.
    """
    from dpd_core.dataset import load_index

    class_of = {record.id: record.class_name for record in load_index(project).images}
    folder = project.path("classifier")
    classifier = train_classifier(
        latents, [class_of[image_id] for image_id in latents.ids], epochs=epochs,
        seed=project.config.seed, hardware=choose_hardware(project.config), folder=folder,
        emit=emit, stage=stage,
    )  # fmt: skip
    storage.write_json(folder / _CURRENT, {"key": classifier.metadata["key"]})
    return classifier, dict(classifier.metadata)


def load_classifier(project: Project, key: str | None = None) -> LatentClassifier:
    """A project's classifier: the one with this key, or the one trained or found last.

    Raises:
        StageMissing: none has been trained.
        ProjectError: its files are missing or damaged.
    """
    folder = project.path("classifier")
    if key is None:
        if not (folder / _CURRENT).exists():
            raise StageMissing("there is no latent classifier yet.", where=project.root,
                               fix=f"Run `python -m dpd_core train --project {project.root}`."
                               )  # fmt: skip
        key = str(storage.read_json(folder / _CURRENT, fix=_FIX)["key"])
    return read_classifier(project.path("classifier", key))


def read_classifier(path: Path) -> LatentClassifier:
    """A finished classifier from its folder, frozen, in evaluation mode, on the CPU.

    Raises:
        ProjectError: the files are missing or damaged.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    metadata = storage.read_json(path / "classifier.json", fix=_FIX)
    try:
        classifier = LatentClassifier(metadata["classes"], metadata["channels"])
        classifier.load_state_dict(load_file(path / "classifier.safetensors"))
    except (OSError, SafetensorError, RuntimeError, KeyError, TypeError) as error:
        raise ProjectError(f"not a readable classifier ({error}).", where=path,
                           fix=_FIX) from error  # fmt: skip
    classifier.metadata = metadata
    return classifier.eval().requires_grad_(False)


_FIX = "Delete the folder 'classifier' in the project; the stage 'train' makes it again."


def split_rows(
    ids: Sequence[str], labels: Sequence[str], seed: int
) -> tuple[list[int], list[int]]:  # fmt: skip
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


class _Trainer:
    """One training run; everything but the weights stays on the CPU until its batch."""

    def __init__(
        self, latents: Latents, labels: Sequence[str], classes: list[str], train: list[int],
        validation: list[int], epochs: int, seed: int, hardware: Hardware,
    ):  # fmt: skip
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
            self.model.parameters(), lr=RECIPE["learning_rate"],
            weight_decay=RECIPE["weight_decay"],
        )  # fmt: skip
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
        for epoch in range(done, self.epochs):
            loss = self._epoch(epoch)
            if (epoch + 1) % RECIPE["validate_epochs"] == 0 or epoch + 1 == self.epochs:
                self._validate(epoch + 1, loss)
                values = {f"classifier_{name}": self.history[-1][name]
                          for name in ("loss", "accuracy")}  # fmt: skip
                emit(Metric(stage, epoch + 1, values))
            due = epoch + 1 - saved >= _CHECKPOINT_EPOCHS
            if due or time.monotonic() - saved_at > _CHECKPOINT_SECONDS:
                self._save(checkpoint, epoch + 1)
                saved_at, saved = time.monotonic(), epoch + 1
            meter.advance()
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
            for rows in order.split(RECIPE["batch_size"]):
                clean, target = self._draw(rows, draw)
                with self._autocast():
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
    def _validate(self, epoch: int, loss: float) -> None:
        """Accuracy on the posterior means; keeps the weights if no earlier ones were better."""
        self.model.eval()
        right = 0
        for rows in self.validation.split(256):
            with self._autocast():
                logits = self.model(self.latents.mean[rows].to(self.device))
            right += int((logits.argmax(1).cpu() == self.targets[rows]).sum())
        entry = {"epoch": epoch, "loss": loss, "accuracy": right / len(self.validation)}
        self.history.append(entry)
        if self._best_entry() is entry:
            for name, value in self.model.state_dict().items():
                self.best[name].copy_(value)

    def _best_entry(self) -> dict[str, float]:
        return max(self.history, key=lambda entry: (entry["accuracy"], entry["epoch"]))

    def _autocast(self) -> torch.autocast:
        # float16 would need loss scaling; the network is small enough for float32 instead.
        enabled = self.hardware.dtype is torch.bfloat16
        return torch.autocast(self.device.type, torch.bfloat16, enabled=enabled)

    def _state(self) -> dict[str, nn.Parameter]:
        tensors: dict[str, Tensor] = dict(self.model.named_parameters())
        tensors |= dict(self.model.named_buffers())
        tensors |= {f"best/{name}": value for name, value in self.best.items()}
        return cast(dict[str, nn.Parameter], tensors)

    def _save(self, checkpoint: Path, epochs: int) -> None:
        save_checkpoint(
            checkpoint, step=epochs, parameters=self._state(), optimizer=self.optimizer,
            history=self.history,
        )  # fmt: skip

    def _resume(self, checkpoint: Path, emit: Emit, stage: str) -> int:
        """Epochs that an interrupted run has finished."""
        from safetensors import SafetensorError

        fresh = {name: value.clone() for name, value in self._state().items()}
        try:
            done, self.history = load_checkpoint(
                checkpoint, parameters=self._state(), optimizer=self.optimizer
            )
        except (SafetensorError, OSError, KeyError, RuntimeError, json.JSONDecodeError) as error:
            emit(Log(stage, f"the checkpoint {checkpoint} is damaged ({error}); the latent "
                            "classifier is trained from the start.", level="warning"))  # fmt: skip
            with torch.no_grad():
                for name, value in self._state().items():
                    value.copy_(fresh[name])
            self.optimizer.state.clear()
            return 0
        return done


def _check_classes(classes: list[str], labels: Sequence[str]) -> None:
    if len(classes) < 2:
        raise DatasetError("a classifier needs at least two classes.", where=", ".join(classes),
                           fix="Add a class to the data set.")  # fmt: skip
    counts = {name: 0 for name in classes}
    for label in labels:
        counts[label] += 1
    single = [name for name, count in counts.items() if count < 2]
    if single:
        raise DatasetError(
            "the class has a single training image; the latent classifier needs one to learn "
            "from and one to validate on.", where=single[0],
            fix="Add images or leave the class out.",
        )  # fmt: skip


def _capped(epochs: int, images: int, max_steps: int) -> int:
    steps = math.ceil(images / RECIPE["batch_size"])
    return epochs if max_steps == 0 else max(1, min(epochs, max_steps // steps))


def _write(path: Path, classifier: LatentClassifier) -> None:
    """Write a classifier's folder, the file whose presence says that it is finished last."""
    from safetensors.torch import save_file

    with storage.atomic_path(path / "classifier.safetensors") as temporary:
        state = {name: value.contiguous() for name, value in classifier.state_dict().items()}
        save_file(state, temporary)
    storage.write_json(path / "classifier.json", classifier.metadata)
