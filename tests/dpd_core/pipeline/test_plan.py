"""The plan of all stages: what has to run, why, how long, and what it tells on its way."""

from pathlib import Path

import pytest

from dpd_core import STAGES
from dpd_core.captions import edits
from dpd_core.config import RunConfig, resolve
from dpd_core.controls import STOP, Job
from dpd_core.errors import ConfigError, DPDError, JobStopped
from dpd_core.events import Event, Log, Phases, Progress
from dpd_core.pipeline import estimate, jobs, plan
from dpd_core.project import Project
from dpd_core.settings import command_words
from tests.support.distilled_project import make_project
from tests.support.finished_stage import finish

QUICK = RunConfig(preset="quick")


def finish_all(project: Project) -> None:
    for stage in STAGES:
        finish(project, stage, resolve(stage, "quick"), {"set": "s"})


def test_a_plan_says_what_runs_and_why(tmp_path: Path) -> None:
    project = make_project(tmp_path)
    edits.edit(project, "forest", 0, "trees")
    finish_all(project)
    assert [step.reason for step in plan.plan(project, QUICK)] == [""] * len(STAGES)
    edits.edit(project, "forest", 0, "many trees")
    reasons = {step.stage: step.reason for step in plan.plan(project, QUICK)}
    assert reasons["captions"] == "", "it keeps what people wrote"
    assert reasons["train"] == "captions were edited"
    assert reasons["export"], "it is made from what comes before"
    more = RunConfig(preset="quick", set=("evaluate.seeds=5",))
    edits.undo(project)
    reasons = {step.stage: step.reason for step in plan.plan(project, more)}
    assert reasons.pop("evaluate") == "settings changed: seeds"
    assert not any(reasons.values()), "an export does not read the report's settings"


def test_an_update_keeps_the_settings_of_each_stage(tmp_path: Path) -> None:
    project = make_project(tmp_path)
    finish_all(project)
    finish(project, "train", resolve("train", "quick", steps=7), {})
    kept = plan.settings(project, RunConfig(update=True, set=("evaluate.seeds=2",)))
    assert kept["train"].to_dict()["steps"] == 7
    assert kept["evaluate"].to_dict()["seeds"] == 2
    assert plan.settings(project, QUICK)["train"].to_dict()["steps"] == 200


@pytest.mark.parametrize("text", ["steps=3", "train.steps", "trai.steps=3", "train.steps=x"])
def test_a_bad_assignment_is_refused_before_anything_runs(tmp_path: Path, text: str) -> None:
    with pytest.raises(ConfigError):
        plan.settings(Project.create(tmp_path / "p"), RunConfig(set=(text,)))


def test_parts_with_commas_survive_the_command_line(tmp_path: Path) -> None:
    config = RunConfig(preset="quick", set=("dataset.classes=a,b", "train.steps=3"))
    words = command_words("run", config, tmp_path)
    assert words[-4:] == ["--set", "dataset.classes=a,b", "--set", "train.steps=3"]


def test_more_work_is_expected_to_take_longer(tmp_path: Path) -> None:
    project = make_project(tmp_path)

    def seconds(preset: str, **given: int) -> float:
        configs = {stage: resolve(stage, preset) for stage in STAGES}
        configs["prototypes"] = configs["prototypes"].replace(**given)
        return estimate.seconds(project, configs)

    assert 0 < seconds("quick") < seconds("standard") < seconds("published")
    assert seconds("quick", ipc=5) < seconds("quick", ipc=50)


def told(tmp_path: Path, *events: Event) -> list[Event]:
    """What a tracker says of these events of the stage train."""
    heard: list[Event] = []
    project = make_project(tmp_path)
    steps = [
        plan.Step(stage, resolve(stage, "quick"), "it has not run yet")
        for stage in ("train", "synthesize")
    ]
    tracker = plan.Tracker(project, steps, heard.append)
    tracker.begin("train")
    for event in events:
        tracker.hear(event)
    return heard


def test_progress_tells_the_phase_and_the_time_of_all_that_is_left(tmp_path: Path) -> None:
    first, second = "training the latent classifier", "training"
    heard = told(
        tmp_path,
        Progress("train", 1, 24, 50.0, first),
        Progress("train", 1, 200, 90.0, second),
        Log("train", "a sentence"),
    )
    shares = [event for event in heard if isinstance(event, Progress)]
    assert shares[1].message == "1 of 7: learning your classes"
    assert shares[-1].message == "3 of 7: adapting the model"
    assert shares[1].eta is not None and shares[1].eta > 50, "later phases are part of it"
    assert all(share.done < share.total for share in shares), "never full while work is left"
    phases = [event for event in heard if isinstance(event, Phases)][-1].phases
    assert [row["state"] for row in phases] == ["done", "skipped", "running", *["open"] * 4]
    assert any(isinstance(event, Log) for event in heard)


def test_a_plan_that_fails_leaves_both_jobs_ended(tmp_path: Path) -> None:
    project = Project.create(tmp_path / "p")
    with pytest.raises(DPDError):
        jobs.run_stage(project, "run", QUICK)
    whole, part = Job.all_in(project.root)
    assert (whole.status, part.status) == ("failed", "failed")
    assert part.part_of == whole.id


def test_a_plan_asked_to_stop_stops_its_stage_and_goes_on_later(tmp_path: Path) -> None:
    project = Project.create(tmp_path / "p")
    config = RunConfig(preset="quick", set=("dataset.demo=true", "dataset.demo_per_class=4"))
    started: list[Job] = []

    def stop(event: Event) -> None:
        if len(Job.all_in(project.root)) > 1:  # its first stage has begun
            started[0].ask(STOP)

    with pytest.raises(JobStopped):
        jobs.run_stage(project, "run", config, listen=stop, on_start=started.append)
    assert started[0].status == "stopped"
    assert Job.all_in(project.root)[-1].status == "stopped"
    jobs.run_stage(project, "dataset", plan.settings(project, config)["dataset"])
    assert plan.plan(project, config)[0].reason == "", "what was finished is kept"
