"""Jobs: a stage run, and what it leaves."""

import os
from pathlib import Path

import pytest

from dpd_core.config import DatasetConfig
from dpd_core.errors import DPDError
from dpd_core.pipeline import jobs
from dpd_core.project import Project


def test_run_stage_tidies_up_first(tmp_path: Path) -> None:
    project = Project.create(tmp_path / "p")
    part = project.path(".part-abcdefgh.json")
    part.write_text("x")
    os.utime(part, (0, 0))
    with pytest.raises(DPDError):
        jobs.run_stage(project, "dataset", DatasetConfig())
    assert not part.exists()
