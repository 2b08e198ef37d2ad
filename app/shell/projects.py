"""What the sidebar does to projects: change what all stages share, and notice such changes."""

from __future__ import annotations

from collections.abc import Sequence

from app.ui.messages import in_words
from dpd_core import storage
from dpd_core.config import ProjectConfig
from dpd_core.errors import DPDError
from dpd_core.hardware import choose_hardware
from dpd_core.project import Project


def token(project: Project, names: Sequence[str]) -> str:
    """Changes with the project, its shared settings, and the list of projects."""
    return storage.digest(str(project.root), list(names), project.config.to_dict())


def configure(project: Project, config: ProjectConfig) -> str:
    """Change what all stages share; returns what that means, for the visitor.

    Raises:
        ConfigError: the device asked for is not there.
        ProjectError: a stage is running.
    """
    choose_hardware(config)
    if config == project.config:
        return "Nothing was changed."
    with project.lock():
        project.configure(config)
    return "Saved. Stages that were finished are out of date until they run again."


def hardware(project: Project) -> str:
    """Device, number format and the reason for both, in one sentence."""
    try:
        found = choose_hardware(project.config)
    except DPDError as error:
        return in_words(error)
    return f"{found.device}, {str(found.dtype).split('.')[1]}: {found.reason}."
