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
from pathlib import Path
from typing import Any
from urllib.parse import unquote

from filelock import FileLock, Timeout

from dpd_core import storage
from dpd_core.errors import ConfigError, ProjectError
from dpd_core.project import Project
from dpd_core.synthesize.sets import DistilledSet, candidate_file, write_manifest
from dpd_core.synthesize.slot_files import put_in_place

BY_HAND = "hand"
BY_SCORE = "score"
_PENDING = "pending.json"
_FIX = "Run the stage 'synthesize' again."
_LOCK_SECONDS = 20.0


def choose_candidate(
    project: Project, set_name: str, class_name: str, slot: int, index: int
) -> dict[str, Any]:
    """Make another candidate the slot's image; on record as chosen by hand.

    Evaluation and export of the set are out of date afterwards.

    Returns:
        The slot's record as it stands now.

    Raises:
        ProjectError: no such set, slot or candidate, or the candidate's file is not what was
            recorded.
    """
    with editing(project, set_name) as distilled:
        record = slot_record(distilled, class_name, slot)
        candidate = find_candidate(record, index)
        if record["candidates"][record["chosen"]] is candidate:
            return record
        changed = {**record, "chosen": record["candidates"].index(candidate), "chosen_by": BY_HAND}
        return commit(project, distilled, [changed])[0]


def pin_slot(
    project: Project, set_name: str, class_name: str, slot: int, *, pinned: bool = True
) -> dict[str, Any]:
    """Pin a slot, or let go of it: a pinned one is never sampled anew, and a set made with
    ``keep_pinned`` takes it over.

    Returns:
        The slot's record as it stands now.

    Raises:
        ProjectError: no such set or slot.
    """
    with editing(project, set_name) as distilled:
        record = slot_record(distilled, class_name, slot)
        return commit(project, distilled, [{**record, "pinned": pinned}])[0]


def slot_record(distilled: DistilledSet, class_name: str, slot: int) -> dict[str, Any]:
    """A slot's record in the manifest.

    Raises:
        ProjectError: there is no such slot.
    """
    for record in distilled.manifest["slots"]:
        if (record["class"], record["slot"]) == (class_name, slot):
            return record
    raise ProjectError(
        f"the set has no slot {slot_name(class_name, slot)!r}.",
        where=distilled.root,
        fix="Reload the set.",
    )


def find_candidate(record: dict[str, Any], index: int) -> dict[str, Any]:
    """A slot's candidate by its index.

    Raises:
        ProjectError: there is none of that index.
    """
    for candidate in record["candidates"]:
        if candidate["index"] == index:
            return candidate
    raise ProjectError(
        f"{slot_name(record['class'], record['slot'])} has no candidate {index!r}.",
        fix=f"It has {len(record['candidates'])}, counted from 0.",
    )


def slot_name(class_name: str, slot: int) -> str:
    """How a slot is written in settings: CLASS/NUMBER, a comma in the class as ``%2C``."""
    return f"{class_name.replace('%', '%25').replace(',', '%2C')}/{slot}"


def read_slot_name(text: str) -> tuple[str, int]:
    """The inverse of :func:`slot_name`.

    Raises:
        ConfigError: not of that form.
    """
    class_name, _, number = text.rpartition("/")
    if not class_name or not number.isdecimal():
        raise ConfigError(f"got the slot {text!r}.", fix="Write it as CLASS/NUMBER, like forest/3.")
    return unquote(class_name), int(number)


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


def commit(
    project: Project, distilled: DistilledSet, records: Sequence[dict[str, Any]]
) -> list[dict[str, Any]]:
    """Put changed slots in place. Only inside :func:`editing`.

    The digest of each chosen image becomes that of its candidate.

    Returns:
        The records as written.

    Raises:
        ProjectError: a chosen candidate's file is missing or not what was recorded.
    """
    written = []
    for record in records:
        chosen = record["candidates"][record["chosen"]]
        file = distilled.root / candidate_file(record["file"], chosen["index"])
        digest = storage.file_digest(file) if file.is_file() else None
        if digest is None or digest != chosen.get("sha256", digest):
            raise ProjectError(
                "the candidate's image is missing or has been changed.",
                where=file,
                fix="Sample the slot anew.",
            )
        written.append({**record, "sha256": digest})
    storage.write_json(distilled.root / _PENDING, written)
    mend_set(project, distilled.root)
    return written


def mend(project: Project) -> None:
    """Finish the changes that killed processes have left undone, in all sets of a project."""
    for path in sorted(project.path("distilled").glob(f"*/{_PENDING}")):
        with storage.writable(path), FileLock(path.parent / ".lock"):
            mend_set(project, path.parent)


def mend_set(project: Project, root: Path) -> None:
    """Do what ``pending.json`` of a set says, if there is one."""
    from dpd_core.dataset.index import load_index
    from dpd_core.synthesize.contact_sheet import write_contact_sheet

    if not (root / _PENDING).exists():
        return
    records = storage.read_json(root / _PENDING)
    for record in records:
        put_in_place(root, record)
    manifest = storage.read_json(root / "manifest.json")
    changed = {(record["class"], record["slot"]): record for record in records}
    slots = [changed.get((slot["class"], slot["slot"]), slot) for slot in manifest["slots"]]
    write_manifest(root, {**manifest, "slots": slots})
    write_contact_sheet(DistilledSet.load(project, manifest["name"]), load_index(project))
    (root / _PENDING).unlink(missing_ok=True)


def choices(project: Project) -> dict[str, str]:
    """By set, a digest of what people changed in it; empty where they changed nothing."""
    found = {}
    for path in sorted(project.path("distilled").glob("*/manifest.json")):
        manifest = storage.read_record(path, {"name": str, "slots": list}, fix=_FIX)
        try:
            changed = [
                [slot["class"], slot["slot"], slot.get("sha256"), slot["chosen"]]
                for slot in manifest["slots"]
                if slot.get("chosen_by") == BY_HAND or slot.get("round", 0) > 0
            ]
        except (KeyError, TypeError, AttributeError) as error:
            raise ProjectError(
                f"the manifest is damaged ({error!r}).", where=path, fix=_FIX
            ) from error
        found[manifest["name"]] = storage.digest(changed) if changed else ""
    return found


__all__ = [
    "BY_HAND",
    "BY_SCORE",
    "choices",
    "choose_candidate",
    "commit",
    "editing",
    "find_candidate",
    "mend",
    "mend_set",
    "pin_slot",
    "read_slot_name",
    "slot_name",
    "slot_record",
]
