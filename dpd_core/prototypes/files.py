"""The files of the prototypes stage, and their only reader and writer.

``prototypes/prototypes.json`` is the published DPD prototype file,
``{class: [{image, caption, cluster_id, file_name, margin, d_intra, d_inter_min, cluster_size}]}``
with numbers to six decimals; ours adds ``id``, the image's id in the index. Such files come from
strangers as well: every entry is checked before it is believed, and images are found by name, since
the paths in a published file are those of its author's machine. ``clusters.json`` says what is
known of each clustered image, ``centers.safetensors`` holds the centres of the clusters.

(What people decide is in :mod:`dpd_core.prototypes.overrides`, what a run changed in
:mod:`dpd_core.prototypes.changes`.)
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple
from urllib.parse import unquote

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file

from dpd_core import storage
from dpd_core.dataset.index import DatasetIndex, ImageRecord, load_index
from dpd_core.errors import ConfigError, ProjectError, StageMissing
from dpd_core.project import Project

STAGE = "prototypes"

MAX_FILE_BYTES = 16 << 20
"""Of a prototype file; parsing takes many times its size in memory."""

_FIX = "Run the stage 'prototypes' again."
_TEXTS = ("image", "caption", "file_name")
_NUMBERS = ("margin", "d_intra", "d_inter_min")
_COUNTS = {"cluster_id": 0, "cluster_size": 1}


class Slot(NamedTuple):
    """Cluster ``number`` of a class: it has one prototype, one caption and one distilled image.

    Attributes:
        class_name: The class.
        number: From 0, in its class.
    """

    class_name: str
    number: int

    def __str__(self) -> str:
        """How settings and messages name it, ``forest/3``; :meth:`parse` reads it."""
        return f"{class_text(self.class_name)}/{self.number}"

    @classmethod
    def parse(cls, text: str) -> Slot:
        """The slot of that name.

        Raises:
            ConfigError: not of the form CLASS/NUMBER.
        """
        class_name, _, number = text.rpartition("/")
        if not class_name or not (number.isascii() and number.isdecimal()):
            raise ConfigError(
                f"got the slot {text!r}.", fix="Write it as CLASS/NUMBER, like forest/3."
            )
        return cls(unquote(class_name), int(number))


def class_text(class_name: str) -> str:
    """How settings name a class; ``urllib.parse.unquote`` reads it.

    Commas stand between the entries of a setting and a slash before a slot's number, so those of
    a name are written ``%2C`` and ``%2F``.
    """
    return class_name.replace("%", "%25").replace(",", "%2C").replace("/", "%2F")


@dataclass(frozen=True)
class Prototype:
    """The representative of one cluster.

    Attributes:
        id: Image id in the index.
        class_name: Its class.
        cluster_id: Number of the cluster in its class, from 0.
        file_name: Name of the image file, without folders.
        image: Path as in the file, for people and for the published code.
        margin, d_intra, d_inter_min: See :class:`dpd_core.prototypes.clusterer.PrototypeClusterer`.
        cluster_size: Members of the cluster.
        caption: Caption in the file; the published files leave it empty.
    """

    id: str
    class_name: str
    cluster_id: int
    file_name: str
    image: str
    margin: float
    d_intra: float
    d_inter_min: float
    cluster_size: int
    caption: str = ""

    @property
    def slot(self) -> Slot:
        """The slot it stands for."""
        return Slot(self.class_name, self.cluster_id)

    @property
    def key(self) -> tuple[str, str]:
        """Class and image: what its caption is filed under. A new clustering gives the numbers of
        slots out anew; a caption stays with its image."""
        return self.class_name, self.id

    def to_json(self) -> dict[str, Any]:
        """Its entry in the published format."""
        return {
            "image": self.image,
            "caption": self.caption,
            "cluster_id": self.cluster_id,
            "file_name": self.file_name,
            "margin": round(self.margin, 6),
            "d_intra": round(self.d_intra, 6),
            "d_inter_min": round(self.d_inter_min, 6),
            "cluster_size": self.cluster_size,
            "id": self.id,
        }


@dataclass(frozen=True)
class Member:
    """What is known of one clustered image.

    Attributes:
        id: Image id in the index.
        class_name: Its class.
        cluster_id: Its cluster, or for an outlier the nearest one.
        margin: See :class:`dpd_core.prototypes.clusterer.PrototypeClusterer`.
        distance: ‖z − c_k‖ to its own centre.
        outlier: Whether it was left out of the clustering as an outlier.
        outlier_score: Local outlier factor.
    """

    id: str
    class_name: str
    cluster_id: int
    margin: float
    distance: float
    outlier: bool
    outlier_score: float

    @property
    def slot(self) -> Slot:
        """The slot of its cluster."""
        return Slot(self.class_name, self.cluster_id)


@dataclass(frozen=True)
class Clustering:
    """The stage's result, read back and found to agree.

    Attributes:
        prototypes: By class, in the order of the clusters.
        members: By image id: every training image but those excluded by hand.
        centers: By class, float32 (K, D), in the space of
            :func:`dpd_core.prototypes.clusterer.pooled_vectors`.
    """

    prototypes: dict[str, list[Prototype]]
    members: dict[str, Member]
    centers: dict[str, np.ndarray]


def write_clustering(project: Project, found: Clustering) -> None:
    """Write the three files, the one whose presence says that the stage has run last."""
    with storage.atomic_path(project.path(STAGE, "centers.safetensors")) as temporary:
        save_file(found.centers, temporary)
    members = {
        image_id: {
            "class": member.class_name,
            "cluster_id": member.cluster_id,
            "margin": round(member.margin, 6),
            "outlier": member.outlier,
            "outlier_score": round(member.outlier_score, 4),
            "distance": round(member.distance, 6),
        }
        for image_id, member in sorted(found.members.items())
    }
    storage.write_json(project.path(STAGE, "clusters.json"), members)
    write_prototypes(project.path(STAGE, "prototypes.json"), found.prototypes)


def write_prototypes(path: Path, prototypes: Mapping[str, Sequence[Prototype]]) -> None:
    """Write a prototype file atomically."""
    storage.write_json(
        path, {name: [entry.to_json() for entry in entries] for name, entries in prototypes.items()}
    )


def load_prototypes(project: Project) -> dict[str, list[Prototype]]:
    """The project's prototypes by class name, in the order of the clusters.

    Raises:
        StageMissing: the stage has not been run.
        ProjectError: the file is damaged or does not fit the collection any more.
    """
    return _own_prototypes(project, load_index(project))


def list_prototypes(project: Project) -> list[Prototype]:
    """The project's prototypes by class and number, as the file has them: whether they still fit
    the collection is not asked, since an edit of one caption must not wait for its index.

    Raises:
        StageMissing: the stage has not been run.
        ProjectError: the file is damaged.
    """
    found = _own_prototypes(project, None)
    return [prototype for of_class in found.values() for prototype in of_class]


def _own_prototypes(project: Project, index: DatasetIndex | None) -> dict[str, list[Prototype]]:
    try:
        return _read(_existing(project, "prototypes.json"), index)
    except ProjectError as error:  # its own file, not one of a stranger's to be corrected
        raise ProjectError(error.what, where=error.where, fix=_FIX) from error


def load_members(project: Project) -> dict[str, Member]:
    """Every clustered image by id, sorted.

    Raises:
        StageMissing: the stage has not been run.
        ProjectError: the file is damaged.
    """
    path = _existing(project, "clusters.json")
    content = storage.read_json(path, fix=_FIX)
    try:
        return {
            image_id: Member(
                image_id,
                str(entry["class"]),
                int(entry["cluster_id"]),
                float(entry["margin"]),
                float(entry["distance"]),
                bool(entry["outlier"]),
                float(entry["outlier_score"]),
            )
            for image_id, entry in sorted(content.items())
        }
    except (AttributeError, KeyError, TypeError, ValueError, OverflowError) as error:
        raise ProjectError("the file is damaged.", where=path, fix=_FIX) from error


def load_clustering(project: Project) -> Clustering:
    """Everything the stage wrote, checked to be from one run.

    Raises:
        StageMissing: the stage has not been run.
        ProjectError: a file is missing, damaged, or from another run than the others.
    """
    prototypes, members = load_prototypes(project), load_members(project)
    path = project.path(STAGE, "centers.safetensors")
    try:
        centers = load_file(path)
    except (OSError, SafetensorError, TypeError, AttributeError) as error:
        # The last two: number types that numpy does not know.
        raise ProjectError(f"not readable ({error}).", where=path, fix=_FIX) from error
    sizes = {name: len(entries) for name, entries in prototypes.items()}
    agree = sizes == {name: len(rows) for name, rows in centers.items()} and all(
        entry.id in members and members[entry.id].slot == entry.slot
        for entries in prototypes.values()
        for entry in entries
    )
    if not agree:
        raise ProjectError(
            "prototypes, clusters and centres are not from the same run.",
            where=project.path(STAGE),
            fix=_FIX,
        )
    return Clustering(prototypes, members, centers)


def _existing(project: Project, name: str) -> Path:
    """Where a file is; the prototypes', which is written last, says whether the stage has run."""
    if not project.path(STAGE, "prototypes.json").exists():
        raise StageMissing(
            "there are no prototypes yet.",
            where=project.root,
            fix=f"Run `python -m dpd_core prototypes --project {project.root}`.",
        )
    return project.path(STAGE, name)


