"""Choosing real subsets of the training images, class by class.

A choice is a pure function of what is known of one class; those of :data:`CHOICES` give image ids.
To add one, write it, put it there, and describe it in :mod:`dpd_core.evaluate.baselines`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import zip_longest

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from dpd_core.errors import StageMissing
from dpd_core.prototypes.files import Member
from dpd_core.seeding import derive_seed, generator
from dpd_core.students.networks import Student

CROPS = 4
AREA = (0.5, 1.0)
"""Share of the image that a crop keeps; RDED's default range."""
_BATCH = 128


@dataclass(frozen=True)
class Pool:
    """What a baseline may choose from, of one class.

    Attributes:
        ids: Ids of the class's training images, sorted.
        members: Cluster of each image and distance to its centre in the pooled latent space;
            images left out of the clustering by hand are missing.
        vectors: Each image's vector in the pooled latent space, float (D,); empty where the
            baseline does not ask for them.
    """

    class_name: str
    ids: tuple[str, ...]
    members: Mapping[str, Member]
    vectors: Mapping[str, np.ndarray] = field(default_factory=dict)


def random_subset(pool: Pool, count: int, seed: int) -> list[str]:
    """``count`` images drawn without replacement, in the order of their ids."""
    draws = torch.Generator().manual_seed(seed)
    rows = torch.randperm(len(pool.ids), generator=draws)[:count].tolist()
    return [pool.ids[row] for row in sorted(rows)]


def medoids(pool: Pool, count: int, seed: int) -> list[str]:
    """The member nearest each cluster's centre, in the latent space of the prototypes.

    With more images than clusters come the second nearest, and so on; with fewer, the
    largest clusters are served first. Outliers come last; images that were left out of the
    clustering by hand are not chosen.

    Raises:
        StageMissing: there are no clusters.
    """
    known = [image for image in pool.ids if image in pool.members]
    if not known:
        raise StageMissing(
            "medoids need the clusters of the prototypes stage.",
            where=pool.class_name,
            fix="Run the prototypes stage, or leave the baseline 'medoid' out.",
        )
    clusters: dict[int, list[str]] = {}
    outliers = []
    for image in sorted(known, key=lambda image: (pool.members[image].distance, image)):
        if pool.members[image].outlier:
            outliers.append(image)
        else:
            clusters.setdefault(pool.members[image].cluster_id, []).append(image)
    by_size = sorted(clusters, key=lambda cluster: (-len(clusters[cluster]), cluster))
    ranks = zip_longest(*(clusters[cluster] for cluster in by_size))
    order = [image for rank in ranks for image in rank if image is not None]
    return [*order, *outliers][:count]


def herding(pool: Pool, count: int, seed: int) -> list[str]:
    """Greedily the image that brings the mean of the chosen nearest to the mean of the class.

    Source: herding (Welling, ICML 2009; iCaRL, Rebuffi et al., CVPR 2017), in the pooled latent
    space.
    """
    vectors = _vectors(pool)
    mean, total = vectors.mean(0), np.zeros(vectors.shape[1])
    chosen: list[int] = []
    for place in range(1, min(count, len(vectors)) + 1):
        distance = np.linalg.norm(mean - (total + vectors) / place, axis=1)
        distance[chosen] = np.inf
        chosen.append(int(distance.argmin()))
        total += vectors[chosen[-1]]
    return [pool.ids[row] for row in chosen]


def k_center(pool: Pool, count: int, seed: int) -> list[str]:
    """Greedily the image farthest from those chosen, beginning nearest the mean.

    Source: k-centre greedy (Sener & Savarese, ICLR 2018), in the pooled latent space.
    """
    vectors = _vectors(pool)
    chosen = [int(np.linalg.norm(vectors - vectors.mean(0), axis=1).argmin())]
    nearest = np.linalg.norm(vectors - vectors[chosen[0]], axis=1)
    while len(chosen) < min(count, len(vectors)):
        nearest[chosen] = -1.0
        chosen.append(int(nearest.argmax()))
        distance = np.linalg.norm(vectors - vectors[chosen[-1]], axis=1)
        nearest = np.minimum(nearest, distance)
    return [pool.ids[row] for row in chosen[:count]]


def _vectors(pool: Pool) -> np.ndarray:
    return np.stack([pool.vectors[image] for image in pool.ids]).astype(np.float64)


def everything(pool: Pool, count: int, seed: int) -> list[str]:
    """All training images: the upper bound, not a subset of the same size."""
    return list(pool.ids)


CHOICES: dict[str, Callable[[Pool, int, int], list[str]]] = {
    "random": random_subset,
    "medoid": medoids,
    "herding": herding,
    "kcenter": k_center,
    "full": everything,
}
"""(what to choose from, number of images, seed) → chosen ids, fewer where there are no more."""


def select(
    name: str, pools: Mapping[str, Pool], counts: Mapping[str, int], *, seed: int, repeat: int
) -> dict[str, list[str]]:
    """Choose the images of all classes.

    Args:
        name: A name in :data:`CHOICES`.
        pools: What to choose from, by class name.
        counts: How many images, by class name.
        seed: The project's seed.
        repeat: Number of the repetition; a seeded baseline chooses others in each.

    Returns:
        Image ids by class name. Whether a class is asked for alone or with others changes
        nothing, because its seed derives from its name.
    """
    return {
        class_name: CHOICES[name](
            pools[class_name], count, derive_seed(seed, "baseline", name, class_name, repeat)
        )
        for class_name, count in counts.items()
    }


def best_crops(
    teacher: Student,
    images: np.ndarray,
    labels: np.ndarray,
    counts: Sequence[int],
    *,
    seed: int,
    names: Sequence[str],
) -> tuple[np.ndarray, np.ndarray, list[int]]:
    """Crops that a network is surest of: a strong baseline without any generation.

    After RDED (Sun et al., CVPR 2024): several crops of each image are scored by a network trained
    on the real training split, the best of each image is kept, and of these the best of each class.
    RDED also joins several crops into one image and uses soft labels; this does neither, so that it
    is one image with one hard label like everything beside it.

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
