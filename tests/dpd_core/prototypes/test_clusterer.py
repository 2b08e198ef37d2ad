"""The clusterer: the published procedure, its seeds and its limits."""

from typing import Any

import numpy as np
import pytest
import torch
from sklearn.cluster import KMeans
from torch import Tensor

from dpd_core.errors import ConfigError, DatasetError
from dpd_core.prototypes.clusterer import PrototypeClusterer, pooled_vectors
from dpd_core.seeding import derive_seed


def clumps(name: str, clumps: int = 3, members: int = 7) -> Tensor:
    """Latents (clumps · members, 4, 16, 16) of one class in well separated clumps."""
    draw = torch.Generator().manual_seed(derive_seed(name) % 1000)
    centers = torch.randn(clumps, 1, 4, 4, 4, generator=draw).repeat(1, members, 1, 1, 1)
    latents = centers.flatten(0, 1).repeat_interleave(4, 2).repeat_interleave(4, 3)
    return latents + 0.3 * torch.randn(latents.shape, generator=draw)


def collection(*names: str) -> tuple[Tensor, list[str]]:
    latents = [clumps(name) for name in names]
    return torch.cat(latents), [n for n, z in zip(names, latents, strict=True) for _ in z]


def test_vectors_are_pooled_flattened_and_of_length_one() -> None:
    latents = torch.arange(2 * 4 * 4 * 4, dtype=torch.float16).reshape(2, 4, 4, 4)
    vectors = pooled_vectors(latents, 2)
    assert vectors.shape == (2, 16)
    assert vectors.dtype == np.float32
    by_hand = latents[0].float().reshape(4, 2, 2, 2, 2).mean((2, 4)).flatten().numpy()
    assert vectors[0] == pytest.approx(by_hand / np.linalg.norm(by_hand), rel=1e-6)
    assert pooled_vectors(torch.zeros(1, 4, 4, 4), 2).tolist() == [[0.0] * 16]
    # A pool larger than the latent repeats its cells, and so moves nobody nearer to anybody.
    wide, plain = pooled_vectors(latents, 8), pooled_vectors(latents, 4)
    assert wide @ wide.T == pytest.approx(plain @ plain.T, rel=1e-6)


def test_it_is_the_published_procedure_written_out() -> None:
    latents, names = collection("forest")
    fitted = PrototypeClusterer(ipc=3, alpha=0.7, pool=8, n_init=4, seed=5).fit(latents, names)
    z = torch.nn.functional.adaptive_avg_pool2d(latents, 8).flatten(1)
    z = torch.nn.functional.normalize(z).numpy()
    seed = derive_seed(5, "prototypes", "forest") % 2**32
    kmeans = KMeans(3, n_init=4, random_state=seed).fit(z)
    assert fitted.labels_.tolist() == kmeans.labels_.tolist()
    assert fitted.centers_["forest"] == pytest.approx(kmeans.cluster_centers_, abs=1e-6)
    for k in range(3):
        best, best_margin = -1, -np.inf
        for i in np.flatnonzero(kmeans.labels_ == k):
            distances = [np.linalg.norm(z[i] - c) for c in kmeans.cluster_centers_]
            margin = min(d for j, d in enumerate(distances) if j != k) - 0.7 * distances[k]
            assert fitted.margins_[i] == pytest.approx(margin, abs=1e-5)
            assert fitted.d_intra_[i] == pytest.approx(distances[k], abs=1e-5)
            if margin > best_margin:
                best, best_margin = i, margin
        assert fitted.representatives_["forest"][k] == best
        assert fitted.cluster_sizes_["forest"][k] == 7


def test_other_classes_their_order_and_number_change_nothing() -> None:
    together = PrototypeClusterer(ipc=3).fit(*collection("forest", "river", "road"))
    latents, names = collection("road", "forest")
    apart = PrototypeClusterer(ipc=3).fit(latents, names)
    for name in ("road", "forest"):
        ours, theirs = together.rows_[name], apart.rows_[name]
        assert np.array_equal(together.centers_[name], apart.centers_[name])
        assert np.array_equal(together.labels_[ours], apart.labels_[theirs])
        assert np.array_equal(together.margins_[ours], apart.margins_[theirs])
        places = [ours.tolist().index(row) for row in together.representatives_[name]]
        assert [theirs[place] for place in places] == apart.representatives_[name]


