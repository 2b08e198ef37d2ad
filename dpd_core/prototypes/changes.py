"""What a new clustering changed: the records, and the file ``prototypes/changes.json``."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any

from dpd_core import storage
from dpd_core.errors import DPDError, ProjectError
from dpd_core.project import Project
from dpd_core.prototypes.files import list_prototypes, load_members
from dpd_core.prototypes.overrides import HandChoice

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


def save_changes(project: Project, key: str, changes: Changes) -> None:
    """Write the file; ``key`` is a digest of the result that it belongs to."""
    storage.write_json(project.path(*_FILE), {"key": key, **asdict(changes)})


def changes_with(project: Project, key: str) -> Changes | None:
    """The changes that were recorded under a key; ``None`` if there are none, or damaged ones."""
    path = project.path(*_FILE)
    try:
        content = storage.read_json(path) if path.exists() else {}
        return _parse(content) if content.get("key") == key else None
    except (DPDError, AttributeError, KeyError, TypeError, ValueError):
        return None


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
