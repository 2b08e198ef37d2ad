"""The files of one slot of a distilled set: its image, its candidates and its record.

In the set's folder, for slot 3 of the class ``forest``:

- ``candidates/forest/003-0.png``, ``003-1.png``, … every image that was made for the slot;
- ``forest/003.png``, a copy of the chosen one, which is the image of the set;
- ``slots/forest-003.json``, the record: caption, seeds, scores, digests, what was chosen.

They are written in this order, each atomically. The record comes last and is what makes the slot
filled: a process killed before it leaves files that the next run writes again.
"""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

from PIL import Image

from dpd_core import storage
from dpd_core.synthesize.sets import candidate_file

if TYPE_CHECKING:
    from torch import Tensor


def slot_path(root: Path, class_name: str, slot: int) -> Path:
    """Where a slot's own record lies, which is what makes the slot filled."""
    return root / "slots" / f"{storage.safe_name(class_name)}-{slot:03d}.json"


def save_candidates(
    folder: Path, record: dict[str, Any], images: Tensor, *, first: int = 0
) -> None:
    """Write candidates' images and note their digests in the slot's record.

    Args:
        folder: The set's folder.
        record: The slot's record; its candidates from ``first`` on get a ``sha256``.
        images: uint8 (n, H, W, 3).
        first: Place of the first of them in the record.
    """
    for candidate, image in zip(record["candidates"][first:], images.numpy(), strict=True):
        file = folder / candidate_file(record["file"], candidate["index"])
        with storage.atomic_path(file) as temporary:
            Image.fromarray(image).save(temporary)
        candidate["sha256"] = storage.file_digest(file)


def finish_slot(folder: Path, record: dict[str, Any]) -> dict[str, Any]:
    """Put the chosen candidate in the slot's place and write its record; returns the record."""
    chosen = record["candidates"][record["chosen"]]
    record = {**record, "sha256": chosen["sha256"]}
    put_in_place(folder, record)
    return record


def put_in_place(folder: Path, record: dict[str, Any]) -> None:
    """Copy the chosen candidate to the slot's place and write the record as it is given."""
    chosen = record["candidates"][record["chosen"]]
    _copy(folder / candidate_file(record["file"], chosen["index"]), folder / record["file"])
    storage.write_json(slot_path(folder, record["class"], record["slot"]), record)


def take_over_slot(folder: Path, file: str, source: Path, record: dict[str, Any]) -> None:
    """Copy a slot with all its candidates from another set.

    Args:
        folder: The folder of the set that gets it.
        file: Where its image goes in there.
        source: The other set's folder.
        record: The slot's record in the other set.
    """
    for candidate in record["candidates"]:
        theirs = source / candidate_file(record["file"], candidate["index"])
        _copy(theirs, folder / candidate_file(file, candidate["index"]))
    _copy(source / record["file"], folder / file)
    storage.write_json(slot_path(folder, record["class"], record["slot"]), {**record, "file": file})


def _copy(source: Path, target: Path) -> None:
    with storage.atomic_path(target) as temporary:
        shutil.copyfile(source, temporary)