def read_prototypes(path: Path, index: DatasetIndex) -> dict[str, list[Prototype]]:
    """Read a prototype file, ours or a published one.

    An entry's image is found by ``id``, else by ``file_name`` among the images of its class,
    else by the file name without its ending (collections are passed on as TIFF and as JPEG),
    and, if several have the name, by the folders in ``image``.

    Args:
        path: A file of anyone's making.
        index: The collection it must fit.

    Returns:
        By class name, sorted, each class's prototypes in the order of their clusters.

    Raises:
        ProjectError: not such a file, a class or image that the collection lacks, or a
            prototype from the test split. Names file, class and entry.
    """
    return _read(path, index)


def _read(path: Path, index: DatasetIndex | None) -> dict[str, list[Prototype]]:
    """:func:`read_prototypes`; without an index, entries must name their images by ``id``."""
    content = _parse(path)
    known = set(content if index is None else index.classes)
    prototypes = {}
    for class_name, entries in content.items():
        reader = _ClassReader(path, class_name, index)
        if class_name not in known:
            raise reader.fault(
                "the collection has no such class.",
                f"Its classes are {', '.join(sorted(known))}.",
            )
        if not isinstance(entries, list) or not entries:
            raise reader.fault("a list of prototypes was expected.", "Correct the file.")
        prototypes[class_name] = reader.read(entries)
    return dict(sorted(prototypes.items()))


