"""The project folder: whole files, honest records, one writer at a time."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from dpd_core import storage
from dpd_core.config import DatasetConfig, ProjectConfig, PrototypesConfig
from dpd_core.errors import ProjectError, StageMissing
from dpd_core.project import Project


def test_an_interrupted_write_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "value.json"
    storage.write_json(path, {"a": 1})
    with pytest.raises(RuntimeError), storage.atomic_path(path) as temporary:
        temporary.write_text("half")
        raise RuntimeError
    assert storage.read_json(path) == {"a": 1}
    assert list(tmp_path.iterdir()) == [path]


def test_a_folder_is_replaced_as_a_whole(tmp_path: Path) -> None:
    folder = tmp_path / "set"
    for number in (1, 2):
        with storage.atomic_folder(folder) as temporary:
            (temporary / f"{number}.txt").write_text("x")
    assert [path.name for path in folder.iterdir()] == ["2.txt"]
    assert list(tmp_path.iterdir()) == [folder]


def test_a_torn_last_line_is_left_out_and_does_not_spoil_the_next(tmp_path: Path) -> None:
    path = tmp_path / "log.jsonl"
    storage.append_json_line(path, {"n": 1})
    with path.open("ab") as file:
        file.write(b'{"n": 2, "te')
    assert storage.read_json_lines(path) == [{"n": 1}]
    storage.append_json_line(path, {"n": 3})
    assert storage.read_json_lines(path) == [{"n": 1}, {"n": 3}]


@pytest.mark.parametrize("name", ["forest", "dense residential", "AnnualCrop", "a-b_c"])
def test_harmless_names_stay(name: str) -> None:
    assert storage.safe_name(name) == name


@pytest.mark.parametrize(
    "name",
    ["../x", "CON", "a/b", "", ".", "..", "<img src=x>", "森林", "x" * 300, "a\x00b", "lpt1"],
)
def test_harmful_names_become_one_plain_unique_part(name: str) -> None:
    safe = storage.safe_name(name)
    assert safe != name
    assert Path(safe).name == safe
    assert len(safe) < 100
    assert safe.isascii()
    assert safe != storage.safe_name(name + "!")


def test_paths_cannot_leave_the_project(tmp_path: Path) -> None:
    project = Project.create(tmp_path / "p")
    with pytest.raises(ProjectError, match="leads out"):
        project.path("..", "elsewhere")
    (project.root / "link").symlink_to(tmp_path)
    with pytest.raises(ProjectError, match="leads out"):
        project.path("link", "x")


def test_a_stage_is_current_until_it_or_something_before_it_changes(tmp_path: Path) -> None:
    project = Project.create(tmp_path / "p")
    dataset, prototypes = DatasetConfig(data="x"), PrototypesConfig()
    project.finish("dataset", dataset, {"digest": "1"})
    project.finish("prototypes", prototypes, {"prototypes": 3})
    assert project.is_current("prototypes", prototypes)
    assert not project.is_current("prototypes", prototypes.replace(ipc=7))
    project.finish("dataset", dataset, {"digest": "2"})
    assert project.is_current("dataset", dataset)
    assert not project.is_current("prototypes", prototypes), "made from the earlier data set"
    project.finish("prototypes", prototypes, {"prototypes": 3})
    assert project.is_current("prototypes")
    project.configure(ProjectConfig(seed=1))
    assert not project.is_current("prototypes")


def test_a_missing_stage_names_the_command(tmp_path: Path) -> None:
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
def test_a_damaged_project_is_refused_with_a_remedy(
    tmp_path: Path, text: str, message: str
) -> None:
    (tmp_path / "project.json").write_text(text)
    with pytest.raises(ProjectError, match=message) as caught:
        Project.open(tmp_path)
    assert caught.value.fix


def test_a_second_process_is_told(tmp_path: Path) -> None:
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


def test_a_read_only_folder_is_a_clear_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*args: object, **options: object) -> None:
        raise OSError(30, "Read-only file system")

    monkeypatch.setattr("tempfile.mkstemp", refuse)
    with pytest.raises(ProjectError, match="read-only"):
        Project.create(tmp_path / "p")


def test_project_json_is_readable_by_people(tmp_path: Path) -> None:
    project = Project.create(tmp_path / "p", config=ProjectConfig(seed=4))
    manifest = json.loads(project.manifest_path.read_text())
    assert manifest["settings"]["seed"] == 4
    assert project.config.seed == 4
