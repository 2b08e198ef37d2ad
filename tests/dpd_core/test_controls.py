"""Requests to a running stage, and what a training leaves for those who follow it."""

from pathlib import Path

import pytest

from dpd_core import controls, storage
from dpd_core.config import TrainConfig
from dpd_core.errors import JobStopped, ProjectError
from dpd_core.events import Event, Metric, Progress
from dpd_core.project import Project
from dpd_core.train import adapters
from tests.support.trainers import QUICK, trainer


def test_a_request_is_answered_once_and_only_in_its_job(tmp_path: Path) -> None:
    (tmp_path / "sample_now").touch()
    assert not controls.take("sample_now"), "no job listens"
    with controls.listening(controls.Job(tmp_path)):
        assert controls.take("sample_now")
        assert not controls.take("sample_now")
    (tmp_path / "sample_now").touch()
    assert not controls.take("sample_now"), "the job has ended"


def test_previews_are_made_when_asked_for(v_model: Path, tmp_path: Path) -> None:
    made: list[int] = []

    def ask(event: Event) -> None:
        # The first report of progress always comes; later ones are thinned out by the clock.
        if isinstance(event, Progress) and event.done == 0:
            (tmp_path / "job" / "sample_now").touch()

    (tmp_path / "job").mkdir()
    with controls.listening(controls.Job(tmp_path / "job")):
        trainer(v_model, tmp_path / "one").fit(
            ask, preview=lambda backbone, step: made.append(step)
        )
    assert len(made) == 1, "preview_steps is 0, and there was one request"


def test_the_curve_of_a_killed_and_resumed_run_has_no_gap_and_no_second_thoughts(
    v_model: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    config = QUICK.replace(steps=30)
    whole = trainer(v_model, tmp_path / "whole", config)
    whole.fit()

    def stop(event: Event) -> None:
        if isinstance(event, Metric) and event.step == 10:
            raise JobStopped("stopped")

    with pytest.raises(JobStopped):
        trainer(v_model, tmp_path / "parts", config).fit(stop)
    # As a killed run leaves it: measured beyond its checkpoint.
    adapters.append_curve(tmp_path / "parts", 20, {"loss": 99.0})
    trainer(v_model, tmp_path / "parts", config).fit()
    curves = [
        storage.read_json_lines(tmp_path / name / "curve.jsonl") for name in ("whole", "parts")
    ]
    assert [point["step"] for point in curves[0]] == [10, 20, 30]
    assert curves[1] == curves[0]


def test_runs_are_listed_finished_or_not(tmp_path: Path) -> None:
    project = Project.create(tmp_path / "project")
    assert adapters.list_runs(project) == []
    folder = project.path("adapters", "abc")
    adapters.begin(folder, {"settings": QUICK.to_dict()})
    adapters.append_curve(folder, 10, {"loss": 0.5, "consistency": float("nan")})
    (folder / "previews").mkdir()
    (folder / "previews" / "000010-forest.png").touch()
    (run,) = adapters.list_runs(project)
    assert run.finished == ""
    assert run.settings["steps"] == QUICK.steps
    assert run.curve() == [{"step": 10, "loss": 0.5}], "what is no number is no point"
    assert run.previews() == [(10, "forest", folder / "previews" / "000010-forest.png")]
    record = {
        "id": "abc",
        "recipe": {"settings": {"steps": 3}},
        "finished": "2026",
        "final": {"loss": 0.5, "odd": "<b>"},
    }
    storage.write_json(folder / "adapter.json", record)
    (run,) = adapters.list_runs(project)
    assert run.settings == TrainConfig(steps=3).to_dict()
    assert run.final == {"loss": 0.5}
    record["recipe"] = {"settings": {"of": "another version"}}
    storage.write_json(folder / "adapter.json", record)
    assert adapters.list_runs(project)[0].settings == {}
    (folder / "curve.jsonl").write_text('{"step": "<b>"}\n')
    with pytest.raises(ProjectError, match="not a training's curve"):
        run.curve()
