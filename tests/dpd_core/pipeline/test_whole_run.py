"""The command line as its user types it, on the bundled models and the demo images."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from dpd_core import STAGES
from dpd_core.cli import main
from dpd_core.config import TrainConfig
from dpd_core.errors import JobStopped
from dpd_core.events import Event, from_dict
from dpd_core.pipeline import jobs
from dpd_core.pipeline.staleness import is_current
from dpd_core.pipeline.verify import verify
from dpd_core.project import Project
from dpd_core.prototypes.files import Slot
from dpd_core.synthesize import edits as set_edits
from dpd_core.synthesize.sets import DistilledSet
from dpd_core.train import adapters
from tests.support.job_list import list_jobs

ROOT = Path(__file__).parents[3]
SMALL = [
    "--demo",
    "--classes",
    "forest,highway,river",
    "--ipc",
    "2",
    "--max-per-class",
    "16",
    "--set",
    "captions.mode=template",
    "--set",
    "prototypes.project_map=false",
    "--set",
    "train.steps=4",
    "--set",
    "train.batch_size=4",
    "--set",
    "train.targets=all",
    "--set",
    "train.classifier_steps=2",
    "--set",
    "train.preview_steps=2",
    "--set",
    "synthesize.steps=3",
    "--set",
    "synthesize.candidates=2",
    "--set",
    "synthesize.batch_size=4",
    "--set",
    "evaluate.student_steps=4",
    "--set",
    "evaluate.seeds=2",
]


def command(*words: str) -> list[str]:
    return [sys.executable, "-m", "dpd_core", *words]


def last_json(text: str) -> dict:
    return json.loads(text.strip().splitlines()[-1])


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict]:
    """A small demo project, all seven stages done by the command line."""
    project = tmp_path_factory.mktemp("run") / "demo"
    result = subprocess.run(
        command("run", "--project", str(project), *SMALL, "--json"),
        capture_output=True,
        text=True,
        cwd=ROOT,
        timeout=600,
    )
    assert result.returncode == 0, result.stderr
    return project, last_json(result.stdout)


def test_run_goes_through_all_seven_stages(finished: tuple[Path, dict]) -> None:
    project, summary = finished
    assert summary["ok"]
    assert list(summary["results"]) == list(STAGES)
    assert summary["results"]["synthesize"]["images"] == 6
    opened = Project.open(project)
    assert all(is_current(opened, stage) for stage in STAGES)
    images = sorted((project / "distilled").glob("*/*/*.png"))
    assert len([path for path in images if path.parent.parent.name != "candidates"]) == 6
    assert list((project / "distilled").glob("*/contact_sheet.png"))


def test_every_job_is_on_record_with_the_command_that_does_the_same(
    finished: tuple[Path, dict],
) -> None:
    project = Project.open(finished[0])
    all_jobs = list_jobs(project)
    assert [job.config["stage"] for job in all_jobs] == ["run", *STAGES]
    assert [job.part_of for job in all_jobs] == ["", *[all_jobs[0].id] * len(STAGES)]
    assert {job.status for job in all_jobs} == {"done"}
    train = next(job for job in all_jobs if job.config["stage"] == "train")
    assert "--steps 4" in train.config["command"]
    kinds = [type(from_dict(event)).__name__ for event in train.events()]
    assert kinds[-1] == "Done"
    assert {"Progress", "Metric", "Preview"} <= set(kinds)


def test_a_finished_run_is_not_repeated(
    finished: tuple[Path, dict], capsys: pytest.CaptureFixture[str]
) -> None:
    project, summary = finished
    before = len(list_jobs(Project.open(project)))
    assert main(["run", "--project", str(project), *SMALL, "--json"]) == 0
    assert last_json(capsys.readouterr().out)["results"] == summary["results"]
    after = list_jobs(Project.open(project))
    assert len(after) == before + 1, "the plan itself, and no stage"
    assert after[-1].config["stage"] == "run"


def test_the_same_slots_come_out_the_same_under_another_name(
    finished: tuple[Path, dict], capsys: pytest.CaptureFixture[str]
) -> None:
    """Images derive from names and seeds, not from the set or what else was sampled."""
    project, summary = finished
    first = summary["results"]["synthesize"]["set"]
    code = main(["synthesize", "--project", str(project), "--set-name", "again", "--json"])
    assert code == 0
    capsys.readouterr()
    files = sorted((project / "distilled" / first).glob("candidates/*/*.png"))
    assert len(files) == 12
    for path in files:
        other = project / "distilled" / "again" / path.relative_to(project / "distilled" / first)
        assert path.read_bytes() == other.read_bytes(), path.name


def test_an_interrupted_set_is_completed_with_the_same_images(
    finished: tuple[Path, dict], capsys: pytest.CaptureFixture[str]
) -> None:
    project, _ = finished
    options = ["--project", str(project), "--set-name", "torn"]
    assert main(["synthesize", *options]) == 0
    folder = project / "distilled" / "torn"
    images = {path: path.read_bytes() for path in folder.glob("*/*.png")}
    (folder / "manifest.json").unlink()
    for record in list((folder / "slots").glob("*.json"))[1:4]:
        record.unlink()
    for path in list(images)[1:3]:
        path.unlink()
    assert main(["synthesize", *options]) == 0
    capsys.readouterr()
    for path, content in images.items():
        if path.parent.parent == folder and path.name != "contact_sheet.png":
            assert path.read_bytes() == content, path


def test_another_recipe_does_not_overwrite_a_set(
    finished: tuple[Path, dict], capsys: pytest.CaptureFixture[str]
) -> None:
    project, _ = finished
    assert main(["synthesize", "--project", str(project), "--set-name", "mine"]) == 0
    code = main(["synthesize", "--project", str(project), "--set-name", "mine", "--cfg", "2"])
    assert code == 1
    assert "was made with other settings" in capsys.readouterr().err


def test_a_killed_training_is_reported_and_resumed(
    finished: tuple[Path, dict], tmp_path: Path
) -> None:
    """``kill -9`` in the middle; the next start goes on from the checkpoint."""
    words = command(
        "train", "--project", str(finished[0]), "--steps", "4000", "--checkpoint-steps", "2"
    )
    process = subprocess.Popen(words, cwd=ROOT, stderr=subprocess.DEVNULL)
    adapters = finished[0] / "adapters"
    deadline = time.monotonic() + 120
    while not list(adapters.glob("*/checkpoint.safetensors")):
        assert time.monotonic() < deadline
        assert process.poll() is None
        time.sleep(0.1)
    process.kill()
    process.wait()
    project = Project.open(finished[0])
    killed = list_jobs(project)[-1]
    assert killed.status == "interrupted"
    first: list[int] = []

    def listen(event: Event) -> None:
        if getattr(event, "message", "") == "training":
            first.append(event.done)
            raise JobStopped("enough")

    config = TrainConfig.from_dict(killed.config["settings"])
    with pytest.raises(JobStopped):
        jobs.run_stage(project, "train", config, listen=listen)
    assert first[0] >= 2


def test_ctrl_c_stops_gracefully(finished: tuple[Path, dict]) -> None:
    words = command(
        "train",
        "--project",
        str(finished[0]),
        "--steps",
        "5000",
        "--learning-rate",
        "0.002",
        "--json",
    )
    process = subprocess.Popen(
        words,
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONUNBUFFERED": "1"},
    )
    assert process.stderr is not None
    for line in process.stderr:
        if "training" in line:
            break
    process.send_signal(signal.SIGINT)
    out, _ = process.communicate(timeout=120)
    assert process.returncode == 130
    assert last_json(out)["error"]["kind"] == "JobStopped"
    assert list_jobs(Project.open(finished[0]))[-1].status == "stopped"


def test_a_slot_is_sampled_anew_and_the_same_way_on_a_copy(
    finished: tuple[Path, dict], tmp_path: Path
) -> None:
    records = []
    for name in ("one", "two"):
        shutil.copytree(finished[0], tmp_path / name / "demo")
        project = Project.open(tmp_path / name / "demo")
        before = DistilledSet.load(project)
        assert main(["resample", "--project", str(project.root), "--slots", "forest/1"]) == 0
        after = DistilledSet.load(project)
        assert verify(project).differences == []
        assert project.record("synthesize")["result"]["set"] == before.name
        changed = [new for old, new in zip(before.slots, after.slots, strict=True) if old != new]
        records.append(changed)
    assert records[0] == records[1], "the same request gives the same images"
    ((record,), _) = records
    assert (record.slot, record.round) == (Slot("forest", 1), 1)
    assert [candidate.index for candidate in record.candidates] == [0, 1, 2, 3]
    assert len({candidate.sha256 for candidate in record.candidates}) == 4
    assert record.chosen >= 2, "the old ones are rejected"
    assert not is_current(project, "evaluate")
    set_edits.pin_slot(project, before.name, Slot("forest", 1))
    assert main(["resample", "--project", str(project.root), "--slots", "forest/1"]) == 1


def test_pinned_images_are_kept_when_the_set_is_made_with_other_settings(
    finished: tuple[Path, dict], tmp_path: Path
) -> None:
    shutil.copytree(finished[0], tmp_path / "demo")
    project = Project.open(tmp_path / "demo")
    before = DistilledSet.load(project)
    set_edits.choose_candidate(project, before.name, Slot("forest", 0), 0)
    set_edits.choose_candidate(project, before.name, Slot("forest", 0), 1)
    set_edits.pin_slot(project, before.name, Slot("forest", 0))
    words = ["--project", str(project.root), "--cfg", "2", "--keep-pinned", before.name]
    assert main(["synthesize", *words]) == 0
    after = DistilledSet.load(project)
    assert after.name != before.name
    pairs = list(zip(before.slots, after.slots, strict=True))
    same = [before.path(old).read_bytes() == after.path(new).read_bytes() for old, new in pairs]
    assert same == [True] + [False] * 5
    assert after.slots[0].from_set == before.name
    assert after.slots[0].chosen_by == "hand"
    assert verify(project).differences == []


def test_an_earlier_adapter_can_be_chosen_until_the_next_training(
    finished: tuple[Path, dict], tmp_path: Path
) -> None:
    shutil.copytree(finished[0], tmp_path / "demo")
    project = Project.open(tmp_path / "demo")
    first = adapters.find_adapter(project).id
    words = ["train", "--project", str(project.root), "--steps", "2"]
    assert main(words) == 0
    second = adapters.find_adapter(project).id
    assert second != first
    assert main(["synthesize", "--project", str(project.root)]) == 0
    assert is_current(project, "synthesize")
    adapters.choose_adapter(project, first)
    assert adapters.find_adapter(project).id == first
    assert not is_current(project, "synthesize"), "its images are of the other adapter"
    assert main(words) == 0
    assert adapters.find_adapter(project).id == second
    assert is_current(project, "synthesize")
