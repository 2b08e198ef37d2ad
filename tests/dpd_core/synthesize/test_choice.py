"""The set is chosen together, among the slots' own candidates, and what is not kept goes."""

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from dpd_core.config import ProjectConfig
from dpd_core.events import ignore
from dpd_core.hardware import choose_hardware
from dpd_core.project import Project
from dpd_core.prototypes.files import Slot
from dpd_core.students import ridge
from dpd_core.synthesize import choice
from dpd_core.synthesize.records import Candidate, SlotRecord
from dpd_core.synthesize.sets import put_in_place, read_slot, save_candidates, slot_file
from tests.support.distilled_project import CLASSES, make_project

CPU = choose_hardware(ProjectConfig(device="cpu", dtype="float32"))
POOL = 4


@pytest.fixture(scope="module", autouse=True)
def few_steps() -> object:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ridge, "NETWORKS", 1)
        patch.setattr(ridge, "NETWORK_STEPS", 8)
        patch.setattr(choice, "KEPT", 2)
        yield


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Project:
    """A project of plain colours, and a pool in which candidate 2 alone has the class's colour."""
    project = make_project(tmp_path_factory.mktemp("pool"))
    root, draws = project.path("distilled", "pool"), np.random.default_rng(0)
    for class_name, colour in CLASSES.items():
        for number in range(2):
            images = draws.integers(0, 256, (POOL, 32, 32, 3), dtype=np.uint8)
            shade = np.asarray(colour, dtype=float) + draws.normal(0, 6, (32, 32, 3))
            images[2] = shade.clip(0, 255)
            slot = Slot(class_name, number)
            record = SlotRecord(
                class_name,
                number,
                slot_file(slot),
                32,
                f"{class_name}/00.png",
                "a text",
                1,
                tuple(Candidate(k, k, 0.0, class_name) for k in range(POOL)),
                chosen=0,
            )
            put_in_place(root, save_candidates(root, record, images))
    return project


@pytest.fixture
def pool(whole: Project, tmp_path: Path) -> tuple[Project, Path, list[SlotRecord]]:
    shutil.copytree(whole.root, tmp_path / "project")
    project = Project.open(tmp_path / "project")
    root = project.path("distilled", "pool")
    slots = [Slot(name, number) for name in CLASSES for number in range(2)]
    return project, root, [read_slot(root, slot) for slot in slots]


def choose(pool: tuple[Project, Path, list[SlotRecord]]) -> list[SlotRecord]:
    project, root, records = pool
    return choice.choose_set(project, root, records, CPU, ignore, stage="synthesize")


def test_choose_set_takes_what_teaches_and_keeps_the_best(pool) -> None:
    _, root, before = pool
    records = choose(pool)
    taught = {record.class_name for record in records if record.image.index == 2}
    assert taught == set(CLASSES), "each class has an image of its colour"
    for record, old in zip(records, before, strict=True):
        assert len(record.candidates) == 2
        assert (record.sampled, record.refused) == (POOL, 0)
        assert record.score == max(candidate.score for candidate in record.candidates)
        assert read_slot(root, record.slot) == record
        there = {c.index for c in old.candidates if (root / record.candidate_file(c)).exists()}
        assert there == {candidate.index for candidate in record.candidates}
        chosen = (root / record.candidate_file(record.image)).read_bytes()
        assert (root / record.file).read_bytes() == chosen
    assert choose((pool[0], root, records)) == records, "done twice it is the same"


def test_choose_set_goes_on_where_it_was_killed(pool, monkeypatch: pytest.MonkeyPatch) -> None:
    project, root, records = pool
    left = 3

    def killed(*arguments: object) -> None:
        nonlocal left
        left -= 1
        if left < 0:
            raise KeyboardInterrupt
        put_in_place(*arguments)  # type: ignore[arg-type]

    with monkeypatch.context() as patch:
        patch.setattr(choice, "put_in_place", killed)
        with pytest.raises(KeyboardInterrupt):
            choose(pool)
    again = [read_slot(root, record.slot) for record in records]
    assert {record.sampled for record in again} == {0, POOL}
    settled = choose((project, root, again))
    assert {record.sampled for record in settled} == {POOL}
    assert all(len(record.candidates) == 2 for record in settled)


def test_refused_candidates_and_slots_settled_by_hand_have_no_part(pool) -> None:
    project, root, records = pool
    first = replace(
        records[0],
        candidates=tuple(replace(c, refused=c.index == 2) for c in records[0].candidates),
    )
    found = choose((project, root, [first, replace(records[1], pinned=True), *records[2:]]))
    assert found[0].image.index != 2
    assert found[0].refused == 1
    assert found[1].image.index == 0
    assert len(found[1].candidates) == POOL


def test_pick_leaves_the_other_slots_as_they_stand(pool) -> None:
    project, root, records = pool
    slot = records[3].slot
    picked = choice.pick(project, root, records, {slot: [1, 2, 3]}, CPU, ignore, stage="resample")
    assert picked.keys() == {slot}
    assert picked[slot].scores.keys() == {1, 2, 3}
    assert picked[slot].scores[picked[slot].chosen] == max(picked[slot].scores.values()) > 0


def test_the_same_pool_gives_the_same_set(pool) -> None:
    project, root, records = pool
    given, taken = (
        choice.pick(
            project,
            root,
            records,
            {record.slot: range(POOL) for record in records},
            CPU,
            ignore,
            stage="synthesize",
        )
        for _ in range(2)
    )
    assert given == taken


def test_a_missing_image_is_named(pool) -> None:
    _, root, records = pool
    (root / records[0].candidate_file(records[0].candidates[3])).unlink()
    with pytest.raises(Exception, match="an image of the set is missing"):
        choose(pool)
