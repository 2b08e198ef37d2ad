"""Dividing into train and test."""

import shutil
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dpd_core.config import ProjectConfig
from dpd_core.dataset import splits
from dpd_core.errors import ConfigError
from dpd_core.project import Project
from tests.support.image_folders import prepare


def entries(counts: dict[str, int]) -> list[splits.Entry]:
    return [
        splits.Entry(f"{name}/{number}", name, f"{name}-{number}")
        for name, count in counts.items()
        for number in range(count)
    ]


@settings(max_examples=60, deadline=None)
@given(st.integers(2, 30), st.integers(2, 30), st.floats(0.01, 0.9), st.integers(0, 5))
def test_split_is_stratified_and_stable(first: int, second: int, share: float, seed: int) -> None:
    data = entries({"a": first, "b": second})
    sides = splits.divide(data, seed=seed, fraction=share)
    for name, count in (("a", first), ("b", second)):
        tested = sum(sides[entry.id] == "test" for entry in data if entry.class_name == name)
        assert 1 <= tested <= count - 1
        assert abs(tested - share * count) <= 1
    assert splits.divide(data[::-1], seed=seed, fraction=share) == sides
    alone = splits.divide(data[:first], seed=seed, fraction=share)
    assert alone == {key: side for key, side in sides.items() if key.startswith("a/")}


def test_split_depends_on_the_seed_and_not_on_file_names() -> None:
    data = entries({"a": 20})
    sides = splits.divide(data, seed=1, fraction=0.5)
    renamed = [splits.Entry(f"a/new-{entry.id[2:]}", "a", entry.sha256) for entry in data]
    again = splits.divide(renamed, seed=1, fraction=0.5)
    assert [again[entry.id] for entry in renamed] == [sides[entry.id] for entry in data]
    assert splits.divide(data, seed=2, fraction=0.5) != sides


def test_without_a_test_share_everything_is_for_training() -> None:
    assert set(splits.divide(entries({"a": 3}), seed=0, fraction=0.0).values()) == {"train"}


def test_validation_leaves_the_test_images_out(tmp_path: Path, folder: Path) -> None:
    tested = prepare(Project.create(tmp_path / "one"), folder)
    chosen = prepare(Project.create(tmp_path / "two"), folder, validation=True)
    train = {record.id for record in tested.select("train")}
    assert {record.id for record in chosen.images} == train
    assert chosen.select("test"), "a part of the training images"
    assert all(info.test for info in chosen.classes.values())
    with pytest.raises(ConfigError, match="nothing to validate on"):
        prepare(Project.create(tmp_path / "three"), folder, validation=True, test_fraction=0.0)


def test_copies_stay_on_one_side(project: Project, folder: Path) -> None:
    for number in range(8):
        shutil.copy(folder / "forest" / f"{number:02d}.png", folder / "forest" / f"c{number}.png")
    # the same image in two classes: one of the labels is wrong
    shutil.copy(folder / "forest" / "03.png", folder / "parkinglot" / "x.png")
    index = prepare(project, folder, test_fraction=0.5)
    assert len(index.duplicates) == 8
    assert ["forest/03.png", "forest/c3.png", "parkinglot/x.png"] in index.duplicates
    side = {record.id: record.split for record in index.images}
    assert all(len({side[name] for name in group}) == 1 for group in index.duplicates)
    assert side["parkinglot/x.png"] == "train"


def test_the_split_is_the_same_in_every_project(tmp_path: Path, folder: Path) -> None:
    sides = []
    for name in ("one", "two"):
        index = prepare(Project.create(tmp_path / name), folder)
        sides.append({record.id: record.split for record in index.images})
    assert sides[0] == sides[1]
    other = Project.create(tmp_path / "three", config=ProjectConfig(seed=7))
    index = prepare(other, folder)
    assert {record.id: record.split for record in index.images} != sides[0]
