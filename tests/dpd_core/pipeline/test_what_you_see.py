"""What people see is what is distilled: from an edited caption to the exported pair."""

import json
from pathlib import Path

import pytest

from dpd_core.captions.current import current_captions
from dpd_core.captions.edits import edit
from dpd_core.cli import main
from dpd_core.project import Project
from dpd_core.prototypes import curation
from dpd_core.prototypes.files import Slot, load_clustering, load_prototypes
from dpd_core.students import ridge
from dpd_core.synthesize.sets import DistilledSet

BEFORE = (
    "dataset --demo --classes forest,highway,river --max-per-class 16",
    "prototypes --ipc 2 --choice taught --no-project-map",
    "captions --mode template",
    "train --steps 2 --batch-size 4 --classifier-steps 4 --preview-steps 0",
)
MAKE = "synthesize --strategy dpd+ --steps 2 --candidates 3 --set-name mine"


def test_an_edited_caption_is_exported_with_an_image_of_the_prototype_shown(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(ridge, "NETWORKS", 1)
    monkeypatch.setattr(ridge, "NETWORK_STEPS", 8)
    where = ["--project", str(tmp_path / "demo")]

    def run(words: str) -> None:
        command, *rest = words.split()
        assert main([command, *where, *rest]) == 0, capsys.readouterr().err

    for words in BEFORE:
        run(words)
    project = Project.open(tmp_path / "demo")
    members, slot = load_clustering(project).members, Slot("highway", 1)
    shown = load_prototypes(project)[slot.class_name][slot.number].id
    by_hand = next(i for i, member in members.items() if member.slot == slot and i != shown)
    curation.choose_prototype(project, by_hand)
    run("prototypes")
    run("captions")
    seen = {
        prototype.slot: prototype.id
        for of_class in load_prototypes(project).values()
        for prototype in of_class
    }
    assert seen[slot] == by_hand
    edit(project, *slot, "A highway with two red boats")
    run(MAKE)
    run("export")

    for filled in DistilledSet.load(project, "mine").slots:
        assert filled.prototype_id == seen[filled.slot]
    lines = next(project.path("export").rglob("metadata.jsonl")).read_text().splitlines()
    exported = {(row["label"], row["slot"]): row for row in map(json.loads, lines)}
    assert exported.keys() == seen.keys()
    captions = current_captions(project)
    for place, row in exported.items():
        assert row["prototype_id"] == seen[place]
        assert row["caption"] == captions[place[0]][place[1]].text
    assert exported[slot]["caption"] == "A highway with two red boats"

    before = DistilledSet.load(project, "mine").find(slot)
    assert before.sampled == 3
    assert all(len(candidate.members) == 2 for candidate in before.candidates)
    run(f"resample --set-name mine --slots {slot}")
    again = DistilledSet.load(project, "mine").find(slot)
    assert (again.sampled, again.round, again.image.round) == (6, 1, 1)
    assert set(before.candidates) < set(again.candidates), "what was there can be taken again"
    assert again.score == max(c.score for c in again.candidates if c.round == 1)
