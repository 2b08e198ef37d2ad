"""Stage 1, ``dataset``: find labelled images, check each, split them, and write the index.

from dpd_core.dataset.index import load_index
from dpd_core.dataset.pixels import pixels
from dpd_core.dataset.stage import run

run(project, DatasetConfig(data="EuroSAT_RGB"))
index = load_index(project)
train = pixels(project, index.select("train"), 64)
"""

from __future__ import annotations

import re
import shutil
import unicodedata
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from dpd_core import storage
from dpd_core.config import DatasetConfig
from dpd_core.dataset import bands, sources, splits, unchanged
from dpd_core.dataset.checking import Checked, check
from dpd_core.dataset.class_names import readable_name, readable_names
from dpd_core.dataset.found import Found, Item, Refusal
from dpd_core.dataset.hub import PRESETS
from dpd_core.dataset.index import (
    ClassInfo,
    DatasetIndex,
    ImageRecord,
    load_index,
    rename_class,
    write_index,
)
from dpd_core.dataset.pixels import make_thumbnails, open_record, pixels, thumbnail
from dpd_core.errors import ConfigError, DatasetError
from dpd_core.events import Emit, Log, ignore
from dpd_core.project import Project
from dpd_core.seeding import derive_seed

__all__ = [
    "PRESETS",
    "ClassInfo",
    "DatasetIndex",
    "ImageRecord",
    "Refusal",
    "load_index",
    "open_record",
    "pixels",
    "readable_name",
    "rename_class",
    "run",
    "thumbnail",
]


def run(project: Project, config: DatasetConfig, emit: Emit = ignore) -> dict[str, Any]:
    """Index the configured images.

    Every file is decoded once; what cannot be used is listed with its reason. A second run
    decodes only files that are new or changed, and does nothing if there are none.

    Returns:
        Numbers of ``classes``, ``train`` and ``test`` images, ``refused`` files, groups of
        ``duplicates``, images ``left_out`` by the settings; the ``source`` kind; how it was
        understood (``layout``, ``understood`` in words, and ``alternatives``); which ``bands`` are
        shown; ``notes``, what a person should know of the images, with how many it concerns; and
        ``content``, a digest of what the index says.

    Raises:
        ConfigError: no source, two sources, or bad bands.
        DatasetError: the source cannot be used; the message says what to do.
    """
    bands.check(config.bands)
    if config.validation and not config.test_fraction:
        raise ConfigError(
            "there is nothing to validate on.",
            where="dataset.test_fraction",
            fix="Give the share of the training images, like 0.25.",
        )
    before = unchanged.state(project, config)
    known = unchanged.recall(project, before)
    if known is not None:
        _say_layout(known["layout"], known["understood"], known["alternatives"], emit)
        emit(Log("dataset", "No file has changed since the last run, which is kept."))
        return known
    found = sources.find(project, config, emit)
    test = sources.find_test(project, config, emit) if config.test_data else None
    _say_layout(found.reading, found.text, found.others, emit)
    items = _joined(found, test)
    chosen = _choose_classes(items, config)
    usable, refused = _usable(chosen, check(project, chosen, config.bands, emit))
    refused = found.refused + (test.refused if test else []) + refused
    selection = _select(usable, chosen, refused, project.config.seed, config)
    notes = _notes(selection)
    _write(project, config, found, test, selection, notes)
    make_thumbnails(project, load_index(project).images, emit)
    _remove_other_copies(project, [found, test])
    result = _result(found, selection, notes, left_out=len(items) - len(chosen))
    _report(selection, notes, emit)
    copied = found.copy is not None or (test is not None and test.copy is not None)
    # What changed while it was read is not what is remembered.
    if not copied and unchanged.state(project, config) == before:
        unchanged.remember(project, before, result)
    return result


_ORDINARY = ("true colour, bands 1, 2, 3 (by the file)", "grey, band 1")
"""How ordinary photos are shown, which needs no word."""


@dataclass(frozen=True)
class _Usable:
    """An image that decodes."""

    item: Item
    checked: Checked

    @property
    def entry(self) -> splits.Entry:
        return splits.Entry(self.item.id, self.item.class_name, self.checked.sha256, self.item.side)


@dataclass(frozen=True)
class _Selection:
    """What goes into the index."""

    images: list[_Usable]
    sides: dict[str, str]
    refused: list[Refusal]
    duplicates: list[list[str]]
    left_out: int


