"""What captions are written for: the project's prototypes, read from the project folder.

They are read without the index of all images, which an edit of one caption must not wait for.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import unquote

from dpd_core import storage
from dpd_core.errors import CaptionError, ProjectError, StageMissing
from dpd_core.project import Project
from dpd_core.prototypes.files import Slot

_FIX = "Run the stage 'prototypes' again."


@dataclass(frozen=True)
class Target:
    """One prototype.

    Attributes:
        class_name: Its class.
        cluster_id: Its cluster's number in the class.
        prototype_id: Image id of the prototype. A caption belongs to it, not to the number: a
            new clustering gives the numbers out anew.
        record: Its entry in ``prototypes.json``, the published format.
    """

    class_name: str
    cluster_id: int
    prototype_id: str
    record: dict[str, Any]

    @property
    def slot(self) -> Slot:
        """The slot it stands for."""
        return Slot(self.class_name, self.cluster_id)

    @property
    def key(self) -> tuple[str, str]:
        """Class and prototype: what a caption is filed under."""
        return self.class_name, self.prototype_id


@dataclass(frozen=True)
class Member:
    """One train image of a cluster; ``distance`` is the one to the cluster's centre."""

    image_id: str
    class_name: str
    cluster_id: int | None
    distance: float
    outlier: bool


def load_targets(project: Project) -> list[Target]:
    """The current prototypes, by class and cluster number.

    Raises:
        StageMissing: there are no prototypes yet.
        ProjectError: the file is damaged.
    """
    path = _existing(project, "prototypes.json")
    try:
        targets = [
            Target(
                name,
                int(record["cluster_id"]),
                str(record.get("id") or record["image"]),
                dict(record),
            )
            for name, records in storage.read_json(path, fix=_FIX).items()
            for record in records
        ]
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise ProjectError("not in the prototypes' format.", where=path, fix=_FIX) from error
    return sorted(targets, key=lambda target: (target.class_name, target.cluster_id))


def load_members(project: Project) -> list[Member]:
    """Every train image with its cluster, sorted by image id; the cluster of an image left out
    of the clustering is ``None``.

    Raises:
        StageMissing: there are no clusters yet.
        ProjectError: the file is damaged.
    """
    path = _existing(project, "clusters.json")
    try:
        entries = storage.read_json(path, fix=_FIX)
        members = [_member(name, entry) for name, entry in entries.items()]
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise ProjectError("not in the clusters' format.", where=path, fix=_FIX) from error
    return sorted(members, key=lambda member: member.image_id)


def find_target(targets: list[Target], class_name: str, cluster_id: int) -> Target:
    """The prototype of a cluster.

    Raises:
        CaptionError: there is no such class or cluster.
    """
    clusters = {one.cluster_id: one for one in targets if one.class_name == class_name}
    if not clusters:
        known = ", ".join(dict.fromkeys(one.class_name for one in targets))
        raise CaptionError(
            "there is no such class.", where=class_name, fix=f"Classes with prototypes: {known}."
        )
    if cluster_id not in clusters:
        raise CaptionError(
            f"there is no cluster {cluster_id}.",
            where=class_name,
            fix=f"Its clusters: {', '.join(map(str, clusters))}.",
        )
    return clusters[cluster_id]


def select_targets(targets: list[Target], only: Sequence[str]) -> list[Target]:
    """The prototypes that the setting ``only`` names; all if it names nothing.

    Raises:
        CaptionError: there is no such class or cluster.
    """
    classes = {one.class_name for one in targets}
    chosen: set[tuple[str, str]] = set()
    for entry in only:
        name, _, number = entry.rpartition("/")
        if number.isdecimal() and unquote(name) in classes:
            chosen.add(find_target(targets, unquote(name), int(number)).key)
        elif unquote(entry) in classes:
            chosen |= {one.key for one in targets if one.class_name == unquote(entry)}
        elif entry:
            find_target(targets, unquote(entry), 0)
    return [one for one in targets if one.key in chosen] if any(only) else targets


def _member(name: str, entry: dict[str, Any]) -> Member:
    cluster = entry["cluster_id"]
    # -1 is scikit-learn's label for what belongs to no cluster.
    cluster = None if cluster is None or int(cluster) < 0 else int(cluster)
    distance = entry.get("distance")
    return Member(
        name,
        str(entry["class"]),
        cluster,
        float("inf") if distance is None else float(distance),
        bool(entry.get("outlier", False)),
    )


def _existing(project: Project, name: str) -> Path:
    path = project.path("prototypes", name)
    if not path.exists():
        raise StageMissing(
            "there are no prototypes to caption yet.",
            where=project.root,
            fix=f"Run `python -m dpd_core prototypes --project {project.root}` first.",
        )
    return path
