"""How alike images are: pretrained features of all of them, and each one's nearest other.

The features are those of :mod:`dpd_core.students.features`, centred and on the axes along which the
collection varies most; what is alike in them looks alike to people too, which the latents (made to
be decoded) promise less. In ``prototypes/likeness.safetensors`` they take 128 bytes an image.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from dpd_core.dataset.images import to_square
from dpd_core.dataset.index import DatasetIndex, ImageRecord
from dpd_core.dataset.pixels import open_record
from dpd_core.events import Emit, Meter, ignore
from dpd_core.project import Project
from dpd_core.prototypes.likeness_file import DIMENSIONS, Likeness, is_made, save_likeness
from dpd_core.seeding import derive_seed
from dpd_core.students.features import SIDE, features

FITTED = 4000
"""Images from which the axes are found, drawn at random of more."""
_BATCH = 128
_ROWS = 512


def write_likeness(
    project: Project, index: DatasetIndex, *, emit: Emit = ignore, stage: str = "prototypes"
) -> None:
    """Make ``prototypes/likeness.safetensors``, or find it made of the same images."""
    if len(index.images) < 2 or is_made(project, index):
        return
    meter = Meter(emit, stage, len(index.images), message="comparing images")

    def measured(records: Sequence[ImageRecord]) -> Iterator[np.ndarray]:
        for start in range(0, len(records), _BATCH):
            part = records[start : start + _BATCH]
            pixels = [np.asarray(to_square(open_record(record), SIDE)) for record in part]
            yield features(np.stack(pixels))
            meter.advance(len(part))

    rows = np.arange(len(index.images))
    if len(rows) > FITTED:
        draw = np.random.default_rng(derive_seed(project.config.seed, "likeness"))
        rows = np.sort(draw.choice(rows, FITTED, replace=False))
    found = np.concatenate(list(measured([index.images[row] for row in rows])))
    centre = found.mean(0)
    _, axes = np.linalg.eigh(np.cov((found - centre).astype(np.float64), rowvar=False))
    axes = axes[:, ::-1][:, :DIMENSIONS].astype(np.float32)
    vectors = np.zeros((len(index.images), axes.shape[1]), np.float32)
    vectors[rows] = (found - centre) @ axes
    others = np.setdiff1d(np.arange(len(index.images)), rows)
    for start, part in enumerate(measured([index.images[row] for row in others])):
        place = others[start * _BATCH : start * _BATCH + len(part)]
        vectors[place] = (part - centre) @ axes
    vectors /= np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-9)
    nearest, alike = nearest_others(vectors)
    half = np.float16
    save_likeness(project, index, Likeness(vectors.astype(half), nearest, alike.astype(half)))


def nearest_others(vectors: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Of each vector the row of the most similar other one, int32 (N,), and their cosine (N,).

    Args:
        vectors: float32 (N, D) of length 1, at least two.
    """
    nearest = np.empty(len(vectors), np.int32)
    alike = np.empty(len(vectors), np.float32)
    for start in range(0, len(vectors), _ROWS):
        found = vectors[start : start + _ROWS] @ vectors.T
        here = np.arange(len(found))
        found[here, start + here] = -np.inf
        nearest[start : start + _ROWS] = found.argmax(1)
        alike[start : start + _ROWS] = found[here, nearest[start : start + _ROWS]]
    return nearest, alike