def _parse(path: Path) -> dict[str, Any]:
    fix = "Give a prototype file in the published JSON format."
    try:
        # Not storage.read_json: a stranger's file can also hold numbers and nestings that
        # Python's parser refuses with other errors.
        if path.stat().st_size > MAX_FILE_BYTES:
            raise ProjectError(
                f"the file is larger than {MAX_FILE_BYTES >> 20} MB.", where=path, fix=fix
            )
        content = json.loads(path.read_bytes())
    except FileNotFoundError:
        raise ProjectError("there is no such prototype file.", where=path, fix=fix) from None
    except (OSError, ValueError, RecursionError) as error:
        raise ProjectError(f"not readable as JSON ({error}).", where=path, fix=fix) from error
    if not isinstance(content, dict) or not content:
        raise ProjectError(
            "not a prototype file: it must map class names to lists.", where=path, fix=fix
        )
    return content


class _ClassReader:
    """Reads the entries of one class, knowing what to say when one is wrong."""

    def __init__(self, path: Path, class_name: str, index: DatasetIndex | None):
        self.path, self.class_name, self.index = path, class_name, index
        self.images: Sequence[ImageRecord] = [
            record
            for record in ([] if index is None else index.images)
            if record.class_name == class_name
        ]
        self.number: int | None = None

    def fault(self, what: str, fix: str) -> ProjectError:
        """An error at the entry being read."""
        where = f"{self.path}, class {self.class_name!r}"
        if self.number is not None:
            where += f", entry {self.number}"
        return ProjectError(what, where=where, fix=fix)

    def read(self, entries: list[Any]) -> list[Prototype]:
        """All entries, sorted by cluster."""
        prototypes = []
        for self.number, entry in enumerate(entries):
            prototypes.append(self._entry(entry))
        self.number = None
        prototypes.sort(key=lambda prototype: prototype.cluster_id)
        if [prototype.cluster_id for prototype in prototypes] != list(range(len(prototypes))):
            raise self.fault(
                "the clusters are not numbered 0, 1, 2, …, each once.",
                "Correct the cluster_id of its entries.",
            )
        ids = [prototype.id for prototype in prototypes]
        for image_id in ids:
            if ids.count(image_id) > 1:
                raise self.fault(
                    f"the image {image_id} represents two clusters.", "Choose different images."
                )
        return prototypes

    def _entry(self, entry: Any) -> Prototype:
        if not isinstance(entry, dict):
            raise self.fault("a prototype must be an object.", "Correct the entry.")
        values: dict[str, Any] = {}
        for name in _TEXTS:
            values[name] = self._value(entry, name, str, "a text")
        for name in _NUMBERS:
            number = self._value(entry, name, (int, float), "a finite number")
            try:
                values[name] = float(number)
            except OverflowError:
                values[name] = math.inf
            if not math.isfinite(values[name]):
                raise self.fault(f"{name} is not a finite number.", "Correct the entry.")
        for name, low in _COUNTS.items():
            values[name] = self._value(entry, name, int, f"a whole number from {low}")
            if values[name] < low:
                raise self.fault(f"{name} is {values[name]}.", f"It must be at least {low}.")
        if self.index is None:
            image_id = self._value(entry, "id", str, "a text")
            return Prototype(id=image_id, class_name=self.class_name, **values)
        record = self._find(entry.get("id"), values["file_name"], values["image"])
        if record.split != "train":
            raise self.fault(
                f"the image {record.id} belongs to the test split.",
                "Use a prototype from the training images, or the split the file was made for.",
            )
        return Prototype(id=record.id, class_name=self.class_name, **values)

    def _value(self, entry: dict[str, Any], name: str, kind: Any, expected: str) -> Any:
        if name not in entry:
            raise self.fault(f"{name} is missing.", f"Add it; {expected} is needed.")
        value = entry[name]
        if not isinstance(value, kind) or isinstance(value, bool):
            shown = repr(value)[:60]
            raise self.fault(f"{name} is {shown}.", f"It must be {expected}.")
        return value

    def _find(self, image_id: Any, file_name: str, image: str) -> ImageRecord:
        name = PurePosixPath(file_name)
        found = [record for record in self.images if record.id == image_id]
        for same in (
            lambda other: other.name == name.name,
            lambda other: other.stem.lower() == name.stem.lower(),
        ):
            found = found or [record for record in self.images if same(PurePosixPath(record.id))]
        if len(found) > 1:
            parts = _folders(image)
            shared = [_shared_tail(parts, _folders(record.id)) for record in found]
            found = [
                record
                for record, length in zip(found, shared, strict=True)
                if length == max(shared)
            ]
        if not found:
            raise self.fault(
                f"the collection has no image {file_name!r} in this class.",
                "Use the collection the file was made from.",
            )
        if len(found) > 1:
            raise self.fault(
                f"{file_name!r} could be {found[0].id} or {found[1].id}.",
                "Add the field id with the image's id.",
            )
        return found[0]


def _folders(path: str) -> list[str]:
    return list(PurePosixPath(path.replace("\\", "/")).parent.parts)


def _shared_tail(first: list[str], second: list[str]) -> int:
    length = 0
    for ours, theirs in zip(reversed(first), reversed(second), strict=False):
        if ours != theirs:
            break
        length += 1
    return length
