"""The reports that the stage ``evaluate`` leaves, for those who read them and compute nothing."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from dpd_core import storage
from dpd_core.project import Project


def report_path(project: Project, set_name: str) -> Path:
    """Where the report of a distilled set lies."""
    return project.path("reports", f"{storage.safe_name(set_name)}.json")


def load_report(project: Project, set_name: str) -> dict[str, Any] | None:
    """The report of a distilled set, ``None`` if it has not been evaluated."""
    path = report_path(project, set_name)
    if not path.exists():
        return None
    kinds = {"set": str, "protocol": dict, "accuracy": dict, "confusion": dict, "notes": list}
    return storage.read_record(path, kinds, fix="Run the stage 'evaluate' again.")
