"""``verify``: what differs from what the project recorded is said file by file."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from dpd_core.cli import main
from dpd_core.config import EvaluateConfig, ExportConfig
from dpd_core.pipeline import jobs
from dpd_core.pipeline.verify import verify
from dpd_core.project import Project
from tests.support.distilled_project import complete_set, make_project

SET = "dpd-1"


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project with a distilled set as the synthesize stage leaves it, evaluated and exported."""
    root = tmp_path_factory.mktemp("verify")
    project = make_project(root)
    complete_set(project)
    config = EvaluateConfig(student_steps=1, seeds=1, distribution=False)
    jobs.run_stage(project, "evaluate", config)
    jobs.run_stage(project, "export", ExportConfig(adapter=False))
    return root


@pytest.fixture
def project(made: Path, tmp_path: Path) -> Project:
    shutil.copytree(made / "project", tmp_path / "project")
    return Project.open(tmp_path / "project")


def test_an_untouched_project_agrees_wherever_it_lies(project: Project) -> None:
    before = {path: path.read_bytes() for path in project.root.rglob("*") if path.is_file()}
    report = verify(project)
    assert report.differences == []
    assert report.checked["images"] == 30
    assert report.checked["distilled"] == 6 * 3
    assert report.checked["exports"] >= 8
    after = {path: path.read_bytes() for path in project.root.rglob("*") if path.is_file()}
    assert after == before, "nothing is written"


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def edit(path: Path, change: Callable[[dict], object]) -> None:
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))


DAMAGES: dict[str, tuple[Callable[[Path], object], str, str]] = {
    "a chosen image": (
        lambda p: flip(p / f"distilled/{SET}/forest/000.png"),
        f"distilled/{SET}/forest/000.png",
        "changed",
    ),
    "a candidate": (
        lambda p: (p / f"distilled/{SET}/candidates/river/001-0.png").unlink(),
        f"distilled/{SET}/candidates/river/001-0.png",
        "missing",
    ),
    "a recipe": (
        lambda p: edit(p / f"distilled/{SET}/recipe.json", lambda c: c["recipe"].update(seed=1)),
        f"distilled/{SET}/recipe.json",
        "changed",
    ),
    "a manifest": (
        lambda p: (p / f"distilled/{SET}/manifest.json").write_text("{"),
        f"distilled/{SET}/manifest.json",
        "damaged",
    ),
    "a choice": (
        lambda p: edit(
            p / f"distilled/{SET}/manifest.json", lambda c: c["slots"][0].update(chosen=9)
        ),
        f"distilled/{SET}/manifest.json",
        "damaged",
    ),
    "a file outside": (
        lambda p: edit(
            p / f"distilled/{SET}/manifest.json",
            lambda c: c["slots"][0].update(file="../../project.json"),
        ),
        f"distilled/{SET}/manifest.json",
        "damaged",
    ),
    "a report": (lambda p: flip(p / f"reports/{SET}.json"), f"reports/{SET}.json", "changed"),
    "an exported image": (
        lambda p: flip(p / f"export/{SET}/train/river/000.png"),
        f"export/{SET}/train/river/000.png",
        "changed",
    ),
    "an archive": (lambda p: flip(p / f"export/{SET}.zip"), f"export/{SET}.zip", "changed"),
    "a record": (
        lambda p: edit(
            p / "project.json", lambda c: c["stages"]["export"]["settings"].update(title="x")
        ),
        "project.json",
        "changed",
    ),
    "a folder in place of a file": (
        lambda p: (p / f"reports/{SET}.json").unlink() or (p / f"reports/{SET}.json").mkdir(),
        f"reports/{SET}.json",
        "damaged",
    ),
}


@pytest.mark.parametrize("name", DAMAGES)
def test_damage_is_named_by_file(
    project: Project, name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    damage, file, fault = DAMAGES[name]
    damage(project.root)
    found = verify(project).differences
    assert (file, fault) in [(difference.file, difference.fault) for difference in found]
    assert all(difference.what and difference.fix for difference in found)
    assert len({difference.file for difference in found}) == 1, "and nothing else is accused"
    assert main(["verify", "--project", str(project.root)]) == 1
    assert file in capsys.readouterr().out


def test_a_changed_image_of_the_data_set_is_found(tmp_path: Path) -> None:
    project = make_project(tmp_path)
    flip(tmp_path / "source" / "train" / "river" / "02.png")
    (tmp_path / "source" / "test" / "desert" / "01.png").unlink()
    found = {
        (Path(difference.file).name, difference.fault) for difference in verify(project).differences
    }
    assert found == {("02.png", "changed"), ("01.png", "missing")}
    shutil.move(tmp_path / "source", tmp_path / "gone")
    assert [difference.fault for difference in verify(project).differences] == ["damaged"]


def test_the_command_says_what_it_checked(
    project: Project, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["verify", "--project", str(project.root), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["ok"]
    assert main(["verify", "--project", str(project.root / "none")]) == 1
    assert "there is no project" in capsys.readouterr().err
