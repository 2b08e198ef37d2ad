"""What a person decides image by image: prototypes, exclusions, classes; with undo.

Decisions are kept by image id in ``prototypes/overrides.json`` and ``dataset/labels.json``; the
stage ``prototypes`` puts them in when it runs next, and is out of date until then. Each is also a
line of ``prototypes/decisions.jsonl`` (append-only) with what it changed, so that it can be undone
after any restart. An excluded image stays in the data set and on the map, but nothing is clustered,
captioned or trained with it. The baselines of the stage ``evaluate`` still draw from it: they say
what the collection gives as it came.
"""

from __future__ import annotations

import contextlib
import datetime
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

from filelock import FileLock

from dpd_core import storage
from dpd_core.dataset.index import DatasetIndex, ImageRecord, load_index
from dpd_core.dataset.labels import read_labels, write_labels
from dpd_core.errors import DatasetError, ProjectError, StageMissing
from dpd_core.project import Project
from dpd_core.prototypes.changes import snapshot
from dpd_core.prototypes.overrides import Overrides, read_overrides, write_overrides

__all__ = [
    "Decision",
    "choose_prototype",
    "decisions",
    "exclude",
    "include",
    "move_to_class",
    "release_prototype",
    "undo",
]

_LOG = ("prototypes", "decisions.jsonl")


@dataclass(frozen=True)
class Decision:
    """One thing decided.

    Attributes:
        number: From 1, in the order of time.
        when: UTC, ISO 8601.
        action: ``choose``, ``release``, ``exclude``, ``include`` or ``move``.
        ids: The images.
        class_name: Where to, for ``move``.
        undone: Whether it was taken back.
    """

    number: int
    when: str
    action: str
    ids: tuple[str, ...]
    class_name: str = ""
    undone: bool = False


def choose_prototype(project: Project, image_id: str) -> Decision:
    """Make an image the prototype of its cluster, now and in every clustering to come.

    An earlier choice for the same cluster is given up.

    Raises:
        DatasetError: no such image, a test image, or one that is excluded.
        ProjectError: the file of the choices is damaged.
        StageMissing: there are no (readable) clusters yet.
    """
    with _deciding(project) as state:
        record = state.train_images([image_id])[0]
        if image_id in state.overrides.excluded:
            raise DatasetError(
                "the image is excluded from training.",
                where=image_id,
                fix="Include it again first.",
            )
        left = snapshot(project)
        if left is None:
            raise StageMissing(
                "there are no clusters yet.",
                where=project.root,
                fix="Run the stage 'prototypes' first.",
            )
        clusters = {i: k for i, (name, k) in left.clusters.items() if name == record.class_name}
        cluster = clusters.get(image_id)
        if cluster is None:
            raise DatasetError(
                "the image is in no cluster of its class yet.",
                where=image_id,
                fix="Run the stage 'prototypes' first; it was moved or included since.",
            )
        others = [
            (number, chosen_id)
            for number, chosen_id in state.overrides.chosen.get(record.class_name, {}).items()
            if chosen_id != image_id and clusters.get(chosen_id) != cluster
        ]
        chosen = {cluster: image_id}
        for number, chosen_id in others:
            # Under the number of its cluster now, or the next free one.
            number = clusters.get(chosen_id, number)
            while number in chosen:
                number += 1
            chosen[number] = chosen_id
        state.choose(record.class_name, chosen)
        return state.decide("choose", [image_id])


def release_prototype(project: Project, image_id: str) -> Decision:
    """Give up that an image was chosen by hand: its cluster's representative takes its place.

    Raises:
        DatasetError: the image was not chosen by hand.
    """
    with _deciding(project) as state:
        if not state.drop_choices({image_id}):
            raise DatasetError(
                "the image was not chosen by hand.",
                where=image_id,
                fix="Reload the page; it may have been released already.",
            )
        return state.decide("release", [image_id])


