"""Edits of single captions, undo, redo and giving back."""

import pytest

from dpd_core import storage
from dpd_core.captions.current import current_captions
from dpd_core.captions.edits import (
    edit,
    history,
    redo,
    reset,
    undo,
)
from dpd_core.captions.stage import run
from dpd_core.config import CaptionsConfig
from dpd_core.errors import CaptionError, StageMissing
from dpd_core.project import Project
from tests.support.caption_project import lines, make_project, texts


@pytest.fixture
def project(captioned):
    return captioned


def snapshot(project):
    content = storage.read_json(project.path("captions", "captions.json"))
    return {
        (name, entry["cluster_id"]): entry["caption"] for name, c in content.items() for entry in c
    }


def test_an_edit_is_on_record_and_in_the_snapshot(project):
    before = lines(project)
    caption = edit(project, "harbor", 1, " many  boats\n at a pier ")
    assert (caption.text, caption.author, caption.version) == ("many boats at a pier", "human", 2)
    assert caption.by_hand and caption.prototype_id == "harbor/1-1.png"
    assert current_captions(project)["harbor"][1] == caption
    assert lines(project)[:-1] == before, "earlier lines must never change"
    entry = lines(project)[-1]
    assert entry | {"time": ""} == {
        "id": 5,
        "time": "",
        "kind": "set",
        "author": "human",
        "source": "",
        "class": "harbor",
        "cluster_id": 1,
        "prototype": "harbor/1-1.png",
        "before": "A satellite image of harbor",
        "after": "many boats at a pier",
        "batch": 5,
        "of": 1,
    }
    assert snapshot(project) == texts(project)
    assert [entry.author for entry in history(project, "harbor", 1)] == ["template", "human"]


def test_the_snapshot_keeps_the_published_format(project):
    edit(project, "harbor", 0, "boats")
    published = storage.read_json(project.path("prototypes", "prototypes.json"))
    content = storage.read_json(project.path("captions", "captions.json"))
    assert content["harbor"][0] == published["harbor"][0] | {
        "caption": "boats",
        "caption_version": 2,
        "caption_author": "human",
    }


def test_writing_the_same_text_changes_nothing(project):
    count = len(lines(project))
    edit(project, "harbor", 0, "A satellite image  of harbor")
    assert len(lines(project)) == count


def test_a_caption_changed_meanwhile_is_not_overwritten(project):
    seen = current_captions(project)["harbor"][0].version
    edit(project, "harbor", 0, "theirs", expected_version=seen)
    with pytest.raises(CaptionError, match=r"changed meanwhile.*theirs"):
        edit(project, "harbor", 0, "mine", expected_version=seen)
    assert texts(project)["harbor", 0] == "theirs"


@pytest.mark.parametrize(
    ("arguments", "match"),
    [
        (("port", 0, "x"), "no such class.*airplane, harbor"),
        (("harbor", 7, "x"), "no cluster 7.*0, 1"),
        (("harbor", 0, " "), "harbor, cluster 0: the caption is empty"),
        (("harbor", 0, "x" * 2001), "2,001 characters"),
        (("harbor", 0, "x", "vlm"), "author"),
    ],
)
def test_a_wrong_edit_is_refused(project, arguments, match):
    count = len(lines(project))
    with pytest.raises(CaptionError, match=match):
        edit(project, *arguments)
    assert len(lines(project)) == count


def test_without_prototypes_there_is_nothing_to_edit(tmp_path):
    with pytest.raises(StageMissing, match="prototypes --project"):
        edit(Project.create(tmp_path / "new"), "harbor", 0, "boats")


def test_undo_and_redo_walk_through_what_people_did(project):
    first = texts(project)
    edit(project, "harbor", 0, "one")
    edit(project, "harbor", 1, "two")
    edit(project, "harbor", 0, "three")
    undo(project)
    assert texts(project)["harbor", 0] == "one"
    undo(project)
    undo(project)
    assert texts(project) == first
    assert current_captions(project)["harbor"][0].author == "template"
    with pytest.raises(CaptionError, match="nothing to undo"):
        undo(project)  # what the machine wrote is not undone
    assert [change.after for change in redo(project)] == ["one"]
    redo(project)
    redo(project)
    assert texts(project)["harbor", 0] == "three"
    assert current_captions(project)["harbor"][0].author == "human"
    with pytest.raises(CaptionError, match="nothing to do again"):
        redo(project)
    assert [line["kind"] for line in lines(project)[4:]] == ["set"] * 3 + ["undo"] * 3 + [
        "redo"
    ] * 3, "undoing only ever appends"


def test_a_new_edit_ends_what_could_be_done_again(project):
    edit(project, "harbor", 0, "one")
    undo(project)
    edit(project, "harbor", 1, "two")
    with pytest.raises(CaptionError, match="nothing to do again"):
        redo(project)
    undo(project)
    assert [change.after for change in redo(project)] == ["two"]


def test_undo_survives_a_restart_and_a_machine_run(project):
    edit(project, "harbor", 0, "by hand")
    undo(project)
    run(project, CaptionsConfig(mode="template", template="An aerial photo of {class}"))
    assert texts(project)["harbor", 0] == "An aerial photo of harbor"
    redo(Project.open(project.root))
    assert texts(project)["harbor", 0] == "by hand"
    undo(project)
    assert texts(project)["harbor", 0] == "An aerial photo of harbor", "the newest, not the oldest"


def test_a_first_caption_can_be_undone(tmp_path):
    project = make_project(tmp_path / "project", classes=("harbor",))
    edit(project, "harbor", 0, "boats")
    undo(project)
    assert current_captions(project) == {"harbor": {}}
    assert redo(project)[0].after == "boats"


def test_reset_gives_a_caption_back_to_the_machine(project):
    edit(project, "harbor", 0, "one")
    edit(project, "harbor", 0, "two")
    assert reset(project, "harbor", 0).author == "template"
    run(project, CaptionsConfig(mode="template", template="A photo of {class}"))
    assert texts(project)["harbor", 0] == "A photo of harbor"
    undo(project)
    assert (texts(project)["harbor", 0], current_captions(project)["harbor"][0].by_hand) == (
        "two",
        True,
    )
