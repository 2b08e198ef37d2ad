"""What people change between two runs of a stage, as inputs of the stages that read it.

Stages record from what they were made. The results of earlier stages are one half of that; the
other is what people write into the project by hand, at any time, while no stage runs or while
one does: chosen and excluded prototypes, corrected classes, captions, class names in words, images
of a distilled set. Each has a digest here, so that a stage made from other choices than those that
stand now is not current any more.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property
from typing import Any

from dpd_core import storage
from dpd_core.captions.stage import captions_digest
from dpd_core.dataset.labels import read_labels
from dpd_core.errors import DPDError, StageMissing
from dpd_core.project import Project
from dpd_core.synthesize.edits import choices
from dpd_core.train.adapters import chosen_adapter


def overrides_digest(project: Project) -> str:
    """Digest of ``prototypes/overrides.json``; an empty file of choices counts as none."""
    path = project.path("prototypes", "overrides.json")
    if not path.exists():
        return ""
    content = storage.read_json(path)
    if not isinstance(content, dict):
        return storage.digest("not a file of choices", content)
    excluded, chosen = content.get("excluded") or [], content.get("chosen") or {}
    if isinstance(excluded, list) and all(isinstance(one, str) for one in excluded):
        excluded = sorted(set(excluded))
    if isinstance(chosen, dict):
        chosen = {name: clusters for name, clusters in chosen.items() if clusters}
    return storage.digest(excluded, chosen) if excluded or chosen else ""


def labels_digest(project: Project) -> str:
    """Digest of ``dataset/labels.json``, the classes that people corrected."""
    labels = read_labels(project)
    return storage.digest(labels) if labels else ""


def texts_digest(project: Project) -> str:
    """Digest of the captions as they stand; without prototypes there are none."""
    try:
        return captions_digest(project)
    except StageMissing:
        return ""


def names_digest(project: Project) -> str:
    """Digest of ``dataset/names.json``, the class names that people wrote."""
    path = project.path("dataset", "names.json")
    names = storage.read_json(path) if path.exists() else {}
    return storage.digest(names) if names else ""


def adapter_digest(project: Project) -> str:
    """Digest of the adapter that was chosen by hand."""
    name = chosen_adapter(project)
    return storage.digest(name) if name else ""


DIGESTS: dict[str, Callable[[Project], str]] = {
    "overrides": overrides_digest,
    "labels": labels_digest,
    "texts": texts_digest,
    "names": names_digest,
    "adapter": adapter_digest,
}
"""Digest by the name under which stages record it."""

READ_BY: dict[str, tuple[str, ...]] = {
    "prototypes": ("overrides", "labels"),
    "captions": ("names",),
    "train": ("texts",),
    "synthesize": ("texts", "adapter"),
}
"""The hand-made inputs that a stage reads itself; later stages depend on them through it."""


READ_SETS = ("evaluate", "export")
"""The stages that read one distilled set, whose images people may have chosen."""

_SET = "set "
"""Before a set's name, in the names of the digests of sets."""


class HandEdits:
    """The digests of a project, each computed once, when first asked for."""

    def __init__(self, project: Project):
        self.project = project
        self._known: dict[str, str] = {}

    def of(self, stage: str) -> dict[str, str]:
        """The digests that a stage depends on, by name.

        A file that cannot be read has a digest of its own, which no record holds: the stage is
        not current, and running it says what is wrong.
        """
        found = {name: self._digest(name) for name in READ_BY.get(stage, ())}
        if stage in READ_SETS:
            found |= {f"{_SET}{name}": digest for name, digest in self._sets.items()}
        return found

    @cached_property
    def _sets(self) -> dict[str, str]:
        try:
            return choices(self.project)
        except DPDError as error:
            return {"": storage.digest("unreadable", error.what)}

    def _digest(self, name: str) -> str:
        if name not in self._known:
            try:
                self._known[name] = DIGESTS[name](self.project)
            except DPDError as error:
                self._known[name] = storage.digest("unreadable", name, error.what)
        return self._known[name]


def matches(recorded: dict[str, Any], now: dict[str, str], *, used: str | None = None) -> bool:
    """Whether a stage's recorded inputs are those of now.

    Records of earlier versions hold no hand-made inputs; what is not on record is not compared.

    Args:
        recorded, now: Digests by name.
        used: The distilled set that the stage has read; changes in other sets do not count.
    """
    # No earlier version could change a set, so one that is not on record was unchanged.
    return all(
        recorded.get(name, "" if name.startswith(_SET) else value) == value
        for name, value in now.items()
        if not name.startswith(_SET) or name == f"{_SET}{used}"
    )