def exclude(project: Project, ids: Sequence[str]) -> Decision:
    """Leave training images out of clustering, captions and training.

    Raises:
        DatasetError: no such image, a test image, or a class would have no image left.
    """
    with _deciding(project) as state:
        state.train_images(ids)
        state.drop_choices(set(ids))
        state.overrides = replace(state.overrides, excluded=state.overrides.excluded | set(ids))
        state.check_classes()
        return state.decide("exclude", ids)


def include(project: Project, ids: Sequence[str]) -> Decision:
    """Take excluded images in again.

    Raises:
        DatasetError: none of them is excluded.
    """
    with _deciding(project) as state:
        if not state.overrides.excluded & set(ids):
            raise DatasetError("none of these images is excluded.", fix="Select excluded ones.")
        state.overrides = replace(state.overrides, excluded=state.overrides.excluded - set(ids))
        return state.decide("include", ids)


def move_to_class(project: Project, ids: Sequence[str], class_name: str) -> Decision:
    """Correct the class of images, of either split. Moving one back removes the correction.

    Raises:
        DatasetError: no such image or class, or a class would have no image left.
    """
    with _deciding(project) as state:
        state.records(ids)
        if class_name not in state.index.classes:
            known = ", ".join(state.index.classes)
            raise DatasetError(
                "there is no such class.", where=class_name, fix=f"Known classes: {known}."
            )
        for image_id in ids:
            state.labels[image_id] = class_name
        state.drop_choices(set(ids), unless=class_name)
        state.check_classes()
        return state.decide("move", ids, class_name)


def undo(project: Project) -> Decision:
    """Take back the last decision that stands.

    Raises:
        ProjectError: there is none, or the files were changed by other means since.
    """
    with _deciding(project) as state:
        standing = [decision for decision in decisions(project) if not decision.undone]
        if not standing:
            raise ProjectError("there is nothing to undo.", where=project.root)
        last = standing[-1]
        lines = storage.read_json_lines(project.path(*_LOG))
        line = next(entry for entry in lines if entry.get("number") == last.number)
        state.take_back(line["facts"])
        state.write()
        state.append({"undo": last.number, "when": _now()})
        return replace(last, undone=True)


def decisions(project: Project) -> list[Decision]:
    """Everything decided, oldest first.

    Raises:
        ProjectError: the log is damaged.
    """
    path = project.path(*_LOG)
    fix = "Restore it from a copy, or delete it; what was decided stays, without undo."
    lines = storage.read_json_lines(path)
    try:
        undone = {int(line["undo"]) for line in lines if "undo" in line}
        return [
            Decision(
                int(line["number"]),
                str(line["when"]),
                str(line["action"]),
                tuple(line["ids"]),
                str(line["class"]),
                int(line["number"]) in undone,
            )
            for line in lines
            if "undo" not in line
        ]
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise ProjectError("not a log of decisions.", where=path, fix=fix) from error


