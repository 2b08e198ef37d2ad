"""Where labelled images come from: an image folder, an archive, the Hub, or demo scenes.

Every source ends as a list of files with a class each. Recognised folder layouts, below any
number of wrapping folders::

    forest/1.jpg  river/2.jpg                      a folder a class (deeper folders are fine)
    train/forest/1.jpg  test/forest/2.jpg          the same below split folders
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath

from dpd_core.config import DatasetConfig
from dpd_core.dataset import archives, demo, hub
from dpd_core.dataset.found import Found, Item, Refusal, display_name
from dpd_core.dataset.images import IMAGE_SUFFIXES
from dpd_core.errors import ConfigError, DatasetError
from dpd_core.events import Emit, Log, Progress
from dpd_core.project import Project

_TRAIN = {"train", "training"}
_TEST = {"test", "testing"}
_VALIDATION = {"val", "valid", "validation", "dev"}

_LAYOUT = (
    "Put each class into a folder of its own, named like the class: forest/1.jpg, river/2.jpg; "
    "or the same below train/ and test/."
)

_HUB_ID = re.compile(r"^[A-Za-z0-9][\w.-]*/[\w.-]+$")


def find(project: Project, config: DatasetConfig, emit: Emit) -> Found:
    """The labelled files of the configured source, copied into the project where needed.

    Raises:
        ConfigError: no source, or two.
        DatasetError: the source does not exist or holds no labelled images.
    """
    if bool(config.data) == config.demo:
        what = "data and demo scenes were both given." if config.demo else "no data was given."
        raise ConfigError(
            what,
            where="dataset.data",
            fix="Use either --data FOLDER, ARCHIVE or HUB_ID, or --demo.",
        )
    if config.demo:
        return demo.write_scenes(project, config, emit)
    return _find_data(project, config.data, emit)


def find_test(project: Project, config: DatasetConfig, emit: Emit) -> Found:
    """The files of ``config.test_data``, all for testing; their names start with ``test/``.

    Raises:
        DatasetError: as :func:`find`.
    """
    found = _find_data(project, config.test_data, emit)
    items = [replace(item, name=f"test/{item.name}", side="test") for item in found.items]
    refused = [Refusal(f"test data: {entry.file}", entry.reason) for entry in found.refused]
    return replace(found, items=items, refused=refused)


def _find_data(project: Project, data: str, emit: Emit) -> Found:
    try:
        path = Path(data).expanduser()
        exists, is_folder = path.exists(), path.is_dir()
    except (OSError, RuntimeError) as error:  # a name too long, a forbidden folder, no such home
        raise DatasetError(
            f"cannot be read ({error}).", where=data, fix="Check the name and the permissions."
        ) from error
    if is_folder:
        return scan_folder(path.resolve(), data=data, project=project, emit=emit)
    if exists:
        if path.suffix.lower() == ".parquet":
            return hub.load_parquet(project, [path], data=data, emit=emit)
        copy, refused = archives.extract(project, path.resolve(), emit)
        found = scan_folder(copy, data=data, project=project, emit=emit)
        return replace(
            found, kind="archive", root=None, copy=copy.parent, refused=refused + found.refused
        )
    preset = hub.preset(data)
    if preset is not None or _HUB_ID.match(data):
        return hub.load(project, data, emit=emit)
    raise DatasetError(
        "there is no such folder or archive.",
        where=data,
        fix=f"Check the path, or use a Hub id (owner/name) or one of {', '.join(hub.PRESETS)}.",
    )


def scan_folder(root: Path, *, data: str, project: Project, emit: Emit) -> Found:
    """All labelled images of a folder; what is not one is refused with its reason.

    Raises:
        DatasetError: no images, or none in a class folder.
    """
    refused: list[Refusal] = []
    images: list[PurePosixPath] = []
    parquet: list[Path] = []
    for relative in _walk(root, project, refused, emit):
        suffix = relative.suffix.lower()
        if display_name(relative) != str(relative):
            refused.append(Refusal(display_name(relative), "the name is not valid UTF-8."))
        elif suffix in IMAGE_SUFFIXES:
            images.append(relative)
        elif suffix == ".parquet":
            parquet.append(root / relative)
        else:
            kind = f"a {suffix} file" if suffix else "a file without an ending"
            refused.append(Refusal(str(relative), f"not an image but {kind}."))
    if parquet and not images:
        return hub.load_parquet(project, parquet, data=data, emit=emit)
    for file in parquet:
        refused.append(
            Refusal(file.relative_to(root).as_posix(), "not an image but a .parquet file.")
        )
    if not images:
        raise DatasetError("no images were found.", where=data, fix=_LAYOUT)
    labelled, outside = read_layout(images)
    refused += [Refusal(str(path), "it lies outside the class folders.") for path in outside]
    if not labelled:
        raise DatasetError(
            f"the {len(images)} images are not sorted into class folders.", where=data, fix=_LAYOUT
        )
    items = [
        Item(class_name=entry.class_name, name=entry.name, path=root / entry.path, side=entry.side)
        for entry in labelled
    ]
    return Found(kind="folder", data=data, root=root, items=items, refused=refused)


@dataclass(frozen=True)
class Labelled:
    """What the place of a file says: its class, its name in it, and its split if there are
    split folders."""

    path: PurePosixPath
    class_name: str
    name: str
    side: str | None


def read_layout(
    paths: Sequence[PurePosixPath],
) -> tuple[list[Labelled], list[PurePosixPath]]:
    """Classes and splits from the places of the files.

    A folder that alone holds everything wraps the data set and is looked into. Where the top
    folders are ``train`` and ``test`` or ``val``, they are the split; with all three, ``val``
    joins ``train``. The class is the first folder below.

    Returns:
        The labelled files, and those outside any class folder.
    """
    depth = 0
    while True:
        tops = {path.parts[depth] for path in paths if len(path.parts) > depth + 1}
        sides = _split_folders(tops)
        deeper = any(len(path.parts) > depth + 2 for path in paths)
        if sides or len(tops) != 1 or not deeper:
            break
        depth += 1
    labelled, outside = [], []
    for path in paths:
        parts = path.parts[depth:]
        side = sides.get(parts[0]) if sides else None
        inner = parts[1:] if sides else parts
        if len(inner) < 2:
            outside.append(path)
            continue
        name = "/".join((parts[0], *inner[1:]) if sides else inner[1:])
        labelled.append(Labelled(path, inner[0], name, side))
    return labelled, outside


def _split_folders(names: set[str]) -> dict[str, str]:
    """Split by folder name, if the folders are split folders; else empty."""
    kinds = {name: name.lower() for name in names}
    present = set(kinds.values())
    held_out = _TEST if present & _TEST else _VALIDATION
    if not (present & _TRAIN and present & held_out):
        return {}
    if present - _TRAIN - _TEST - _VALIDATION:
        return {}
    return {name: "test" if kind in held_out else "train" for name, kind in kinds.items()}


def _walk(
    root: Path, project: Project, refused: list[Refusal], emit: Emit
) -> Iterator[PurePosixPath]:
    """Every visible file below ``root``, in order, links followed but no circle walked."""

    def unreadable(error: OSError) -> None:
        place = Path(error.filename).relative_to(root)
        refused.append(Refusal(display_name(place), f"cannot be read ({error.strerror})."))

    seen: set[tuple[int, int]] = set()
    count = 0
    for folder, folders, files in os.walk(root, followlinks=True, onerror=unreadable):
        here = Path(folder)
        status = here.stat()
        if (status.st_dev, status.st_ino) in seen:
            folders.clear()
            place = display_name(here.relative_to(root))
            refused.append(Refusal(place, "a link to a folder that was read already."))
            continue
        seen.add((status.st_dev, status.st_ino))
        if here != root and here.resolve() == project.root:
            folders.clear()
            emit(Log("dataset", f"The project's own folder {here} is left out."))
            continue
        folders[:] = sorted(name for name in folders if not _hidden(name))
        for name in sorted(files):
            if _hidden(name):
                continue
            count += 1
            if count % 1000 == 0:  # also lets a stop request in
                emit(Progress("dataset", 0, 1, None, f"{count} files found"))
            yield PurePosixPath((here / name).relative_to(root).as_posix())


def _hidden(name: str) -> bool:
    return name.startswith(".") or name == "__MACOSX"
