"""A small classifier of latents trained on the prototypes alone: the "current student".

Some methods ask what a student of the distilled set does not know yet. This is that student in
the latent space, small enough to train in seconds.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from dpd_core.seeding import derive_seed, generator
from dpd_core.students.networks import ResidualBlock

STEPS, BATCH, LEARNING_RATE = 60, 32, 3e-3
"""Early in training on purpose: a student that has its few images by heart has no gradient."""


class LatentStudent(nn.Module):
    """Two residual blocks on latents (B, C, h, w); logits (B, classes)."""

    def __init__(self, classes: Sequence[str], channels: int):
        super().__init__()
        self.classes = list(classes)
        self.body = nn.Sequential(
            nn.Conv2d(channels, 32, 3, 1, 1, bias=False),
            nn.BatchNorm2d(32),
            nn.ReLU(),
            ResidualBlock(32, 32, 1),
            ResidualBlock(32, 64, 2),
            nn.AdaptiveAvgPool2d(1),
            nn.Flatten(),
        )
        self.head = nn.Linear(64, len(self.classes))

    def features(self, latents: Tensor) -> Tensor:
        """Penultimate features, (B, 64)."""
        return self.body(latents)

    def forward(self, latents: Tensor) -> Tensor:
        """Logits, (B, classes)."""
        return self.head(self.features(latents))


def train_latent_student(
    prototypes: Mapping[str, Tensor], classes: Sequence[str], *, seed: int
) -> LatentStudent:
    """Train on the prototypes, on the CPU.

    Args:
        prototypes: Latents (K, C, h, w) by class name.
        classes: Class names in the order of the logits.
        seed: Project seed; weights and draws derive from it.

    Returns:
        The student, frozen, in evaluation mode.
    """
    names = [name for name in classes if name in prototypes]
    latents = torch.cat([prototypes[name] for name in names])
    columns = {name: column for column, name in enumerate(classes)}
    target = torch.tensor([columns[name] for name in names for _ in prototypes[name]])
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(derive_seed(seed, "latent student", "weights"))
        student = LatentStudent(classes, latents.shape[1]).train()
    optimizer = torch.optim.AdamW(student.parameters(), lr=LEARNING_RATE)
    draws = generator(seed, "latent student", "draws")
    for _ in range(STEPS):
        rows = torch.randint(len(latents), (BATCH,), generator=draws)
        batch = latents[rows]
        for axis in (2, 3):
            flip = torch.rand(BATCH, 1, 1, 1, generator=draws) < 0.5
            batch = torch.where(flip, batch.flip(axis), batch)
        loss = functional.cross_entropy(student(batch), target[rows])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return student.eval().requires_grad_(False)
