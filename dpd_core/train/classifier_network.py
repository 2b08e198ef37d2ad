"""The network that tells the class from an unpooled latent, and its published recipe."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor, nn
from torch.nn import functional

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
