"""The map: latents in two dimensions by UMAP (McInnes et al., 2018), seeded and cached.

Measured processor time: 8 s of compiling in a fresh process, then 5 s for 5,000 points of 256
dimensions, 14 s for 20,000 and 15 s for 25,000. Neighbours are found by brute force, which is
exact and, unlike UMAP's own search, needs no further compiling.
"""

from __future__ import annotations

import hashlib
import warnings
from typing import Any

import numpy as np
from sklearn.neighbors import NearestNeighbors

from dpd_core import storage
from dpd_core.events import Emit, Log, ignore
from dpd_core.hardware import same_threads
from dpd_core.project import Project
from dpd_core.prototypes.map_file import FIRST, read_map, save_map
from dpd_core.seeding import derive_seed

FIT_LIMIT = 20_000
"""Most points that UMAP lays out itself; the others are placed between their neighbours.
A map of more points says no more to the eye, and the time grows with their square."""

_FEWEST = 5
"""Below this number of points UMAP has no neighbourhoods to keep, and PCA is exact."""


def project_map(
    vectors: np.ndarray, *, neighbors: int = 15, min_dist: float = 0.1, seed: int = 0
) -> np.ndarray:
    """Lay vectors out in the plane.

    The same vectors, parameters and library versions give the same map, point for point.
    Fewer than five points, or points that are all the same, are laid out by PCA. Of more than
    :data:`FIT_LIMIT` points a seeded sample is laid out by UMAP, and each other point goes to
    the mean of its three nearest ones there, weighted by inverse distance.

    Args:
        vectors: (N, D), finite.
        neighbors: UMAP neighbours; clipped to N − 1.
        min_dist: UMAP minimal distance between points of the map.
        seed: Seed of the layout and of the sample.

    Returns:
        float32 (N, 2).

    Raises:
        ValueError: the vectors are not a finite (N, D) array.
    """
    vectors = np.ascontiguousarray(vectors, dtype=np.float32)
    if vectors.ndim != 2 or not np.isfinite(vectors).all():
        raise ValueError(f"vectors must be a finite (N, D) array, not {vectors.shape}")
    count = len(vectors)
    if count < _FEWEST or np.ptp(vectors, axis=0).max() == 0:
        return _pca(vectors)
    random_state = derive_seed(seed, "map") % 2**32
    if count <= FIT_LIMIT:
        return _umap(vectors, neighbors, min_dist, random_state)
    chosen = np.random.default_rng(random_state).choice(count, FIT_LIMIT, replace=False)
    chosen.sort()
    layout = _umap(vectors[chosen], neighbors, min_dist, random_state)
    return _place_others(vectors, chosen, layout)


def write_map(
    project: Project,
    ids: list[str],
    vectors: np.ndarray,
    *,
    neighbors: int,
    min_dist: float = 0.1,
    seed: int,
    emit: Emit = ignore,
) -> dict[str, Any]:
    """Make the project's ``prototypes/map.json``, or find it made from the same vectors.

    Args:
        project: Where the file goes.
        ids: Image ids, N of them.
        vectors: (N, D), see :func:`project_map` for these and the other arguments.
        emit: Gets a message before a computation that takes time.

    Returns:
        ``{"key", "ids", "x", "y"}``.
    """
    content_digest = hashlib.sha256(np.asarray(vectors, dtype=np.float32).tobytes()).hexdigest()
    key = storage.digest(
        "umap", ids, vectors.shape, content_digest, neighbors, min_dist, seed, FIT_LIMIT
    )
    found = read_map(project)
    if found is not None and found["key"] == key:
        return found
    emit(Log("prototypes", f"laying out {len(ids)} images on the map"))
    points = project_map(vectors, neighbors=neighbors, min_dist=min_dist, seed=seed)
    x, y = (np.round(points[:, axis].astype(float), 4).tolist() for axis in (0, 1))
    content = {"key": key, "ids": ids, "x": x, "y": y}
    save_map(project, content)
    return content


def write_first_map(
    project: Project, ids: list[str], vectors: np.ndarray, *, emit: Emit = ignore
) -> None:
    """A map by principal components, to be looked at until UMAP's is there; where there is a map
    of these images already it stays.

    Args:
        project: Where the file goes.
        ids: Image ids, N of them.
        vectors: (N, D).
        emit: Gets a message.
    """
    found = read_map(project)
    if found is not None and found["ids"] == ids:
        return
    points = _pca(np.ascontiguousarray(vectors, dtype=np.float32))
    x, y = (np.round(points[:, axis].astype(float), 4).tolist() for axis in (0, 1))
    key = FIRST + storage.digest(ids, x, y)
    save_map(project, {"key": key, "ids": ids, "x": x, "y": y})
    emit(Log("prototypes", "a first map, by principal components, is there"))


def _umap(vectors: np.ndarray, neighbors: int, min_dist: float, random_state: int) -> np.ndarray:
    count = max(2, min(neighbors, len(vectors) - 1))
    search = NearestNeighbors(n_neighbors=count, algorithm="brute").fit(vectors)
    distances, indices = search.kneighbors(vectors)
    with same_threads(), warnings.catch_warnings():
        # About transforming later and about one thread for a seeded layout: both are meant.
        warnings.simplefilter("ignore")
        import umap  # it starts numba, which changes the number of threads

        layout = umap.UMAP(
            n_neighbors=count,
            min_dist=min_dist,
            random_state=random_state,
            n_jobs=1,
            precomputed_knn=(indices, distances.astype(np.float32), None),
            # Spectral initialisation needs more points than it finds in a tiny collection.
            init="spectral" if len(vectors) > 50 else "pca",
        ).fit_transform(vectors)
    points = np.asarray(layout, dtype=np.float32)
    return points if np.isfinite(points).all() else _pca(vectors)


def _place_others(vectors: np.ndarray, chosen: np.ndarray, layout: np.ndarray) -> np.ndarray:
    points = np.empty((len(vectors), 2), dtype=np.float32)
    points[chosen] = layout
    others = np.setdiff1d(np.arange(len(vectors)), chosen)
    search = NearestNeighbors(n_neighbors=3, algorithm="brute").fit(vectors[chosen])
    distances, indices = search.kneighbors(vectors[others])
    weights = 1 / np.maximum(distances, 1e-9)
    weights /= weights.sum(1, keepdims=True)
    points[others] = (weights[:, :, None] * layout[indices]).sum(1)
    return points


def _pca(vectors: np.ndarray) -> np.ndarray:
    """The first two principal components, (N, 2), zeros where there are fewer."""
    points = np.zeros((len(vectors), 2), dtype=np.float32)
    if len(vectors):
        centred = vectors - vectors.mean(0)
        if len(vectors) > vectors.shape[1]:  # a decomposition of (D, D), however many points
            _, axes = np.linalg.eigh(centred.T.astype(np.float64) @ centred)
            components = centred @ axes[:, :-3:-1].astype(np.float32)
        else:
            left, scale, _ = np.linalg.svd(centred, full_matrices=False)
            components = (left * scale)[:, :2]
        # A singular vector's sign is arbitrary: make its largest entry positive.
        largest = np.abs(components).argmax(0)
        components *= np.where(components[largest, range(components.shape[1])] < 0, -1, 1)
        points[:, : components.shape[1]] = components
    return points
