"""The file of the map, ``prototypes/map.json``: where each image lies in the plane."""

from __future__ import annotations

from typing import Any

from dpd_core import storage
from dpd_core.project import Project

FIRST = "pca-"
"""How the key of a map begins that stands in for UMAP's until that is there."""

_FILE = ("prototypes", "map.json")


def read_map(project: Project) -> dict[str, Any] | None:
    """The project's map, ``{"key", "ids", "x", "y"}``, or ``None`` if there is none.

    Raises:
        ProjectError: the file is not JSON.
    """
    path = project.path(*_FILE)
    if not path.exists():
        return None
    content = storage.read_json(path, fix="Delete it; the stage 'prototypes' makes it again.")
    names = ("key", "ids", "x", "y")
    return content if isinstance(content, dict) and all(n in content for n in names) else None


def save_map(project: Project, content: dict[str, Any]) -> None:
    """Write what :func:`read_map` reads."""
    storage.write_json(project.path(*_FILE), content)
