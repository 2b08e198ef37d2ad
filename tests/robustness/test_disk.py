"""A full disk, a read-only folder, and two processes on one project: told, and nothing spoilt."""

import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from dpd_core import storage
from dpd_core.captions import edits
from dpd_core.captions.current import current_captions
from dpd_core.config import DatasetConfig, EvaluateConfig, ExportConfig
from dpd_core.dataset import stage as dataset
from dpd_core.errors import ProjectError
from dpd_core.pipeline import jobs
from dpd_core.pipeline.verify import verify
from dpd_core.project import Project
from tests.support.distilled_project import make_project
from tests.support.full_disk import leave
from tests.support.job_list import list_jobs

ROOT = Path(__file__).parents[2]
EXPORT = ExportConfig(adapter=False)
EVALUATE = EvaluateConfig(student_steps=1, seeds=1, distribution=False)


def remount(disk: Path, option: str) -> None:
    subprocess.run(["mount", "-o", f"remount,{option}", str(disk)], check=True)


@pytest.fixture
def project(disk: Path) -> Project:
    project = make_project(disk, size=32)
    edits.edit(project, "forest", 0, "trees")
    return project


@pytest.mark.parametrize("free", [0, 4 << 10, 16 << 10, 40 << 10, 80 << 10, 160 << 10])
@pytest.mark.parametrize("stage", ["dataset", "evaluate", "export"])
def test_a_full_disk_is_told_and_nothing_is_damaged(
    disk: Path, project: Project, stage: str, free: int
) -> None:
    configs = {
        "dataset": DatasetConfig(data=str(disk / "source"), test_fraction=0.5),
        "evaluate": EVALUATE,
        "export": EXPORT,
    }
    before = project.record(stage)
    filler = leave(disk, free)
    try:
        jobs.run_stage(project, stage, configs[stage])
    except ProjectError as error:
        assert "the disk is full" in error.what
        assert error.fix
        assert project.record(stage) == before
    filler.unlink()
    assert verify(Project.open(project.root)).differences == []
    assert current_captions(project)["forest"][0].text == "trees"
    assert not list(project.root.rglob(".part-*")), "the room is given back"
    jobs.run_stage(project, stage, configs[stage])
    assert verify(project).differences == []


def test_a_caption_that_finds_no_room_is_not_half_written(disk: Path, project: Project) -> None:
    filler = leave(disk, 0)
    log = project.path("captions", "log.jsonl")
    # The last block of the log has room for some edits more.
    with pytest.raises(ProjectError, match="the disk is full"):
        for number in range(200):
            edits.edit(project, "forest", 0, f"{number} " * 400)
    filler.unlink()
    text = current_captions(project)["forest"][0].text
    edits.edit(project, "forest", 0, "fields")
    edits.undo(project)
    assert current_captions(project)["forest"][0].text == text
    assert len(storage.read_json_lines(log)) >= 3


def test_a_tensor_file_that_finds_no_room_is_told_too(disk: Path) -> None:
    leave(disk, 64 << 10)
    with (
        pytest.raises(ProjectError, match="the disk is full"),
        storage.atomic_path(disk / "x.safetensors") as path,
    ):
        save_file({"x": torch.zeros(1 << 18)}, path)
    assert {path.name for path in disk.iterdir()} == {"filler"}


def test_a_read_only_project_can_be_looked_at_and_not_changed(disk: Path, project: Project) -> None:
    remount(disk, "ro")
    try:
        opened = Project.open(project.root)
        assert verify(opened).differences == []
        assert dataset.load_index(opened).images
        assert current_captions(opened)["forest"][0].text == "trees"
        for act in (
            lambda: jobs.run_stage(opened, "export", EXPORT),
            lambda: edits.edit(opened, "forest", 0, "fields"),
            lambda: dataset.rename_class(opened, "forest", "wood"),
            lambda: Project.create(disk / "other"),
        ):
            with pytest.raises(ProjectError, match="read-only") as caught:
                act()
            assert caught.value.fix
    finally:
        remount(disk, "rw")
    jobs.run_stage(project, "export", EXPORT)


HOLD = """
import sys
from dpd_core.project import Project
with Project.open(sys.argv[1]).lock():
    print("held", flush=True)
    sys.stdin.read()
"""


def command(stage: str, project: Project) -> list[str]:
    return [sys.executable, "-m", "dpd_core", stage, "--project", str(project.root), "--quiet"]


def test_a_second_process_on_a_project_is_told(tmp_path: Path) -> None:
    project = make_project(tmp_path)
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(project.root)],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert holder.stdout is not None and holder.stdout.readline() == "held\n"
    before = {path: path.read_bytes() for path in project.root.rglob("*") if path.is_file()}
    refused = subprocess.run(command("export", project), cwd=ROOT, capture_output=True, text=True)
    assert refused.returncode == 1
    assert "another process is working on this project" in refused.stderr
    assert "Wait until it has finished" in refused.stderr
    after = {path: path.read_bytes() for path in project.root.rglob("*") if path.is_file()}
    assert after == before
    holder.communicate("")
    assert subprocess.run(command("export", project), cwd=ROOT).returncode == 0


@pytest.mark.slow
def test_processes_started_at_once_spoil_nothing(tmp_path: Path) -> None:
    project = make_project(tmp_path)
    processes = [
        subprocess.Popen(command("export", project), cwd=ROOT, stderr=subprocess.PIPE, text=True)
        for _ in range(4)
    ]
    ends = [(process.communicate()[1], process.returncode) for process in processes]
    assert any(code == 0 for _, code in ends)
    assert all("another process is working" in text for text, code in ends if code)
    assert verify(project).differences == []
    assert {job.status for job in list_jobs(project)} == {"done"}
