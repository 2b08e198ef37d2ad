"""The student classifiers themselves: built from scratch, or loaded with their weights."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import (
    AutoImageProcessor,
    AutoModelForImageClassification,
    ResNetConfig,
    ResNetForImageClassification,
)

from dpd_core import storage
from dpd_core.errors import DatasetError, ModelError


class ResidualBlock(nn.Module):
    """Two 3x3 convolutions with batch normalisation and a shortcut (He et al., 2016)."""

    def __init__(self, inputs: int, outputs: int, stride: int):
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False),
            nn.BatchNorm2d(outputs),
            nn.ReLU(),
            nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False),
            nn.BatchNorm2d(outputs),
        )
        self.shortcut: nn.Module = nn.Identity()
        if stride != 1 or inputs != outputs:
            self.shortcut = nn.Sequential(
                nn.Conv2d(inputs, outputs, 1, stride, bias=False), nn.BatchNorm2d(outputs)
            )

    def forward(self, x: Tensor) -> Tensor:
        """(B, inputs, h, w) → (B, outputs, h/stride, w/stride)."""
        return F.relu(self.body(x) + self.shortcut(x))


class ConvNet(nn.Sequential):
    """The small residual network trained from scratch, about 0.3 M parameters."""

    def __init__(self, n_classes: int):
        super().__init__(
            nn.Conv2d(3, 32, 3, 2, 1, bias=False),
            nn.BatchNorm2d(32),
            nn.ReLU(),
            ResidualBlock(32, 32, 1),
            ResidualBlock(32, 64, 2),
            ResidualBlock(64, 128, 2),
            nn.AdaptiveAvgPool2d(1),
            nn.Flatten(),
            nn.Linear(128, n_classes),
        )


class GroupNormVGG(nn.Sequential):
    """Plain 3x3 convolutions with group normalisation and max pooling, about 0.28 M parameters
    (VGG: Simonyan and Zisserman, 2015; group normalisation: Wu and He, 2018)."""

    def __init__(self, n_classes: int):
        layers: list[nn.Module] = []
        inside = 3
        for outside in (32, 64, 64, 128, 128):
            stride = 2 if inside == 3 else 1
            convolution = nn.Conv2d(inside, outside, 3, stride, 1, bias=False)
            layers += [convolution, nn.GroupNorm(8, outside), nn.ReLU()]
            if outside == inside:
                layers.append(nn.MaxPool2d(2))
            inside = outside
        super().__init__(
            *layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(inside, n_classes)
        )


class MixerBlock(nn.Module):
    """Places mixed within each channel, beside a shortcut, then channels at each place."""

    def __init__(self, channels: int, kernel: int):
        super().__init__()
        self.places = nn.Sequential(
            nn.Conv2d(channels, channels, kernel, padding=kernel // 2, groups=channels),
            nn.GELU(),
            nn.GroupNorm(1, channels),
        )
        self.channels = nn.Sequential(
            nn.Conv2d(channels, channels, 1), nn.GELU(), nn.GroupNorm(1, channels)
        )

    def forward(self, x: Tensor) -> Tensor:
        """(B, channels, h, w) → the same shape."""
        return self.channels(x + self.places(x))


class ConvMixer(nn.Sequential):
    """Patches of 4 x 4 pixels and four depthwise mixer blocks, about 60,000 parameters (Trockman
    and Kolter, 2022, with layer normalisation for that of batches)."""

    def __init__(self, n_classes: int):
        width = 96
        super().__init__(
            nn.Conv2d(3, width, 4, stride=4),
            nn.GELU(),
            nn.GroupNorm(1, width),
            *(MixerBlock(width, 5) for _ in range(4)),
            nn.AdaptiveAvgPool2d(1),
            nn.Flatten(),
            nn.Linear(width, n_classes),
        )


class Student(nn.Module):
    """A classifier of images in [0, 1] that can also show its penultimate features.

    Args:
        network: Module from normalised images (B, 3, S, S) to logits (B, n), or to a
            transformers output with ``logits``.
        mean, std: Normalisation of each channel.
        size: Side in pixels that the network insists on; 0 takes any.
        pretrained: Whether the weights come from elsewhere, which asks for small steps.
    """

    mean: Tensor
    std: Tensor

    def __init__(
        self,
        network: nn.Module,
        *,
        mean: tuple[float, ...] = (0.5, 0.5, 0.5),
        std: tuple[float, ...] = (0.25, 0.25, 0.25),
        size: int = 0,
        pretrained: bool = False,
    ):
        super().__init__()
        self.network, self.size, self.pretrained = network, size, pretrained
        self.register_buffer("mean", torch.tensor(mean).view(1, 3, 1, 1))
        self.register_buffer("std", torch.tensor(std).view(1, 3, 1, 1))

    @property
    def head(self) -> nn.Linear:
        """The last linear layer, whose input are the features."""
        return [module for module in self.network.modules() if isinstance(module, nn.Linear)][-1]

    def forward(self, images: Tensor) -> Tensor:
        """Images (B, 3, S, S), float in [0, 1] → logits (B, n)."""
        if self.size:
            images = resized(images, self.size)
        output = self.network((images - self.mean) / self.std)
        return output if isinstance(output, Tensor) else output.logits

    def features(self, images: Tensor) -> Tensor:
        """Images (B, 3, S, S), float in [0, 1] → penultimate features (B, D)."""
        seen: list[Tensor] = []
        hook = self.head.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
        try:
            self(images)
        finally:
            hook.remove()
        return seen[0]


def resized(images: Tensor, side: int) -> Tensor:
    """Images (B, C, H, H) at another side, bilinear; those of that side as they are."""
    if images.shape[-1] == side:
        return images
    return F.interpolate(images, (side, side), mode="bilinear", antialias=True)


def build_student(student: str, n_classes: int, *, seed: int = 0) -> Student:
    """An untrained student, or a pretrained one with a new last layer.

    Args:
        student: One of :data:`FROM_SCRATCH`, which need no network, or a Hub id or folder of a
            transformers image classifier, loaded with its weights.
        n_classes: Number of outputs.
        seed: Determines the initial weights; the global random state is left as it was.

    Raises:
        ModelError: the pretrained model cannot be loaded.
    """
    if n_classes < 2:
        raise DatasetError(
            "a student needs at least two classes.", fix="Use a data set with two classes or more."
        )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        if student in FROM_SCRATCH:
            return Student(FROM_SCRATCH[student](n_classes))
        return _pretrained(student, n_classes)


def _resnet18(n_classes: int) -> nn.Module:
    settings: dict[str, Any] = {
        "embedding_size": 64,
        "hidden_sizes": [64, 128, 256, 512],
        "depths": [2, 2, 2, 2],
        "layer_type": "basic",
        "num_labels": n_classes,
    }
    config = ResNetConfig(**settings)
    return ResNetForImageClassification(config)


FROM_SCRATCH: dict[str, Callable[[int], nn.Module]] = {
    "convnet": ConvNet,
    "vgg": GroupNormVGG,
    "mixer": ConvMixer,
    "resnet18": _resnet18,
}
"""Untrained networks by name. Only the first is ever looked through while a set is made."""


def _pretrained(source: str, n_classes: int) -> Student:
    try:
        # Only safetensors: the pickled formats could run code.
        network: Any = AutoModelForImageClassification.from_pretrained(
            source, num_labels=n_classes, ignore_mismatched_sizes=True, use_safetensors=True
        )
        processor: Any = AutoImageProcessor.from_pretrained(source, use_fast=False)
    except (OSError, ValueError, ImportError, KeyError) as error:
        raise ModelError(
            f"the student cannot be loaded ({error}).",
            where=source,
            fix=f"Use {', '.join(FROM_SCRATCH)}, or the id or folder of a transformers image "
            "classifier with safetensors weights and a preprocessor_config.json.",
        ) from error
    linear = [module for module in network.modules() if isinstance(module, nn.Linear)]
    if not linear or linear[-1].out_features != n_classes:
        raise ModelError(
            "the model does not end in a linear classifier.",
            where=source,
            fix="Use another student, for instance 'resnet18'.",
        )
    # Convolutional networks take any size; a vision transformer says which one it was made for.
    size = getattr(network.config, "image_size", 0) or 0
    return Student(
        network,
        mean=tuple(getattr(processor, "image_mean", None) or (0.5,) * 3),
        std=tuple(getattr(processor, "image_std", None) or (0.5,) * 3),
        size=size if isinstance(size, int) else int(size[0]),
        pretrained=True,
    )


def student_identity(student: str) -> str:
    """What determines a student's initial weights apart from the seed, for cache keys.

    A folder's files count with their content; a Hub id is taken at its word.
    """
    folder = Path(student).expanduser()
    if student in FROM_SCRATCH or not folder.is_dir():
        return student
    files = sorted([*folder.glob("*.safetensors"), *folder.glob("*.json")])
    return storage.digest([[path.name, storage.file_digest(path)] for path in files])
