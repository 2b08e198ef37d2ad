"""The file of likenesses, ``prototypes/likeness.safetensors``; see
:mod:`dpd_core.prototypes.likeness`. Light to import: the app reads it and computes nothing."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from dpd_core import storage
from dpd_core.dataset.index import DatasetIndex
from dpd_core.errors import ProjectError
from dpd_core.project import Project

DIMENSIONS = 64
"""Axes that are kept."""
_FILE = ("prototypes", "likeness.safetensors")


@dataclass(frozen=True)
class Likeness:
    """All images of a data set, N of them in the index's order.

    Attributes:
        vectors: float16 (N, D), each of length 1: cosines say how alike two images are.
        nearest: int32 (N,), the row of the most similar other image.
        alike: float16 (N,), the cosine to it.
    """

    vectors: np.ndarray
    nearest: np.ndarray
    alike: np.ndarray

    def similar(self, row: int, count: int) -> tuple[list[int], list[float]]:
        """The rows most similar to one, itself first, and their cosines."""
        found = self.vectors.astype(np.float32) @ self.vectors[row].astype(np.float32)
        found[row] = np.inf
        order = np.argsort(-found, kind="stable")[:count]
        found[row] = 1.0
        return order.tolist(), [round(float(found[place]), 3) for place in order]


def key(index: DatasetIndex) -> str:
    """What the likeness of a data set's images is made from."""
    images = [(record.id, record.sha256, record.bands) for record in index.images]
    return storage.digest("likeness", "efficientnet-lite0", DIMENSIONS, images)


def read_likeness(project: Project, index: DatasetIndex) -> Likeness | None:
    """The likeness of the images of the index; ``None`` where it was not made, or of others.

    Raises:
        ProjectError: the file is damaged.
    """
    path = project.path(*_FILE)
    if not is_made(project, index):
        return None
    with safe_open(path, "numpy") as file:
        found = Likeness(*(file.get_tensor(name) for name in ("vectors", "nearest", "alike")))
    if not len(found.vectors) == len(found.nearest) == len(found.alike) == len(index.images):
        raise _damaged(project)
    return found


def is_made(project: Project, index: DatasetIndex) -> bool:
    """Whether the file is there and of the index's images."""
    return _key_of(project) == key(index)


def save_likeness(project: Project, index: DatasetIndex, found: Likeness) -> None:
    """Write what :func:`read_likeness` reads."""
    tensors = {"vectors": found.vectors, "nearest": found.nearest, "alike": found.alike}
    storage.write_bytes(project.path(*_FILE), save(tensors, metadata={"key": key(index)}))


def _key_of(project: Project) -> str | None:
    path = project.path(*_FILE)
    if not path.exists():
        return None
    try:
        with safe_open(path, "numpy") as file:
            return str((file.metadata() or {}).get("key", ""))
    except (SafetensorError, OSError) as error:
        raise _damaged(project) from error


def _damaged(project: Project) -> ProjectError:
    return ProjectError(
        "the file of similarities is damaged.",
        where=project.path(*_FILE),
        fix="Delete it; the stage 'prototypes' makes it again.",
    )
