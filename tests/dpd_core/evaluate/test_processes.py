"""Several processes share the students of an evaluation."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from dpd_core.evaluate.report import load_report
from dpd_core.project import Project
from tests.support.distilled_project import make_project
from tests.support.job_list import list_jobs

ROOT = Path(__file__).parents[3]
LAUNCH = ("-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2")
SETTINGS = "--student-steps 12 --student-batch 8 --student-size 16 --seeds 2 --soft-labels"


def evaluate(project: Project, *launcher: str) -> dict[str, object]:
    command = [sys.executable, *launcher, "-m", "dpd_core", "evaluate", "--quiet"]
    done = subprocess.run(
        [*command, "--project", str(project.root), *SETTINGS.split()],
        cwd=ROOT,
        env={**os.environ, "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    report = load_report(project, "dpd-1")
    assert report is not None
    return {**report.to_dict(), "seconds": 0.0, "manifest": ""}


@pytest.mark.slow
def test_two_processes_write_the_report_of_one(tmp_path: Path) -> None:
    alone = evaluate(make_project(tmp_path / "alone"))
    project = make_project(tmp_path / "shared")
    assert evaluate(project, *LAUNCH) == alone
    (job,) = [job for job in list_jobs(project) if job.config["stage"] == "evaluate"]
    assert "2 processes share the work" in (job.folder / "events.jsonl").read_text()
    # The distilled set, random and medoid; hard and soft labels; two seeds.
    assert len(list(project.path("reports", "parts").glob("*.json"))) == 12
