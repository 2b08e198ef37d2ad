"""The index of a project's images, ``dataset/index.json``, and its readable class names.

The images of a large data set, and what is refused of it, lie in Parquet files beside it
(:mod:`dpd_core.dataset.long_lists`).
"""

from __future__ import annotations

import functools
import re
import sys
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from filelock import FileLock

from dpd_core import storage
from dpd_core.dataset import long_lists
from dpd_core.dataset.bands import check as check_bands
from dpd_core.dataset.found import Refusal
from dpd_core.dataset.labels import read_labels
from dpd_core.dataset.origin import UNKNOWN, Origin
from dpd_core.dataset.splits import duplicates
from dpd_core.errors import ConfigError, DatasetError, ProjectError, StageMissing
from dpd_core.project import Project

_LONGEST_NAME = 100
_SHA256 = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True)
class ClassInfo:
    """A class: its name in words and its numbers of images."""

    readable: str
    train: int
    test: int


@dataclass(frozen=True)
class ImageRecord:
    """One usable image.

    Attributes:
        id: ``<class>/<name>``, the same in every file of the project. The class in it is the
            collection's; ``class_name`` may have been corrected by hand.
        class_name, split: Its class, and ``"train"`` or ``"test"``.
        path: Absolute path of the file.
        sha256: Digest of the file's bytes.
        width, height: Size in px once decoded.
        caption: A description known from the source, or ``None``.
        bands: Which bands of the file are shown; see :func:`dpd_core.dataset.bands.choose`.
        origin: When and where it was taken, as far as the file says.
    """

    id: str
    class_name: str
    split: str
    path: Path
    sha256: str
    width: int
    height: int
    caption: str | None = None
    bands: tuple[str, ...] = ()
    origin: Origin = UNKNOWN


@dataclass(frozen=True)
class DatasetIndex:
    """All usable images of a project, sorted by id, and what was refused.

    Attributes:
        classes: By class name, sorted.
        images: Sorted by id.
        refused: Files that are not used, with the reason.
        duplicates: Groups of ids of images with identical bytes; never across the split.
        source: Where the images come from, as in the file.
    """

    classes: dict[str, ClassInfo]
    images: list[ImageRecord]
    refused: list[Refusal]
    duplicates: list[list[str]]
    source: dict[str, Any]

    def select(self, split: str | None = None, class_name: str | None = None) -> list[ImageRecord]:
        """The images of a split and class (``None``: all), sorted by id."""
        return [
            record
            for record in self.images
            if split in (None, record.split) and class_name in (None, record.class_name)
        ]

    @functools.cached_property
    def by_id(self) -> dict[str, ImageRecord]:
        """The images by id."""
        return {record.id: record for record in self.images}

    def readable(self, class_name: str) -> str:
        """The class in words.

        Raises:
            DatasetError: there is no such class.
        """
        try:
            return self.classes[class_name].readable
        except KeyError:
            raise _no_class(class_name, self.classes) from None

    def relabelled(self, labels: Mapping[str, str]) -> DatasetIndex:
        """The index with the corrections (class by image id) that apply to it: of images and to
        classes it has.

        See :meth:`unknown_labels` for the others.
        """
        moved = {i: name for i, name in labels.items() if name in self.classes}
        if not moved:
            return self
        images = [
            replace(record, class_name=moved[record.id]) if record.id in moved else record
            for record in self.images
        ]
        counts = Counter((record.class_name, record.split) for record in images)
        classes = {
            name: replace(info, train=counts[name, "train"], test=counts[name, "test"])
            for name, info in self.classes.items()
        }
        return replace(self, images=images, classes=classes)

    def unknown_labels(self, labels: Mapping[str, str]) -> dict[str, str]:
        """The corrections that do not apply: the image or the class is not in the data set now."""
        return {
            i: name for i, name in labels.items() if i not in self.by_id or name not in self.classes
        }


def write_index(
    project: Project,
    *,
    source: Mapping[str, Any],
    classes: Mapping[str, ClassInfo],
    count: int,
    images: Callable[[], Iterable[dict[str, Any]]],
    refused: Sequence[Refusal],
) -> None:
    """Write the index.

    Args:
        count: Number of images.
        images: Makes their entries as they are in the file, sorted by id.
        project, source, classes, refused: See :class:`DatasetIndex`.
    """
    path = _index_path(project)
    content = {
        "source": dict(source),
        "classes": {name: asdict(info) for name, info in sorted(classes.items())},
        "images": long_lists.keep(path.parent, "images", count, images),
        "refused": long_lists.keep(
            path.parent, "refused", len(refused), lambda: map(asdict, refused)
        ),
    }
    storage.write_json(path, content)
    tables = ("images", "refused")
    long_lists.remove_others(path.parent, tables, [content[name] for name in tables])


