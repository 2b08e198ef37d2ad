"""Views of the shell and of the tab Dataset: plain values from what is on disk."""

from __future__ import annotations

from pathlib import Path

import pytest

from app.dataset import service
from app.dataset import view as dataset_views
from app.server.jobs import JobView
from app.shell import projects, view
from dpd_core.config import DatasetConfig, ProjectConfig
from dpd_core.controls import Job
from dpd_core.dataset.index import load_index, rename_class
from dpd_core.dataset.stage import run
from dpd_core.errors import ConfigError, DatasetError
from dpd_core.project import Project
from tests.support.distilled_project import make_project
from tests.support.finished_stage import finish


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Project:
    return make_project(tmp_path_factory.mktemp("views"))


def job(status: str, **values: object) -> JobView:
    given = {
        "id": "20260102-030405-000000-train-ab12",
        "stage": "train",
        "status": status,
        "command": "",
        "job": Job(Path()),
    }
    return JobView(**{**given, **values})  # type: ignore[arg-type]


def test_a_running_job_tells_how_far_it_is_and_how_long_it_takes() -> None:
    shown = view.job(job("running", done=25, total=100, eta=125.0, message="step"))
    assert shown["percent"] == 25
    assert shown["detail"] == "step 25/100, 2:05 left"


def test_a_job_at_work_is_never_said_to_be_done() -> None:
    shown = view.job(job("running", done=100, total=100, eta=0.0, message="encoding images"))
    assert not shown["counted"], "the bar moves and tells no share"
    assert shown["detail"] == "encoding images 100/100, finishing"
    assert view.job(job("running", message=""))["detail"] == "loading"
    plan = view.job(job("running", stage="run", done=9, total=90, eta=81.0, message="2 of 9: x"))
    assert (plan["title"], plan["detail"]) == ("all stages", "2 of 9: x, 1:21 left")


def test_a_finished_job_tells_its_time_and_what_comes_next() -> None:
    shown = view.job(job("done", seconds=65.0))
    assert (shown["detail"], shown["next"], shown["percent"]) == ("took 1:05", "synthesize", 100)
    assert view.job(job("done", stage="export"))["next"] == ""


@pytest.mark.parametrize(("position", "text"), [(0, "no job"), (1, "1 job"), (3, "3 jobs")])
def test_a_waiting_job_tells_its_place(position: int, text: str) -> None:
    assert view.job(job("queued", position=position))["detail"].startswith(text)


def test_a_stopping_job_says_so_and_a_failed_one_why() -> None:
    assert "stopping" in view.job(job("running", stopping=True))["detail"]
    assert view.job(job("failed", error="no disk"))["detail"] == "no disk"
    rows = view.recent_jobs([job("failed", error="no disk")])
    assert rows == [
        {"stage": "train", "status": "failed", "when": "02 Jan 03:04", "error": "no disk"}
    ]


def test_the_report_counts_what_is_there_and_what_was_refused(tmp_path: Path) -> None:
    made = make_project(tmp_path)
    source = tmp_path / "source"
    (source / "train" / "forest" / "broken.png").write_bytes(b"no image")
    copy = (source / "train" / "forest" / "00.png").read_bytes()
    (source / "train" / "forest" / "copy.png").write_bytes(copy)
    config = DatasetConfig(data=str(source))
    finish(made, "dataset", config, run(made, config))
    shown = dataset_views.report(load_index(made), made.result("dataset"))
    numbers = {entry["name"]: entry["count"] for entry in shown["numbers"]}
    assert numbers == {
        "classes": "3",
        "training images": "19",
        "test images": "12",
        "refused files": "1",
        "exact copies": "1",
    }
    assert shown["refused"][0]["file"] == "forest/train/broken.png"
    assert shown["duplicates"] == ["forest/train/00.png = forest/train/copy.png"]
    assert shown["sizes"] == [{"size": "16 × 16 px", "count": "31 images"}]


def test_bars_are_as_long_as_the_counts_and_carry_the_readable_name(project: Project) -> None:
    rename_class(project, "river", "wide river")
    rows = {row["name"]: row for row in dataset_views.balance(load_index(project))}
    assert rows["river"]["readable"] == "wide river"
    assert rows["river"]["train_width"] == 60
    assert rows["river"]["test_width"] == 40


def test_pages_of_thumbnails_are_kept_within_what_there_is(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dataset_views, "PAGE", 5)
    index = load_index(project)

    def page(number: int, **filters: str) -> dict:
        return dataset_views.thumbnails(index, lambda record: record.id, page=number, **filters)

    assert [page(number)["page"] for number in (-3, 1, 6, 99)] == [1, 1, 6, 6]
    assert len(page(2)["images"]) == 5
    assert page(1, class_name="river", split="test")["note"] == "1 to 4 of 4 images"
    assert page(1, class_name="nowhere")["note"] == "no images"


def test_a_choice_of_source_becomes_settings_and_back(project: Project, tmp_path: Path) -> None:
    folder = {"folder": str(tmp_path), "hub": "eurosat"}
    assert service.choose(project, "demo", **folder) == {"demo": True, "data": ""}
    assert service.choose(project, "hub", **folder)["data"] == "eurosat"
    assert service.choose(project, "folder", **folder)["data"] == str(tmp_path)
    with pytest.raises(DatasetError, match="nothing has been uploaded"):
        service.choose(project, "upload", **folder)
    assert service.source_of(project, str(tmp_path), demo=False) == ("folder", str(tmp_path), "")
    assert service.source_of(project, "owner/name", demo=False) == ("hub", "", "owner/name")
    assert service.source_of(project, "", demo=True)[0] == "demo"
    assert "folder" not in service.sources(hosted=True)


def test_shared_settings_are_changed_only_to_what_the_machine_has(project: Project) -> None:
    before = projects.token(project, ["a"])
    with pytest.raises(ConfigError, match="no mps device"):
        projects.configure(project, ProjectConfig(device="mps"))
    assert projects.configure(project, project.config) == "Nothing was changed."
    projects.configure(project, project.config.replace(seed=5))
    assert project.config.seed == 5
    assert projects.token(project, ["a"]) != before
    assert projects.hardware(project).startswith("cpu, float32")
