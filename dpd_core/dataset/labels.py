"""Classes corrected by hand, ``dataset/labels.json``: class name by image id.

The collection itself stays as it is. :func:`dpd_core.dataset.index.load_index` puts the corrections
in, so that every stage sees them, and running the stage ``dataset`` again keeps them.
"""

from __future__ import annotations

from collections.abc import Mapping

from dpd_core import storage
from dpd_core.errors import ProjectError
from dpd_core.project import Project

_FILE = ("dataset", "labels.json")


def read_labels(project: Project) -> dict[str, str]:
    """The corrections, empty if there is no file.

    Raises:
        ProjectError: the file is not of the form ``{image id: class name}``.
    """
    path = project.path(*_FILE)
    if not path.exists():
        return {}
    fix = "Correct it, or delete it to go back to the classes of the collection."
    labels = storage.read_json(path, fix=fix)
    if not isinstance(labels, dict) or not all(isinstance(name, str) for name in labels.values()):
        raise ProjectError("not a list of corrected classes.", where=path, fix=fix)
    return labels


def write_labels(project: Project, labels: Mapping[str, str]) -> None:
    """Write the corrections atomically; :mod:`dpd_core.prototypes.curation` checks them and
    holds the lock.
    """
    storage.write_json(project.path(*_FILE), dict(sorted(labels.items())))
