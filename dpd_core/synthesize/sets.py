"""A distilled set on disk: its records, and their only reader and writer.

In the set's folder, for slot 3 of the class ``forest``:

- ``recipe.json``: everything that determines the set, written before anything is sampled;
- ``candidates/forest/003-0.png``, ``003-1.png``, … every image that was made for the slot;
- ``forest/003.png``: a copy of the chosen one, which is the image of the set;
- ``slots/forest-003.json``: the slot's record;
- ``manifest.json``: the records of all slots; it is what makes the set finished.

They are written in this order, each atomically. A slot's record is what makes the slot filled: a
process killed before it leaves files that the next run writes again.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from PIL import Image

from dpd_core import storage
from dpd_core.errors import ProjectError, StageMissing
from dpd_core.project import Project
from dpd_core.prototypes.files import Slot
from dpd_core.synthesize.records import (
    FIX,
    Manifest,
    Pending,
    Recipe,
    RecipeFile,
    SlotRecord,
    read,
    to_json,
)


@dataclass(frozen=True)
class DistilledSet:
    """A finished distilled set; load it with :meth:`load`."""

    root: Path
    manifest: Manifest

    @classmethod
    def load(cls, project: Project, name: str = "latest") -> DistilledSet:
        """A finished set by name, or the one of the last synthesize run.

        Raises:
            StageMissing: nothing has been synthesized yet.
            ProjectError: no finished set of that name, or its manifest is damaged.
        """
        if name == "latest":
            name = _latest(project)
        root = set_folder(project, name)
        if not is_finished(root):
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
        return cls(root, read_manifest(root))

    @property
    def name(self) -> str:
        """Its name."""
        return self.manifest.name

    @property
    def slots(self) -> tuple[SlotRecord, ...]:
        """Its slots, in the order of the set."""
        return self.manifest.slots

    @property
    def ipc(self) -> int:
        """Images per class."""
        return len(self.slots) // max(len({record.class_name for record in self.slots}), 1)

    @property
    def digest(self) -> str:
        """Digest of its manifest, and so of its images: another one when anything is changed."""
        return storage.file_digest(self.root / "manifest.json")

    def path(self, record: SlotRecord) -> Path:
        """The image of a slot."""
        return self.root / record.file

    def find(self, slot: Slot) -> SlotRecord:
        """A slot's record.

        Raises:
            ProjectError: there is no such slot.
        """
        for record in self.slots:
            if record.slot == slot:
                return record
        raise ProjectError(
            f"the set has no slot {str(slot)!r}.", where=self.root, fix="Reload the set."
        )


def set_folder(project: Project, name: str) -> Path:
    """Folder of a set inside the project, safe for any name."""
    return project.path("distilled", storage.safe_name(name))


def slot_file(slot: Slot) -> str:
    """Where the image of a slot goes, below the set's folder."""
    return f"{storage.safe_name(slot.class_name)}/{slot.number:03d}.png"


def record_path(root: Path, slot: Slot) -> Path:
    """Where a slot's own record lies."""
    return root / "slots" / f"{storage.safe_name(slot.class_name)}-{slot.number:03d}.json"


def list_sets(project: Project) -> list[str]:
    """Names of the finished sets, in alphabetical order."""
    return sorted(
        storage.read_record(path, {"name": str}, fix=FIX)["name"]
        for path in project.path("distilled").glob("*/manifest.json")
    )


def begun_sets(project: Project) -> dict[str, float]:
    """Names of all sets, finished or not, with the time in seconds when they were last written."""
    found = {}
    for path in project.path("distilled").glob("*/recipe.json"):
        manifest = path.with_name("manifest.json")
        newest = (manifest if manifest.exists() else path).stat().st_mtime
        found[storage.read_record(path, {"name": str}, fix="Delete the folder.")["name"]] = newest
    return found


def is_finished(root: Path) -> bool:
    """Whether all slots of a set are filled and refined."""
    return (root / "manifest.json").exists()


def is_filled(root: Path, slot: Slot) -> bool:
    """Whether a slot has its image and its record."""
    return record_path(root, slot).exists() and (root / slot_file(slot)).exists()


def claim(root: Path, name: str, recipe: Recipe) -> None:
    """Make a folder this recipe's.

    Raises:
        ProjectError: another recipe has begun there.
    """
    path = root / "recipe.json"
    if path.exists():
        if read(path, RecipeFile).identity == recipe.identity:
            return
        raise ProjectError(
            f"the set {name!r} was made with other settings.",
            where=root,
            fix="Choose another set name, or leave it out to have one made.",
        )
    storage.write_json(path, to_json(RecipeFile(name, recipe.identity, recipe)))


