"""What the Train tab shows, from what lies in the project."""

import json
from pathlib import Path

import pytest

from app.train import service
from app.train import view as views
from dpd_core import storage
from dpd_core.config import PRESETS, TrainConfig
from dpd_core.errors import ModelError
from dpd_core.project import Project
from dpd_core.train import adapters
from dpd_core.train.adapters import Run
from tests.support.headers import save_headers


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
    return next(run for run in adapters.list_runs(project) if run.id == name)


def test_the_page_says_what_a_gpu_needs_before_training(project: Project, tmp_path: Path) -> None:
    settings = TrainConfig(batch_size=8, gradient_checkpointing=False)
    assert service.memory_needed(project, settings) == "", "the bundled model fits anywhere"
    model = save_headers(tmp_path / "model", "Stable Diffusion 1.5")
    large = Project.create(
        tmp_path / "large", config=project.config.replace(model=str(model), device="cpu")
    )
    plain = service.memory_needed(large, settings)
    assert plain.startswith("On a GPU this training would take about ")
    gigabytes = float(plain.split("about ")[1].split(" GB")[0])
    assert 7 < gigabytes < 10
    less = service.memory_needed(large, settings.replace(gradient_checkpointing=True))
    assert float(less.split("about ")[1].split(" GB")[0]) < gigabytes
    for absent in ("nobody/has-this-here", str(tmp_path / "none")):
        place = tmp_path / f"p{len(absent)}"
        other = Project.create(place, config=project.config.replace(model=absent))
        assert service.memory_needed(other, settings) == "", "and nothing is downloaded for it"


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


def test_of_several_runs_the_settings_that_differ_are_told(project: Project) -> None:
    add_run(project, "one", 1)
    add_run(project, "two", 2)
    runs = [run(project, "two"), run(project, "one")]
    rows = views.run_rows(runs, used=None, active=None, main="two", scores={"two": 0.625})["rows"]
    assert [row["settings"] for row in rows] == ["steps 20", "steps 10"]
    assert [row["score"] for row in rows] == ["62%", "–"]


def curve(held_out: list[float], falling: bool = True) -> list[dict]:
    return [
        {"step": 10 * n, "diffusion": 1 / n if falling else float(n), "validation": value}
        for n, value in enumerate(held_out, 1)
    ]


def test_overfitting_is_said_only_where_the_held_out_loss_has_risen_for_a_while() -> None:
    warning = views.overfitting(curve([1.0, 0.8, 0.7, 0.8, 0.85, 0.9]))
    assert "lowest at step 30" in warning
    assert "25% higher" in warning
    for fine in (
        [1.0, 0.8, 0.7, 0.69, 0.68],
        [1.0, 0.8, 0.7, 0.705, 0.702, 0.706],  # within its noise
        [1.0, 0.8, 0.7, 0.9],  # a single one
        [],
    ):
        assert views.overfitting(curve(fine)) == ""
    assert views.overfitting(curve([1.0, 0.8, 0.7, 0.8, 0.85, 0.9], falling=False)) == ""
    assert views.overfitting([{"step": 1}]) == ""


def test_one_preset_is_recommended_by_the_device() -> None:
    assert views.recommended_preset("cuda") == "published"
    assert views.recommended_preset("cpu") == "quick"
    choices = views.preset_choices("standard")
    assert [value for _, value in choices] == list(PRESETS)
    marked = [value for label, value in choices if "recommended" in label]
    assert marked == ["standard"]


def test_only_a_known_run_can_be_named(project: Project) -> None:
    add_run(project, "one", 1)
    assert service.find_run(project, "one").id == "one"
    for wrong in ("../one", None, 3, "<b>"):
        with pytest.raises(ModelError):
            service.find_run(project, wrong)
