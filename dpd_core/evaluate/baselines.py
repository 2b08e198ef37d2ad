"""Real subsets of the training images: what every claim about a distilled set is measured by.

A baseline is a pure function that chooses image ids of one class. To add one, write it and
put it in :data:`BASELINES`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from itertools import zip_longest
from typing import TYPE_CHECKING

import numpy as np

from dpd_core.errors import ConfigError, StageMissing
from dpd_core.seeding import derive_seed

if TYPE_CHECKING:
    from dpd_core.prototypes.files import Member


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


@dataclass(frozen=True)
class Baseline:
    """A named way of choosing real images.

    Attributes:
        description: One sentence for a person.
        select: (pool, number of images, seed) → chosen ids; fewer where there are no more.
        seeded: Whether another seed chooses other images.
        clustered: Whether it needs the clusters of the prototypes stage.
        sized: Whether it takes as many images as the distilled set has.
        measured: Whether it needs :attr:`Pool.vectors`.
        elsewhere: Which choice is not made by ``select``: ``crops`` (among crops of the images,
            :mod:`dpd_core.evaluate.real_crops`) or ``exchange`` (of the prototypes,
            :mod:`dpd_core.prototypes.choice`); empty: none.
    """

    description: str
    select: Callable[[Pool, int, int], list[str]]
    seeded: bool = False
    clustered: bool = False
    sized: bool = True
    measured: bool = False
    elsewhere: str = ""


def random_subset(pool: Pool, count: int, seed: int) -> list[str]:
    """``count`` images drawn without replacement, in the order of their ids."""
    import torch  # seconds, which whoever only lists the baselines need not wait

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


BASELINES: dict[str, Baseline] = {
    "random": Baseline("Real images drawn at random.", random_subset, seeded=True),
    "medoid": Baseline(
        "The real image nearest the centre of each cluster.", medoids, clustered=True
    ),
    "herding": Baseline(
        "Real images whose mean is the mean of their class.", herding, measured=True
    ),
    "kcenter": Baseline(
        "Real images that leave none of their class far away.", k_center, measured=True
    ),
    "rded": Baseline(
        "Real crops that a network trained on all images is surest of (after RDED, Sun et al., "
        "CVPR 2024, with one crop an image and hard labels).",
        random_subset,
        elsewhere="crops",
    ),
    "exchanged": Baseline(
        "The real image of each cluster from which, together, most is learnt, as it is.",
        medoids,
        clustered=True,
        elsewhere="exchange",
    ),
    "full": Baseline("All real training images.", everything, sized=False),
}


def get_baseline(name: str) -> Baseline:
    """A baseline by name.

    Raises:
        ConfigError: unknown name.
    """
    if name not in BASELINES:
        raise ConfigError(
            f"unknown baseline {name!r}.",
            where="evaluate.baselines",
            fix=f"Known baselines: {', '.join(BASELINES)}.",
        )
    return BASELINES[name]


def select(
    name: str, pools: Mapping[str, Pool], counts: Mapping[str, int], *, seed: int, repeat: int
) -> dict[str, list[str]]:
    """Choose the images of all classes.

    Args:
        name: A name in :data:`BASELINES`.
        pools: What to choose from, by class name.
        counts: How many images, by class name.
        seed: The project's seed.
        repeat: Number of the repetition; a seeded baseline chooses others in each.

    Returns:
        Image ids by class name. Whether a class is asked for alone or with others changes
        nothing, because its seed derives from its name.
    """
    baseline = get_baseline(name)
    return {
        class_name: baseline.select(
            pools[class_name], count, derive_seed(seed, "baseline", name, class_name, repeat)
        )
        for class_name, count in counts.items()
    }
