"""Clustering each class in the latent space and finding its representatives.

The published DPD procedure (arXiv 2601.15829 and its code): the posterior mean of each
training image, multiplied by the scaling factor, is average-pooled to pool × pool, flattened
and L2-normalised to z; each class by itself is clustered by KMeans with K = IPC; and each
cluster k is represented by its real member with the largest margin
``min_{j≠k} ‖z − c_j‖ − α‖z − c_k‖``, where j runs over the other clusters *of the same class*.

Ours: seeds by class name, so that neither the order of the classes nor the others' presence
changes a class's clusters; local outlier factors; and errors where the published code skips a
class.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from scipy.spatial.distance import cdist
from sklearn.cluster import KMeans
from sklearn.exceptions import ConvergenceWarning
from sklearn.neighbors import LocalOutlierFactor
from threadpoolctl import threadpool_limits

from dpd_core.errors import ConfigError, DatasetError
from dpd_core.seeding import derive_seed


def pooled_vectors(latents: Any, pool: int) -> np.ndarray:
    """The space of the clusters and of the map.

    Args:
        latents: Posterior means times the scaling factor, (N, C, h, w).
        pool: Side of the pooled latent. Larger than h or w repeats cells, as adaptive
            pooling does, which changes no neighbourhood.

    Returns:
        float32 (N, C · pool · pool), each row of length 1 (a latent of zeros stays zero).
    """
    chunks = torch.as_tensor(latents).split(4096)
    pooled = [
        torch.nn.functional.adaptive_avg_pool2d(chunk.float(), pool).flatten(1) for chunk in chunks
    ]
    return torch.nn.functional.normalize(torch.cat(pooled), dim=1).cpu().numpy()


class PrototypeClusterer:
    """KMeans by class with margin representatives, in the manner of scikit-learn.

    The constructor only stores its arguments; :meth:`fit` checks them.

    Args:
        ipc: Clusters, and so representatives, per class (K).
        alpha: Weight α of the distance to the own centre in the margin.
        pool: Side of the pooled latents.
        n_init: KMeans restarts.
        seed: Seed; each class derives its own from it and its name.
        remove_outliers: Leave out the worst local outliers of a class before clustering.
        outlier_fraction: Share of each class that is left out then.

    Attributes:
        classes_: Class names, sorted.
        rows_: Rows of each class's images.
        vectors_: Pooled, L2-normalised latents, (N, D).
        centers_: Cluster centres by class, (K, D).
        labels_: Cluster of each image within its class, (N,). An outlier has the nearest.
        d_intra_: ‖z − c_k‖, distance to the own centre, (N,).
        d_inter_min_: min_{j≠k} ‖z − c_j‖ over the class's other centres, (N,); 0 for K = 1.
        margins_: ``d_inter_min_ − α · d_intra_``, (N,). With K = 1 there is no other centre,
            so the margin is −α · d_intra and the representative the member nearest the centre
            (the published code takes the class's first file there).
        outlier_scores_: Local outlier factor (Breunig et al., 2000) of each image in its
            class, (N,); about 1 inside a cloud, larger outside. 1 in classes under 3 images.
        outliers_: Which images were left out, (N,) booleans.
        cluster_sizes_: Clustered members of each cluster, by class.
        representatives_: Row of each cluster's representative, by class.
    """

    classes_: list[str]
    rows_: dict[str, np.ndarray]
    vectors_: np.ndarray
    centers_: dict[str, np.ndarray]
    labels_: np.ndarray
    d_intra_: np.ndarray
    d_inter_min_: np.ndarray
    margins_: np.ndarray
    outlier_scores_: np.ndarray
    outliers_: np.ndarray
    cluster_sizes_: dict[str, list[int]]
    representatives_: dict[str, list[int]]

    def __init__(
        self,
        *,
        ipc: int = 5,
        alpha: float = 1.0,
        pool: int = 8,
        n_init: int = 10,
        seed: int = 0,
        remove_outliers: bool = False,
        outlier_fraction: float = 0.05,
    ):
        self.ipc, self.alpha, self.pool, self.n_init = ipc, alpha, pool, n_init
        self.seed, self.remove_outliers = seed, remove_outliers
        self.outlier_fraction = outlier_fraction

    def fit(
        self,
        latents: Any,
        class_names: Sequence[str],
        *,
        representatives: dict[str, list[int]] | None = None,
        after_class: Callable[[], None] = lambda: None,
    ) -> PrototypeClusterer:
        """Cluster every class.

        Args:
            latents: Posterior means times the scaling factor, (N, C, h, w).
            class_names: Class of each, N of them.
            representatives: Rows by class of representatives chosen elsewhere. Then nothing
                is searched: their vectors are the centres, and each image joins the nearest.
            after_class: Called after each class.

        Returns:
            Itself.

        Raises:
            ConfigError: an argument of the constructor is out of its limits.
            DatasetError: a class has too few (different) images for K clusters, or a latent
                that is not finite.
            ValueError: the arguments do not fit each other.
        """
        self._check()
        if len(latents.shape) != 4 or len(latents) != len(class_names) or not len(latents):
            raise ValueError(f"{len(class_names)} names for latents {tuple(latents.shape)}")
        names = np.asarray(class_names, dtype=object)
        self.vectors_ = pooled_vectors(latents, self.pool)
        count = len(names)
        self.labels_ = np.zeros(count, dtype=int)
        self.d_intra_, self.d_inter_min_ = np.zeros(count), np.zeros(count)
        self.outlier_scores_, self.outliers_ = np.ones(count), np.zeros(count, dtype=bool)
        self.centers_, self.cluster_sizes_, self.representatives_ = {}, {}, {}
        self.classes_ = sorted(set(class_names))
        self.rows_ = {name: np.flatnonzero(names == name) for name in self.classes_}
        # The problems are so small that a second thread costs five times what it brings.
        with threadpool_limits(1):
            for name, rows in self.rows_.items():
                given = None if representatives is None else representatives[name]
                self._fit_class(name, rows, given)
                after_class()
        self.margins_ = self.d_inter_min_ - self.alpha * self.d_intra_
        for name, rows in self.rows_.items():
            rows = rows[~self.outliers_[rows]]
            clusters = range(len(self.centers_[name]))
            self.cluster_sizes_[name] = [int((self.labels_[rows] == k).sum()) for k in clusters]
            self.representatives_[name] = (
                [self.most_typical(rows[self.labels_[rows] == k]) for k in clusters]
                if representatives is None
                else list(representatives[name])
            )
        return self

    def _check(self) -> None:
        limits = {
            "ipc": self.ipc >= 1,
            "pool": self.pool >= 1,
            "n_init": self.n_init >= 1,
            "alpha": 0 <= self.alpha < float("inf"),
            "outlier_fraction": 0 < self.outlier_fraction <= 0.5,
        }
        for name, fine in limits.items():
            if not fine:
                raise ConfigError(
                    f"got {getattr(self, name)!r}.",
                    where=f"prototypes.{name}",
                    fix="Use a value within its limits.",
                )

    def _fit_class(self, name: str, rows: np.ndarray, given: list[int] | None) -> None:
        vectors = self.vectors_[rows]
        if not np.isfinite(vectors).all():
            raise DatasetError(
                "a latent is not a finite number.",
                where=name,
                fix="Use dtype float32, or another model.",
            )
        if given is None and len(rows) < self.ipc:
            raise _too_few(name, f"{len(rows)} training images", self.ipc)
        scores = _outlier_factors(vectors)
        kept = self._kept(scores) if given is None else np.ones(len(rows), dtype=bool)
        if given is None:
            centers, clusters = self._cluster(name, vectors[kept])
        else:
            centers = self.vectors_[given].astype(np.float64)
        distances = cdist(vectors, centers)
        labels = distances.argmin(1)
        if given is None:
            labels[kept] = clusters
        else:
            labels[np.searchsorted(rows, given)] = np.arange(len(given))
        own = np.arange(len(rows)), labels
        self.centers_[name] = centers.astype(np.float32)
        self.labels_[rows], self.d_intra_[rows] = labels, distances[own]
        if len(centers) > 1:
            distances[own] = np.inf
            self.d_inter_min_[rows] = distances.min(1)
        self.outlier_scores_[rows], self.outliers_[rows] = scores, ~kept

    def _kept(self, scores: np.ndarray) -> np.ndarray:
        """Which images of a class take part, by their outlier factors; at least K do."""

        kept = np.ones(len(scores), dtype=bool)
        if self.remove_outliers:
            worst = min(round(len(scores) * self.outlier_fraction), len(scores) - self.ipc)
            kept[np.argsort(-scores, kind="stable")[:worst]] = False
        return kept

    def _cluster(self, name: str, vectors: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Centres (K, D) and the cluster of each vector."""
        seed = derive_seed(self.seed, "prototypes", name) % 2**32
        with warnings.catch_warnings():
            # About fewer different vectors than clusters, which is refused below.
            warnings.simplefilter("ignore", ConvergenceWarning)
            model = KMeans(self.ipc, n_init=self.n_init, random_state=seed).fit(vectors)
        found = len(np.unique(model.labels_))
        if found < self.ipc:
            raise _too_few(name, f"{found} different images among {len(vectors)}", self.ipc)
        return model.cluster_centers_.astype(np.float64), model.labels_

    def most_typical(self, members: np.ndarray) -> int:
        """The row with the largest margin among these; equal ones by distance, then by order."""
        best = np.lexsort((self.d_intra_[members], -self.margins_[members]))[0]
        return int(members[best])


def _outlier_factors(vectors: np.ndarray) -> np.ndarray:
    """Local outlier factors (N,), about 1 for an ordinary point."""
    if len(vectors) < 3:
        return np.ones(len(vectors))
    # 20 is scikit-learn's default. In a class of fewer than 100 images it would reach beyond the
    # image's own cluster, from where everything looks equally far.
    neighbors = min(20, max(2, len(vectors) // 5))
    with warnings.catch_warnings():
        # Many equal images make the factors large, which is what a person should see.
        warnings.simplefilter("ignore")
        model = LocalOutlierFactor(n_neighbors=neighbors).fit(vectors)
    return -model.negative_outlier_factor_


def _too_few(name: str, what: str, ipc: int) -> DatasetError:
    return DatasetError(
        f"the class has {what}, fewer than the {ipc} clusters asked for.",
        where=name,
        fix=f"Add images, leave the class out, or set ipc below {ipc}.",
    )
