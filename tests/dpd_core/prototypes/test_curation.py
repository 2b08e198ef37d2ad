"""Decisions by hand: what they change in later stages, what is refused, undo; and the report of
what a new clustering changed."""

import json
from pathlib import Path
from typing import Any

import pytest

from dpd_core import storage
from dpd_core.captions import stage as captions_stage
from dpd_core.captions.current import training_captions
from dpd_core.config import CaptionsConfig, DatasetConfig
from dpd_core.dataset import stage as dataset
from dpd_core.dataset.index import load_index
from dpd_core.dataset.labels import read_labels
from dpd_core.errors import DatasetError, DPDError, ProjectError, StageMissing
from dpd_core.events import Log
from dpd_core.models.latents import latents_for
from dpd_core.pipeline.staleness import is_current
from dpd_core.project import Project
from dpd_core.prototypes import curation
from dpd_core.prototypes.changes import read_changes
from dpd_core.prototypes.files import load_clustering, load_prototypes
from dpd_core.prototypes.overrides import read_overrides
from dpd_core.train.classifier_training import project_classifier
from tests.support.curated_project import cluster, clustered_project, members_beside


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Project:
    return clustered_project(tmp_path, monkeypatch)


def train_ids(project: Project, class_name: str) -> list[str]:
    return [record.id for record in load_index(project).select("train", class_name)]


def state(project: Project) -> tuple[Any, Any]:
    return read_overrides(project), read_labels(project)


# ---- what a decision does ------------------------------------------------------------------


def test_a_chosen_image_becomes_the_prototype_and_makes_the_stage_stale(project: Project) -> None:
    image_id = members_beside(project, "river", 1)[0]
    curation.choose_prototype(project, image_id)
    assert not is_current(project, "prototypes")
    cluster(project)
    assert load_prototypes(project)["river"][1].id == image_id
    assert is_current(project, "prototypes")


def test_a_second_choice_for_a_cluster_replaces_the_first_also_after_renumbering(
    project: Project,
) -> None:
    first, second = members_beside(project, "river", 1)[0], members_beside(project, "river", 0)[0]
    curation.choose_prototype(project, first)
    curation.choose_prototype(project, second)
    # As if the clusters had got new numbers since: the choices are filed under other ones.
    path = project.path("prototypes", "overrides.json")
    storage.write_json(path, {"chosen": {"river": {"0": first, "1": second}}})
    third = load_prototypes(project)["river"][0].id
    curation.choose_prototype(project, third)
    assert read_overrides(project).chosen == {"river": {0: third, 1: first}}


def test_a_choice_is_released(project: Project) -> None:
    automatic = load_prototypes(project)
    image_id = members_beside(project, "forest", 2)[0]
    curation.choose_prototype(project, image_id)
    curation.release_prototype(project, image_id)
    cluster(project)
    assert load_prototypes(project) == automatic
    with pytest.raises(DatasetError, match="not chosen by hand"):
        curation.release_prototype(project, image_id)


def test_an_excluded_image_is_clustered_and_trained_with_no_more(project: Project) -> None:
    ids = [load_prototypes(project)["river"][0].id, members_beside(project, "river", 1)[0]]
    curation.exclude(project, ids)
    cluster(project)
    assert not set(ids) & set(load_clustering(project).members)
    captions_stage.run(project, CaptionsConfig(mode="template"))
    assert not set(ids) & set(training_captions(project))
    _, report = project_classifier(project, latents_for(project), epochs=1)
    curation.include(project, ids)
    cluster(project)
    assert set(ids) <= set(load_clustering(project).members)
    _, all_of_them = project_classifier(project, latents_for(project), epochs=1)
    assert all_of_them["key"] != report["key"]
    count = len(load_index(project).select("train"))
    assert sum(all_of_them[name] for name in ("train", "validation")) == count
    assert sum(report[name] for name in ("train", "validation")) == count - 2


def test_a_moved_image_belongs_to_the_other_class_everywhere(project: Project) -> None:
    image_id = members_beside(project, "river", 0)[0]
    before = load_index(project)
    curation.move_to_class(project, [image_id], "forest")
    index = load_index(project)
    assert index.by_id[image_id].class_name == "forest"
    assert image_id in [record.id for record in index.select("train", "forest")]
    assert index.classes["forest"].train == before.classes["forest"].train + 1
    assert index.classes["river"].train == before.classes["river"].train - 1
    assert not is_current(project, "prototypes")
    assert is_current(project, "dataset")
    cluster(project)
    assert load_clustering(project).members[image_id].class_name == "forest"


