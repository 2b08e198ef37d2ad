"""The choice of a distilled set, as more than one tab offers it."""

from __future__ import annotations

from dpd_core.project import Project
from dpd_core.synthesize.sets import list_sets

NEWEST = "latest"
"""Stands for the set that was made last."""


def set_choices(project: Project) -> list[tuple[str, str]]:
    """(label, value) of the finished distilled sets, the newest first as :data:`NEWEST`."""
    choices = [(name, name) for name in list_sets(project)]
    record = project.record("synthesize")
    if record is not None:
        choices.insert(0, (f"newest ({record['result']['set']})", NEWEST))
    return choices
