"""What a new clustering changed, ``prototypes/changes.json``.

Each run of the stage compares its result with the one it replaces. Clusters have no identity
beyond their members, so they are compared by the images that stand together in one
(adjusted Rand index, Hubert and Arabie, 1985), and prototypes by image.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

from dpd_core import storage
from dpd_core.errors import DPDError, ProjectError
from dpd_core.prototypes.files import list_prototypes, load_members
from dpd_core.prototypes.overrides import HandChoice

if TYPE_CHECKING:
    from dpd_core.project import Project

_FILE = ("prototypes", "changes.json")


@dataclass(frozen=True)
class Snapshot:
    """A clustering as far as two of them are compared.

    Attributes:
        settings: Those of the stage.
        prototypes: Image ids by class.
        clusters: Class and cluster number by image id.
    """

    settings: dict[str, Any]
    prototypes: dict[str, list[str]]
    clusters: dict[str, tuple[str, int]]


@dataclass(frozen=True)
class ClassChange:
    """One class before and after.

    Attributes:
        class_name: The class.
        kept, added, removed: Image ids of prototypes.
        joined, left: Numbers of images that are in the class's clusters now, or were before.
        agreement: Adjusted Rand index of the clusters over the images in both: 1 the same
            clusters, about 0 unrelated ones; ``None`` where there is nothing to compare.
    """

    class_name: str
    kept: tuple[str, ...] = ()
    added: tuple[str, ...] = ()
    removed: tuple[str, ...] = ()
    joined: int = 0
    left: int = 0
    agreement: float | None = None


@dataclass(frozen=True)
class Changes:
    """What a run changed.

    Attributes:
        first: Whether there was nothing to compare with.
        settings: Values before and after, by the name of each setting that differs.
        classes: By name of the class; empty for a first run.
        choices: What became of the images chosen by hand.
    """

    first: bool = True
    settings: dict[str, tuple[Any, Any]] = field(default_factory=dict)
    classes: tuple[ClassChange, ...] = ()
    choices: tuple[HandChoice, ...] = ()


def snapshot(project: Project) -> Snapshot | None:
    """What the stage left last time; ``None`` if that cannot be read."""
    try:
        prototypes, members = list_prototypes(project), load_members(project)
        record = project.record("prototypes")
    except DPDError:
        return None
    ids: dict[str, list[str]] = {}
    for prototype in prototypes:
        ids.setdefault(prototype.class_name, []).append(prototype.id)
    return Snapshot(
        dict(record["settings"]) if record else {},
        ids,
        {image_id: member.slot for image_id, member in members.items()},
    )


def compare(
    before: Snapshot | None, after: Snapshot, choices: Sequence[HandChoice] = ()
) -> Changes:
    """The changes from one clustering to another."""
    if before is None:
        return Changes(choices=tuple(choices))
    settings = {
        name: (before.settings[name], value)
        for name, value in after.settings.items()
        if name in before.settings and before.settings[name] != value
    }
    names = sorted(set(before.prototypes) | set(after.prototypes))
    return Changes(
        False, settings, tuple(_class_change(n, before, after) for n in names), tuple(choices)
    )


def record_changes(
    project: Project, before: Snapshot | None, after: Snapshot, choices: Sequence[HandChoice]
) -> Changes:
    """Compare and write ``changes.json``.

    A run that comes to the very result of the last one leaves the file as it is: it is that
    result's comparison with its predecessor, also if the run was killed half-way in between.
    """
    key = storage.digest(
        after.settings, after.prototypes, after.clusters, [asdict(choice) for choice in choices]
    )
    path = project.path(*_FILE)
    if path.exists():
        try:
            if storage.read_json(path).get("key") == key:
                return _parse(storage.read_json(path))
        except (DPDError, AttributeError, KeyError, TypeError, ValueError):
            pass  # damaged: it is written anew
    changes = compare(before, after, choices)
    storage.write_json(path, {"key": key, **asdict(changes)})
    return changes


def read_changes(project: Project) -> Changes | None:
    """What the last run changed, or ``None`` if no run has said so.

    Raises:
        ProjectError: the file is damaged.
    """
    path = project.path(*_FILE)
    if not path.exists():
        return None
    fix = "Delete it; the next run of the stage 'prototypes' makes it again."
    content = storage.read_json(path, fix=fix)
    try:
        return _parse(content)
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise ProjectError("not a list of changes.", where=path, fix=fix) from error


def _parse(content: Any) -> Changes:
    return Changes(
        bool(content["first"]),
        {str(name): (old, new) for name, (old, new) in content["settings"].items()},
        tuple(
            ClassChange(
                str(entry["class_name"]),
                tuple(entry["kept"]),
                tuple(entry["added"]),
                tuple(entry["removed"]),
                int(entry["joined"]),
                int(entry["left"]),
                entry["agreement"],
            )
            for entry in content["classes"]
        ),
        tuple(HandChoice(**choice) for choice in content["choices"]),
    )


def _class_change(name: str, before: Snapshot, after: Snapshot) -> ClassChange:
    old, new = before.prototypes.get(name, []), after.prototypes.get(name, [])
    was, now = _clusters_of(before.clusters, name), _clusters_of(after.clusters, name)
    return ClassChange(
        name,
        kept=tuple(i for i in new if i in old),
        added=tuple(i for i in new if i not in old),
        removed=tuple(i for i in old if i not in new),
        joined=len(now.keys() - was.keys()),
        left=len(was.keys() - now.keys()),
        agreement=_agreement(was, now),
    )


def _clusters_of(clusters: Mapping[str, tuple[str, int]], name: str) -> dict[str, int]:
    return {i: cluster for i, (class_name, cluster) in clusters.items() if class_name == name}


def _agreement(was: Mapping[str, int], now: Mapping[str, int]) -> float | None:
    from sklearn.metrics import adjusted_rand_score

    common = sorted(was.keys() & now.keys())
    if len(common) < 2:
        return None
    score = adjusted_rand_score([was[i] for i in common], [now[i] for i in common])
    return round(float(score), 4)
