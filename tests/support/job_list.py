"""The jobs of a project."""

from __future__ import annotations

from dpd_core.controls import Job
from dpd_core.project import Project


def list_jobs(project: Project) -> list[Job]:
    """All that have begun, oldest first."""
    return [job for job in Job.all_in(project.root) if job.begun]
