"""A distilled set on disk: its manifest, its slots, and the list of sets in a project."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dpd_core import storage
from dpd_core.errors import ProjectError, StageMissing
from dpd_core.project import Project

_FIX = "Run the stage 'synthesize' again."

_KINDS: dict[str, Any] = {
    "class": str,
    "slot": int,
    "file": str,
    "prototype_id": str,
    "caption": str,
    "candidates": list,
    "chosen": int,
}


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
            last = project.result("synthesize").get("set")
            if not isinstance(last, str):
                raise ProjectError(
                    "the record of the stage 'synthesize' names no set.",
                    where=project.manifest_path,
                    fix=_FIX,
                )
            name = last
        root = set_folder(project, name)
        if not (root / "manifest.json").exists():
            known = list_sets(project)
            if not known:
                raise StageMissing(
                    "there is no distilled set yet.",
                    where=project.root,
                    fix="Run the synthesize stage first.",
                )
            raise ProjectError(
                f"there is no finished distilled set {name!r}.",
                where=project.root,
                fix=f"Known sets: {', '.join(known)}.",
            )
        manifest = storage.read_record(
            root / "manifest.json", {"name": str, "slots": list}, fix=_FIX
        )
        try:
            if not isinstance(manifest.get("settings", {}), dict):
                raise TypeError("settings are of another kind")
            slots = [_slot(root, record) for record in manifest["slots"]]
        except (KeyError, TypeError, ValueError, IndexError, AttributeError) as error:
            raise ProjectError(
                f"the manifest is damaged ({error!r}).", where=root / "manifest.json", fix=_FIX
            ) from error
        return cls(name, root, manifest, slots)

    @property
    def ipc(self) -> int:
        """Images per class."""
        return len(self.slots) // max(len({slot.class_name for slot in self.slots}), 1)

    @staticmethod
    def name_taken(name: str, folder: Path) -> ProjectError:
        """The error for a set name that another recipe has used."""
        return ProjectError(
            f"the set {name!r} was made with other settings.",
            where=folder,
            fix="Choose another set name, or leave it out to have one made.",
        )


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
        storage.read_record(path, {"name": str}, fix=_FIX)["name"]
        for path in project.path("distilled").glob("*/manifest.json")
    )


def write_manifest(root: Path, manifest: dict[str, Any]) -> None:
    """Write a set's manifest, which is what makes the set finished."""
    storage.write_json(root / "manifest.json", manifest)


def _slot(root: Path, record: dict[str, Any]) -> Slot:
    """A slot of a manifest; a built-in error of some kind if it is none."""
    for name, kind in _KINDS.items():
        if not isinstance(record[name], kind) or isinstance(record[name], bool):
            raise TypeError(f"{name} is of another kind")
    best = record["candidates"][record["chosen"]]
    numbers = [best["score"], *(one.get("seed", 0) for one in record["candidates"])]
    if not all(isinstance(one, int | float) and abs(one) < 2**63 for one in numbers):
        raise TypeError("a score or seed is not a number")
    path = root / record["file"]
    if not path.resolve().is_relative_to(root.resolve()):
        raise ProjectError(
            "a file in the manifest lies outside the set.",
            where=path,
            fix="Restore the manifest from a copy.",
        )
    return Slot(
        record["class"],
        record["slot"],
        path,
        record["prototype_id"],
        record["caption"],
        best["score"],
        record["candidates"],
    )
