"""Knowing that nothing has changed, without looking into a hundred thousand files.

What the stage made is remembered beside a digest of the settings and of the path, size and time of
change of every file of the source. Only folders whose images are read where they lie are recognised
so.
"""

from __future__ import annotations

import hashlib
import os
from pathlib import Path
from typing import Any

from dpd_core import __version__, storage
from dpd_core.config import DatasetConfig
from dpd_core.errors import ProjectError
from dpd_core.project import Project

_VERSION = 1
"""Raise it when the stage understands the same files otherwise than before."""

_FILE = ("cache", "dataset.json")
_MADE = ("dataset", "index.json")


def state(project: Project, config: DatasetConfig) -> str | None:
    """A digest of the settings and of the files in the folders that they name; ``None`` if a source
    is no folder, or cannot be read."""
    if config.demo:
        return None
    content = hashlib.blake2b(digest_size=16)
    asked = _VERSION, __version__, config.to_dict(), project.config.seed, str(project.root)
    content.update(storage.digest(*asked).encode())
    try:
        for data in filter(None, (config.data, config.test_data)):
            path = Path(data).expanduser()
            if not path.is_dir():
                return None
            _add_folder(content, path.resolve(), project.root, set())
    except (OSError, RuntimeError, ValueError):
        return None
    return content.hexdigest()


def recall(project: Project, found: str | None) -> dict[str, Any] | None:
    """What the stage returned when the files were in this state, if its index is still the one
    that it wrote then."""
    path = project.path(*_FILE)
    if found is None or not path.exists():
        return None
    try:
        known = storage.read_record(path, {"state": str, "index": str, "result": dict}, fix="")
        same = known["state"] == found and known["index"] == _made(project)
    except (ProjectError, OSError):
        return None
    return known["result"] if same else None


def remember(project: Project, found: str | None, result: dict[str, Any]) -> None:
    """Note what the stage returned for files in this state."""
    if found is not None:
        content = {"state": found, "index": _made(project), "result": result}
        storage.write_json(project.path(*_FILE), content)


def _made(project: Project) -> str:
    """Digest of the index, and of what lies beside it: its tables, and whether there are
    thumbnails."""
    folder = project.path("dataset")
    beside = sorted(path.name for path in folder.iterdir() if path.suffix == ".parquet")
    thumbnails = (folder / "thumbnails").is_dir()
    return storage.digest(storage.file_digest(project.path(*_MADE)), beside, thumbnails)


def _add_folder(
    content: Any, folder: Path, project: Path, seen: set[tuple[int, int]], place: str = ""
) -> None:
    """Add all files below a folder, links followed but no circle walked, the project left out."""
    status = folder.stat()
    if (status.st_dev, status.st_ino) in seen or folder == project:
        return
    seen.add((status.st_dev, status.st_ino))
    with os.scandir(folder) as entries:
        for entry in sorted(entries, key=lambda entry: entry.name):
            name = f"{place}/{entry.name}"
            if entry.is_dir():
                _add_folder(content, Path(entry.path), project, seen, name)
            elif entry.is_file():
                _add(content, name, entry.stat())
            else:
                content.update(os.fsencode(f"{name}|?"))


def _add(content: Any, name: str, status: os.stat_result) -> None:
    content.update(os.fsencode(f"{name}|{status.st_size}|{status.st_mtime_ns}\n"))
