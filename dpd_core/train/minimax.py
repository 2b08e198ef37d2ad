"""Minimax training: latents that stand for their class and differ from each other.

Source: Gu et al., CVPR 2024. Beside the diffusion loss,

    λ_r · (1 − min_j cos(ẑ₀, real_j)) + λ_d · max_j cos(ẑ₀, predicted_j)

over a memory of real latents and one of latents predicted in earlier steps, both of the sample's
class, 64 each; λ_r = 0.002, λ_d = 0.008. Ours: the real memory is drawn anew in each step, so that
a resumed run sees what an uninterrupted one would have seen; the predicted one is part of the
checkpoint.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

MEMORY = 64
"""Latents remembered for each class."""


class PredictedMemory:
    """The last predicted latents of each class.

    Args:
        classes: Number of classes.
        shape: Of one latent, (C, h, w).

    Attributes:
        latents: (classes, MEMORY, C·h·w); rows that were never filled are 0.
        counts: Latents seen so far by class, (classes,).
    """

    def __init__(self, classes: int, shape: tuple[int, ...], device: torch.device):
        size = torch.Size(shape).numel()
        self.latents = torch.zeros(classes, MEMORY, size, device=device)
        self.counts = torch.zeros(classes, device=device)

    def add(self, clean: Tensor, labels: Tensor) -> None:
        """Remember predicted latents (B, C, h, w) of these columns (B,), oldest forgotten first."""
        for latent, label in zip(clean.detach().flatten(1), labels.tolist(), strict=True):
            self.latents[label, int(self.counts[label]) % MEMORY] = latent
            self.counts[label] += 1


def unrepresentative(clean: Tensor, real: Tensor) -> Tensor:
    """1 − min_j cos(ẑ₀, real_j), (B,).

    Args:
        clean: ẑ₀, (B, C, h, w).
        real: Real latents of each sample's class, (B, M, C, h, w).
    """
    similarity = functional.cosine_similarity(clean.flatten(1)[:, None], real.flatten(2), dim=2)
    return 1 - similarity.min(1).values


def redundant(clean: Tensor, labels: Tensor, memory: PredictedMemory) -> Tensor:
    """max_j cos(ẑ₀, predicted_j), (B,); 0 for a class nothing is remembered of."""
    remembered = memory.latents[labels]
    similarity = functional.cosine_similarity(clean.flatten(1)[:, None], remembered, dim=2)
    empty = torch.arange(MEMORY, device=clean.device) >= memory.counts[labels][:, None]
    highest = similarity.masked_fill(empty, -1.0).max(1).values
    return torch.where(memory.counts[labels] > 0, highest, torch.zeros_like(highest))


def draw_real(means: Tensor, labels: Tensor, wanted: Tensor, draws: torch.Generator) -> Tensor:
    """Real latents of each sample's class, (B, MEMORY, C, h, w), with repetition.

    Args:
        means: Of all training images, (N, C, h, w).
        labels: Their columns, (N,).
        wanted: Column of each sample, (B,).
        draws: Of the step.
    """
    rows = []
    for label in wanted.tolist():
        known = (labels == label).nonzero()[:, 0]
        rows.append(known[torch.randint(len(known), (MEMORY,), generator=draws)])
    return means[torch.stack(rows)]
