"""Our KMeans against scikit-learn's: the same draws, hence the same clusters."""

import numpy as np
import pytest
from sklearn.cluster import KMeans

from dpd_core.prototypes.kmeans import kmeans


def cloud(count: int, width: int, seed: int) -> np.ndarray:
    draws = np.random.default_rng(seed)
    lumps = draws.normal(size=(6, width))
    return (lumps[draws.integers(0, 6, count)] + draws.normal(size=(count, width))).astype("f4")


@pytest.mark.parametrize(
    ("count", "width", "k"),
    [
        (300, 64, 5),
        (700, 256, 5),
        (60, 3, 10),
        (40, 8, 1),
        (12, 4, 12),
        (500, 2, 20),
    ],
)
@pytest.mark.parametrize("seed", [0, 7])
def test_it_finds_what_scikit_learn_finds(count: int, width: int, k: int, seed: int) -> None:
    vectors = cloud(count, width, seed)
    expected = KMeans(k, n_init=10, random_state=seed).fit(vectors)
    centers, labels = kmeans(vectors, k, n_init=10, seed=seed)
    assert np.array_equal(labels, expected.labels_)
    assert centers == pytest.approx(expected.cluster_centers_, abs=1e-4)


def test_repeated_vectors_leave_clusters_empty_as_there() -> None:
    vectors = np.repeat(cloud(3, 4, 1), 5, axis=0)
    labels = kmeans(vectors, 5, n_init=3, seed=0)[1]
    assert len(np.unique(labels)) == 3


def test_the_vectors_stay_as_they_are() -> None:
    vectors = cloud(50, 4, 2)
    before = vectors.copy()
    kmeans(vectors, 4, n_init=2, seed=0)
    assert np.array_equal(vectors, before)
