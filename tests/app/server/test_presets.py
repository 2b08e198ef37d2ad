"""Saved presets: for all projects of a visitor, by stage and name."""

from pathlib import Path

import pytest

from app.server import presets
from dpd_core import storage
from dpd_core.config import TrainConfig
from dpd_core.errors import ConfigError
from dpd_core.project import Project


@pytest.fixture
def project(tmp_path: Path) -> Project:
    return Project.create(tmp_path / "one")


def test_a_preset_is_there_in_another_project_until_it_is_deleted(
    project: Project, tmp_path: Path
) -> None:
    config = TrainConfig(steps=77, rank=3)
    assert presets.save(project, "train", "  my   best ", config) == "my best"
    other = Project.create(tmp_path / "two")
    assert presets.names(other, "train") == ["my best"]
    assert presets.names(other, "synthesize") == []
    assert presets.load(other, "train", "my best") == config
    presets.save(other, "train", "my best", config.replace(steps=5))
    assert presets.load(project, "train", "my best").steps == 5
    presets.delete(project, "train", "my best")
    assert presets.names(other, "train") == []
    presets.delete(project, "train", "my best")


@pytest.mark.parametrize("name", ["", "   ", "x" * 61, "a\x00b", None])
def test_a_name_that_is_none_is_refused(project: Project, name: object) -> None:
    with pytest.raises(ConfigError, match="needs a name"):
        presets.save(project, "train", name, TrainConfig())


def test_there_is_an_end_to_them(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(presets, "MOST", 2)
    for name in "ab":
        presets.save(project, "train", name, TrainConfig())
    presets.save(project, "train", "a", TrainConfig(steps=9))
    with pytest.raises(ConfigError, match="2 presets already"):
        presets.save(project, "train", "c", TrainConfig())


@pytest.mark.parametrize("name", ["no", None, 3, ["a"]])
def test_only_a_known_one_is_loaded(project: Project, name: object) -> None:
    with pytest.raises(ConfigError, match="no such preset"):
        presets.load(project, "train", name)


def test_what_somebody_wrote_into_the_file_is_checked(project: Project) -> None:
    path = project.root.parent / presets.FILE
    storage.write_json(path, {"train": {"bad": {"steps": -1}, "worse": 3}, "x": []})
    assert presets.names(project, "train") == ["bad"]
    with pytest.raises(ConfigError):
        presets.load(project, "train", "bad")
    storage.write_json(path, [])
    with pytest.raises(ConfigError, match="damaged"):
        presets.names(project, "train")
