"""Images and their captions clustered side by side, and the two sides matched.

From the multimodal line of distillation (prototype-guided data synthesis, PDS): what belongs
together is what looks alike *and* is described alike. Each class's captions are clustered as its
latents are; image clusters and text clusters are paired so that as many images as possible lie in
both halves of a pair (a maximum-weight matching, Kuhn 1955); and a cluster is represented by a
member of its pair. Our stand-in for the published decoder of matched pairs is the text-to-image
model itself, which gets the prototype and the caption aggregated over the cluster.
"""

from __future__ import annotations

import numpy as np

from dpd_core.prototypes.clusterer import PrototypeClusterer
from dpd_core.prototypes.kmeans import kmeans
from dpd_core.seeding import derive_seed


def text_clusters(vectors: np.ndarray, clusters: int, *, n_init: int, seed: int) -> np.ndarray:
    """Cluster of each text, (N,); fewer clusters where there are fewer different texts.

    Args:
        vectors: One unit vector a text, float (N, D).
        clusters: How many clusters are wanted.
        n_init: KMeans restarts.
        seed: Seed, below 2³².
    """
    from threadpoolctl import threadpool_limits

    different, label = np.unique(vectors, axis=0, return_inverse=True)
    if len(different) <= clusters:
        return label.reshape(-1)
    with threadpool_limits(1):
        return kmeans(vectors.astype(np.float32), clusters, n_init=n_init, seed=seed)[1]


def match(images: np.ndarray, texts: np.ndarray, clusters: int) -> np.ndarray:
    """The text cluster of each image cluster, one to one, with the most images in both.

    Args:
        images: Image cluster of each image, (N,).
        texts: Cluster of its caption, (N,).
        clusters: Number of image clusters, K.

    Returns:
        (K,); -1 for an image cluster that none is left for.
    """
    from scipy.optimize import linear_sum_assignment

    shared = np.zeros((clusters, int(texts.max()) + 1), dtype=int)
    np.add.at(shared, (images, texts), 1)
    partners = np.full(clusters, -1)
    rows, columns = linear_sum_assignment(shared, maximize=True)
    partners[rows] = columns
    return partners


def matched_representatives(
    clusterer: PrototypeClusterer, texts: np.ndarray
) -> tuple[dict[str, list[int]], float]:
    """Representatives that look *and* read like their clusters.

    Args:
        clusterer: Fitted.
        texts: A unit vector of each image's caption, float (N, D), in the clusterer's order.

    Returns:
        By class, the row with the largest margin among those in the matched pair of each cluster
        (in the cluster alone where the pair shares no image); and the share of all clustered
        images that lie in a pair, 1 where both sides say the same.
    """
    found: dict[str, list[int]] = {}
    agreeing = total = 0
    for name, rows in clusterer.rows_.items():
        inside = rows[~clusterer.outliers_[rows]]
        images, clusters = clusterer.labels_[inside], len(clusterer.centers_[name])
        seed = derive_seed(clusterer.seed, "captions", name) % 2**32
        words = text_clusters(texts[inside], clusters, n_init=clusterer.n_init, seed=seed)
        both = match(images, words, clusters)[images] == words
        found[name] = [
            clusterer.most_typical(pair) if len(pair) else clusterer.representatives_[name][k]
            for k in range(clusters)
            for pair in [inside[both & (images == k)]]
        ]
        agreeing, total = agreeing + int(both.sum()), total + len(inside)
    return found, agreeing / total
