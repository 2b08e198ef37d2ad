"""Prototypes are exchanged within their clusters, and only for what teaches more."""

import shutil
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch

from dpd_core.config import EvaluateConfig
from dpd_core.evaluate import subjects as evaluation_sets
from dpd_core.events import Event, Log, Progress
from dpd_core.project import Project
from dpd_core.prototypes import curation
from dpd_core.prototypes.changes import read_changes
from dpd_core.prototypes.choice import Exchanged, choice_loss, exchange
from dpd_core.prototypes.files import Slot, load_clustering
from dpd_core.students import ridge
from tests.support.curated_project import cluster, clustered_project
from tests.support.distilled_project import make_project

CLASSES, CLUSTERS, MEMBERS = 3, 2, 10


def clouds() -> tuple[list[ridge.RidgeSpace], np.ndarray, list[list[int]]]:
    """Features of two clusters a class, in two networks; every second member is an odd one."""
    draws = torch.Generator().manual_seed(0)
    slots = CLASSES * CLUSTERS
    labels = np.repeat(np.arange(slots) // CLUSTERS, MEMBERS)
    spread = torch.tensor([0.1, 3.0]).repeat(slots * MEMBERS // 2)[:, None]
    truth = ridge.one_hot(torch.from_numpy(labels), CLASSES)
    spaces = []
    for _ in range(2):
        centres = torch.randn(slots, 8, generator=draws).repeat_interleave(MEMBERS, 0)
        features = centres + spread * torch.randn(slots * MEMBERS, 8, generator=draws)
        spaces.append(ridge.ridge_space(features, features, truth))
    clusters = [list(range(slot * MEMBERS, (slot + 1) * MEMBERS)) for slot in range(slots)]
    return spaces, labels, clusters


def search(tries: int, fixed: list[bool] | None = None, seed: int = 0) -> Exchanged:
    """From the second member of each cluster, an odd one."""
    spaces, labels, clusters = clouds()
    return exchange(
        partial(choice_loss, spaces, labels),
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
    assert found.after == pytest.approx(choice_loss(spaces, labels, found.rows))
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
    found = exchange(
        partial(choice_loss, spaces, labels), alone, [rows[0] for rows in alone], tries=5, seed=0
    )
    assert found.rows == [rows[0] for rows in alone]
    assert found.before == found.after


@pytest.fixture
def quick_networks(monkeypatch: pytest.MonkeyPatch) -> None:
    """One network of eight steps: enough to tell noise by."""
    monkeypatch.setattr(ridge, "NETWORKS", 1)
    monkeypatch.setattr(ridge, "NETWORK_STEPS", 8)


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, quick_networks: None) -> Project:
    return clustered_project(tmp_path, monkeypatch)


def prototypes_of(project: Project) -> dict[Slot, str]:
    found = load_clustering(project).prototypes.values()
    return {prototype.slot: prototype.id for of_class in found for prototype in of_class}


def test_the_stage_exchanges_within_clusters_and_finds_the_choice_again(project: Project) -> None:
    before = prototypes_of(project)
    events = cluster(project, choice="taught")
    after, members = prototypes_of(project), load_clustering(project).members
    assert after.keys() == before.keys()
    assert after != before
    assert all(members[image].slot == slot for slot, image in after.items())
    assert any(isinstance(event, Log) and "exchanged" in event.message for event in events)
    assert any(isinstance(event, Progress) and "networks" in event.message for event in events)
    again = cluster(project, choice="taught")
    assert prototypes_of(project) == after
    assert not any(
        isinstance(event, Progress) and event.message == "choosing prototypes" for event in again
    ), "it is found, not searched for"
    cluster(project, choice="typical")
    assert prototypes_of(project) == before


def test_what_people_chose_stays_and_the_others_are_exchanged_around_it(project: Project) -> None:
    slot = Slot("river", 1)
    cluster(project, choice="taught")
    taken = {prototypes_of(project)[slot]}
    cluster(project, choice="typical")
    taken.add(prototypes_of(project)[slot])
    members = load_clustering(project).members
    by_hand = next(i for i, member in members.items() if member.slot == slot and i not in taken)
    curation.choose_prototype(project, by_hand)
    cluster(project, choice="taught")
    assert prototypes_of(project)[slot] == by_hand
    choices = read_changes(project).choices
    assert [(choice.id, choice.kept, choice.cluster_id) for choice in choices] == [
        (by_hand, True, 1)
    ]


def test_excluded_images_have_no_part_in_the_choice(project: Project) -> None:
    cluster(project, choice="taught")
    out = prototypes_of(project)[Slot("forest", 0)]
    curation.exclude(project, [out])
    cluster(project, choice="taught")
    assert out not in prototypes_of(project).values()


def test_prototypes_of_a_file_are_not_exchanged(project: Project, tmp_path: Path) -> None:
    file = tmp_path / "given.json"
    shutil.copyfile(project.path("prototypes", "prototypes.json"), file)
    before = prototypes_of(project)
    events = cluster(project, choice="taught", file=str(file))
    assert prototypes_of(project) == before
    assert any(isinstance(event, Log) and event.level == "warning" for event in events)


def test_the_taught_choice_is_a_baseline_as_it_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, quick_networks: None
) -> None:
    project = make_project(tmp_path, train=16)
    config = EvaluateConfig(baselines=("medoid", "exchanged"), student_size=16)
    events: list[Event] = []
    _, medoid, exchanged = evaluation_sets.load_comparison(project, config, events.append).subjects
    (images,) = exchanged.variants
    clustering = load_clustering(project)
    of_slots = [clustering.members[image].slot for image in images.sources]
    assert sorted(of_slots) == sorted(prototypes_of(project))
    assert set(images.sources) != set(medoid.variants[0].sources)
    choice = prototypes_of(project)
    curation.choose_prototype(
        project, next(i for i in clustering.members if i not in choice.values())
    )
    _, _, again = evaluation_sets.load_comparison(project, config, events.append).subjects
    assert again.variants[0].sources == images.sources, "what people choose does not change it"
