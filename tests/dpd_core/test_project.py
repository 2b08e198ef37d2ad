"""The project folder: honest records, one writer at a time."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from dpd_core.config import (
    DatasetConfig,
    ProjectConfig,
)
from dpd_core.errors import ProjectError, StageMissing
from dpd_core.project import Project
from tests.support.finished_stage import finish


def test_path_cannot_leave_the_project(tmp_path: Path) -> None:
    project = Project.create(tmp_path / "p")
    with pytest.raises(ProjectError, match="leads out"):
        project.path("..", "elsewhere")
    (project.root / "link").symlink_to(tmp_path)
    with pytest.raises(ProjectError, match="leads out"):
        project.path("link", "x")


def test_result_of_a_missing_stage_names_the_command(tmp_path: Path) -> None:
    project = Project.create(tmp_path / "p")
    with pytest.raises(StageMissing, match="python -m dpd_core dataset"):
        project.result("dataset")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "not readable as JSON"),
        ("[]", "not a project file"),
        ('{"schema": 99, "stages": {}}', "schema 99"),
        ('{"schema": 1, "stages": {"../x": {}}, "settings": {}}', "not a project file"),
    ],
)
def test_open_refuses_a_damaged_project_with_a_remedy(
    tmp_path: Path, text: str, message: str
) -> None:
    (tmp_path / "project.json").write_text(text)
    with pytest.raises(ProjectError, match=message) as caught:
        Project.open(tmp_path)
    assert caught.value.fix


def test_lock_tells_a_second_process(tmp_path: Path) -> None:
    project = Project.create(tmp_path / "p")
    other = (
        "import sys; from dpd_core.project import Project\n"
        "with Project.open(sys.argv[1]).lock(): pass"
    )
    with project.lock():
        result = subprocess.run(
            [sys.executable, "-c", other, str(project.root)], capture_output=True, text=True
        )
    assert "another process is working on this project" in result.stderr
    assert subprocess.run([sys.executable, "-c", other, str(project.root)]).returncode == 0


def test_create_in_a_read_only_folder_is_a_clear_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*args: object, **options: object) -> None:
        raise OSError(30, "Read-only file system")

    monkeypatch.setattr("tempfile.mkstemp", refuse)
    with pytest.raises(ProjectError, match="read-only"):
        Project.create(tmp_path / "p")


def test_create_writes_a_manifest_that_people_can_read(tmp_path: Path) -> None:
    project = Project.create(tmp_path / "p", config=ProjectConfig(seed=4))
    manifest = json.loads(project.manifest_path.read_text())
    assert manifest["settings"]["seed"] == 4
    assert project.config.seed == 4


def test_finish_makes_the_same_id_whatever_a_run_had_to_do(tmp_path: Path) -> None:
    """An interrupted captions stage finds its texts written; they are the same texts."""
    project = Project.create(tmp_path / "p")
    first = finish(project, "dataset", DatasetConfig(), {"digest": "1", "changed": 6})
    assert finish(project, "dataset", DatasetConfig(), {"digest": "1", "changed": 0}) == first
