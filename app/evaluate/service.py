"""What the tab of the stage ``evaluate`` asks of the core."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from app.ui.sets import set_choices
from dpd_core.config import EvaluateConfig
from dpd_core.dataset.index import load_index
from dpd_core.errors import DPDError, ProjectError
from dpd_core.evaluate.baselines import get_baseline
from dpd_core.evaluate.report import Report, load_report, reported_sets
from dpd_core.project import Project
from dpd_core.prototypes.files import Slot
from dpd_core.synthesize.sets import DistilledSet

NEWEST = "latest"
"""Stands for the report that was written last."""


def evaluated_sets(project: Project) -> list[str]:
    """Names of the sets that have a report, the one measured last first."""
    names = reported_sets(project)
    record = project.record("evaluate")
    if record is not None and (last := record["result"]["set"]) in names:
        names.remove(last)
        names.insert(0, last)
    return names


def reports(project: Project, names: Sequence[str]) -> list[Report]:
    """The reports of some sets.

    Args:
        names: Names of sets; :data:`NEWEST` is the one measured last. Repeated ones count once.

    Raises:
        ProjectError: a set has no report.
    """
    known = evaluated_sets(project)
    wanted = dict.fromkeys(known[0] if name == NEWEST and known else name for name in names)
    found = []
    for name in wanted:
        report = load_report(project, name) if name in known else None
        if report is None:
            raise ProjectError(
                f"the set {name!r} has no report.", where=project.root, fix="Evaluate it first."
            )
        found.append(report)
    return found


def changed_since(project: Project, report: Report) -> bool:
    """Whether the set is not any more the one that the report measured."""
    try:
        distilled = DistilledSet.load(project, report.set)
    except DPDError:
        return True
    return report.manifest != distilled.digest


def config_for(
    project: Project, config: EvaluateConfig, set_name: str | None, baselines: Sequence[str]
) -> EvaluateConfig:
    """The settings with a set and baselines chosen on the page.

    Raises:
        ProjectError: no set is chosen, or it is gone.
        ConfigError: unknown baseline.
    """
    if not set_name or set_name not in [value for _, value in set_choices(project)]:
        raise ProjectError(
            "there is no distilled set to measure.",
            fix="Make one in the tab Synthesize, or choose another.",
        )
    for name in baselines:
        get_baseline(name)
    return config.replace(set_name=set_name, baselines=tuple(baselines))


def readable_names(project: Project) -> Callable[[str], str]:
    """Maps a class name to its name in words; an unknown one to itself."""
    try:
        classes = load_index(project).classes
    except DPDError:
        classes = {}
    return lambda name: classes[name].readable if name in classes else name


@dataclass(frozen=True)
class Slots:
    """Where a set's images lie and what they were made from, by slot."""

    paths: dict[Slot, Path]
    prototypes: dict[Slot, str]


def slots(project: Project, set_name: str) -> Slots:
    """The slots of a set; empty if the set is gone."""
    try:
        distilled = DistilledSet.load(project, set_name)
    except DPDError:
        return Slots({}, {})
    return Slots(
        {record.slot: distilled.path(record) for record in distilled.slots},
        {record.slot: record.prototype_id for record in distilled.slots},
    )
