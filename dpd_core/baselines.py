"""Real subsets of the training images: what every claim about a distilled set is measured by.

A baseline is a pure function that chooses image ids of one class. To add one, write it and
put it in :data:`BASELINES`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import zip_longest
from typing import TYPE_CHECKING

from dpd_core.errors import ConfigError, StageMissing
from dpd_core.seeding import derive_seed

if TYPE_CHECKING:
    from dpd_core.prototypes import Member


@dataclass(frozen=True)
class Pool:
    """What a baseline may choose from, of one class.

    Attributes:
        ids: Ids of the class's training images, sorted.
        members: Cluster of each image and distance to its centre in the pooled latent space;
            images left out of the clustering by hand are missing.
    """

    class_name: str
    ids: tuple[str, ...]
    members: Mapping[str, Member]


@dataclass(frozen=True)
class Baseline:
    """A named way of choosing real images.

    Attributes:
        description: One sentence for a person.
        select: (pool, number of images, seed) → chosen ids; fewer where there are no more.
        seeded: Whether another seed chooses other images.
        clustered: Whether it needs the clusters of the prototypes stage.
        sized: Whether it takes as many images as the distilled set has.
    """

    description: str
    select: Callable[[Pool, int, int], list[str]]
    seeded: bool = False
    clustered: bool = False
    sized: bool = True


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
            "medoids need the clusters of the prototypes stage.", where=pool.class_name,
            fix="Run the prototypes stage, or leave the baseline 'medoid' out.",
        )  # fmt: skip
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


def everything(pool: Pool, count: int, seed: int) -> list[str]:
    """All training images: the upper bound, not a subset of the same size."""
    return list(pool.ids)


BASELINES: dict[str, Baseline] = {
    "random": Baseline("Real images drawn at random.", random_subset, seeded=True),
    "medoid": Baseline(
        "The real image nearest the centre of each cluster.", medoids, clustered=True
    ),
    "full": Baseline("All real training images.", everything, sized=False),
}


def get_baseline(name: str) -> Baseline:
    """A baseline by name.

    Raises:
        ConfigError: unknown name.
    """
    if name not in BASELINES:
        raise ConfigError(f"unknown baseline {name!r}.", where="evaluate.baselines",
                          fix=f"Known baselines: {', '.join(BASELINES)}.")  # fmt: skip
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
