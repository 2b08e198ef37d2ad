"""Putting a stage on record in a test, as a job does at its end."""

from typing import Any

from dpd_core.pipeline.staleness import inputs_now
from dpd_core.project import Project
from dpd_core.settings import StageConfig


def finish(project: Project, stage: str, config: StageConfig, result: dict[str, Any]) -> str:
    """Put a stage on record as made from what stands now; returns its id."""
    return project.finish(stage, config, result, inputs=inputs_now(project, stage))
