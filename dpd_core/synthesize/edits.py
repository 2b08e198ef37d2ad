"""Changing a finished distilled set by hand: another candidate, a pin, new candidates.

A set is many files (the manifest, the slots' records, the chosen images, the contact sheet), which
no file system changes at once. So what is to be changed is written down first, in
``pending.json``, then done, then struck out; :func:`mend` finishes what a killed process has left
undone. Every step can be done twice.

The candidates are never touched: a choice made by hand can be taken back by choosing again.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from filelock import FileLock, Timeout

from dpd_core import storage
from dpd_core.dataset.index import load_index
from dpd_core.errors import ProjectError
from dpd_core.project import Project
from dpd_core.prototypes.files import Slot
from dpd_core.synthesize.contact_sheet import write_contact_sheet
from dpd_core.synthesize.records import BY_HAND, SlotRecord
from dpd_core.synthesize.sets import (
    DistilledSet,
    pending_path,
    put_in_place,
    read_manifest,
    read_pending,
    write_manifest,
    write_pending,
)

_LOCK_SECONDS = 20.0


def choose_candidate(project: Project, set_name: str, slot: Slot, index: int) -> SlotRecord:
    """Make another candidate the slot's image; on record as chosen by hand.

    Evaluation and export of the set are out of date afterwards.

    Returns:
        The slot's record as it stands now.

    Raises:
        ProjectError: no such set, slot or candidate, or the candidate's file is not what was
            recorded.
    """
    with editing(project, set_name) as distilled:
        record = distilled.find(slot)
        place = record.candidates.index(record.find(index))
        if record.chosen == place:
            return record
        changed = replace(record, chosen=place, chosen_by=BY_HAND)
        commit(project, distilled, [changed])
        return changed


def pin_slot(project: Project, set_name: str, slot: Slot, *, pinned: bool = True) -> SlotRecord:
    """Pin a slot, or let go of it: a pinned one is never sampled anew, and a set made with
    ``keep_pinned`` takes it over.

    Returns:
        The slot's record as it stands now.

    Raises:
        ProjectError: no such set or slot.
    """
    with editing(project, set_name) as distilled:
        changed = replace(distilled.find(slot), pinned=pinned)
        commit(project, distilled, [changed])
        return changed


@contextlib.contextmanager
def editing(project: Project, set_name: str) -> Iterator[DistilledSet]:
    """Hold a finished set for a change, with what a killed process left undone done.

    A lock of the set's own, held for an instant: choosing works while the project trains.

    Raises:
        ProjectError: no finished set of that name, or another process is changing it.
    """
    root = DistilledSet.load(project, set_name).root
    try:
        with storage.writable(root), FileLock(root / ".lock").acquire(timeout=_LOCK_SECONDS):
            mend_set(project, root)
            yield DistilledSet.load(project, set_name)
    except Timeout:
        raise ProjectError(
            "another process is changing this set.", where=root, fix="Try again in a moment."
        ) from None


def commit(project: Project, distilled: DistilledSet, records: Sequence[SlotRecord]) -> None:
    """Put changed slots in place. Only inside :func:`editing`.

    Raises:
        ProjectError: a chosen candidate's file is missing or not what was recorded.
    """
    for record in records:
        file = distilled.root / record.candidate_file(record.image)
        if not file.is_file() or storage.file_digest(file) != record.image.sha256:
            raise ProjectError(
                "the candidate's image is missing or has been changed.",
                where=file,
                fix="Sample the slot anew.",
            )
    write_pending(distilled.root, records)
    mend_set(project, distilled.root)


def mend(project: Project) -> None:
    """Finish the changes that killed processes have left undone, in all sets of a project."""
    for folder in sorted(project.path("distilled").glob("*/")):
        if pending_path(folder).exists():
            with storage.writable(folder), FileLock(folder / ".lock"):
                mend_set(project, folder)


def mend_set(project: Project, root: Path) -> None:
    """Do what is pending in a set."""
    records = read_pending(root)
    if not records:
        return
    for record in records:
        put_in_place(root, record)
    manifest = read_manifest(root)
    changed = {record.slot: record for record in records}
    slots = tuple(changed.get(record.slot, record) for record in manifest.slots)
    write_manifest(root, replace(manifest, slots=slots))
    write_contact_sheet(DistilledSet.load(project, manifest.name), load_index(project))
    pending_path(root).unlink(missing_ok=True)


def choices(project: Project) -> dict[str, str]:
    """By set, a digest of what people changed in it; empty where they changed nothing."""
    found = {}
    for path in sorted(project.path("distilled").glob("*/manifest.json")):
        manifest = read_manifest(path.parent)
        changed = [
            [*record.slot, record.image.sha256, record.chosen]
            for record in manifest.slots
            if record.chosen_by == BY_HAND or record.round > 0
        ]
        found[manifest.name] = storage.digest(changed) if changed else ""
    return found
