"""A project with a caption for each prototype."""

from pathlib import Path

import pytest

from dpd_core.captions.stage import run
from dpd_core.config import CaptionsConfig
from dpd_core.project import Project
from tests.support.caption_project import make_project


@pytest.fixture
def captioned(tmp_path: Path) -> Project:
    project = make_project(tmp_path / "project", classes=("harbor", "airplane"))
    run(project, CaptionsConfig(mode="template"))
    return project
