"""A distilled set on disk: its manifest, its slots, and the list of sets in a project."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dpd_core import storage
from dpd_core.errors import ProjectError, StageMissing
from dpd_core.project import Project


@dataclass(frozen=True)
class Slot:
    """One image of a distilled set.

    Attributes:
        path: The chosen image.
        score: Score of the chosen candidate.
        candidates: All candidates' ``index``, ``seed``, ``score`` and ``predicted`` class.
    """

    class_name: str
    slot: int
    path: Path
    prototype_id: str
    caption: str
    score: float
    candidates: list[dict[str, Any]]


@dataclass(frozen=True)
class DistilledSet:
    """A finished distilled set; load it with :meth:`load`."""

    name: str
    root: Path
    manifest: dict[str, Any]
    slots: list[Slot]

    @classmethod
    def load(cls, project: Project, name: str = "latest") -> DistilledSet:
        """A finished set by name, or the one of the last synthesize run.

        Raises:
            StageMissing: nothing has been synthesized yet.
            ProjectError: no finished set of that name, or its manifest is damaged.
        """
        if name == "latest":
            name = project.result("synthesize")["set"]
        root = set_folder(project, name)
        if not (root / "manifest.json").exists():
            known = list_sets(project)
            if not known:
                raise StageMissing("there is no distilled set yet.", where=project.root,
                                   fix="Run the synthesize stage first.")  # fmt: skip
            raise ProjectError(f"there is no finished distilled set {name!r}.",
                               where=project.root, fix=f"Known sets: {', '.join(known)}."
                               )  # fmt: skip
        manifest = storage.read_json(root / "manifest.json")
        try:
            slots = [_slot(root, record) for record in manifest["slots"]]
        except (KeyError, TypeError, IndexError) as error:
            raise ProjectError(f"the manifest is damaged ({error!r}).",
                               where=root / "manifest.json",
                               fix="Run the synthesize stage again.") from error  # fmt: skip
        return cls(name, root, manifest, slots)

    @property
    def ipc(self) -> int:
        """Images per class."""
        return len(self.slots) // max(len({slot.class_name for slot in self.slots}), 1)

    @staticmethod
    def name_taken(name: str, folder: Path) -> ProjectError:
        """The error for a set name that another recipe has used."""
        return ProjectError(
            f"the set {name!r} was made with other settings.", where=folder,
            fix="Choose another set name, or leave it out to have one made.",
        )  # fmt: skip


def set_folder(project: Project, name: str) -> Path:
    """Folder of a set inside the project, safe for any name."""
    return project.path("distilled", storage.safe_name(name))


def candidate_file(file: str, index: int) -> str:
    """Where a slot's candidate lies, relative to the set's folder."""
    stem = file.removesuffix(".png")
    return f"candidates/{stem}-{index}.png"


def list_sets(project: Project) -> list[str]:
    """Names of the finished sets, in alphabetical order."""
    return sorted(
        storage.read_json(path)["name"]
        for path in project.path("distilled").glob("*/manifest.json")
    )


def write_manifest(root: Path, manifest: dict[str, Any]) -> None:
    """Write a set's manifest, which is what makes the set finished."""
    storage.write_json(root / "manifest.json", manifest)


def _slot(root: Path, record: dict[str, Any]) -> Slot:
    path = root / record["file"]
    if not path.resolve().is_relative_to(root.resolve()):
        raise ProjectError("a file in the manifest lies outside the set.", where=path,
                           fix="Restore the manifest from a copy.")  # fmt: skip
    return Slot(
        record["class"], record["slot"], path, record["prototype_id"], record["caption"],
        record["candidates"][record["chosen"]]["score"], record["candidates"],
    )  # fmt: skip
