"""A project and a folder of two classes."""

from pathlib import Path

import pytest

from dpd_core.project import Project
from tests.support.image_folders import fill


@pytest.fixture
def project(tmp_path: Path) -> Project:
    return Project.create(tmp_path / "project")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return fill(tmp_path / "data", {"forest": 8, "parkinglot": 6})
