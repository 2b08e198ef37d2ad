"""What the finished sets of a project score, for tables that compare runs."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import Any

from dpd_core.errors import DPDError
from dpd_core.evaluate.report import Report, load_report, reported_sets
from dpd_core.project import Project
from dpd_core.synthesize.sets import list_sets, read_manifest, set_folder

log = logging.getLogger(__name__)

MOST = 24
"""Most sets that are compared: the newest ones."""


@dataclass(frozen=True)
class SetScore:
    """A finished set.

    Attributes:
        name, strategy, settings, adapter: See :class:`dpd_core.synthesize.records.Manifest`.
        images: Its size.
        right: How many the latent classifier names right.
        report: What it scores, if that was measured.
    """

    name: str
    strategy: str
    settings: dict[str, Any]
    adapter: str | None
    images: int
    right: int
    report: Report | None

    @property
    def accuracy(self) -> float | None:
        """Mean accuracy of students from scratch."""
        if self.report is None:
            return None
        return next((found.mean for found in self.report.accuracy.values()), None)

    @property
    def pretrained(self) -> float | None:
        """Mean accuracy of the pretrained student."""
        if self.report is None:
            return None
        return next((found.mean for found in self.report.accuracy_pretrained.values()), None)

    @property
    def fid(self) -> float | None:
        """Distance to the real test split."""
        if self.report is None or self.report.distribution is None:
            return None
        return next((one.fid.value for one in self.report.distribution.sets.values()), None)

    @property
    def nearer(self) -> float | None:
        """Share of the images that are nearer to a real one than new images are."""
        if self.report is None or self.report.privacy is None:
            return None
        return self.report.privacy.share


def set_scores(project: Project) -> list[SetScore]:
    """The finished sets, the newest first; one that cannot be read is left out."""

    def changed(name: str) -> int:
        return (set_folder(project, name) / "manifest.json").stat().st_mtime_ns

    measured = set(reported_sets(project))
    found = []
    for name in sorted(list_sets(project), key=changed, reverse=True)[:MOST]:
        try:
            manifest = read_manifest(set_folder(project, name))
            report = load_report(project, name) if name in measured else None
        except DPDError as error:
            log.debug("not compared: %s", error)
            continue
        right = sum(record.is_right for record in manifest.slots)
        found.append(
            SetScore(
                name,
                manifest.strategy,
                manifest.settings,
                manifest.adapter,
                len(manifest.slots),
                right,
                report,
            )
        )
    return found


def best_accuracy(scores: list[SetScore]) -> dict[str, float]:
    """By adapter, the best accuracy of a set that was made with it."""
    best: dict[str, float] = {}
    for found in scores:
        if found.adapter is not None and found.accuracy is not None:
            best[found.adapter] = max(best.get(found.adapter, 0.0), found.accuracy)
    return best
