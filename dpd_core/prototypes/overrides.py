"""Prototypes chosen and images excluded by hand, ``prototypes/overrides.json``.

An image chosen by hand is the prototype of whatever cluster it falls into: a choice is one of an
image, so it survives that clusters are numbered, or cut, in another way. The cluster's number in
the file says where the image was when it was chosen.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from dpd_core import storage
from dpd_core.errors import ProjectError
from dpd_core.project import Project

_FILE = ("prototypes", "overrides.json")


@dataclass(frozen=True)
class Overrides:
    """The choices made by hand.

    Attributes:
        excluded: Ids of images left out of the clustering and of training.
        chosen: Image id by class and by the cluster it was in when it was chosen.
    """

    excluded: frozenset[str] = frozenset()
    chosen: dict[str, dict[int, str]] = field(default_factory=dict)


@dataclass(frozen=True)
class HandChoice:
    """What became of a chosen image in a clustering.

    Attributes:
        id, class_name: The image, and the class it was chosen for.
        kept: Whether it is the prototype of its cluster.
        cluster_id: That cluster, or ``None``.
        reason: Why it is not, in one clause; empty if it is.
    """

    id: str
    class_name: str
    kept: bool
    cluster_id: int | None = None
    reason: str = ""


def read_overrides(project: Project) -> Overrides:
    """The choices made by hand, empty if there is no file.

    Raises:
        ProjectError: the file is not of the form
            ``{"excluded": [id], "chosen": {class: {cluster: id}}}``.
    """
    path = project.path(*_FILE)
    if not path.exists():
        return Overrides()
    fix = "Correct it, or delete it to go back to the automatic choice."
    content = storage.read_json(path, fix=fix)
    try:
        excluded, chosen = content.get("excluded", []), content.get("chosen", {})
        ids = [*excluded, *(i for clusters in chosen.values() for i in clusters.values())]
        if not isinstance(excluded, list) or not all(isinstance(i, str) for i in ids):
            raise TypeError("image ids must be texts")
        return Overrides(
            frozenset(excluded),
            {name: {int(k): i for k, i in clusters.items()} for name, clusters in chosen.items()},
        )
    except (AttributeError, TypeError, ValueError) as error:
        raise ProjectError(f"not a file of choices ({error}).", where=path, fix=fix) from error


def write_overrides(project: Project, overrides: Overrides) -> None:
    """Write the choices atomically; :mod:`dpd_core.prototypes.curation` checks them and holds
    the lock.
    """
    chosen = {
        name: {str(k): i for k, i in sorted(clusters.items())}
        for name, clusters in sorted(overrides.chosen.items())
        if clusters
    }
    content = {"excluded": sorted(overrides.excluded), "chosen": chosen}
    storage.write_json(project.path(*_FILE), content)


def place_choices(
    overrides: Overrides, clusters: Mapping[str, tuple[str, int]]
) -> list[HandChoice]:
    """Find the cluster of each chosen image.

    Where two of them are in one cluster now, the one chosen for that number stays, else the one
    of the lower number.

    Args:
        overrides: The choices.
        clusters: Class and cluster by image id, of all images that take part.
    """
    placed: list[HandChoice] = []
    for class_name, wanted in sorted(overrides.chosen.items()):
        taken: dict[int, str] = {}
        # Those still in the cluster they were chosen for come first.
        order = sorted(
            wanted.items(),
            key=lambda item: (clusters.get(item[1]) != (class_name, item[0]), item[0]),
        )
        for _, image_id in order:
            placed.append(_place(image_id, class_name, overrides, clusters, taken))
    return placed


def _place(
    image_id: str,
    class_name: str,
    overrides: Overrides,
    clusters: Mapping[str, tuple[str, int]],
    taken: dict[int, str],
) -> HandChoice:
    def not_kept(reason: str) -> HandChoice:
        return HandChoice(image_id, class_name, kept=False, reason=reason)

    if image_id in overrides.excluded:
        return not_kept("it is excluded from training")
    if image_id not in clusters:
        return not_kept("it is not among the training images any more")
    now, cluster = clusters[image_id]
    if now != class_name:
        return not_kept(f"its class is {now} now")
    if cluster in taken:
        return not_kept(f"it is in one cluster with {taken[cluster]}, which is chosen as well")
    taken[cluster] = image_id
    return HandChoice(image_id, class_name, kept=True, cluster_id=cluster)
