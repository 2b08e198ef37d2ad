"""The real subsets that a distilled set is measured beside: their names and what they need.

Light to import: the app lists them. How each is chosen stands in :mod:`dpd_core.evaluate.subsets`.
"""

from __future__ import annotations

from dataclasses import dataclass

from dpd_core.errors import ConfigError


@dataclass(frozen=True)
class Baseline:
    """A named way of choosing real images.

    Attributes:
        description: One sentence for a person.
        seeded: Whether another seed chooses other images.
        clustered: Whether it needs the clusters of the prototypes stage.
        sized: Whether it takes as many images as the distilled set has.
        measured: Whether it needs the images' vectors in the pooled latent space.
    """

    description: str
    seeded: bool = False
    clustered: bool = False
    sized: bool = True
    measured: bool = False


BASELINES: dict[str, Baseline] = {
    "random": Baseline("Real images drawn at random.", seeded=True),
    "medoid": Baseline("The real image nearest the centre of each cluster.", clustered=True),
    "herding": Baseline("Real images whose mean is the mean of their class.", measured=True),
    "kcenter": Baseline("Real images that leave none of their class far away.", measured=True),
    "rded": Baseline(
        "Real crops that a network trained on all images is surest of (after RDED, Sun et al., "
        "CVPR 2024, with one crop an image and hard labels)."
    ),
    "exchanged": Baseline(
        "The real image of each cluster from which, together, most is learnt, as it is.",
        clustered=True,
    ),
    "full": Baseline("All real training images.", sized=False),
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
