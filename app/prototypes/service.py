"""From the tab Prototypes to the core: decisions on rows of the map, prototype files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from app.prototypes.view import row_ids, row_key
from dpd_core import storage
from dpd_core.config import PrototypesConfig
from dpd_core.dataset.index import load_index
from dpd_core.errors import DatasetError, ProjectError
from dpd_core.project import Project
from dpd_core.prototypes import curation
from dpd_core.prototypes.files import read_prototypes
from dpd_core.prototypes.likeness_file import read_likeness

ASKED = ("action", "key", "rows", "class_name")
"""What the map sends with a decision."""

SIMILAR = 60
"""Most images that a search by likeness finds."""

_IMPORTED = ("prototypes", "imported.json")


def decide(project: Project, asked: dict[str, Any]) -> curation.Decision:
    """Do what the map asks for.

    Args:
        project: The project.
        asked: From the browser and not trusted: ``action`` (``choose``, ``release``, ``exclude``,
            ``include`` or ``move``), ``key`` and ``rows`` (see
            :func:`app.prototypes.view.columns`), and for ``move`` ``class_name``.

    Raises:
        DatasetError: not such a request, an outdated one, or one that cannot be granted.
    """
    ids = rows_to_ids(project, asked.get("key"), asked.get("rows"))
    action = asked.get("action")
    if action in ("choose", "release"):
        if len(ids) != 1:
            raise DatasetError("a prototype is one image.", fix="Select a single image.")
        act = curation.choose_prototype if action == "choose" else curation.release_prototype
        return act(project, ids[0])
    if action == "exclude":
        index = load_index(project)
        train = [i for i in ids if index.by_id[i].split == "train"]
        return curation.exclude(project, train or ids)  # of test images only: say why not
    if action == "include":
        return curation.include(project, ids)
    if action == "move":
        return curation.move_to_class(project, ids, str(asked.get("class_name", "")))
    raise DatasetError(f"there is no action {str(action)[:40]!r}.", fix="Reload the page.")


def rows_to_ids(project: Project, key: Any, rows: Any) -> list[str]:
    """The images of rows of the map.

    Raises:
        DatasetError: the rows are of another map than the current one, or none.
    """
    index = load_index(project)
    if key != row_key(index):
        raise DatasetError("the data set has changed since the map was drawn.", fix="Select again.")
    ids = row_ids(index)
    if not isinstance(rows, list) or not all(
        isinstance(row, int) and not isinstance(row, bool) and 0 <= row < len(ids) for row in rows
    ):
        raise DatasetError("not a selection of images.", fix="Select again.")
    return [ids[row] for row in dict.fromkeys(rows)]


def similar(project: Project, key: Any, row: Any, count: int = SIMILAR) -> dict[str, Any]:
    """The images most like one of the map: ``of``, ``rows`` (itself first) and ``alike``.

    Raises:
        DatasetError: not a row of the current map, or nobody has compared the images yet.
    """
    rows_to_ids(project, key, [row])
    found = read_likeness(project, load_index(project))
    if found is None:
        raise DatasetError(
            "the images have not been compared with each other yet.",
            fix="Press “Re-cluster”, which does that too.",
        )
    rows, alike = found.similar(row, count)
    return {"of": row, "rows": rows, "alike": alike}


def import_prototypes(project: Project, config: PrototypesConfig, file: Path) -> PrototypesConfig:
    """Check a prototype file, keep a copy in the project, and return the settings that use it.

    Raises:
        ProjectError: not such a file, or not one for this data set.
    """
    try:
        read_prototypes(file, load_index(project))
    except ProjectError as error:  # it is known by the visitor's name for it, not by the server's
        where = (error.where or "").replace(str(file), file.name)
        raise ProjectError(error.what, where=where, fix=error.fix) from error
    kept = project.path(*_IMPORTED)
    storage.write_bytes(kept, file.read_bytes())
    return config.replace(file=str(kept))