def test_a_move_survives_running_the_dataset_again_and_going_back_leaves_nothing(
    project: Project,
) -> None:
    image_id = train_ids(project, "river")[0]
    curation.move_to_class(project, [image_id], "forest")
    record = project.record("dataset")
    assert record is not None
    dataset.run(project, DatasetConfig.from_dict(record["settings"]))
    assert load_index(project).by_id[image_id].class_name == "forest"
    assert load_index(project, corrected=False).by_id[image_id].class_name == "river"
    curation.move_to_class(project, [image_id], "river")
    assert read_labels(project) == {}
    assert is_current(project, "prototypes"), "the class is the collection's again"


def test_a_moved_or_excluded_image_is_chosen_no_more(project: Project) -> None:
    moved, excluded = members_beside(project, "river", 0)[0], members_beside(project, "river", 1)[0]
    curation.choose_prototype(project, moved)
    curation.choose_prototype(project, excluded)
    curation.move_to_class(project, [moved], "forest")
    curation.exclude(project, [excluded])
    assert not any(read_overrides(project).chosen.values())


def test_a_test_image_can_be_moved(project: Project) -> None:
    record = load_index(project).select("test", "river")[0]
    curation.move_to_class(project, [record.id], "forest")
    moved = load_index(project).by_id[record.id]
    assert (moved.class_name, moved.split) == ("forest", "test")


def test_moves_that_do_not_fit_the_data_set_are_reported(project: Project) -> None:
    labels = {train_ids(project, "river")[0]: "desert", "river/gone.png": "forest"}
    storage.write_json(project.path("dataset", "labels.json"), labels)
    texts = [e.message for e in cluster(project) if isinstance(e, Log) and e.level == "warning"]
    assert len(texts) == 2
    assert all(any(image_id in text for text in texts) for image_id in labels)
    assert load_index(project).by_id[next(iter(labels))].class_name == "river"


# ---- what is refused -----------------------------------------------------------------------


def test_what_cannot_be_done_is_refused_and_changes_nothing(project: Project) -> None:
    image_id = train_ids(project, "river")[0]
    test_id = load_index(project).select("test", "river")[0].id
    curation.exclude(project, [image_id])
    before = state(project)
    refusals = [
        (lambda: curation.choose_prototype(project, image_id), "excluded"),
        (lambda: curation.choose_prototype(project, test_id), "test image"),
        (lambda: curation.choose_prototype(project, "river/<b>.png"), "no such image"),
        (lambda: curation.exclude(project, [test_id]), "test image"),
        (lambda: curation.exclude(project, []), "no image is selected"),
        (lambda: curation.exclude(project, train_ids(project, "river")), "no train image left"),
        (lambda: curation.include(project, [test_id]), "none of these"),
        (lambda: curation.move_to_class(project, [image_id], "desert"), "no such class"),
        (lambda: curation.move_to_class(project, ["../x"], "forest"), "no such image"),
        (
            lambda: curation.move_to_class(project, train_ids(project, "river"), "forest"),
            "river: the class would have no train image left",
        ),
        (
            lambda: curation.move_to_class(
                project,
                [record.id for record in load_index(project).select("test", "river")],
                "forest",
            ),
            "no test image left",
        ),
    ]
    for refused, text in refusals:
        with pytest.raises(DPDError, match=text):
            refused()
    assert state(project) == before
    assert len(curation.decisions(project)) == 1


def test_a_class_emptied_by_hand_in_the_file_is_not_skipped(project: Project) -> None:
    path = project.path("prototypes", "overrides.json")
    storage.write_json(path, {"excluded": train_ids(project, "river")})
    with pytest.raises(DatasetError, match=r"river: all its training images"):
        cluster(project)


def test_choosing_needs_clusters(project: Project) -> None:
    image_id = train_ids(project, "river")[0]
    project.path("prototypes", "clusters.json").unlink()
    with pytest.raises(StageMissing, match="prototypes"):
        curation.choose_prototype(project, image_id)


