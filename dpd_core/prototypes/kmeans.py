"""KMeans with all its restarts side by side.

The classes of a collection are small (some hundred vectors), and scikit-learn spends most of
its time between the computations. Here the restarts share them: one matrix product an iteration for
all. The algorithm (k-means++ by Arthur & Vassilvitskii, 2007, with several trials; Lloyd, 1982)
and the random draws are those of scikit-learn's ``KMeans``, and so are the results; the tests
compare them. Measured with 700 vectors of 256 numbers and ten restarts: see ``docs/speed.md``.
"""

from __future__ import annotations

import warnings

import numpy as np

_TOLERANCE = 1e-4
_MOST_ITERATIONS = 300


def kmeans(vectors: np.ndarray, k: int, *, n_init: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Cluster vectors; the best of several restarts by the sum of squared distances.

    Args:
        vectors: float32 (N, D), finite, N ≥ k.
        k: Number of clusters.
        n_init: Restarts.
        seed: Seed, below 2³².

    Returns:
        Centres, float32 (k, D), and the cluster of each vector, (N,).
    """
    mean = vectors.mean(axis=0)
    points = vectors - mean  # nearer the origin the distances are more accurate
    found = _lloyd(points, _starts(points, k, n_init, seed))
    if found is None:
        return _by_scikit_learn(vectors, k, n_init, seed)
    centers, labels = found
    inertia = [_inertia(points - centers[r][labels[r]]) for r in range(n_init)]
    best = 0
    for restart in range(1, n_init):
        if inertia[restart] < inertia[best] and not _same(labels[restart], labels[best], k):
            best = restart
    return centers[best] + mean, labels[best]


def _starts(points: np.ndarray, k: int, n_init: int, seed: int) -> np.ndarray:
    """Centres to begin with by k-means++, float32 (n_init, k, D)."""
    random = np.random.RandomState(seed)
    count, trials = len(points), 2 + int(np.log(k))
    even = np.full(count, 1 / count, dtype=np.float32)
    first, draws = [], []
    for _ in range(n_init):  # in the order in which restarts one after the other would draw
        first.append(random.choice(count, p=even))
        draws.append(random.uniform(size=(k - 1, trials)))
    precise = points.astype(np.float64)
    norms = np.einsum("nd,nd->n", precise, precise)
    chosen = np.empty((n_init, k), dtype=int)
    chosen[:, 0] = first
    nearest = _squared_distances(precise, norms, chosen[:, 0])
    for place in range(1, k):
        sums = np.cumsum(nearest, axis=1, dtype=np.float32)
        aims = np.stack([draw[place - 1] for draw in draws]) * nearest.sum(1, keepdims=True)
        candidates = np.stack([np.searchsorted(*pair) for pair in zip(sums, aims, strict=True)])
        candidates = candidates.clip(max=count - 1)
        distances = _squared_distances(precise, norms, candidates.ravel())
        distances = np.minimum(distances.reshape(n_init, trials, count), nearest[:, None])
        best = distances.sum(2).argmin(1)
        rows = np.arange(n_init)
        chosen[:, place], nearest = candidates[rows, best], distances[rows, best]
    return points[chosen]


def _squared_distances(points: np.ndarray, norms: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """float32 (len(rows), N), computed in float64."""
    squared = norms[rows, None] - 2 * points[rows] @ points.T + norms[None]
    squared[np.arange(len(rows)), rows] = 0
    return np.maximum(squared, 0).astype(np.float32)


def _lloyd(points: np.ndarray, centers: np.ndarray) -> tuple[np.ndarray, np.ndarray] | None:
    """Iterate all restarts until each has converged.

    Args:
        points: (N, D).
        centers: Where to begin, (R, k, D).

    Returns:
        Centres (R, k, D) and labels (R, N), or ``None`` if a cluster ran empty.
    """
    restarts, k, width = centers.shape
    limit = _TOLERANCE * points.var(axis=0).mean()
    centers = centers.copy()
    labels = np.full((restarts, len(points)), -1)
    active = np.arange(restarts)
    for _ in range(_MOST_ITERATIONS):
        nearest = _nearest(points, centers[active])
        member = (nearest[:, None] == np.arange(k)[:, None]).astype(points.dtype)
        sizes = member.sum(2, keepdims=True)
        if not sizes.all():
            return None
        moved = (member.reshape(-1, len(points)) @ points).reshape(-1, k, width) / sizes
        shift = np.square(moved - centers[active]).sum((1, 2))
        settled = (nearest == labels[active]).all(1)
        centers[active], labels[active] = moved, nearest
        close = active[~settled & (shift <= limit)]
        if len(close):
            labels[close] = _nearest(points, centers[close])
        active = active[~settled & (shift > limit)]
        if not len(active):
            break
    if len(active):
        labels[active] = _nearest(points, centers[active])
    return centers, labels


def _nearest(points: np.ndarray, centers: np.ndarray) -> np.ndarray:
    """Nearest of the centres (R, k, D) to each point, (R, N)."""
    restarts, k, width = centers.shape
    products = (centers.reshape(-1, width) @ points.T).reshape(restarts, k, -1)
    return (np.square(centers).sum(2)[:, :, None] - 2 * products).argmin(1)


def _inertia(rest: np.ndarray) -> float:
    """Sum of squares, added up in float64: restarts may differ in the last digits only."""
    return float(np.einsum("nd,nd->n", rest, rest).sum(dtype=np.float64))


def _same(labels: np.ndarray, others: np.ndarray, k: int) -> bool:
    """Whether two clusterings are one but for the numbers of the clusters."""
    return len(np.unique(labels * k + others)) == len(np.unique(labels))


def _by_scikit_learn(
    vectors: np.ndarray, k: int, n_init: int, seed: int
) -> tuple[np.ndarray, np.ndarray]:
    """The same where a cluster runs empty, as with repeated vectors: it knows what to do then."""
    from sklearn.cluster import KMeans

    with warnings.catch_warnings():
        # Fewer different vectors than clusters: the caller sees it in the labels.
        warnings.simplefilter("ignore")
        model = KMeans(k, n_init=n_init, random_state=seed).fit(vectors)
    return model.cluster_centers_, model.labels_
