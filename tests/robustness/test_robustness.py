"""Faults and bad input, by the commands that print the figures in docs/trust.md."""

from pathlib import Path

import pytest

from tests.robustness import bad_input, crash_driver
from tests.robustness.bad_files import archive_cases, folder_cases, run_images
from tests.robustness.bad_projects import outside_cases, project_cases, template
from tests.robustness.cases import run


def test_malformed_images_are_used_or_listed_with_a_reason(tmp_path: Path) -> None:
    outcomes = run_images(tmp_path)
    assert outcomes.faults == []
    assert outcomes.total > 500
    assert outcomes.listed["not an image"] == 36
    assert outcomes.listed["huge or no size"] == 30


def test_malformed_folders(tmp_path: Path) -> None:
    outcomes = run(folder_cases(), tmp_path)
    assert outcomes.faults == []
    assert outcomes.total > 40


@pytest.mark.slow
def test_malformed_archives(tmp_path: Path) -> None:
    outcomes = run(archive_cases(), tmp_path)
    assert outcomes.faults == []
    assert outcomes.total > 200
    assert not Path("/tmp/dpd-evil.png").exists()


@pytest.mark.slow
def test_malformed_files_of_a_project_and_from_people(tmp_path: Path) -> None:
    for name in ("template", "project", "outside"):
        (tmp_path / name).mkdir()
    root = template(tmp_path / "template")
    inside = run(project_cases(root), tmp_path / "project")
    outside = run(outside_cases(root), tmp_path / "outside")
    assert inside.faults + outside.faults == []
    assert inside.total + outside.total > 1000
    assert "project file" in bad_input.table(inside)


@pytest.mark.slow
def test_killed_stages_lose_nothing_and_go_on_to_the_same_result(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    status = crash_driver.main(["--kills", "6", "--seed", "3", "--work", str(tmp_path / "w")])
    assert status == 0, capsys.readouterr().out
