"""Comparing a new clustering with the one it replaces.

Clusters have no identity beyond their members, so they are compared by the images that stand
together in one (adjusted Rand index, Hubert and Arabie, 1985), and prototypes by image.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict

from sklearn.metrics import adjusted_rand_score

from dpd_core import storage
from dpd_core.project import Project
from dpd_core.prototypes.changes import (
    Changes,
    ClassChange,
    Snapshot,
    changes_with,
    save_changes,
)
from dpd_core.prototypes.overrides import HandChoice


def compare(
    before: Snapshot | None, after: Snapshot, choices: Sequence[HandChoice] = ()
) -> Changes:
    """The changes from one clustering to another."""
    if before is None:
        return Changes(choices=tuple(choices))
    settings = {
        name: (before.settings[name], value)
        for name, value in after.settings.items()
        if name in before.settings and before.settings[name] != value
    }
    names = sorted(set(before.prototypes) | set(after.prototypes))
    return Changes(
        False, settings, tuple(_class_change(n, before, after) for n in names), tuple(choices)
    )


def record_changes(
    project: Project, before: Snapshot | None, after: Snapshot, choices: Sequence[HandChoice]
) -> Changes:
    """Compare and write ``changes.json``.

    A run that comes to the very result of the last one leaves the file as it is: it is that
    result's comparison with its predecessor, also if the run was killed half-way in between.
    """
    key = storage.digest(
        after.settings, after.prototypes, after.clusters, [asdict(choice) for choice in choices]
    )
    known = changes_with(project, key)
    if known is not None:
        return known
    changes = compare(before, after, choices)
    save_changes(project, key, changes)
    return changes


def _class_change(name: str, before: Snapshot, after: Snapshot) -> ClassChange:
    old, new = before.prototypes.get(name, []), after.prototypes.get(name, [])
    was, now = _clusters_of(before.clusters, name), _clusters_of(after.clusters, name)
    return ClassChange(
        name,
        kept=tuple(i for i in new if i in old),
        added=tuple(i for i in new if i not in old),
        removed=tuple(i for i in old if i not in new),
        joined=len(now.keys() - was.keys()),
        left=len(was.keys() - now.keys()),
        agreement=_agreement(was, now),
    )


def _clusters_of(clusters: Mapping[str, tuple[str, int]], name: str) -> dict[str, int]:
    return {i: cluster for i, (class_name, cluster) in clusters.items() if class_name == name}


def _agreement(was: Mapping[str, int], now: Mapping[str, int]) -> float | None:
    common = sorted(was.keys() & now.keys())
    if len(common) < 2:
        return None
    score = adjusted_rand_score([was[i] for i in common], [now[i] for i in common])
    return round(float(score), 4)