@contextlib.contextmanager
def _deciding(project: Project) -> Iterator[_State]:
    """The state under a lock, so that two tabs cannot lose each other's decisions."""
    path = project.path(*_LOG)
    with storage.writable(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(path.with_name(".decisions.lock")):
            yield _State(project)


class _State:
    """The overrides and the labels while they are being changed."""

    def __init__(self, project: Project):
        self.project = project
        self.index: DatasetIndex = load_index(project)
        self.overrides: Overrides = read_overrides(project)
        self.labels: dict[str, str] = read_labels(project)
        self._before = self._facts()

    def records(self, ids: Sequence[str]) -> list[ImageRecord]:
        """The images, which must exist."""
        if not ids:
            raise DatasetError("no image is selected.", fix="Select at least one.")
        for image_id in ids:
            if image_id not in self.index.by_id:
                raise DatasetError(
                    "there is no such image.",
                    where=image_id,
                    fix="Reload the page; the data set may have changed.",
                )
        return [self.index.by_id[image_id] for image_id in ids]

    def train_images(self, ids: Sequence[str]) -> list[ImageRecord]:
        """The images, which must be for training."""
        records = self.records(ids)
        for record in records:
            if record.split != "train":
                raise DatasetError(
                    "it is a test image, which is never trained on.",
                    where=record.id,
                    fix="Select training images.",
                )
        return records

    def choose(self, class_name: str, chosen: dict[int, str]) -> None:
        """Set a class's choices."""
        self.overrides = replace(
            self.overrides, chosen={**self.overrides.chosen, class_name: chosen}
        )

    def drop_choices(self, ids: set[str], *, unless: str | None = None) -> bool:
        """Forget that images were chosen, but for those of one class; whether any was."""
        kept = {
            name: {k: i for k, i in clusters.items() if i not in ids or name == unless}
            for name, clusters in self.overrides.chosen.items()
        }
        changed = kept != self.overrides.chosen
        self.overrides = replace(self.overrides, chosen=kept)
        return changed

    def check_classes(self) -> None:
        """Refuse what would leave a class without images to train on, or to test on if it has
        some now."""
        before = Counter((record.class_name, record.split) for record in self.index.images)
        after = Counter(
            (self.labels.get(record.id, record.class_name), record.split)
            for record in self.index.images
            if record.split == "test" or record.id not in self.overrides.excluded
        )
        for (name, split), count in before.items():
            if count and not after[name, split]:
                raise DatasetError(
                    f"the class would have no {split} image left.",
                    where=name,
                    fix="Leave at least one in it.",
                )

    def decide(self, action: str, ids: Sequence[str], class_name: str = "") -> Decision:
        """Write the files and the log."""
        self._drop_needless_labels()
        facts = self._facts()
        changed = {
            name: [self._before.get(name), facts.get(name)]
            for name in sorted(self._before.keys() | facts.keys())
            if self._before.get(name) != facts.get(name)
        }
        number = len(decisions(self.project)) + 1
        decision = Decision(number, _now(), action, tuple(ids), class_name)
        self.write()
        self.append(
            {
                "number": number,
                "when": decision.when,
                "action": action,
                "ids": list(ids),
                "class": class_name,
                "facts": changed,
            }
        )
        return decision

    def write(self) -> None:
        """Write those of the two files that differ."""
        if read_overrides(self.project) != self.overrides:
            write_overrides(self.project, self.overrides)
        if read_labels(self.project) != self.labels:
            write_labels(self.project, self.labels)

    def append(self, line: dict[str, Any]) -> None:
        """Append to the log."""
        storage.append_json_lines(self.project.path(*_LOG), [line], sync=True)

    def take_back(self, changed: dict[str, list[Any]]) -> None:
        """Set facts to what they were, if they still are what they became."""
        facts = self._facts()
        for name, (before, after) in changed.items():
            if facts.get(name) != after:
                raise ProjectError(
                    "what was decided has been changed by other means since.",
                    where=name,
                    fix="Decide anew instead of undoing.",
                )
            if before is None:
                facts.pop(name, None)
            else:
                facts[name] = before
        parts = [(*name.split(":", 1), value) for name, value in facts.items()]
        self.overrides = Overrides(
            frozenset(key for kind, key, _ in parts if kind == "excluded"),
            {
                key: {int(k): i for k, i in value.items()}
                for kind, key, value in parts
                if kind == "chosen"
            },
        )
        self.labels = {key: value for kind, key, value in parts if kind == "class"}

    def _facts(self) -> dict[str, Any]:
        """The state as single facts, to be compared one by one."""
        return {
            **{f"excluded:{i}": True for i in self.overrides.excluded},
            **{f"class:{i}": name for i, name in self.labels.items()},
            **{
                f"chosen:{name}": {str(k): i for k, i in clusters.items()}
                for name, clusters in self.overrides.chosen.items()
                if clusters
            },
        }

    def _drop_needless_labels(self) -> None:
        """A correction to the class that the collection gives is none."""
        original = load_index(self.project, corrected=False).by_id
        self.labels = {
            i: name
            for i, name in self.labels.items()
            if i not in original or original[i].class_name != name
        }


def _now() -> str:
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