def _joined(found: Found, test: Found | None) -> list[Item]:
    """All files of both sources, each with its own id."""
    items = list(found.items)
    if test is not None:
        if any(item.side == "test" for item in items):
            raise DatasetError(
                "the data has a test folder of its own, and test data was given as well.",
                where=found.data,
                fix="Give only its train folder as data, or no test data.",
            )
        items = [replace(item, side="train") for item in items] + test.items
    repeated = [name for name, count in Counter(item.id for item in items).items() if count > 1]
    if repeated:
        raise DatasetError(
            "two images would have the same name in the project.",
            where=repeated[0],
            fix="Rename one of them.",
        )
    return items


def _joined_names(parts: Sequence[str], available: Sequence[str]) -> list[str]:
    """The wanted names; parts that a comma in a name divided are joined again."""
    known = {re.sub(r"\s*,\s*", ",", name): name for name in available}
    names, index = [], 0
    while index < len(parts):
        ends = range(len(parts), index, -1)
        end = next((e for e in ends if ",".join(parts[index:e]) in known), index + 1)
        joined = ",".join(parts[index:end])
        names.append(known.get(joined, joined))
        index = end
    return names


def _choose_classes(items: Sequence[Item], config: DatasetConfig) -> list[Item]:
    """The files of the wanted classes.

    Raises:
        DatasetError: an unknown class, two that differ only in case, fewer than two, or a
            class without training images.
    """
    available = sorted({item.class_name for item in items})
    wanted_names = _joined_names(config.classes, available)
    unknown = sorted(set(wanted_names) - set(available))
    if unknown:
        raise DatasetError(
            f"there is no class {', '.join(unknown)}.",
            where="dataset.classes",
            fix=f"Available: {', '.join(available)}.",
        )
    wanted = sorted(set(wanted_names)) or available
    spellings: dict[str, str] = {}
    for name in wanted:
        plain = unicodedata.normalize("NFC", name).casefold()
        if plain in spellings:
            raise DatasetError(
                f"the classes '{spellings[plain]}' and '{name}' differ only in spelling.",
                where=config.data,
                fix="Merge the two folders, or rename one.",
            )
        spellings[plain] = name
    if len(wanted) < 2:
        raise DatasetError(
            f"only one class was found: {wanted[0]}.",
            where=config.data or "demo",
            fix="At least two are needed, each in a folder of its own.",
        )
    chosen = set(wanted)
    return [item for item in items if item.class_name in chosen]


def _usable(
    items: Sequence[Item], results: Sequence[Checked]
) -> tuple[list[_Usable], list[Refusal]]:
    usable, refused = [], []
    for item, checked in zip(items, results, strict=True):
        if checked.reason is None:
            usable.append(_Usable(item, checked))
        else:
            refused.append(Refusal(item.id, checked.reason))
    return usable, refused


def _select(
    usable: list[_Usable],
    chosen: Sequence[Item],
    refused: list[Refusal],
    seed: int,
    config: DatasetConfig,
) -> _Selection:
    """Limit and split.

    Raises:
        DatasetError: a class has too few images.
    """
    entries = [image.entry for image in usable]
    leaks = splits.leaks(entries)
    refused = refused + [
        Refusal(train, f"it is the same image as {test}, which is for testing.")
        for train, test in leaks.items()
    ]
    entries = [entry for entry in entries if entry.id not in leaks]
    kept = splits.limit(entries, seed=seed, per_class=config.max_per_class)
    sides = splits.divide(kept, seed=seed, fraction=config.test_fraction)
    if config.validation:
        kept = [replace(entry, side=None) for entry in kept if sides[entry.id] == "train"]
        sides = splits.divide(
            kept, seed=derive_seed(seed, "validation"), fraction=config.test_fraction
        )
    classes = sorted({item.class_name for item in chosen})
    given = any(item.side is not None for item in chosen)
    faults = splits.too_small(classes, sides, kept, tested=given or config.test_fraction > 0)
    if faults:
        listed = "; ".join(f"{name}: {fault}" for name, fault in faults.items())
        reasons = "".join(f" {entry.file}: {entry.reason}" for entry in refused[:3])
        raise DatasetError(
            f"some classes have too few images ({listed}).{reasons}",
            where=config.data or "demo",
            fix="Add images, choose other classes with --classes, or, if only test images are "
            "missing, give them with --test-data.",
        )
    return _Selection(
        images=[image for image in usable if image.item.id in sides],
        sides=sides,
        refused=refused,
        duplicates=splits.duplicates(kept),
        left_out=len(entries) - len(kept),
    )


