"""Jobs: a stage run, and what it leaves."""

import os
from pathlib import Path

import pytest

from dpd_core.config import DatasetConfig
from dpd_core.errors import DPDError, JobStopped
from dpd_core.events import Event, Log
from dpd_core.pipeline import jobs
from dpd_core.pipeline.staleness import is_current
from dpd_core.project import Project


def test_run_stage_tidies_up_first(tmp_path: Path) -> None:
    project = Project.create(tmp_path / "p")
    part = project.path(".part-abcdefgh.json")
    part.write_text("x")
    os.utime(part, (0, 0))
    with pytest.raises(DPDError):
        jobs.run_stage(project, "dataset", DatasetConfig())
    assert not part.exists()


def test_run_stage_asked_to_stop_keeps_the_project_usable(tmp_path: Path) -> None:
    project = Project.create(tmp_path / "p")
    started: list[jobs.Job] = []

    def stop_at_once(event: Event) -> None:
        started[0].ask("stop")

    config = DatasetConfig(demo=True, demo_per_class=4)
    with pytest.raises(JobStopped):
        jobs.run_stage(project, "dataset", config, listen=stop_at_once, on_start=started.append)
    assert started[0].status == "stopped"
    assert project.record("dataset") is None
    jobs.run_stage(project, "dataset", config)
    assert is_current(project, "dataset", config)


def test_run_stage_says_a_message_for_people_in_the_log(tmp_path: Path) -> None:
    (tmp_path / "data" / "a").mkdir(parents=True)
    (tmp_path / "data" / "b").mkdir()
    from PIL import Image

    for name in "ab":
        for number in range(4):
            Image.new("RGB", (8, 8), (number, 9 * number, ord(name))).save(
                tmp_path / "data" / name / f"{number}.png"
            )
    (tmp_path / "data" / "a" / "broken.png").write_bytes(b"no image")
    project = Project.create(tmp_path / "p")
    events: list[Event] = []
    jobs.run_stage(
        project, "dataset", DatasetConfig(data=str(tmp_path / "data")), listen=events.append
    )
    assert project.result("dataset")["refused"] == 1
    assert any(isinstance(event, Log) and "broken.png" in event.message for event in events)
