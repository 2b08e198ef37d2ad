"""Choosing images and dividing them into train and test, by names and contents alone.

The order of a class is that of a hash of (seed, class, content). It depends neither on the
order of the files, nor on their names, nor on the other classes; adding an image moves no
other one except where the share rounds differently.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from dpd_core.seeding import derive_seed


class Identified(Protocol):
    """Something with an id and a digest."""

    @property
    def id(self) -> str:
        """Its id."""

    @property
    def sha256(self) -> str:
        """The digest of its bytes."""


@dataclass(frozen=True)
class Entry:
    """One usable image: ``side`` is its split if the source gives one."""

    id: str
    class_name: str
    sha256: str
    side: str | None = None


def by_class(entries: Iterable[Entry]) -> dict[str, list[Entry]]:
    """The entries of each class, in their order."""
    groups: dict[str, list[Entry]] = defaultdict(list)
    for entry in entries:
        groups[entry.class_name].append(entry)
    return dict(groups)


def shuffled(entries: Sequence[Entry], *, seed: int) -> list[Entry]:
    """The entries of one class in their seeded order; identical images are neighbours."""
    keys = {
        (entry.class_name, entry.sha256): derive_seed(seed, "split", entry.class_name, entry.sha256)
        for entry in entries
    }
    return sorted(
        entries, key=lambda entry: (keys[entry.class_name, entry.sha256], entry.sha256, entry.id)
    )


def limit(entries: Sequence[Entry], *, seed: int, per_class: int) -> list[Entry]:
    """The first ``per_class`` images of each class in seeded order (0: all of them).

    Where the source gives the split, train and test are limited each.
    """
    if not per_class:
        return list(entries)
    groups: dict[tuple[str, str | None], list[Entry]] = defaultdict(list)
    for entry in entries:
        groups[entry.class_name, entry.side].append(entry)
    kept = {
        entry.id for group in groups.values() for entry in shuffled(group, seed=seed)[:per_class]
    }
    return [entry for entry in entries if entry.id in kept]


def divide(entries: Sequence[Entry], *, seed: int, fraction: float) -> dict[str, str]:
    """``"train"`` or ``"test"`` by image id.

    Stratified: of each class ``fraction`` is for testing, at least one image, and at least one
    is left for training. Identical images stay together. A content found in two classes goes
    to train: its label is wrong somewhere, and a test must not depend on it. Where the source
    gives the split, that is kept.

    A class with too few different images gets none for testing; see :func:`too_small`.
    """
    disputed = _disputed(entries)
    sides = {entry.id: entry.side or "train" for entry in entries}
    for members in by_class(entries).values():
        free = [entry for entry in members if entry.side is None]
        wanted = int(fraction * len(free) + 0.5)
        if fraction > 0:
            wanted = max(1, wanted)
        groups: dict[str, list[Entry]] = defaultdict(list)
        for entry in shuffled(free, seed=seed):
            if entry.sha256 not in disputed:
                groups[entry.sha256].append(entry)
        contents = len({entry.sha256 for entry in free})
        taken = 0
        for number, group in enumerate(groups.values(), start=1):
            if taken >= wanted or number == contents:
                break
            sides.update({entry.id: "test" for entry in group})
            taken += len(group)
    return sides


def leaks(entries: Sequence[Entry]) -> dict[str, str]:
    """Train images whose very bytes are in the given test part: train id → test id."""
    tested = {entry.sha256: entry.id for entry in entries if entry.side == "test"}
    return {
        entry.id: tested[entry.sha256]
        for entry in entries
        if entry.side == "train" and entry.sha256 in tested
    }


def duplicates(entries: Iterable[Identified]) -> list[list[str]]:
    """Ids of images with identical bytes, in groups, sorted."""
    groups: dict[str, list[str]] = defaultdict(list)
    for entry in entries:
        groups[entry.sha256].append(entry.id)
    return sorted(sorted(ids) for ids in groups.values() if len(ids) > 1)


def too_small(
    classes: Iterable[str], sides: Mapping[str, str], entries: Sequence[Entry], *, tested: bool
) -> dict[str, str]:
    """Classes that lack images, with what they lack; ``tested``: every class needs test images."""
    counts = {name: {"train": 0, "test": 0} for name in classes}
    for entry in entries:
        counts[entry.class_name][sides[entry.id]] += 1
    faults = {}
    for name, count in counts.items():
        if not count["train"] and not count["test"]:
            faults[name] = "no usable image"
        elif not count["train"]:
            faults[name] = "no image to train on"
        elif tested and not count["test"]:
            faults[name] = "no image to test on"
    return faults


def _disputed(entries: Sequence[Entry]) -> set[str]:
    classes: dict[str, set[str]] = defaultdict(set)
    for entry in entries:
        classes[entry.sha256].add(entry.class_name)
    return {sha256 for sha256, names in classes.items() if len(names) > 1}
