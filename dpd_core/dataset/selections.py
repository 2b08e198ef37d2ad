"""Selections of images that somebody has named: ``dataset/selections.json``, which only this module
reads and writes. They change nothing of what is computed."""

from __future__ import annotations

from collections.abc import Sequence

from dpd_core import storage
from dpd_core.dataset.index import load_index
from dpd_core.errors import DatasetError
from dpd_core.project import Project

MOST = 50
"""Most selections of a project."""
LONGEST = 60
"""Most characters of a name."""

_FILE = ("dataset", "selections.json")


def read_selections(project: Project) -> dict[str, list[str]]:
    """Image ids by the selection's name, in alphabetical order.

    Raises:
        DatasetError: the file is damaged.
    """
    path = project.path(*_FILE)
    if not path.exists():
        return {}
    fix = "Delete it; the selections in it are lost."
    found = storage.read_json(path, fix=fix)
    if not isinstance(found, dict) or not all(
        isinstance(ids, list) and all(isinstance(one, str) for one in ids) for ids in found.values()
    ):
        raise DatasetError("not a file of selections.", where=path, fix=fix)
    return dict(sorted(found.items(), key=lambda entry: entry[0].casefold()))


def save_selection(project: Project, name: object, ids: Sequence[str]) -> str:
    """Name a selection, in place of one of that name; an empty one is taken off the list.

    Returns:
        The name.

    Raises:
        DatasetError: an unusable name, an unknown image, or too many selections.
    """
    name = " ".join(str(name or "").split())
    if not name or len(name) > LONGEST or not name.isprintable():
        raise DatasetError(
            "a selection needs a name.", where="the name", fix=f"Write 1 to {LONGEST} characters."
        )
    known = load_index(project).by_id
    for image_id in ids:
        if image_id not in known:
            raise DatasetError("it is not in the data set.", where=image_id, fix="Select again.")
    found = read_selections(project)
    found.pop(name, None)
    if ids:
        if len(found) >= MOST:
            raise DatasetError(f"there are {MOST} selections.", fix="Delete one of them first.")
        found[name] = list(dict.fromkeys(ids))
    storage.write_json(project.path(*_FILE), found)
    return name
