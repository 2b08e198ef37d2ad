"""Baselines: how many, which, and that names alone decide."""

import numpy as np
import pytest

from dpd_core.errors import ConfigError, StageMissing
from dpd_core.evaluate import baselines, subsets
from dpd_core.evaluate.subsets import Pool
from dpd_core.prototypes.files import Member


def pool(name="forest", count=8, clusters=2, outliers=()):
    """Images 0, 1, … of a class, dealt to the clusters in turn, nearer the smaller the number."""
    ids = tuple(f"{name}/{number}.png" for number in range(count))
    members = {
        image: Member(image, name, number % clusters, 0.0, float(number), number in outliers, 1.0)
        for number, image in enumerate(ids)
    }
    return Pool(name, ids, members)


def numbers(ids):
    return [int(image.split("/")[1].split(".")[0]) for image in ids]


def test_random_draws_without_replacement_and_by_seed():
    chosen = [subsets.random_subset(pool(count=40), 10, seed) for seed in range(3)]
    assert all(len(set(ids)) == 10 for ids in chosen)
    assert chosen[0] == subsets.random_subset(pool(count=40), 10, 0)
    assert len({tuple(ids) for ids in chosen}) == 3


def test_random_is_uniform():
    hits = [0] * 8
    for seed in range(800):
        for number in numbers(subsets.random_subset(pool(), 2, seed)):
            hits[number] += 1
    assert min(hits) > 150
    assert max(hits) < 250


def test_medoids_are_nearest_each_centre():
    # Clusters are the even and the odd numbers.
    assert numbers(subsets.medoids(pool(), 2, 0)) == [0, 1]
    assert numbers(subsets.medoids(pool(), 4, 0)) == [0, 1, 2, 3]
    assert sorted(numbers(subsets.medoids(pool(clusters=3), 3, 0))) == [0, 1, 2]


def test_fewer_images_than_clusters_serve_the_largest_clusters():
    # 9 images in 2 clusters: the even ones are five.
    assert numbers(subsets.medoids(pool(count=9), 1, 0)) == [0]


def test_medoids_take_outliers_last():
    assert numbers(subsets.medoids(pool(outliers=(0, 1)), 2, 0)) == [2, 3]
    assert set(numbers(subsets.medoids(pool(outliers=(0, 1)), 8, 0))[-2:]) == {0, 1}


def test_medoids_leave_out_what_was_excluded_by_hand():
    whole = pool()
    rest = {image: member for image, member in whole.members.items() if image != whole.ids[0]}
    chosen = numbers(subsets.medoids(Pool("forest", whole.ids, rest), 8, 0))
    assert sorted(chosen) == [1, 2, 3, 4, 5, 6, 7]


def test_medoids_need_clusters():
    with pytest.raises(StageMissing, match="prototypes"):
        subsets.medoids(Pool("forest", ("forest/1.png",), {}), 1, 0)


def test_full_takes_everything():
    assert len(subsets.everything(pool(), 2, 0)) == 8


def test_a_class_gets_the_same_images_whatever_else_there_is():
    pools = {name: pool(name, count=30) for name in ("forest", "river", "desert")}
    everyone = subsets.select("random", pools, dict.fromkeys(pools, 5), seed=3, repeat=1)
    alone = subsets.select("random", pools, {"river": 5}, seed=3, repeat=1)
    assert alone["river"] == everyone["river"]
    assert numbers(everyone["river"]) != numbers(everyone["forest"])
    again = subsets.select("random", pools, {"river": 5}, seed=3, repeat=2)
    assert again["river"] != alone["river"]


def test_an_unknown_baseline_names_the_known_ones():
    with pytest.raises(ConfigError, match="medoid"):
        baselines.get_baseline("luck")


def measured_pool(vectors):
    ids = tuple(f"forest/{number}.png" for number in range(len(vectors)))
    return Pool("forest", ids, {}, dict(zip(ids, np.array(vectors, dtype=float), strict=True)))


def test_herding_keeps_the_mean_of_the_chosen_at_that_of_the_class():
    draw = np.random.default_rng(0).normal(size=(60, 4))
    chosen = numbers(subsets.herding(measured_pool(draw), 6, 0))
    assert len(set(chosen)) == 6
    ours = np.linalg.norm(draw[chosen].mean(0) - draw.mean(0))
    by_chance = [
        np.linalg.norm(draw[np.random.default_rng(seed).permutation(60)[:6]].mean(0) - draw.mean(0))
        for seed in range(50)
    ]
    assert ours < min(by_chance)


def test_k_centre_leaves_no_group_without_a_chosen_image():
    centres = np.array([[0.0, 0.0], [10.0, 0.0], [0.0, 10.0], [10.0, 10.0]])
    draw = np.concatenate(
        [centre + np.random.default_rng(1).normal(size=(9, 2)) * 0.1 for centre in centres]
    )
    chosen = numbers(subsets.k_center(measured_pool(draw), 4, 0))
    assert sorted(number // 9 for number in chosen) == [0, 1, 2, 3]


def test_no_more_are_chosen_than_there_are():
    for choose in (subsets.herding, subsets.k_center):
        assert sorted(numbers(choose(measured_pool([[0.0], [1.0], [5.0]]), 9, 0))) == [0, 1, 2]
