"""How a tree of files is understood: which class and split each image has, and why.

One understanding for folders, archives, Hub snapshots and whatever else comes as paths. A pure
function of the paths, the tables of labels among them and the user's choice; it opens no file.

Readings, as ``--layout`` names them::

    top        a folder a class, deeper folders belong to it      forest/2020/1.jpg
    leaf       the innermost folders are the classes              water/river/1.jpg
    path       both together: "water river"
    table      a table says the classes                           labels.csv, metadata.jsonl
    names      the beginnings of the file names are the classes   forest_001.jpg
    sidecars   a file beside each image says its class            0001.jpg, 0001.cls

``FOLDER/`` before it, or alone, takes only what lies in folders of that name; ``table:NAME`` takes
one table (by file name) or one of its columns.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import PurePosixPath

from dpd_core.dataset import folders, table_links, words
from dpd_core.dataset.found import class_name
from dpd_core.dataset.table_links import Linked
from dpd_core.dataset.tables import Table
from dpd_core.errors import DatasetError

READINGS = (*folders.READINGS, "table", "names", "sidecars")

HELP = (
    "Put each class into a folder of its own, named like the class: forest/1.jpg, river/2.jpg; "
    "or the same below train/ and test/; or put a table labels.csv beside the images, with the "
    "columns file_name and label."
)

_MOSTLY = 0.5
_NEARLY_ALL = 0.9
_MOST_OFFERED = 6


@dataclass(frozen=True)
class Labelled:
    """What is known of one image: its class, its name in it, its split and caption if known."""

    path: PurePosixPath
    class_name: str
    name: str
    side: str | None = None
    caption: str | None = None


@dataclass(frozen=True)
class Layout:
    """A tree of files, understood.

    Attributes:
        reading: What ``--layout`` calls it.
        text: The same in a sentence.
        images: The labelled images.
        left: Images that are not used, each with the reason.
        others: What else it could be: ``--layout`` to sentence.
        tables: The tables that name images.
    """

    reading: str
    text: str
    images: list[Labelled]
    left: list[tuple[PurePosixPath, str]] = field(default_factory=list)
    others: dict[str, str] = field(default_factory=dict)
    tables: frozenset[PurePosixPath] = frozenset()


@dataclass(frozen=True)
class Sidecars:
    """What files beside the images say: class and caption by image."""

    labels: Mapping[PurePosixPath, str] = field(default_factory=dict)
    captions: Mapping[PurePosixPath, str] = field(default_factory=dict)


def understand(
    paths: Sequence[PurePosixPath],
    found: Sequence[Table] = (),
    sidecars: Sidecars | None = None,
    *,
    choice: str = "",
    data: str = "",
) -> Layout:
    """Read classes and splits from the places of images and from tables.

    Args:
        paths: The images, relative to the root.
        found: The tables beside them.
        sidecars: What files beside single images say.
        choice: ``--layout``; empty: decided here, or refused where it cannot be.
        data: Name of the source for messages.

    Raises:
        DatasetError: nothing says the classes, the choice does not fit, or several readings are
            as good.
    """
    folder, reading, detail = _parse(choice)
    if folder:
        inner = folders.inside(paths, folder)
        if not inner:
            raise DatasetError(
                f"no image lies in a folder {folder}.", where=data, fix="Choose another --layout."
            )
        outside = set(paths) - set(inner)
        layout = _Reader(inner, found, sidecars, detail, data, only=folder).read(reading)
        left = [(path, f"it is not in {folder}/, which was chosen.") for path in sorted(outside)]
        prefix = f"{folder}/{reading}" if reading else f"{folder}/"
        return replace(layout, reading=prefix, left=[*layout.left, *left])
    return _Reader(paths, found, sidecars, detail, data).read(reading)


def _parse(choice: str) -> tuple[str, str, str]:
    """Folder, reading and detail of a ``--layout``."""
    text = choice.strip().replace("\\", "/")
    folder, _, last = text.rpartition("/")
    reading, _, detail = last.partition(":")
    if reading and reading not in READINGS and reading != "parquet":
        raise DatasetError(
            f"there is no layout {choice!r}.",
            where="dataset.layout",
            fix=f"Use one of {', '.join(READINGS)}, or FOLDER/ to read only such folders.",
        )
    return folder.strip("/"), reading, detail


class _Reader:
    """All readings of one tree."""

    def __init__(
        self,
        paths: Sequence[PurePosixPath],
        found: Sequence[Table],
        sidecars: Sidecars | None,
        detail: str,
        data: str,
        only: str = "",
    ):
        self.data, self.detail, self.only = data, detail, only
        self.sidecars = sidecars or Sidecars()
        # The tree is read without the chosen folder; results carry the real paths.
        self.real = {folders.without(path, only) if only else path: path for path in paths}
        if len(self.real) < len(paths):
            self.real = {path: path for path in paths}
        self.tree = folders.plant(sorted(self.real))
        names = table_links.Names(paths)
        column = detail if any(detail in table.columns for table in found) else ""
        if detail and not column:
            found = [t for t in found if detail in (t.path.name, t.path.stem, t.path.as_posix())]
        linked = [table_links.link(table, names, column) for table in found]
        self.linked = [entry for entry in linked if entry is not None]
        self.maps = [table for table in found if table_links.link(table, names) is None]

    # --- deciding ---------------------------------------------------------------------------

    def read(self, reading: str) -> Layout:
        """The layout in a reading, or in the one that fits."""
        chosen = reading or self._decide()
        layout = self._as(chosen)
        if layout is None:
            raise DatasetError(
                f"the images cannot be read as --layout {chosen}.", where=self.data, fix=HELP
            )
        others = {name: text for name, text in self._offers(chosen).items() if name != chosen}
        used = frozenset(entry.table for entry in self.linked)
        return replace(layout, others=others, tables=used)

    def _decide(self) -> str:
        names = self.tree.names()
        by_table = self._table_labels()
        covered = len(set(by_table) & set(self._paths())) / max(len(self._paths()), 1)
        told = len(set(by_table.values())) > 1 and covered >= _MOSTLY
        folder_classes = folders.classes(self.tree, "top")
        parts = folders.parts(self.tree)
        flat = not parts and (len(names) < 2 or folders.generic(self.tree))
        if told and (flat or len(folder_classes) < _MOSTLY * len(self.tree.spots)):
            return "table"
        if len(set(self.sidecars.labels.values())) > 1 and flat:
            return "sidecars"
        if flat and self._by_names():
            return "names"
        if not folder_classes:
            count = len(self.real)
            raise DatasetError(
                f"the {count} images are not sorted into class folders, and no table beside them "
                "names their classes.",
                where=self.data,
                fix=HELP,
            )
        if told and covered >= _NEARLY_ALL:
            readings = [r for r in folders.READINGS if self._agrees(by_table, r)]
            return readings[0] if readings else "table"
        if folders.side_by_side(self.tree) and self.tree.split_at != "inside":
            raise self._ambiguous()
        if parts:
            return "leaf"
        return "leaf" if folders.hierarchy(self.tree) and self.tree.split_at != "inside" else "top"

    def _ambiguous(self) -> DatasetError:
        tops = list(self.tree.names())
        listed = ", ".join(tops[:_MOST_OFFERED]) + (", …" if len(tops) > _MOST_OFFERED else "")
        inner = folders.inner_names(self.tree)
        shared = ", ".join(inner[:3]) + (", …" if len(inner) > 3 else "")
        offers = list(self._offers(""))
        return DatasetError(
            f"the folders {listed} each hold the folders {shared}: several data sets side by "
            "side, or classes with parts of the same names.",
            where=self.data,
            fix=f"Say which it is with --layout: {', '.join(offers)}.",
        )

    def _offers(self, chosen: str) -> dict[str, str]:
        """The readings that give at least two classes, and what they give."""
        offers: dict[str, str] = {}
        tree = self.tree
        if tree.names() and len(tree.names()) > 1:
            offers["top"] = "each top folder is a class"
            if folders.deeper(tree) and not folders.side_by_side(tree):
                offers["leaf"] = "each innermost folder is a class"
                offers["path"] = "each innermost folder with its group is a class"
            if folders.side_by_side(tree):
                for name in list(tree.names())[:_MOST_OFFERED]:
                    offers[f"{name}/"] = f"only the folder {name}"
                inner = folders.inner_names(tree)
                if len(inner) <= _MOST_OFFERED:
                    offers |= {f"{name}/": f"only the folders {name}" for name in inner}
        if self._table_labels():
            offers["table"] = f"the classes are those of {self._label_table().table.name}"
            for entry in self.linked:
                for column in entry.others:
                    offers[f"table:{column}"] = f"the column {column} of {entry.table.name}"
        if chosen == "names" or (len(tree.names()) < 2 and self._by_names()):
            offers["names"] = "the beginnings of the file names are the classes"
        if len(offers) == 1:
            return {}
        described = {}
        for offer, text in offers.items():
            layout = self._as(offer) if offer in READINGS else None
            count = len({image.class_name for image in layout.images}) if layout else 0
            if layout is None or count > 1:
                described[offer] = f"{text} ({count} classes)" if count else text
        return described

    # --- readings ---------------------------------------------------------------------------

    def _paths(self) -> list[PurePosixPath]:
        return [self.real[spot.path] for spot in self.tree.spots]

    def _as(self, reading: str) -> Layout | None:
        if reading in folders.READINGS:
            return self._as_folders(reading)
        labels, text, faults = self._flat_labels(reading)
        if not labels:
            return None
        images, left = [], [(self.real[path], why) for path, why in self.tree.left]
        rest = {self.real[path] for path, _ in self.tree.left}
        for spot in self.tree.spots:
            path = self.real[spot.path]
            if path not in labels:
                left.append((path, faults.get(path, "nothing says its class.")))
                continue
            name = "/".join(spot.path.parts[self.tree.root :])
            images.append(self._labelled(path, labels[path], name))
        # A table may name what lies beside the folders that the tree kept.
        for path in sorted(rest & set(labels)):
            left = [entry for entry in left if entry[0] != path]
            images.append(self._labelled(path, labels[path], path.as_posix()))
        return self._finish(Layout(reading, text, images, left))

    def _as_folders(self, reading: str) -> Layout | None:
        classes = folders.classes(self.tree, reading)
        images, left = [], [(self.real[path], why) for path, why in self.tree.left]
        for spot in self.tree.spots:
            path = self.real[spot.path]
            if spot.path not in classes:
                left.append((path, "it lies outside the class folders."))
                continue
            name, chosen = classes[spot.path]
            parts = spot.path.parts
            rest = [
                part
                for index, part in enumerate(parts)
                if index >= self.tree.root and index not in chosen
            ]
            images.append(self._labelled(path, name, "/".join(rest)))
        if not images:
            return None
        what = {
            "top": "a folder a class",
            "leaf": "the innermost folders are the classes, their groups are not used",
            "path": "the innermost folders with their groups are the classes",
        }[reading]
        return self._finish(Layout(reading, what, images, left))

    def _labelled(self, path: PurePosixPath, label: str, name: str) -> Labelled:
        caption = self.sidecars.captions.get(path)
        for entry in self.linked:
            caption = caption or entry.captions.get(path)
        return Labelled(path, class_name(label) or f"class {label}", name, None, caption)

    def _flat_labels(
        self, reading: str
    ) -> tuple[dict[PurePosixPath, str], str, dict[PurePosixPath, str]]:
        if reading == "table":
            labels = self._table_labels()
            if not labels:
                return {}, "", {}
            entry = self._label_table()
            text = f"the classes are those of {entry.table}, column {entry.column or 'label'}"
            return labels, text, entry.faults
        if reading == "sidecars":
            labels = self._named(dict(self.sidecars.labels))
            return labels, "a file beside each image says its class", {}
        return self._by_names(), "the beginnings of the file names are the classes", {}

    def _by_names(self) -> dict[PurePosixPath, str]:
        """Classes by what a file name says beside its number, if nearly all names share theirs
        with others."""
        stems = {path: _without_number(path.stem) for path in self._paths()}
        counts = Counter(stems.values())
        good = {path: stem for path, stem in stems.items() if stem and counts[stem] > 1}
        if len(good) < _NEARLY_ALL * len(stems) or len(set(good.values())) < 2:
            return {}
        return good

    def _label_table(self) -> Linked:
        return max((e for e in self.linked if e.labels), key=lambda e: len(e.labels))

    def _table_labels(self) -> dict[PurePosixPath, str]:
        """Class by image from all tables with the same column of classes as the largest."""
        labelled = [entry for entry in self.linked if entry.labels]
        if not labelled:
            return {}
        main = self._label_table()
        labels: dict[PurePosixPath, str] = {}
        for entry in sorted(labelled, key=lambda e: len(e.labels)):
            if entry.column == main.column:
                labels |= entry.labels
        return self._named(labels)

    def _named(self, labels: dict[PurePosixPath, str]) -> dict[PurePosixPath, str]:
        """Numbers made names, where a file beside them (classes.txt, label_map.json) says how."""
        values = set(labels.values())
        if not values or not all(re.fullmatch(r"\d+(\.0)?", value) for value in values):
            return labels
        labels = {path: value.removesuffix(".0") for path, value in labels.items()}
        for table in self.maps:
            names = _names_by_number(table)
            if set(labels.values()) <= set(names):
                return {path: names[value] for path, value in labels.items()}
        return labels

    def _agrees(self, labels: Mapping[PurePosixPath, str], reading: str) -> bool:
        """Whether the folders and the table say the same, be it in other words."""
        pairs = {
            (name, labels[self.real[path]])
            for path, (name, _) in folders.classes(self.tree, reading).items()
            if self.real[path] in labels
        }
        ones, others = {a for a, _ in pairs}, {b for _, b in pairs}
        return len(pairs) == len(ones) == len(others)

    # --- splits -----------------------------------------------------------------------------

    def _finish(self, layout: Layout) -> Layout:
        """The layout with the official split, by folders or else by tables."""
        spots = {self.real[spot.path]: spot.kind for spot in self.tree.spots}
        kinds = {image.path: spots.get(image.path) for image in layout.images}
        said = "the split folders" if any(kinds.values()) else ""
        sides = words.sides(kinds.values())
        left = list(layout.left)
        if not sides:
            listed: dict[PurePosixPath, str | None] = {}
            for entry in self.linked:
                listed |= {p: k for p, k in entry.kinds.items() if listed.get(p) != "test"}
            kinds = {image.path: listed.get(image.path) for image in layout.images}
            sides = words.sides(kinds.values())
            known = sum(kind is not None for kind in kinds.values())
            if not sides or known < _MOSTLY * len(kinds):
                return replace(layout, text=f"{layout.text}; the split is ours")
            tables_used = sorted({e.table.name for e in self.linked if e.kinds})
            said = ", ".join(tables_used)
        images = []
        for image in layout.images:
            kind = kinds[image.path]
            if kind is None and self.tree.split_at != "inside":
                left.append((image.path, f"it has no split, while others have one ({said})."))
            else:
                images.append(replace(image, side=sides.get(kind) if kind else None))
        held = "validation" if "test" not in sides else "test"
        text = f"{layout.text}; the {held} part is that of {said}"
        return replace(layout, text=text, images=images, left=left)


def _without_number(stem: str) -> str:
    """What a file name says beside its number: ``airplane`` of ``airplane00``, ``cat.12``."""
    text = re.sub(r"[\s_\-.(]*\d+[)\s]*$", "", stem)
    text = re.sub(r"[\s_\-.]*(?:\d+|[a-f0-9]{8,})$", "", text) if text else text
    text = re.sub(r"^\d+[\s_\-.]+", "", text).strip(" _-.")
    return text if re.search(r"[^\W\d_]{2,}", text) else ""


def _names_by_number(table: Table) -> dict[str, str]:
    """Class name by number: lines in their order, ``0 forest``, or an index with a name."""
    found: dict[str, str] = {}
    for number, row in enumerate(table.rows):
        values = [value.strip() for value in row.values() if value.strip()]
        digits = [value for value in values if value.isdigit()]
        names = [value for value in values if not value.isdigit()]
        if len(names) != 1:
            continue
        found[digits[0] if digits else str(number)] = names[0]
    return found
