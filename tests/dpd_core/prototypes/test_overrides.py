"""Choices made by hand, put in by the stage."""

from typing import Any

import pytest

from dpd_core.errors import ProjectError
from dpd_core.events import Event, Log
from dpd_core.project import Project
from dpd_core.prototypes import stage as prototypes
from dpd_core.prototypes.files import (
    load_clustering,
    load_prototypes,
)
from tests.support.prototype_runs import config, published, published_ids, write_overrides


@pytest.fixture
def project(unclustered: Project) -> Project:
    return unclustered


def warnings(events: list[Event]) -> list[str]:
    return [e.message for e in events if isinstance(e, Log) and e.level == "warning"]


def test_an_excluded_image_takes_no_part(project: Project) -> None:
    excluded = published_ids(project)[0]
    write_overrides(project, {"excluded": [excluded, "forest/gone.png"]})
    events: list[Event] = []
    result = prototypes.run(project, config(), events.append)
    assert result["excluded"] == 1
    assert result["images"] == 15
    assert excluded not in load_clustering(project).members
    assert excluded not in [e["id"] for entries in published(project).values() for e in entries]
    assert len(warnings(events)) == 1
    assert "forest/gone.png" in warnings(events)[0]


def test_a_choice_replaces_the_representative_of_its_cluster(project: Project) -> None:
    prototypes.run(project, config())
    clustering = load_clustering(project)
    automatic = clustering.prototypes["river"][1]
    other = next(
        image_id
        for image_id, member in clustering.members.items()
        if (member.class_name, member.cluster_id) == ("river", 1) and image_id != automatic.id
    )
    write_overrides(project, {"chosen": {"river": {"1": other}}})
    events: list[Event] = []
    prototypes.run(project, config(), events.append)
    chosen = load_clustering(project).prototypes
    assert chosen["river"][1].id == other
    assert chosen["river"][1].margin == clustering.members[other].margin < automatic.margin
    assert chosen["river"][0] == clustering.prototypes["river"][0]
    assert chosen["forest"] == clustering.prototypes["forest"]
    assert not warnings(events)


@pytest.mark.parametrize(
    "chosen",
    [{"river": {"1": "river/no.png"}}, {"desert": {"0": "same"}}, {"forest": {"1": "same"}}],
)
def test_a_choice_that_no_longer_stands_is_reported_and_not_used(
    project: Project, chosen: dict[str, dict[str, str]]
) -> None:
    prototypes.run(project, config())
    before = load_prototypes(project)
    stand_in = {"same": before["river"][1].id}
    content = {
        name: {k: stand_in.get(image, image) for k, image in clusters.items()}
        for name, clusters in chosen.items()
    }
    write_overrides(project, {"chosen": content})
    events: list[Event] = []
    prototypes.run(project, config(), events.append)
    assert load_prototypes(project) == before
    ((class_name, clusters),) = content.items()
    assert len(warnings(events)) == 1
    assert all(word in warnings(events)[0] for word in (class_name, *clusters.values()))


def test_a_chosen_image_is_the_prototype_of_whatever_cluster_it_falls_into(
    project: Project,
) -> None:
    prototypes.run(project, config())
    clustering = load_clustering(project)
    automatic = {entry.id for entries in clustering.prototypes.values() for entry in entries}
    other = next(
        i for i, m in clustering.members.items() if m.class_name == "river" and i not in automatic
    )
    write_overrides(project, {"chosen": {"river": {"7": other}}})
    for ipc in (3, 2, 1):
        events: list[Event] = []
        prototypes.run(project, config(ipc=ipc), events.append)
        now = load_clustering(project)
        assert now.prototypes["river"][now.members[other].cluster_id].id == other
        assert not warnings(events)


def test_of_two_chosen_images_in_one_cluster_one_stays(project: Project) -> None:
    prototypes.run(project, config())
    first, second = (entry.id for entry in load_prototypes(project)["river"][:2])
    write_overrides(project, {"chosen": {"river": {"0": first, "1": second}}})
    events: list[Event] = []
    prototypes.run(project, config(ipc=1), events.append)
    assert [entry.id for entry in load_prototypes(project)["river"]] == [first]
    assert [second in text and first in text for text in warnings(events)] == [True]


@pytest.mark.parametrize(
    "content",
    [
        [],
        {"excluded": "forest/1.png"},
        {"excluded": [3]},
        {"chosen": {"river": {"one": "a"}}},
        {"chosen": {"river": ["a"]}},
        {"chosen": {"river": {"1": None}}},
    ],
)
def test_a_bad_file_of_choices_is_refused_by_name(project: Project, content: Any) -> None:
    write_overrides(project, content)
    with pytest.raises(ProjectError, match=r"overrides\.json"):
        prototypes.run(project, config())