def load_index(project: Project, *, corrected: bool = True) -> DatasetIndex:
    """Read the index.

    Args:
        project: The project.
        corrected: With the classes that people corrected (:mod:`dpd_core.dataset.labels`), else
            as the collection has them.

    Raises:
        StageMissing: the stage ``dataset`` has not been run.
        DatasetError: the folder of the images is gone.
        ProjectError: the file is damaged.
    """
    path = _index_path(project)
    try:
        status = path.stat()
    except OSError:
        raise StageMissing(
            "the stage 'dataset' has not been run yet.",
            where=project.root,
            fix=f"Run `python -m dpd_core dataset --project {project.root} --data FOLDER` first.",
        ) from None
    index = _load(project.root, status.st_mtime_ns, status.st_ino)
    _check_roots(index, project)
    if corrected:
        index = index.relabelled(read_labels(project))
    names = read_names(project)
    classes = {
        name: replace(info, readable=names.get(name, info.readable))
        for name, info in index.classes.items()
    }
    return replace(index, classes=classes)


@functools.lru_cache(maxsize=64)
def _load(root: Path, changed: int, inode: int) -> DatasetIndex:
    """Parse the file; its time of change and inode are there for the cache to notice a new one.
    A server has a project for each visitor."""
    path = _index_path(Project(root))
    content = storage.read_json(path, fix="Run the stage 'dataset' again.")
    try:
        source = content["source"]
        classes = {name: ClassInfo(**info) for name, info in content["classes"].items()}
        base = Path(source["root"] or root)
        test_base = Path(source["test_root"] or root) if source["test_data"] else base
        bands = tuple(source["bands"])
        check_bands(bands)
        images = []
        for image in long_lists.read(path.parent, content["images"]):
            _check_image(image, classes)
            record = ImageRecord(
                id=image["id"],
                class_name=sys.intern(image["class"]),
                split=sys.intern(image["split"]),
                path=(test_base if image["split"] == "test" else base) / image["file"],
                sha256=image["sha256"],
                width=image["width"],
                height=image["height"],
                caption=image.get("caption"),
                bands=bands,
                origin=Origin.from_record(image),
            )
            images.append(record)
        refused = [Refusal(**row) for row in long_lists.read(path.parent, content["refused"])]
        return DatasetIndex(classes, images, refused, duplicates(images), source)
    except (
        OSError,
        KeyError,
        TypeError,
        AttributeError,
        ValueError,
        ConfigError,
    ) as error:
        raise ProjectError(
            f"not an index of images ({error}).", where=path, fix="Run the stage 'dataset' again."
        ) from error


def _check_image(image: dict[str, Any], classes: Mapping[str, Any]) -> None:
    """A built-in error of some kind if this is not an image of the index."""
    texts = [image[name] for name in ("id", "class", "file", "sha256")] + [image.get("caption", "")]
    if not all(isinstance(text, str) for text in texts):
        raise TypeError("a text of an image is none")
    if image["class"] not in classes or image["split"] not in ("train", "test"):
        raise ValueError(f"{image['id']} is of no class or split")
    # Names of thumbnails and caches are made from it.
    if not _SHA256.fullmatch(image["sha256"]):
        raise ValueError(f"{image['id']} has no SHA-256")
    if not all(isinstance(image[name], int) and image[name] > 0 for name in ("width", "height")):
        raise ValueError(f"{image['id']} has no size")


def _check_roots(index: DatasetIndex, project: Project) -> None:
    for key, setting in (("root", "--data"), ("test_root", "--test-data")):
        folder = index.source[key]
        if folder and not _is_folder(folder):
            raise DatasetError(
                "the folder of the images is gone.",
                where=folder,
                fix="Move it back, or run `python -m dpd_core dataset --project "
                f"{project.root} {setting} FOLDER` with its new place.",
            )


def _is_folder(text: str) -> bool:
    try:
        return Path(text).is_dir()
    except (OSError, ValueError):  # a name too long
        return False


def rename_class(project: Project, class_name: str, readable: str) -> None:
    """Set the name in words of a class; an empty one brings the automatic name back.

    It is kept in ``dataset/names.json`` and survives running the stage again.

    Raises:
        DatasetError: no such class, or not a name that fits into a sentence.
        StageMissing: there is no index yet.
    """
    index = load_index(project)
    if class_name not in index.classes:
        raise _no_class(class_name, index.classes)
    text = " ".join(readable.split())
    if len(text) > _LONGEST_NAME or not text.isprintable():
        raise DatasetError(
            "this is no name for a class.",
            where=class_name,
            fix=f"Use at most {_LONGEST_NAME} ordinary characters.",
        )
    path = _names_path(project)
    with storage.writable(path), FileLock(path.with_name(".names.lock")):
        names = read_names(project)
        if text:
            names[class_name] = text
        else:
            names.pop(class_name, None)
        storage.write_json(path, names)


def read_names(project: Project) -> dict[str, str]:
    """The names in words that people gave to classes, by class name.

    Raises:
        ProjectError: the file is not of that form.
    """
    path = _names_path(project)
    if not path.exists():
        return {}
    fix = f"Delete {path}; the automatic names come back."
    names = storage.read_json(path, fix=fix)
    if not isinstance(names, dict) or not all(isinstance(name, str) for name in names.values()):
        raise ProjectError("not a list of class names.", where=path, fix=fix)
    return names


def _no_class(class_name: str, classes: Iterable[str]) -> DatasetError:
    return DatasetError(
        "there is no such class.", where=class_name, fix=f"Known classes: {', '.join(classes)}."
    )


def _index_path(project: Project) -> Path:
    return project.path("dataset", "index.json")


def _names_path(project: Project) -> Path:
    return project.path("dataset", "names.json")
