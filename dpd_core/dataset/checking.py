"""Decoding every image once, to know which can be used, and remembering it.

The result is kept by path, size and time of change: a second run with other settings, or one
after a crash, decodes only what is new.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dpd_core import storage
from dpd_core.dataset import images
from dpd_core.dataset.found import Item
from dpd_core.dataset.origin import UNKNOWN, Origin
from dpd_core.errors import ImageRefused, ProjectError
from dpd_core.events import Emit, Meter
from dpd_core.project import Project

_VERSION = 3
"""Raise it when :mod:`dpd_core.dataset.images` accepts or refuses other images than before."""

_BATCH = 256
_LARGEST_MEMORY = 1 << 30


@dataclass(frozen=True)
class Checked:
    """What is known of one file: digest of its bytes, decoded size, which bands are shown, what a
    person should know, and when and where it was taken; or why it is refused."""

    sha256: str = ""
    width: int = 0
    height: int = 0
    reason: str | None = None
    bands: str = ""
    notes: tuple[str, ...] = ()
    origin: Origin = UNKNOWN

    def to_list(self) -> list[Any]:
        """JSON-able."""
        head = [self.sha256, self.width, self.height, self.reason, self.bands]
        return [*head, list(self.notes), self.origin.record()]

    @classmethod
    def from_list(cls, known: list[Any]) -> Checked:
        """The inverse of :meth:`to_list`."""
        sha256, width, height, reason, bands, notes, origin = known
        # Millions of images have few different bands and notes.
        said = tuple(sys.intern(note) for note in notes)
        shown = sys.intern(bands)
        return cls(sha256, width, height, reason, shown, said, Origin.from_record(origin))


def check(
    project: Project, items: Sequence[Item], bands: tuple[str, ...], emit: Emit
) -> list[Checked]:
    """Decode each file completely; results in the order of ``items``."""
    memory = _Memory(project, bands)
    results: list[Checked] = []
    meter = Meter(emit, "dataset", len(items), message="checking images")
    try:
        for item in meter.over(items):
            stamp = _stamp(item.path)
            known = memory.get(stamp) if stamp else None
            if known is None:
                known = _check_file(item.path, bands)
                if stamp:
                    memory.put(stamp, known)
            results.append(known)
    finally:
        memory.flush()
    return results


def _check_file(path: Path, bands: tuple[str, ...]) -> Checked:
    try:
        data = images.read_file(path)
        decoded = images.decode(data, wanted=bands)
    except ImageRefused as refused:
        return Checked(reason=" ".join(filter(None, (refused.what, refused.fix))))
    width, height = decoded.image.size
    digest = hashlib.sha256(data).hexdigest()
    return Checked(digest, width, height, None, decoded.bands, decoded.notes, decoded.origin)


def _stamp(path: Path) -> str | None:
    """What a file's state is recognised by; ``None`` if there is no such file."""
    with contextlib.suppress(OSError):
        status = path.stat()
        state = f"{path}|{status.st_size}|{status.st_mtime_ns}"
        # Short, because there may be a million of them.
        return hashlib.blake2b(os.fsencode(state), digest_size=12).hexdigest()
    return None


class _Memory:
    """Results of earlier runs: an append-only file that may be deleted at any time."""

    def __init__(self, project: Project, bands: tuple[str, ...]):
        key = storage.digest(_VERSION, images.MAX_PIXELS, images.MAX_FILE_BYTES, bands)
        self._path = project.path("cache", "checked", f"{key}.jsonl")
        self._known: dict[str, list] = {}
        self._fresh: dict[str, list] = {}
        try:
            if self._path.exists() and self._path.stat().st_size > _LARGEST_MEMORY:
                self._path.unlink()
            for batch in storage.read_json_lines(self._path):
                self._known.update(batch)
        except ProjectError:  # a line cut by a crash, with others after it
            self._path.unlink()
            self._known.clear()

    def get(self, stamp: str) -> Checked | None:
        known = self._known.get(stamp)
        if not known:
            return None
        return Checked.from_list(known)

    def put(self, stamp: str, checked: Checked) -> None:
        self._fresh[stamp] = checked.to_list()
        if len(self._fresh) >= _BATCH:
            self.flush()

    def flush(self) -> None:
        if self._fresh:
            storage.append_json_line(self._path, self._fresh)
            self._fresh = {}