@pytest.mark.parametrize("content", ["[]", "{", '{"river/1.png": 3}'])
def test_a_bad_file_of_labels_is_refused_by_name(project: Project, content: str) -> None:
    project.path("dataset", "labels.json").write_text(content)
    with pytest.raises(ProjectError, match=r"labels\.json"):
        load_index(project)


# ---- undo ----------------------------------------------------------------------------------


def test_decisions_are_undone_one_by_one_also_after_a_restart(project: Project) -> None:
    chosen, moved = members_beside(project, "river", 1)[0], members_beside(project, "river", 0)[0]
    states = [state(project)]
    for decide in (
        lambda: curation.choose_prototype(project, chosen),
        lambda: curation.move_to_class(project, [moved, chosen], "forest"),
        lambda: curation.exclude(project, [moved]),
    ):
        decide()
        states.append(state(project))
    assert [decision.action for decision in curation.decisions(project)] == [
        "choose",
        "move",
        "exclude",
    ]
    project = Project.open(project.root)
    for action, expected in zip(["exclude", "move", "choose"], states[-2::-1], strict=True):
        assert curation.undo(project).action == action
        assert state(project) == expected
    assert is_current(project, "prototypes")
    with pytest.raises(ProjectError, match="nothing to undo"):
        curation.undo(project)
    assert all(decision.undone for decision in curation.decisions(project))
    curation.exclude(project, [moved])
    assert curation.undo(project).number == 4


def test_undo_does_not_overwrite_what_was_changed_by_other_means(project: Project) -> None:
    image_id = train_ids(project, "river")[0]
    curation.exclude(project, [image_id])
    storage.write_json(project.path("prototypes", "overrides.json"), {"excluded": []})
    with pytest.raises(ProjectError, match="other means"):
        curation.undo(project)


def test_a_bad_log_is_refused_by_name(project: Project) -> None:
    project.path("prototypes", "decisions.jsonl").write_text('{"number": "x"}\n{"a": 1}\n')
    with pytest.raises(ProjectError, match=r"decisions\.jsonl"):
        curation.exclude(project, [train_ids(project, "river")[0]])


# ---- what a new clustering changed ---------------------------------------------------------


def test_a_first_clustering_has_nothing_to_compare_with(project: Project) -> None:
    changes = read_changes(project)
    assert changes is not None
    assert changes.first
    assert changes.classes == changes.choices == ()


def test_it_tells_which_prototypes_changed_and_what_became_of_choices(project: Project) -> None:
    before = load_prototypes(project)
    chosen, gone = members_beside(project, "river", 1)[0], before["forest"][0].id
    curation.choose_prototype(project, chosen)
    curation.exclude(project, [gone])
    cluster(project, alpha=0.5)
    after = load_prototypes(project)
    changes = read_changes(project)
    assert changes is not None
    assert not changes.first
    assert changes.settings == {"alpha": (1.0, 0.5)}
    by_class = {changed.class_name: changed for changed in changes.classes}
    for name, change in by_class.items():
        old, new = ({entry.id for entry in which[name]} for which in (before, after))
        assert set(change.kept) == old & new
        assert set(change.added) == new - old
        assert set(change.removed) == old - new
    assert chosen in by_class["river"].added
    assert (by_class["forest"].joined, by_class["forest"].left) == (0, 1)
    assert by_class["river"].agreement == 1.0, "the same images make the same clusters"
    assert [(choice.id, choice.kept, choice.cluster_id) for choice in changes.choices] == [
        (chosen, True, 1)
    ]


def test_a_choice_that_cannot_be_kept_has_a_reason(project: Project) -> None:
    first, second = (entry.id for entry in load_prototypes(project)["river"][:2])
    curation.choose_prototype(project, first)
    curation.choose_prototype(project, second)
    cluster(project, ipc=1)
    changes = read_changes(project)
    assert changes is not None
    assert [(choice.id, choice.kept) for choice in changes.choices] == [
        (first, True),
        (second, False),
    ]
    assert first in changes.choices[1].reason


def test_the_same_run_again_keeps_the_report(project: Project) -> None:
    cluster(project, ipc=2)
    path = project.path("prototypes", "changes.json")
    before = path.read_bytes()
    assert not json.loads(before)["first"]
    cluster(project, ipc=2)
    assert path.read_bytes() == before
    path.write_text("[]")
    with pytest.raises(ProjectError, match=r"changes\.json"):
        read_changes(project)
    cluster(project, ipc=2)
    assert read_changes(project) is not None
