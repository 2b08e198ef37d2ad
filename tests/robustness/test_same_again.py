"""The same project gives the same images, bit for bit: again, in parts, in several processes."""

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from dpd_core.cli import main
from dpd_core.project import Project
from dpd_core.synthesize.sets import DistilledSet
from tests.robustness.crash_driver import ROOT
from tests.support.job_list import list_jobs

pytestmark = pytest.mark.slow
ENVIRONMENT = {**os.environ, "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"}
SETTINGS = {
    "dataset": "--demo --demo-per-class 8 --classes forest,highway,river",
    "prototypes": "--ipc 2 --choice taught --no-project-map",
    "captions": "--mode template",
    "train": "--steps 6 --decoder-steps 2 --batch-size 2 --targets all --preview-steps 0 "
    "--classifier-steps 30",
    "synthesize": "--steps 3 --strategy dpd+ --candidates 3 --batch-size 3",
}
"""Flags of each stage: what a run draws at random is all there, and no more of it than it takes."""

LAUNCH = ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"]
"""Two processes on CPU; ``accelerate launch --cpu --num_processes 2`` silently starts one."""


def command(stage: str, project: Path) -> list[str]:
    return [stage, "--project", str(project), "--quiet", *SETTINGS[stage].split()]


def start(stage: str, project: Path, *, launcher: list[str] | None = None) -> None:
    """Run a stage in a process of its own, or in those that the launcher starts."""
    words = [sys.executable, *(launcher or []), "-m", "dpd_core", *command(stage, project)]
    result = subprocess.run(words, cwd=ROOT, env=ENVIRONMENT, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr


def images(project: Path) -> dict[str, bytes]:
    root = DistilledSet.load(Project.open(project)).root
    found = {path.relative_to(root).as_posix(): path.read_bytes() for path in root.rglob("*.png")}
    return {**found, "manifest.json": (root / "manifest.json").read_bytes()}


def said(project: Path) -> str:
    """The events of the project's last run."""
    return (list_jobs(Project.open(project))[-1].folder / "events.jsonl").read_text()


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> Iterator[None]:
    """As in the processes that are started: sums over more threads round otherwise."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project that has everything but its distilled set."""
    project = tmp_path_factory.mktemp("trained") / "demo"
    for stage in ("dataset", "prototypes", "captions", "train"):
        assert main(command(stage, project)) == 0
    return project


@pytest.fixture(scope="module")
def distilled(trained: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    project = tmp_path_factory.mktemp("once") / "demo"
    shutil.copytree(trained, project)
    start("synthesize", project)
    return project


def test_another_process_makes_the_same_set(trained: Path, distilled: Path, tmp_path: Path) -> None:
    shutil.copytree(trained, tmp_path / "demo")
    start("synthesize", tmp_path / "demo")
    assert images(tmp_path / "demo") == images(distilled)


def test_one_slot_made_again_alone_is_the_same_image(distilled: Path, tmp_path: Path) -> None:
    shutil.copytree(distilled, tmp_path / "demo")
    expected = images(distilled)
    loaded = DistilledSet.load(Project.open(tmp_path / "demo"))
    record = loaded.slots[3]
    loaded.path(record).unlink()
    for candidate in record.candidates:
        (loaded.root / record.candidate_file(candidate)).unlink()
    (loaded.root / "manifest.json").unlink()
    start("synthesize", tmp_path / "demo")
    assert images(tmp_path / "demo") == expected


def test_two_processes_make_the_same_set(trained: Path, distilled: Path, tmp_path: Path) -> None:
    shutil.copytree(trained, tmp_path / "demo")
    # The networks that choose the set, which the others found trained: here they are trained anew.
    shutil.rmtree(tmp_path / "demo" / "cache" / "matching")
    start("synthesize", tmp_path / "demo", launcher=LAUNCH)
    assert "2 processes share the work" in said(tmp_path / "demo")
    assert images(tmp_path / "demo") == images(distilled)


def test_two_processes_learn_the_same_up_to_rounding(trained: Path, tmp_path: Path) -> None:
    """The gradients of two halves of a batch are summed in another order, so not bit for bit."""
    shutil.copytree(trained, tmp_path / "demo")
    shutil.rmtree(tmp_path / "demo" / "adapters")
    start("train", tmp_path / "demo", launcher=LAUNCH)
    assert "2 processes share the work" in said(tmp_path / "demo")
    first, second = (
        load_file(next((root / "adapters").glob("*/*.safetensors")))
        for root in (trained, tmp_path / "demo")
    )
    assert first.keys() == second.keys()
    largest = max(float((first[name] - second[name]).abs().max()) for name in first)
    scale = max(float(value.abs().max()) for value in first.values())
    assert largest < 0.01 * scale, f"{largest} of {scale}"