def _write(
    project: Project,
    config: DatasetConfig,
    found: Found,
    test: Found | None,
    chosen: _Selection,
    notes: dict[str, str],
) -> None:
    def entry(image: _Usable) -> dict[str, Any]:
        item, checked = image.item, image.checked
        from_test = test is not None and item.side == "test"
        base = (test if test is not None and from_test else found).root or project.root
        required = {
            "id": item.id,
            "class": item.class_name,
            "split": chosen.sides[item.id],
            "file": item.path.relative_to(base).as_posix(),
            "sha256": checked.sha256,
            "width": checked.width,
            "height": checked.height,
        }
        caption = {} if item.caption is None else {"caption": item.caption}
        return required | caption | checked.origin.record()

    counts = Counter(
        (image.item.class_name, chosen.sides[image.item.id]) for image in chosen.images
    )
    names = readable_names(sorted({name for name, _ in counts}))
    images = sorted(chosen.images, key=lambda image: image.item.id)
    write_index(
        project,
        source={
            "kind": found.kind,
            "data": found.data,
            "licence": found.licence,
            "root": _text(found.root),
            "bands": list(config.bands),
            "layout": found.reading,
            "understood": found.text,
            "alternatives": found.others,
            "shown": _shown(chosen),
            "notes": notes,
            "test_data": config.test_data,
            "test_root": _text(test.root) if test else None,
        },
        classes={
            name: ClassInfo(readable, counts[name, "train"], counts[name, "test"])
            for name, readable in names.items()
        },
        count=len(chosen.images),
        images=lambda: map(entry, images),
        refused=chosen.refused,
    )


def _text(path: Path | None) -> str | None:
    return None if path is None else path.as_posix()


def _result(
    found: Found, chosen: _Selection, notes: dict[str, str], *, left_out: int
) -> dict[str, Any]:
    sides = Counter(chosen.sides.values())
    content = sorted(
        (image.item.id, image.checked.sha256, chosen.sides[image.item.id])
        for image in chosen.images
    )
    return {
        "source": found.kind,
        "classes": len({image.item.class_name for image in chosen.images}),
        "train": sides["train"],
        "test": sides["test"],
        "refused": len(chosen.refused),
        "duplicates": len(chosen.duplicates),
        "left_out": left_out + chosen.left_out,
        "layout": found.reading,
        "understood": found.text,
        "alternatives": found.others,
        "bands": _shown(chosen),
        "notes": notes,
        "content": storage.digest(content),
    }


def _say_layout(reading: str, text: str, others: Mapping[str, str], emit: Emit) -> None:
    """How the source was understood, and what else it could be: a warning if anything."""
    if text:
        emit(Log("dataset", f"Understood as {reading}: {text}."))
    if others:
        listed = "; ".join(f"--layout {name}: {text}" for name, text in others.items())
        emit(Log("dataset", f"It could also be read as: {listed}.", "warning"))


def _shown(chosen: _Selection) -> str:
    """Which bands are shown of most images, and of how many other ones."""
    counts = Counter(image.checked.bands for image in chosen.images)
    return "; ".join(
        text if len(counts) == 1 else f"{text} ({count} images)"
        for text, count in counts.most_common(3)
    )


def _notes(chosen: _Selection) -> dict[str, str]:
    """What a person should know of the images → how many, and one of them."""
    by_note: dict[str, list[str]] = {}
    for image in chosen.images:
        for note in image.checked.notes:
            by_note.setdefault(note, []).append(image.item.id)
    return {
        note: f"{len(ids)} of {len(chosen.images)} images, like {ids[0]}"
        for note, ids in sorted(by_note.items())
    }


def _report(chosen: _Selection, notes: dict[str, str], emit: Emit) -> None:
    if any(image.checked.bands not in _ORDINARY for image in chosen.images):
        emit(Log("dataset", f"Shown: {_shown(chosen)}."))
    for note, which in notes.items():
        emit(Log("dataset", f"{which}: {note}", "warning"))
    if chosen.refused:
        first = "; ".join(f"{entry.file}: {entry.reason}" for entry in chosen.refused[:3])
        emit(Log("dataset", f"{len(chosen.refused)} files are not used. {first}", "warning"))
    if chosen.duplicates:
        copies = sum(len(group) - 1 for group in chosen.duplicates)
        emit(
            Log(
                "dataset",
                f"{copies} images are exact copies of others; copies are never "
                "on both sides of the split.",
            )
        )


def _remove_other_copies(project: Project, used: Sequence[Found | None]) -> None:
    """Delete copies of sources that the index does not point to any more."""
    keep = {found.copy for found in used if found is not None}
    folder = project.path("dataset")
    copies = [folder / "demo", *folder.glob("archive/*"), *folder.glob("hub/*")]
    for copy in copies:
        if copy not in keep:
            shutil.rmtree(copy, ignore_errors=True)
