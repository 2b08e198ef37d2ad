"""Several runs of a project with different settings wait one behind the other."""

from pathlib import Path

import pytest

from app.server import jobs
from app.server.jobs import JobQueue
from app.server.settings import Settings
from app.ui import planned
from dpd_core.config import DatasetConfig, SynthesizeConfig, TrainConfig
from dpd_core.errors import ProjectError
from dpd_core.project import Project


@pytest.fixture
def queue(tmp_path: Path) -> JobQueue:
    """Nothing on it is ever started."""
    return JobQueue(Settings(home=tmp_path / "home", heavy_jobs=0, min_free=0))


@pytest.fixture
def project(tmp_path: Path) -> Project:
    return Project.create(tmp_path / "project")


def test_runs_wait_in_order_and_one_can_be_taken_back(queue: JobQueue, project: Project) -> None:
    first = queue.start(project, "train", TrainConfig(steps=10), behind=True)
    second = queue.start(project, "train", TrainConfig(steps=20, rank=2), behind=True)
    third = queue.start(project, "synthesize", SynthesizeConfig(), behind=True)
    assert queue.current(project).id == first
    assert queue.of_stages(project, "train").id == first
    assert queue.of_stages(project, "synthesize").id == third
    assert [job.id for job in queue.planned(project)] == [second, third]
    rows = planned.rows(queue.planned(project), queue.current(project))
    assert rows[0]["settings"] == "steps 20, rank 2"
    assert rows[1]["settings"] == "the same settings"
    before = queue.planned_ids(project)
    queue.stop(project, second)
    assert [job.id for job in queue.planned(project)] == [third]
    assert queue.planned_ids(project) != before
    queue.stop(project, first)
    assert queue.current(project).id == third, "the newest that has ended is not what waits"


def test_other_stages_and_the_impatient_do_not_wait(queue: JobQueue, project: Project) -> None:
    queue.start(project, "train", TrainConfig())
    with pytest.raises(ProjectError, match="the stage 'train' of this project is queued"):
        queue.start(project, "train", TrainConfig(steps=3))
    with pytest.raises(ProjectError, match="is queued"):
        queue.start(project, "dataset", DatasetConfig(demo=True), behind=True)


def test_there_is_an_end_to_plans(
    queue: JobQueue, project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(jobs, "MOST_PLANNED", 2)
    for steps in (1, 2, 3):
        queue.start(project, "train", TrainConfig(steps=steps), behind=True)
    with pytest.raises(ProjectError, match="2 runs of this project wait already"):
        queue.start(project, "train", TrainConfig(steps=4), behind=True)
