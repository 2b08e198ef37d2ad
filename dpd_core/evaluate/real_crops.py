"""Crops of real images that a network is surest of: a strong baseline without any generation.

After RDED (Sun et al., CVPR 2024): several crops of each image are scored by a network trained on
the real training split, the best of each image is kept, and of these the best of each class. RDED
also joins several crops into one image and uses soft labels; this baseline does neither, so that it
is one image with one hard label like everything beside it.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from dpd_core.seeding import generator
from dpd_core.students.networks import Student

CROPS = 4
AREA = (0.5, 1.0)
"""Share of the image that a crop keeps; RDED's default range."""
_BATCH = 128


def best_crops(
    teacher: Student,
    images: np.ndarray,
    labels: np.ndarray,
    counts: Sequence[int],
    *,
    seed: int,
    names: Sequence[str],
) -> tuple[np.ndarray, np.ndarray, list[int]]:
    """Choose crops.

    Args:
        teacher: In evaluation mode.
        images: uint8 (N, S, S, 3).
        labels: Columns, int (N,).
        counts: Crops of each class; fewer where it has fewer images.
        seed: Project seed; the crops of a class derive from its name.
        names: Class names by column.

    Returns:
        Crops uint8 (M, S, S, 3), their columns (M,), and the rows they were cut from.
    """
    pixels, columns, rows = [], [], []
    for column, (name, count) in enumerate(zip(names, counts, strict=True)):
        found = np.flatnonzero(labels == column)
        crops, losses = _scored(teacher, images[found], column, generator(seed, "rded", name))
        order = losses.argsort()[:count].tolist()
        pixels.append(crops[order])
        columns += [column] * len(order)
        rows += [int(found[place]) for place in order]
    return np.concatenate(pixels), np.array(columns, dtype=np.int64), rows


@torch.no_grad()
def _scored(
    teacher: Student, images: np.ndarray, column: int, draws: torch.Generator
) -> tuple[np.ndarray, Tensor]:
    """The crop of each image with the smallest loss, uint8 (n, S, S, 3), and that loss (n,)."""
    device = next(teacher.parameters()).device
    kept, losses = [], []
    for start in range(0, len(images), _BATCH):
        part = torch.from_numpy(np.ascontiguousarray(images[start : start + _BATCH]))
        batch = part.permute(0, 3, 1, 2).float().div(255).to(device)
        crops = torch.stack([_crop(batch, draws) for _ in range(CROPS)], 1)
        flat = crops.flatten(0, 1)
        target = torch.full((len(flat),), column, device=device)
        loss = functional.cross_entropy(teacher(flat), target, reduction="none")
        best = loss.view(-1, CROPS).min(1)
        kept.append(crops[torch.arange(len(crops)), best.indices].cpu())
        losses.append(best.values.cpu())
    chosen = torch.cat(kept).mul(255).round().clamp(0, 255).to(torch.uint8)
    return chosen.permute(0, 2, 3, 1).numpy(), torch.cat(losses)


def _crop(batch: Tensor, draws: torch.Generator) -> Tensor:
    """One square crop of each image at its full size again."""
    uniform = torch.rand(3, len(batch), generator=draws)
    side = (AREA[0] + (AREA[1] - AREA[0]) * uniform[0]).sqrt()
    matrix = torch.zeros(len(batch), 2, 3)
    matrix[:, 0, 0] = matrix[:, 1, 1] = side
    matrix[:, :, 2] = ((1 - side) * (uniform[1:] * 2 - 1)).T
    grid = functional.affine_grid(matrix.to(batch.device), list(batch.shape), align_corners=False)
    return functional.grid_sample(batch, grid, padding_mode="reflection", align_corners=False)
