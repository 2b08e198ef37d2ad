"""Where labelled images come from: an image folder, an archive, the Hub, or demo images.

Every source ends as a list of files with a class each. How a tree of files is understood is
decided in :mod:`dpd_core.dataset.layout`, by the same rules for all of them.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path, PurePosixPath

from dpd_core.config import DatasetConfig
from dpd_core.dataset import archives, demo, hub, layout, parquet, table_links, tables, text
from dpd_core.dataset.found import Found, Item, Refusal, display_name
from dpd_core.dataset.images import IMAGE_SUFFIXES
from dpd_core.dataset.words import is_rubbish
from dpd_core.errors import ConfigError, DatasetError
from dpd_core.events import Emit, Log, Progress
from dpd_core.project import Project

_SIDECARS = (".txt", ".caption", ".cls", ".json")
_SIDECAR_BYTES = 16 << 10
_PACKED = (".zip", ".tar", ".gz", ".tgz", ".7z", ".rar", ".xz", ".bz2")

_HUB_ID = re.compile(r"^[A-Za-z0-9][\w.-]*/[\w.-]+$")


def find(project: Project, config: DatasetConfig, emit: Emit) -> Found:
    """The labelled files of the configured source, copied into the project where needed.

    Raises:
        ConfigError: no source, or two.
        DatasetError: the source does not exist or holds no labelled images.
    """
    if bool(config.data) == config.demo:
        what = "data and demo images were both given." if config.demo else "no data was given."
        raise ConfigError(
            what,
            where="dataset.data",
            fix="Use either --data FOLDER, ARCHIVE or HUB_ID, or --demo.",
        )
    if config.demo:
        return demo.copy_images(project, config, emit)
    return _find_data(project, config, config.data, emit)


def find_test(project: Project, config: DatasetConfig, emit: Emit) -> Found:
    """The files of ``config.test_data``, all for testing; their names start with ``test/``.

    Raises:
        DatasetError: as :func:`find`.
    """
    found = _find_data(project, config, config.test_data, emit)
    items = [replace(item, name=f"test/{item.name}", side="test") for item in found.items]
    refused = [Refusal(f"test data: {entry.file}", entry.reason) for entry in found.refused]
    return replace(found, items=items, refused=refused)


def _find_data(project: Project, config: DatasetConfig, data: str, emit: Emit) -> Found:
    try:
        path = Path(data).expanduser()
        exists, is_folder = path.exists(), path.is_dir()
    except (OSError, RuntimeError) as error:  # a name too long, a forbidden folder, no such home
        raise DatasetError(
            f"cannot be read ({error}).", where=data, fix="Check the name and the permissions."
        ) from error
    if is_folder:
        return scan_folder(path.resolve(), config, data=data, project=project, emit=emit)
    if exists:
        if path.suffix.lower() == ".parquet":
            files = [PurePosixPath(path.name)]
            column = _column(config.layout)
            return parquet.load(
                project, path.resolve().parent, files, data=data, emit=emit, column=column
            )
        copy, refused = archives.extract(project, path.resolve(), emit, encoding=config.encoding)
        found = scan_folder(copy, config, data=data, project=project, emit=emit)
        if found.copy is not None:  # the archive held Parquet files, whose rows were copied
            return replace(found, refused=refused + found.refused)
        return replace(
            found, kind="archive", root=None, copy=copy.parent, refused=refused + found.refused
        )
    preset = hub.preset(data)
    if preset is not None or _HUB_ID.match(data):
        return hub.load(project, data, emit=emit, column=_column(config.layout))
    raise DatasetError(
        "there is no such folder or archive.",
        where=data,
        fix=f"Check the path, or use a Hub id (owner/name) or one of {', '.join(hub.PRESETS)}.",
    )


def scan_folder(
    root: Path, config: DatasetConfig, *, data: str, project: Project, emit: Emit
) -> Found:
    """All labelled images of a folder; what is not one is refused with its reason.

    Raises:
        DatasetError: no images, or nothing that says their classes, or several ways to read them.
    """
    files = _Files(root)
    for relative in _walk(root, project, files.refused, emit):
        files.take(relative)
    if files.parquet and _wants_parquet(config.layout, files):
        return _parquet(root, files, config, data=data, project=project, emit=emit)
    if not files.images:
        packed = [entry.file for entry in files.refused if entry.file.endswith(_PACKED)]
        what = f"only archives ({', '.join(packed[:3])})" if packed else "no images"
        raise DatasetError(
            f"{what} were found.",
            where=data,
            fix="Unpack them, or give one of them." if packed else layout.HELP,
        )
    sidecars, loose = _read_sidecars(root, files)
    found = [table for path in loose if (table := tables.read(root / path, path)) is not None]
    emit(Log("dataset", f"{len(files.images)} images, {len(found)} tables and lists of files."))
    result = layout.understand(files.images, found, sidecars, choice=config.layout, data=data)
    if files.parquet:
        others = {"parquet": "the images in the Parquet files"}
        result = replace(result, others={**result.others, **others})
    unused = set(loose) - result.tables | set(files.parquet)
    refused = [
        *files.refused,
        *(Refusal(str(path), f"not an image but a {path.suffix} file.") for path in sorted(unused)),
        *(Refusal(str(path), reason) for path, reason in result.left),
    ]
    items = [
        Item(entry.class_name, entry.name, root / entry.path, entry.side, entry.caption)
        for entry in result.images
    ]
    if not items:
        raise DatasetError("none of the images has a class.", where=data, fix=layout.HELP)
    return Found(
        kind="folder",
        data=data,
        root=root,
        items=items,
        refused=refused,
        reading=result.reading,
        text=result.text,
        others=result.others,
    )


class _Files:
    """What lies in a folder, by kind."""

    def __init__(self, root: Path):
        self.root = root
        self.images: list[PurePosixPath] = []
        self.tables: list[PurePosixPath] = []
        self.parquet: list[PurePosixPath] = []
        self.refused: list[Refusal] = []

    def take(self, path: PurePosixPath) -> None:
        """Sort in one file."""
        suffix = path.suffix.lower()
        if display_name(path) != str(path):
            self.refused.append(Refusal(display_name(path), "the name is not valid UTF-8."))
        elif suffix in IMAGE_SUFFIXES:
            self.images.append(path)
        elif suffix == ".parquet" and parquet.has_images(self.root / path):
            self.parquet.append(path)
        elif suffix in archives.TABLE_SUFFIXES:
            self.tables.append(path)
        else:
            kind = f"a {suffix} file" if suffix else "a file without an ending"
            self.refused.append(Refusal(str(path), f"not an image but {kind}."))


def _wants_parquet(choice: str, files: _Files) -> bool:
    """Whether the Parquet files are the data set: pictures beside them are those of its page."""
    reading = choice.rpartition("/")[2].partition(":")[0]
    return not reading or reading == "parquet" or not files.images


def _column(choice: str) -> str:
    reading, _, column = choice.rpartition("/")[2].partition(":")
    if reading not in ("", "parquet"):
        raise DatasetError(
            f"there is no layout {choice!r} for Parquet.",
            where="dataset.layout",
            fix="Use parquet, parquet:COLUMN, or leave it empty.",
        )
    return column


def _parquet(
    root: Path, files: _Files, config: DatasetConfig, *, data: str, project: Project, emit: Emit
) -> Found:
    folder = config.layout.replace("\\", "/").rpartition("/")[0].strip("/")
    chosen = [path for path in files.parquet if not folder or folder in _chains(path)]
    groups = parquet.side_by_side(chosen)
    if len(groups) > 1:
        names = sorted(f"{group}/" for group in groups if group.parts)
        raise DatasetError(
            f"there are several data sets of Parquet files: {', '.join(names)}.",
            where=data,
            fix=f"Choose one with --layout, like --layout {names[0]}",
        )
    if not chosen:
        raise DatasetError(
            f"no Parquet file lies in a folder {folder}.", where=data, fix="Change --layout."
        )
    found = parquet.load(project, root, chosen, data=data, emit=emit, column=_column(config.layout))
    rest = [path for path in files.parquet if path not in chosen]
    beside = [
        *(Refusal(str(path), "a picture beside the Parquet files.") for path in files.images),
        *(Refusal(str(path), f"it is not in {folder}/, which was chosen.") for path in rest),
        *(Refusal(str(p), f"not an image but a {p.suffix} file.") for p in files.tables),
    ]
    others = dict(found.others)
    if len(files.images) > 1:
        others["top"] = f"the {len(files.images)} pictures in the folders beside the Parquet files"
    return replace(found, refused=[*files.refused, *beside, *found.refused], others=others)


def _chains(path: PurePosixPath) -> set[str]:
    """All chains of folders in a path."""
    parts = path.parts[:-1]
    size = len(parts)
    return {"/".join(parts[a:b]) for a in range(size) for b in range(a + 1, size + 1)}


def _read_sidecars(root: Path, files: _Files) -> tuple[layout.Sidecars, list[PurePosixPath]]:
    """What text files of the same name as an image say, and the other tables."""
    images = {path.with_suffix(""): path for path in files.images}
    labels: dict[PurePosixPath, str] = {}
    captions: dict[PurePosixPath, str] = {}
    loose = []
    for path in files.tables:
        image = images.get(path.with_suffix(""))
        small = image is not None and (root / path).stat().st_size <= _SIDECAR_BYTES
        if image is None or not small or path.suffix.lower() not in _SIDECARS:
            loose.append(path)
            continue
        content = text.decode((root / path).read_bytes()).strip()
        if path.suffix.lower() == ".cls":
            labels[image] = content
        elif path.suffix.lower() == ".json":
            label, caption = _sidecar_json(content)
            labels |= {image: label} if label else {}
            captions |= {image: caption} if caption else {}
        elif re.search(r"[^\W\d_]", content):  # numbers alone are boxes, not a caption
            captions[image] = " ".join(content.split())
    return layout.Sidecars(labels, captions), loose


def _sidecar_json(content: str) -> tuple[str, str]:
    """Class and caption in a JSON file beside an image."""
    try:
        value = json.loads(content)
    except (ValueError, RecursionError):
        return "", ""
    if not isinstance(value, dict):
        return "", ""
    plain = {str(k).lower(): v for k, v in value.items() if isinstance(v, str | int)}
    label = next((str(plain[name]) for name in table_links.LABEL_COLUMNS if name in plain), "")
    caption = next((str(plain[name]) for name in ("caption", "text") if name in plain), "")
    return label, caption


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
        folders[:] = sorted(name for name in folders if not is_rubbish(name))
        for name in sorted(files):
            if is_rubbish(name):
                continue
            count += 1
            if count % 1000 == 0:  # also lets a stop request in
                emit(Progress("dataset", 0, 1, None, f"{count} files found"))
            yield PurePosixPath((here / name).relative_to(root).as_posix())
