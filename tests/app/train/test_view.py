"""What the Train tab shows, from what lies in the project."""

import json
from pathlib import Path

import pytest

from app.server.jobs import JobView
from app.train import service
from app.train import view as views
from dpd_core import storage
from dpd_core.config import TrainConfig
from dpd_core.errors import ModelError
from dpd_core.presets import PRESETS
from dpd_core.project import Project
from dpd_core.train import adapters
from dpd_core.train.adapters import Run


@pytest.fixture
def project(tmp_path: Path) -> Project:
    return Project.create(tmp_path / "project")


def add_run(project: Project, name: str, points: int, *, finished: bool = False) -> Path:
    folder = project.path("adapters", name)
    adapters.begin(folder, {"settings": TrainConfig(steps=max(points * 10, 1)).to_dict()})
    for place in range(1, points + 1):
        adapters.append_curve(folder, place * 10, {"diffusion": 1 / place, "loss": 1.0})
    if finished:
        storage.write_json(
            folder / "adapter.json",
            {
                "id": name,
                "finished": "2026-01-02T03:04",
                "final": {"classifier_accuracy": 0.5},
                "recipe": {"settings": TrainConfig(rank=7).to_dict()},
            },
        )
    return folder


def run(project: Project, name: str) -> Run:
    return next(one for one in adapters.list_runs(project) if one.id == name)


def chart(project: Project, name: str) -> list[dict]:
    return views.chart([run(project, name)], adapters.list_runs(project))["runs"]


def test_a_curve_keeps_its_gaps_and_a_long_one_its_ends(project: Project) -> None:
    add_run(project, "long", 3 * views.POINTS)
    (curve,) = chart(project, "long")
    assert len(curve["steps"]) == views.POINTS
    assert (curve["steps"][0], curve["steps"][-1]) == (10, 30 * views.POINTS)
    assert curve["steps"] == sorted(set(curve["steps"]))
    assert curve["series"]["consistency"] == [None] * views.POINTS, "it was not measured"
    assert len(json.dumps(curve)) < 60_000
    add_run(project, "none", 0)
    (empty,) = chart(project, "none")
    assert empty["steps"] == []


def test_previews_are_columns_by_step_with_the_classes_in_words(project: Project) -> None:
    folder = add_run(project, "one", 1) / "previews"
    folder.mkdir()
    odd = "<img src=x>"
    for step in (10, 200):
        for name in ("forest", odd):
            (folder / f"{step:06d}-{storage.safe_name(name)}.png").touch()
    names = {"forest": "deep forest", odd: odd}
    value = views.previews(run(project, "one"), names, lambda path: f"/x/{path.name}")
    assert [step["step"] for step in value["steps"]] == [10, 200]
    assert {name["label"] for name in value["names"]} == {"deep forest", odd}
    assert value["steps"][1]["images"]["forest"] == "/x/000200-forest.png"
    assert views.previews(None, {}, str)["steps"] == []


def test_the_table_says_which_run_is_which(project: Project) -> None:
    add_run(project, "old", 1, finished=True)
    add_run(project, "new", 2)
    runs = [run(project, "new"), run(project, "old")]
    rows = views.run_rows(runs, used="old", active="new", main="new")["rows"]
    assert [(row["id"], row["state"], row["used"]) for row in rows] == [
        ("new", "training", False),
        ("old", "finished", True),
    ]
    assert rows[1]["accuracy"] == "50%"
    assert "rank 7" in rows[1]["settings"]
    assert rows[0]["compared"]


def test_one_preset_is_recommended_by_the_device() -> None:
    assert views.recommended_preset("cuda") == "published"
    assert views.recommended_preset("cpu") == "quick"
    choices = views.preset_choices("standard")
    assert [value for _, value in choices] == list(PRESETS)
    marked = [value for label, value in choices if "recommended" in label]
    assert marked == ["standard"]


def test_the_status_line_tells_time_and_memory(tmp_path: Path) -> None:
    job = JobView(
        "id", "train", "running", "", tmp_path, done=50, total=200, eta=90.0, message="training"
    )
    assert views.status(job, 1234)["detail"] == "step 50 of 200 · 1:30 left · peak memory 1,234 MB"
    assert views.status(None, None, idle="start")["detail"] == "start"


def test_what_a_job_makes_and_holds_is_read_from_its_log(tmp_path: Path) -> None:
    job = JobView("id", "train", "running", "", tmp_path)
    assert service.made_by(job) is None
    assert service.peak_memory(job) is None
    lines = [
        {
            "event": "Progress",
            "time": 1.0,
            "stage": "train",
            "done": 0,
            "total": 9,
            "eta": None,
            "message": "",
            "memory": 77,
        },
        {"event": "Making", "time": 2.0, "stage": "train", "path": "adapters/abc"},
        {"event": "Log", "time": 3.0, "stage": "train", "message": '"memory"', "level": "info"},
    ]
    storage.append_json_lines(tmp_path / "events.jsonl", lines)
    with (tmp_path / "events.jsonl").open("a") as file:
        file.write('{"event": "Progress", "memory": 5')  # cut off by a kill
    assert service.made_by(job) == "abc"
    assert service.peak_memory(job) == 77


def test_only_a_known_run_can_be_named(project: Project) -> None:
    add_run(project, "one", 1)
    assert service.find_run(project, "one").id == "one"
    for wrong in ("../one", None, 3, "<b>"):
        with pytest.raises(ModelError):
            service.find_run(project, wrong)