def read_recipe(root: Path) -> Recipe:
    """The recipe of a set, finished or not.

    Raises:
        ProjectError: it is missing, damaged or not the one it was.
    """
    path = root / "recipe.json"
    found = read(path, RecipeFile)
    if found.identity != storage.digest(storage.read_json(path)["recipe"]):
        raise ProjectError("the recipe does not fit its identity.", where=path, fix=FIX)
    return found.recipe


def read_manifest(root: Path) -> Manifest:
    """The manifest of a finished set.

    Raises:
        ProjectError: it is missing or damaged, or a file it names lies outside the set.
    """
    path = root / "manifest.json"
    manifest = read(path, Manifest)
    _check_inside(root, path, manifest.slots)
    return manifest


def write_manifest(root: Path, manifest: Manifest) -> None:
    """Write a set's manifest, which is what makes the set finished."""
    storage.write_json(root / "manifest.json", to_json(manifest))


def read_slot(root: Path, slot: Slot) -> SlotRecord:
    """The record of a filled slot.

    Raises:
        ProjectError: it is missing or damaged.
    """
    return _read_slot(root, record_path(root, slot))


def filled_slots(root: Path) -> list[SlotRecord]:
    """The records of all slots that are filled, also of a set that is not finished.

    Raises:
        ProjectError: one is damaged.
    """
    return [_read_slot(root, path) for path in storage.whole(root / "slots", "*.json")]


def save_candidates(
    root: Path, record: SlotRecord, images: np.ndarray, *, first: int = 0
) -> SlotRecord:
    """Write candidates' images.

    Args:
        root: The set's folder.
        record: The slot's record.
        images: uint8 (n, H, W, 3), of the candidates from ``first`` on.
        first: Place of the first of them in the record.

    Returns:
        The record with their digests.
    """
    written = list(record.candidates[:first])
    for candidate, image in zip(record.candidates[first:], images, strict=True):
        file = root / record.candidate_file(candidate)
        with storage.atomic_path(file) as temporary:
            Image.fromarray(image).save(temporary)
        written.append(replace(candidate, sha256=storage.file_digest(file)))
    return replace(record, candidates=tuple(written))


def put_in_place(root: Path, record: SlotRecord) -> None:
    """Copy the chosen candidate to the slot's place and write the slot's record."""
    _copy(root / record.candidate_file(record.image), root / record.file)
    storage.write_json(record_path(root, record.slot), to_json(record))


def take_over(root: Path, source: Path, record: SlotRecord) -> None:
    """Copy a slot with all its candidates from another set.

    Args:
        root: The folder of the set that gets it.
        source: The other set's folder.
        record: The slot's record in the other set.
    """
    mine = replace(record, file=slot_file(record.slot))
    for candidate in record.candidates:
        _copy(source / record.candidate_file(candidate), root / mine.candidate_file(candidate))
    put_in_place(root, mine)


def write_pending(root: Path, records: Sequence[SlotRecord]) -> None:
    """Write down slots that are about to be changed in a finished set."""
    storage.write_json(pending_path(root), to_json(Pending(tuple(records))))


def read_pending(root: Path) -> tuple[SlotRecord, ...]:
    """What :func:`write_pending` wrote; empty if nothing is pending.

    Raises:
        ProjectError: it is damaged.
    """
    path = pending_path(root)
    if not path.exists():
        return ()
    records = read(path, Pending).slots
    _check_inside(root, path, records)
    return records


def pending_path(root: Path) -> Path:
    """Where the changes lie that are not done yet."""
    return root / "pending.json"


def _latest(project: Project) -> str:
    name = project.result("synthesize").get("set")
    if not isinstance(name, str):
        raise ProjectError(
            "the record of the stage 'synthesize' names no set.",
            where=project.manifest_path,
            fix=FIX,
        )
    return name


def _read_slot(root: Path, path: Path) -> SlotRecord:
    record = read(path, SlotRecord)
    _check_inside(root, path, [record])
    return record


def _check_inside(root: Path, where: Path, records: Iterable[SlotRecord]) -> None:
    """A link may lead out of the set even where the name does not."""
    home = root.resolve()
    for folder in {(root / record.file).parent for record in records}:
        if not folder.resolve().is_relative_to(home):
            raise ProjectError(
                f"the folder {folder.name!r} lies outside the set.",
                where=where,
                fix="Restore the set from a copy.",
            )


def _copy(source: Path, target: Path) -> None:
    with storage.atomic_path(target) as temporary:
        shutil.copyfile(source, temporary)
