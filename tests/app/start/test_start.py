"""The start page: its figures, its plan, what is dropped on it, and what it offers to do again."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from app.server.jobs import JobQueue
from app.server.limits import Limits
from app.server.settings import Settings
from app.shell.view import stage_list
from app.start import service, view
from app.start.drop_zone import uploaded_file
from app.ui.downloads import archive_name
from app.ui.job_status import roughly
from dpd_core import STAGES
from dpd_core.captions import edits
from dpd_core.config import DatasetConfig, RunConfig, TrainConfig, resolve
from dpd_core.controls import Job
from dpd_core.errors import ConfigError, DatasetError, DPDError, ProjectError
from dpd_core.pipeline import plan
from dpd_core.pipeline.jobs import run_stage
from dpd_core.project import Project
from dpd_core.synthesize.sets import DistilledSet
from tests.support.distilled_project import make_project
from tests.support.evaluation_report import make_report
from tests.support.finished_stage import finish


@pytest.fixture
def queue(tmp_path: Path) -> JobQueue:
    """A waiting list on which everything waits."""
    return JobQueue(Settings(home=tmp_path / "home", heavy_jobs=0, min_free=0))


def test_the_accuracy_stands_beside_random_images_and_whether_it_is_chance() -> None:
    clear, chance = (
        make_report("s", {"s": (0.60, 0.61, 0.62), "random": random})
        for random in ((0.40, 0.41, 0.42), (0.50, 0.62, 0.70))
    )
    rows = [view.figures(report)[0] for report in (clear, chance)]
    assert [row["value"] for row in rows] == ["61.0%", "61.0%"]
    assert "20.0 points more, which chance does not explain" in rows[0]["text"]
    assert "may be chance (p = " in rows[1]["text"]
    assert [row["tone"] for row in rows] == ["good", "even"]
    assert view.figures(clear)[1]["name"] == "Copies"


def test_each_class_has_one_pair(tmp_path: Path) -> None:
    project = make_project(tmp_path)
    hero = view.hero(
        DistilledSet.load(project), None, str.upper, lambda image: f"r/{image}", lambda r: r.file
    )
    assert [pair["name"] for pair in hero["pairs"]] == ["DESERT", "FOREST", "RIVER"]
    assert hero["pairs"][0]["real"].startswith("r/desert")
    assert "6 images of 3 classes, 16 × 16 px" in hero["caption"]


def test_the_plan_keeps_the_images_as_they_were_read(tmp_path: Path) -> None:
    project = make_project(tmp_path)
    config = service.whole_plan(project, "standard", 7)
    steps = {step.stage: step for step in plan.plan(project, config)}
    assert steps["dataset"].reason == "", "it is not read again"
    assert steps["prototypes"].config.to_dict()["ipc"] == 7
    assert steps["train"].config == resolve("train", "standard")
    with pytest.raises(DatasetError, match="no images"):
        service.whole_plan(Project.create(tmp_path / "empty"), "quick", 5)
    with pytest.raises(ConfigError):
        service.whole_plan(project, "quick", 0)
    with pytest.raises(ConfigError):
        service.whole_plan(project, "best", 5)


def test_each_quality_says_its_time_and_the_size_of_its_images(tmp_path: Path) -> None:
    project = Project.create(tmp_path / "p")
    found = service.qualities(project, 5)
    assert [quality.name for quality in found] == ["quick", "standard", "published"]
    assert found[0].seconds < found[1].seconds < found[2].seconds
    label, value = view.quality_choices(found, service.image_side(project))[0]
    assert value == "quick"
    assert label.startswith("Quick: about ")
    assert label.endswith("here, images of 64 × 64 px")


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(3, "under a minute"), (700, "about 12 min"), (5000, "about 85 min"), (9e3, "about 2 hours")],
)
def test_an_estimate_is_as_exact_as_it_can_be(seconds: float, text: str) -> None:
    assert roughly(seconds) == text


def test_an_edited_caption_can_be_taken_up_with_or_without_training(tmp_path: Path) -> None:
    project = make_project(tmp_path)
    edits.edit(project, "forest", 0, "trees")
    for stage in STAGES[:-1]:
        settings = project.record(stage)
        config = resolve(stage, "quick")
        if settings is not None:
            config = type(config).from_dict(settings["settings"])
        finish(project, stage, config, {"set": "dpd-1"})
    assert service.updates(project) == []
    edits.edit(project, "forest", 0, "many trees")
    steps = service.updates(project)
    assert [step.stage for step in steps] == ["train", "synthesize", "evaluate"]
    assert view.words_only(steps)
    shown = view.update(steps, {"train": 600.0})
    assert shown["rows"][0]["reason"] == "captions were edited"
    assert "has not seen them" in shown["note"]

    def runs(retrain: bool) -> list[str]:
        asked = plan.plan(project, service.update_plan(project, retrain=retrain))
        return [step.stage for step in asked if step.reason]

    assert runs(True) == ["train", "synthesize", "evaluate"], "it was never exported"
    assert runs(False) == ["synthesize", "evaluate"]


def test_only_uploads_of_this_server_are_taken(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GRADIO_TEMP_DIR", str(tmp_path / "uploads"))
    file = tmp_path / "uploads" / "0123" / "scenes.zip"
    file.parent.mkdir(parents=True)
    file.write_bytes(b"zip")
    secret = tmp_path / "secret.zip"
    secret.write_bytes(b"secret")
    (file.parent / "link.zip").symlink_to(secret)
    assert uploaded_file(str(file)) == file.resolve()
    for path in (secret, file.parent / "link.zip", file.parent, "", None, "\0", "/etc/passwd"):
        with pytest.raises(DatasetError, match="not there any more"):
            uploaded_file(path if path is None else os.fspath(path))


def test_a_plan_waits_for_the_reading_of_images_and_for_nothing_else(
    tmp_path: Path, queue: JobQueue
) -> None:
    project = Project.create(tmp_path / "p")
    queue.start(project, "dataset", DatasetConfig(demo=True))
    job = queue.start(project, "run", RunConfig(preset="quick"))
    assert queue.current(project).id == job  # type: ignore[union-attr]
    assert service.current_plan(project, queue).status == "queued"  # type: ignore[union-attr]
    for stage, config in (("train", TrainConfig()), ("run", RunConfig())):
        with pytest.raises(ProjectError, match="is queued"):
            queue.start(project, stage, config)


def test_of_a_plan_the_page_shows_the_whole(tmp_path: Path, queue: JobQueue) -> None:
    project = Project.create(tmp_path / "p")
    with pytest.raises(DPDError):  # there is nothing to read
        run_stage(project, "run", RunConfig(preset="quick"))
    current = queue.current(project)
    assert current is not None
    assert (current.stage, current.status) == ("run", "failed")
    assert Job.all_in(project.root)[-1].part_of == current.id
    assert [row["state"] for row in service.phases_of(current)][:2] == ["running", "open"]
    shown = view.progress(current.status, service.phases_of(current), error=current.error)
    assert shown["phases"][0]["state"] == "ended"
    assert shown["detail"]


def test_strangers_plans_reach_no_folder_of_the_server(tmp_path: Path) -> None:
    limits = Limits(Settings(home=tmp_path, min_free=0).served_to_strangers())
    project = Project.create(tmp_path / "p")
    for assignment in ("dataset.data=/etc", "export.output=/tmp/x", "prototypes.file=/etc/passwd"):
        with pytest.raises(ConfigError, match="cannot be used"):
            limits.check_start(project, "run", RunConfig(set=(assignment,)))
    with pytest.raises(ConfigError, match="does not push"):
        limits.check_start(project, "run", RunConfig(set=("export.push=me/mine",)))
    limits.check_start(project, "run", RunConfig(set=("dataset.demo=true",)))


def test_a_plan_on_its_way_tells_what_all_the_rest_takes() -> None:
    phases = [
        {"name": "reading your images", "state": "done", "seconds": 5.0, "spent": 4.2},
        {"name": "encoding the images", "state": "running", "seconds": 60.0, "spent": 0.0},
        {"name": "adapting the model", "state": "open", "seconds": 600.0, "spent": 0.0},
    ]
    shown = view.progress(
        "running", phases, message="2 of 3: encoding the images", done=30, total=670, eta=640.0
    )
    assert shown["detail"] == "2 of 3: encoding the images; about 11 min left in all."
    assert [row["time"] for row in shown["phases"]] == ["0:04", "", "about 10 min"]
    assert view.progress("running", phases, done=5, total=5)["percent"] < 100
    assert view.progress("done", phases, seconds=700.0)["detail"] == "It took 11:40."


def test_the_line_of_stages_tells_the_time_of_each(tmp_path: Path) -> None:
    project = make_project(tmp_path)
    line = view.stage_line(stage_list(project, "train"), {"dataset": 65.0})
    assert line[0]["note"] == "done · 1:05"
    assert line[3]["note"] == "at work"


def test_a_download_is_called_after_project_set_and_date() -> None:
    assert archive_name("my images", "2026-01-31 12:00 UTC") == "my-images-2026-01-31.zip"
    assert archive_name("p", "2026-01-31", "dpd-1") == "p-dpd-1-2026-01-31.zip"