def test_the_seed_matters_and_repeats() -> None:
    draw = torch.Generator().manual_seed(0)
    latents, names = torch.randn(60, 4, 8, 8, generator=draw), ["noise"] * 60

    def labels(seed: int) -> list[int]:
        return PrototypeClusterer(ipc=6, n_init=1, seed=seed).fit(latents, names).labels_.tolist()

    assert labels(0) == labels(0)
    assert labels(0) != labels(1)


def test_one_cluster_is_represented_by_the_member_nearest_its_centre() -> None:
    latents, names = collection("forest")
    fitted = PrototypeClusterer(ipc=1, alpha=1.0).fit(latents, names)
    nearest = int(np.linalg.norm(fitted.vectors_ - fitted.vectors_.mean(0), axis=1).argmin())
    assert fitted.representatives_ == {"forest": [nearest]}
    assert fitted.margins_ == pytest.approx(-fitted.d_intra_)
    assert PrototypeClusterer(ipc=1, alpha=0).fit(latents, names).representatives_ == {
        "forest": [nearest]
    }


def test_as_many_clusters_as_images_makes_each_its_own_prototype() -> None:
    latents, names = collection("forest")
    fitted = PrototypeClusterer(ipc=21).fit(latents, names)
    assert sorted(fitted.representatives_["forest"]) == list(range(21))
    assert fitted.d_intra_ == pytest.approx(0, abs=1e-6)


def test_too_few_images_are_refused_by_class_and_count() -> None:
    latents, names = collection("forest")
    with pytest.raises(DatasetError, match=r"river.*2 training images.*5"):
        PrototypeClusterer(ipc=5).fit(latents, ["forest"] * 19 + ["river"] * 2)
    latents[3:] = latents[0]
    with pytest.raises(DatasetError, match=r"forest.*3 different images among 21"):
        PrototypeClusterer(ipc=5).fit(latents, names)


@pytest.mark.parametrize(
    "setting",
    [
        {"ipc": 0},
        {"pool": 0},
        {"n_init": 0},
        {"alpha": -1.0},
        {"alpha": float("nan")},
        {"outlier_fraction": 0.0},
        {"outlier_fraction": 0.6},
    ],
)
def test_arguments_are_checked_by_fit_not_by_the_constructor(setting: dict[str, Any]) -> None:
    clusterer = PrototypeClusterer(**setting)
    with pytest.raises(ConfigError, match=next(iter(setting))):
        clusterer.fit(*collection("forest"))


def test_latents_that_do_not_fit_are_refused() -> None:
    latents, names = collection("forest")
    with pytest.raises(ValueError, match="20 names"):
        PrototypeClusterer(ipc=3).fit(latents, names[1:])
    latents[2, 0, 0, 0] = float("nan")
    with pytest.raises(DatasetError, match="forest"):
        PrototypeClusterer(ipc=3).fit(latents, names)


def test_outliers_are_left_out_but_placed() -> None:
    latents, names = collection("forest")
    latents[20] = -5 * latents[20]
    plain = PrototypeClusterer(ipc=3).fit(latents, names)
    assert not plain.outliers_.any()
    assert plain.outlier_scores_.argmax() == 20
    cleaned = PrototypeClusterer(ipc=3, remove_outliers=True).fit(latents, names)
    assert cleaned.outliers_.tolist() == [False] * 20 + [True]
    assert sum(cleaned.cluster_sizes_["forest"]) == 20
    assert 20 not in cleaned.representatives_["forest"]
    distances = np.linalg.norm(cleaned.centers_["forest"] - cleaned.vectors_[20], axis=1)
    assert cleaned.labels_[20] == distances.argmin()
    without = PrototypeClusterer(ipc=3).fit(latents[:20], names[:20])
    assert np.array_equal(cleaned.centers_["forest"], without.centers_["forest"])


def test_removing_outliers_leaves_enough_images_for_the_clusters() -> None:
    latents, names = collection("forest")
    fitted = PrototypeClusterer(ipc=20, remove_outliers=True, outlier_fraction=0.5)
    assert fitted.fit(latents, names).outliers_.sum() == 1
    two = PrototypeClusterer(ipc=1, remove_outliers=True).fit(latents[:2], names[:2])
    assert two.outlier_scores_.tolist() == [1.0, 1.0]
