"""The latent classifier: tells the class from an unpooled latent, not from pixels.

The published DPD recipe: convolution stem of 64 channels, three stages of two residual blocks
(64, 128, 256 channels; strides 1, 2, 2), global average pooling, dropout 0.1; AdamW 1e-3,
weight decay 1e-3, 5 warm-up epochs, then cosine to 1e-6, batch 128; the posterior is sampled
anew in each step and flipped both ways with probability 0.5; 10 % of each class validate, every
fifth epoch and at the end, and the weights with the best accuracy (the last of equals) are
kept. Normalisation is BatchNorm, as published.

Here are the network and its files; :mod:`dpd_core.train.classifier_training` makes it.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from dpd_core import storage
from dpd_core.errors import ProjectError, StageMissing
from dpd_core.project import Project
from dpd_core.students.networks import ResidualBlock

CURRENT = "current.json"
_FIX = "Delete the folder 'classifier' in the project; the stage 'train' makes it again."

EPOCHS = 200
"""Published; a limit of steps may make them fewer."""

RECIPE: dict[str, Any] = {
    "version": 1,
    "widths": [64, 128, 256],
    "blocks": 2,
    "strides": [1, 2, 2],
    "dropout": 0.1,
    "learning_rate": 1e-3,
    "last_learning_rate": 1e-6,
    "weight_decay": 1e-3,
    "warmup_epochs": 5,
    "warmup_start": 0.01,
    "batch_size": 128,
    "flip": 0.5,
    "validation": 0.1,
    "validate_epochs": 5,
}
"""The published hyper-parameters; part of a trained classifier's key."""


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
            nn.ReLU(),
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


def load_classifier(project: Project, key: str | None = None) -> LatentClassifier:
    """A project's classifier: the one with this key, or the one trained or found last.

    Raises:
        StageMissing: none has been trained.
        ProjectError: its files are missing or damaged.
    """
    folder = project.path("classifier")
    if key is None:
        if not (folder / CURRENT).exists():
            raise StageMissing(
                "there is no latent classifier yet.",
                where=project.root,
                fix=f"Run `python -m dpd_core train --project {project.root}`.",
            )
        content = storage.read_json(folder / CURRENT, fix=_FIX)
        if not isinstance(content, dict) or not _is_key(content.get("key")):
            raise ProjectError("it names no classifier.", where=folder / CURRENT, fix=_FIX)
        key = content["key"]
    return read_classifier(project.path("classifier", key))


def read_classifier(path: Path) -> LatentClassifier:
    """A finished classifier from its folder, frozen, in evaluation mode, on the CPU.

    Raises:
        ProjectError: the files are missing or damaged.
    """
    kinds = {"classes": list, "channels": int}
    metadata = storage.read_record(path / "classifier.json", kinds, fix=_FIX)
    try:
        weights = load_file(path / "classifier.safetensors")
        _check_fits(metadata, weights)
        classifier = LatentClassifier(metadata["classes"], metadata["channels"])
        classifier.load_state_dict(weights)
    except (OSError, SafetensorError, RuntimeError, KeyError, TypeError, ValueError) as error:
        raise ProjectError(f"not a readable classifier ({error}).", where=path, fix=_FIX) from error
    classifier.metadata = metadata
    return classifier.eval().requires_grad_(False)


def _is_key(value: object) -> bool:
    """Whether this can be the name of a classifier's folder."""
    return isinstance(value, str) and bool(value) and storage.safe_name(value) == value


def _check_fits(metadata: dict[str, Any], weights: dict[str, Tensor]) -> None:
    """The sizes said are the weights' own: a network of a said size is built before it is
    compared, and could be said to be of any."""
    classes, numbers = metadata["classes"], [value.numel() for value in weights.values()]
    if not all(isinstance(name, str) for name in classes) or len(set(classes)) != len(classes):
        raise ValueError("its classes are not different names")
    if not 1 <= metadata["channels"] <= 256 or not 2 <= len(classes) <= max(numbers, default=0):
        raise ValueError("its classes or channels do not fit its weights")


def write_classifier(path: Path, classifier: LatentClassifier) -> None:
    """Write a classifier's folder, the file whose presence says that it is finished last.

    Weights are kept in half precision. Those in memory are rounded likewise, so that the
    classifier at work is the one that will be read back.
    """
    state = classifier.state_dict()
    halves = {
        name: value.half().contiguous() if value.is_floating_point() else value
        for name, value in state.items()
    }
    with torch.no_grad():
        for name, value in state.items():
            value.copy_(halves[name])
    with storage.atomic_path(path / "classifier.safetensors") as temporary:
        save_file(halves, temporary)
    storage.write_json(path / "classifier.json", classifier.metadata)
