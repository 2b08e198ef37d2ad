"""Decoding every image once, to know which can be used, and remembering it.

The result is kept by path, size and time of change: a second run with other settings, or one
after a crash, decodes only what is new.
"""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Sequence
from dataclasses import astuple, dataclass
from pathlib import Path

from dpd_core import storage
from dpd_core.dataset import images
from dpd_core.dataset.found import Item
from dpd_core.errors import ImageRefused, ProjectError
from dpd_core.events import Emit, Meter
from dpd_core.project import Project

_VERSION = 2
"""Raise it when :mod:`dpd_core.dataset.images` accepts or refuses other images than before."""

_BATCH = 256
_LARGEST_MEMORY = 256 << 20


@dataclass(frozen=True)
class Checked:
    """What is known of one file: digest of its bytes, decoded size, which bands are shown and what
    a person should know; or why it is refused."""

    sha256: str = ""
    width: int = 0
    height: int = 0
    reason: str | None = None
    bands: str = ""
    notes: tuple[str, ...] = ()


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
    return Checked(digest, width, height, None, decoded.bands, decoded.notes)


def _stamp(path: Path) -> str | None:
    """What a file's state is recognised by; ``None`` if there is no such file."""
    with contextlib.suppress(OSError):
        status = path.stat()
        return f"{path}|{status.st_size}|{status.st_mtime_ns}"
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
        sha256, width, height, reason, bands, notes = known
        return Checked(sha256, width, height, reason, bands, tuple(notes))

    def put(self, stamp: str, checked: Checked) -> None:
        self._fresh[stamp] = list(astuple(checked))
        if len(self._fresh) >= _BATCH:
            self.flush()

    def flush(self) -> None:
        if self._fresh:
            storage.append_json_line(self._path, self._fresh)
            self._fresh = {}
