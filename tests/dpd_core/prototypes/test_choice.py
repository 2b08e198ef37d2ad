"""Prototypes are exchanged within their clusters, and only for what teaches more."""

from pathlib import Path

import numpy as np
import pytest
import torch

from dpd_core.config import EvaluateConfig, SynthesizeConfig
from dpd_core.evaluate import subjects as evaluation_sets
from dpd_core.events import Event, Log
from dpd_core.project import Project
from dpd_core.prototypes import curation
from dpd_core.prototypes.choice import exchange_prototypes
from dpd_core.prototypes.exchange import Exchanged, choice_loss, exchange
from dpd_core.prototypes.stage import load_clustering
from tests.support.curated_project import clustered_project
from tests.support.distilled_project import make_project

CLASSES, CLUSTERS, MEMBERS = 3, 2, 10
CONFIG = SynthesizeConfig(
    strategy="dpd+", exchange_tries=6, exchange_networks=1, exchange_network_steps=8
)


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Project:
    return clustered_project(tmp_path, monkeypatch)


def clouds() -> tuple[list[torch.Tensor], np.ndarray, list[list[int]]]:
    """Features of two clusters a class, in two networks; every second member is an odd one."""
    draws = torch.Generator().manual_seed(0)
    slots = CLASSES * CLUSTERS
    labels = np.repeat(np.arange(slots) // CLUSTERS, MEMBERS)
    spread = torch.tensor([0.1, 3.0]).repeat(slots * MEMBERS // 2)[:, None]
    spaces = []
    for _ in range(2):
        centres = torch.randn(slots, 8, generator=draws).repeat_interleave(MEMBERS, 0)
        spaces.append(centres + spread * torch.randn(slots * MEMBERS, 8, generator=draws))
    clusters = [list(range(slot * MEMBERS, (slot + 1) * MEMBERS)) for slot in range(slots)]
    return spaces, labels, clusters


def search(tries: int, fixed: list[bool] | None = None, seed: int = 0) -> Exchanged:
    """From the second member of each cluster, an odd one."""
    spaces, labels, clusters = clouds()
    return exchange(
        spaces,
        labels,
        clusters,
        [rows[1] for rows in clusters],
        tries=tries,
        seed=seed,
        fixed=fixed,
    )


def test_the_loss_falls_and_is_that_of_the_choice() -> None:
    spaces, labels, _ = clouds()
    found = search(60)
    assert found.after < 0.8 * found.before
    assert found.after == pytest.approx(choice_loss(spaces, torch.from_numpy(labels), found.rows))
    assert search(20).after >= found.after, "more tries never make it worse"


def test_each_cluster_keeps_one_of_its_own_members_and_fixed_ones_stay() -> None:
    _, _, clusters = clouds()
    fixed = [True, False] * CLASSES
    found = search(60, fixed)
    assert all(row in rows for row, rows in zip(found.rows, clusters, strict=True))
    stayed = [row == rows[1] for row, rows in zip(found.rows, clusters, strict=True)]
    assert all(same for same, held in zip(stayed, fixed, strict=True) if held)
    assert not all(stayed)


def test_the_seed_determines_the_choice() -> None:
    assert search(20) == search(20)
    assert search(20).rows != search(20, seed=1).rows


def test_a_cluster_of_one_has_nothing_to_exchange() -> None:
    spaces, labels, clusters = clouds()
    alone = [rows[:1] for rows in clusters]
    found = exchange(spaces, labels, alone, [rows[0] for rows in alone], tries=5, seed=0)
    assert found.rows == [rows[0] for rows in alone]
    assert found.before == found.after


def prototypes_of(project: Project) -> dict[tuple[str, int], str]:
    return {
        (name, one.cluster_id): one.id
        for name, of_class in load_clustering(project).prototypes.items()
        for one in of_class
    }


def test_a_project_exchanges_within_clusters_and_finds_the_choice_again(project: Project) -> None:
    before, events = prototypes_of(project), list[Event]()
    found = exchange_prototypes(project, CONFIG, before, (), events.append)
    assert found.keys() == before.keys()
    assert found != before
    members = load_clustering(project).members
    assert all(
        (members[one].class_name, members[one].cluster_id) == slot for slot, one in found.items()
    )
    assert any(isinstance(event, Log) and "exchanged" in event.message for event in events)
    again = list[Event]()
    assert exchange_prototypes(project, CONFIG, before, (), again.append) == found
    assert not again, "it is found, not searched for"
    none = CONFIG.replace(exchange_tries=0)
    assert exchange_prototypes(project, none, before, (), again.append) == before


def test_what_people_chose_and_what_is_fixed_stays(project: Project) -> None:
    before = prototypes_of(project)
    found = exchange_prototypes(project, CONFIG, before, (), lambda event: None)
    slot = next(slot for slot in sorted(before) if found[slot] != before[slot])
    kept = exchange_prototypes(project, CONFIG, before, [slot], lambda event: None)
    assert kept[slot] == before[slot]
    curation.choose_prototype(project, before[slot])
    kept = exchange_prototypes(project, CONFIG, before, (), lambda event: None)
    assert kept[slot] == before[slot]


def test_the_exchanged_images_are_a_baseline_as_they_are(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    project = make_project(tmp_path, train=16)
    monkeypatch.setattr(evaluation_sets, "SynthesizeConfig", lambda: CONFIG)
    config = EvaluateConfig(baselines=("medoid", "exchanged"), student_size=16)
    bench = evaluation_sets.load_bench(project, config, lambda event: None)
    _, medoid, exchanged = bench.subjects
    before = prototypes_of(project)
    found = exchange_prototypes(project, CONFIG, before, (), lambda event: None)
    (images,) = exchanged.variants
    assert found != before
    assert sorted(images.sources) == sorted(found.values())
    assert len(images) == len(medoid.variants[0])
