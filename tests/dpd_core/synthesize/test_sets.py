"""The records of a set: what is written is read again, and what is damaged is refused."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dpd_core import storage
from dpd_core.errors import ProjectError
from dpd_core.project import Project
from dpd_core.prototypes.files import Slot
from dpd_core.synthesize.records import Candidate, PlannedSlot, Recipe, SlotRecord, to_json
from dpd_core.synthesize.sets import (
    DistilledSet,
    begun_sets,
    claim,
    filled_slots,
    is_filled,
    is_finished,
    list_sets,
    put_in_place,
    read_manifest,
    read_recipe,
    read_slot,
    record_path,
    save_candidates,
    set_folder,
    slot_file,
    take_over,
    write_manifest,
)
from tests.support.distilled_project import complete_set, make_project

SLOT = Slot("a/b: *c*", 3)
RECIPE = Recipe(
    "model", None, "key", "key", 0, {"cfg": 1.0}, {"steps": 3}, (PlannedSlot(*SLOT, "x.png", "y"),)
)


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Project:
    made = make_project(tmp_path_factory.mktemp("sets"))
    complete_set(made)
    return made


def record(slot: Slot = SLOT, count: int = 2) -> SlotRecord:
    candidates = tuple(Candidate(k, 2**62 + k, -0.5 * k, "forest") for k in range(count))
    return SlotRecord(
        *slot, slot_file(slot), 4, "x.png", "y", 2, candidates, chosen=1, chosen_by="hand"
    )


def fill(root: Path, made: SlotRecord) -> SlotRecord:
    images = np.random.default_rng(0).integers(0, 256, (len(made.candidates), 4, 4, 3), np.uint8)
    saved = save_candidates(root, made, images)
    put_in_place(root, saved)
    return saved


def test_a_slot_is_read_as_it_was_written(tmp_path: Path) -> None:
    assert not is_filled(tmp_path, SLOT)
    saved = fill(tmp_path, record())
    assert is_filled(tmp_path, SLOT)
    assert read_slot(tmp_path, SLOT) == saved == filled_slots(tmp_path)[0]
    assert storage.file_digest(tmp_path / saved.file) == saved.image.sha256
    assert len({candidate.sha256 for candidate in saved.candidates}) == 2


def test_save_candidates_leaves_the_earlier_ones(tmp_path: Path) -> None:
    saved = fill(tmp_path, record())
    more = replace(saved, candidates=(*saved.candidates, Candidate(2, 1, 0.0, "forest")))
    again = save_candidates(tmp_path, more, np.zeros((1, 4, 4, 3), np.uint8), first=2)
    assert again.candidates[:2] == saved.candidates
    assert again.candidates[2].sha256


def test_take_over_copies_all_candidates(tmp_path: Path) -> None:
    saved = fill(tmp_path / "one", record())
    take_over(tmp_path / "two", tmp_path / "one", replace(saved, from_set="one"))
    taken = read_slot(tmp_path / "two", SLOT)
    assert (taken.from_set, taken.candidates) == ("one", saved.candidates)
    for candidate in taken.candidates:
        file = tmp_path / "two" / taken.candidate_file(candidate)
        assert storage.file_digest(file) == candidate.sha256


def test_a_manifest_is_read_as_it_was_written(project: Project, tmp_path: Path) -> None:
    manifest = DistilledSet.load(project).manifest
    write_manifest(tmp_path, manifest)
    assert is_finished(tmp_path)
    assert read_manifest(tmp_path) == manifest
    assert [record.slot for record in manifest.slots] == sorted(r.slot for r in manifest.slots)


def test_claim_refuses_another_recipe(tmp_path: Path) -> None:
    claim(tmp_path, "mine", RECIPE)
    claim(tmp_path, "mine", RECIPE)
    assert read_recipe(tmp_path) == RECIPE
    with pytest.raises(ProjectError, match="other settings"):
        claim(tmp_path, "mine", replace(RECIPE, seed=1))


def test_read_recipe_knows_one_that_was_changed(tmp_path: Path) -> None:
    claim(tmp_path, "mine", RECIPE)
    content = storage.read_json(tmp_path / "recipe.json")
    content["recipe"]["seed"] = 7
    storage.write_json(tmp_path / "recipe.json", content)
    with pytest.raises(ProjectError, match="does not fit its identity"):
        read_recipe(tmp_path)


def test_sets_are_listed_from_their_beginning(project: Project) -> None:
    claim(set_folder(project, "begun"), "begun", RECIPE)
    assert list_sets(project) == ["dpd-1"]
    assert set(begun_sets(project)) == {"begun", "dpd-1"}


DAMAGES: dict[str, dict[str, Any]] = {
    "a truth value for a number": {"slot": True},
    "a fraction for a number": {"slot": 1.5},
    "a negative number": {"slot": -1},
    "no class": {"class": None},
    "no candidates": {"candidates": []},
    "a candidate that is none": {"candidates": [3]},
    "a choice of nothing": {"chosen": 9},
    "a file in another folder": {"file": "../../project.json"},
    "a file in no class folder": {"file": "000.png"},
    "an absolute file": {"file": "/000.png"},
    "a file on a drive": {"file": "c:/000.png"},
    "a file with a NUL": {"file": "forest/0\0.png"},
    "a file that is no image": {"file": "forest/000.json"},
    "a chooser nobody knows": {"chosen_by": "chance"},
    "two candidates of one index": {
        "candidates": [{"index": 0, "seed": 1, "score": 1, "predicted": "a"}] * 2
    },
    "a score without end": {
        "chosen": 0,
        "candidates": [{"index": 0, "seed": 1, "score": float("inf"), "predicted": "a"}],
    },
    "a seed that is too large": {
        "chosen": 0,
        "candidates": [{"index": 0, "seed": 2**64, "score": 1.0, "predicted": "a"}],
    },
}


@pytest.mark.parametrize("name", DAMAGES)
def test_read_slot_refuses_what_is_damaged(name: str, tmp_path: Path) -> None:
    path = record_path(tmp_path, SLOT)
    content = to_json(record())
    storage.write_json(path, content)
    assert read_slot(tmp_path, SLOT).slot == SLOT
    text = json.dumps({**content, **DAMAGES[name]}).replace("Infinity", "1e999")
    path.write_text(text)
    with pytest.raises(ProjectError, match="damaged") as caught:
        read_slot(tmp_path, SLOT)
    assert str(path) in str(caught.value)


def test_read_slot_refuses_a_folder_that_leads_out(tmp_path: Path) -> None:
    root = tmp_path / "set"
    saved = fill(root, record())
    folder = (root / saved.file).parent
    folder.rename(tmp_path / "outside")
    folder.symlink_to(tmp_path / "outside", target_is_directory=True)
    with pytest.raises(ProjectError, match="outside the set"):
        read_slot(root, SLOT)


@pytest.mark.parametrize("name", ["../../x", "CON", "<img src=x onerror=alert(1)>", "a/b"])
def test_slot_file_stays_inside_the_set_for_any_class_name(name: str) -> None:
    path = Path(slot_file(Slot(name, 0)))
    assert not path.is_absolute()
    assert ".." not in path.parts
    assert len(path.parts) == 2
