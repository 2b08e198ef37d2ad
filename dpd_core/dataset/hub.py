"""Data sets from the Hugging Face Hub, or in its Parquet format on disk.

Rows become image files in the project, byte for byte, so that everything after works on
files. Nothing is executed: the ``datasets`` library no longer runs loading scripts.
"""

from __future__ import annotations

import contextlib
import re
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

from dpd_core import storage
from dpd_core.dataset.found import Found, Item, Refusal
from dpd_core.dataset.images import IMAGE_SUFFIXES
from dpd_core.errors import DatasetError
from dpd_core.events import Emit, Log, Meter
from dpd_core.models.files import first_line
from dpd_core.project import Project

if TYPE_CHECKING:
    import datasets


@dataclass(frozen=True)
class Preset:
    """A well-known data set under a short name."""

    hub_id: str
    title: str
    licence: str | None


PRESETS: dict[str, Preset] = {
    "eurosat": Preset("timm/eurosat-rgb", "EuroSAT (RGB)", "mit"),
    "ucmerced": Preset("blanchon/UC_Merced", "UC Merced Land Use", None),
    "aid": Preset("blanchon/AID", "Aerial Image Dataset", None),
    "nwpu-resisc45": Preset("timm/resisc45", "NWPU-RESISC45", None),
}
"""Short name → Hub data set. The licences are those the authors state; ``None``: none."""

_ALIASES = {
    "ucm": "ucmerced",
    "nwpu": "nwpuresisc45",
    "resisc45": "nwpuresisc45",
    "eurosatrgb": "eurosat",
    "ucmercedlanduse": "ucmerced",
}

_REPORT = "rows.json"

_LABEL_COLUMNS = ("label", "labels", "class", "class_name", "category", "cls", "target", "scene")

_SIGNATURES = (
    (b"\xff\xd8\xff", ".jpg"),
    (b"\x89PNG", ".png"),
    (b"II*\0", ".tif"),
    (b"MM\0*", ".tif"),
    (b"GIF8", ".gif"),
    (b"BM", ".bmp"),
    (b"RIFF", ".webp"),
    (b"\0\0\0\x0cjP", ".jp2"),
)


def preset(name: str) -> Preset | None:
    """The preset of that name in any spelling (``UC Merced``, ``nwpu_resisc45``), or ``None``."""
    plain = _plain(name)
    plain = _ALIASES.get(plain, plain)
    return next((entry for key, entry in PRESETS.items() if _plain(key) == plain), None)


def load(project: Project, name: str, *, emit: Emit) -> Found:
    """Fetch a Hub data set (a preset's name or ``owner/name``) and write its images.

    ``datasets`` keeps the download in its own cache, shared by all projects.

    Raises:
        DatasetError: it cannot be had, or has no image or no class column.
    """
    known = preset(name)
    hub_id = known.hub_id if known else name
    emit(Log("dataset", f"Getting {hub_id} from the Hugging Face Hub."))
    with _quiet() as library:
        try:
            tables = library.load_dataset(hub_id)
        except Exception as error:
            # Network, authentication, parsing: a dozen libraries' errors end here.
            raise DatasetError(
                f"the data set '{hub_id}' cannot be had from the Hub: {_first_line(error)}",
                where=name,
                fix="Check the id and the network, or give a local folder or archive "
                "(there is no local one of this name).",
            ) from error
        target = project.path("dataset", "hub", storage.digest(hub_id, _origin(tables)))
        if not (target / _REPORT).exists():
            _write(target, tables, data=name, emit=emit, downloads=_download_folders())
    licence = known.licence if known else next(iter(tables.values())).info.license
    return _found(target, data=name, licence=licence or None)


def load_parquet(project: Project, files: Sequence[Path], *, data: str, emit: Emit) -> Found:
    """Read Parquet files laid out as on the Hub (``train-*.parquet``, ``test-*.parquet``).

    Raises:
        DatasetError: not readable, or without an image or class column.
    """
    parts: dict[str, list[str]] = {}
    for file in sorted(files):
        split = re.split(r"[-_.]", file.stem.lower())[0]
        split = split if split in ("test", "val", "validation", "valid") else "train"
        parts.setdefault(split, []).append(str(file))
    contents = {
        split: [storage.file_digest(Path(file)) for file in parts[split]] for split in parts
    }
    target = project.path("dataset", "hub", storage.digest(contents))
    if not (target / _REPORT).exists():
        # The library's own copy in its Arrow format is needed only until the files are written.
        hidden = tempfile.TemporaryDirectory(dir=project.root, prefix=".part-")
        with hidden as copy, _quiet() as library:
            try:
                tables = library.load_dataset("parquet", data_files=parts, cache_dir=copy)
            except Exception as error:
                raise DatasetError(
                    f"the Parquet files cannot be read: {_first_line(error)}",
                    where=data,
                    fix="Write them with the datasets library, images inside.",
                ) from error
            _write(target, tables, data=data, emit=emit, downloads=())
    return _found(target, data=data, licence=None)


def _write(
    target: Path,
    tables: datasets.DatasetDict,
    *,
    data: str,
    emit: Emit,
    downloads: Sequence[Path],
) -> None:
    """Write the rows as ``<class>/<split>/<name>`` files and their list, whole or not at all.

    Rows may hold a path instead of bytes. Only files below ``downloads`` are read: a foreign
    data set must not pick up files of this machine.
    """
    meter = Meter(emit, "dataset", sum(map(len, tables.values())), message="writing images")
    with storage.atomic_folder(target) as folder:
        writer = _Writer(folder, sides=_sides(list(tables)), downloads=downloads)
        for name, table in tables.items():
            for _ in meter.over(writer.rows(name, table, data)):
                pass
        storage.write_json(
            folder / _REPORT,
            {
                "items": writer.items,
                "refused": [asdict(entry) for entry in writer.refused],
            },
        )


def _found(target: Path, *, data: str, licence: str | None) -> Found:
    rows = storage.read_json(target / _REPORT, fix=f"Delete the folder {target} and start again.")
    if not rows["items"]:
        raise DatasetError("the data set has no labelled images.", where=data)
    return Found(
        kind="hub",
        data=data,
        root=None,
        licence=licence,
        copy=target,
        items=[
            Item(entry["class"], entry["name"], target / entry["file"], entry["side"])
            for entry in rows["items"]
        ],
        refused=[Refusal(**entry) for entry in rows["refused"]],
    )


@dataclass(frozen=True)
class _Columns:
    image: str
    label: str
    names: list[str] | None


class _Writer:
    """Writes rows as files; ``items`` and ``refused`` grow with them."""

    def __init__(self, folder: Path, *, sides: dict[str, str | None], downloads: Sequence[Path]):
        self.folder, self.sides, self.downloads = folder, sides, downloads
        self.items: list[dict[str, Any]] = []
        self.refused: list[Refusal] = []
        self._folders: dict[str, str] = {}
        self._taken: set[str] = set()

    def rows(self, split: str, table: datasets.Dataset, data: str) -> Iterator[None]:
        """Write a split, one row a step."""
        columns = _columns(table, data)
        table = _undecoded(table.select_columns([columns.image, columns.label]), columns.image)
        for number, row in enumerate(table):
            fault = self._row(split, number, row, columns)
            if fault is not None:
                self.refused.append(Refusal(f"{split} row {number}", fault))
            yield

    def _row(self, split: str, number: int, row: Any, columns: _Columns) -> str | None:
        class_name = _class_name(row[columns.label], columns)
        if class_name is None:
            return "it has no class."
        image = row[columns.image] or {}
        content, path = image.get("bytes"), image.get("path") or ""
        if content is None:
            fault = self._path_fault(path)
            if fault is not None:
                return fault
        head = _head(Path(path)) if content is None else content[:12]
        name = self._name(class_name, split, number, path, head)
        file = self.folder / self._folder(class_name) / name
        file.parent.mkdir(parents=True, exist_ok=True)
        if content is None:
            shutil.copyfile(path, file)
        else:
            file.write_bytes(content)
        self.items.append(
            {
                "class": class_name,
                "name": name,
                "side": self.sides[split],
                "file": file.relative_to(self.folder).as_posix(),
            }
        )
        return None

    def _path_fault(self, path: str) -> str | None:
        if not path:
            return "it has no image."
        place = Path(path).resolve()
        if not any(place.is_relative_to(folder) for folder in self.downloads):
            return "it holds no image but the path of a file outside the data set."
        return None if place.is_file() else "its image file is missing."

    def _name(self, class_name: str, split: str, number: int, path: str, head: bytes) -> str:
        """``<split>/<name>``: the original file name if there is one, else the row's number."""
        original = PurePosixPath(path).name
        stem = re.sub(r"[^\w.\- ]", "_", PurePosixPath(original).stem)[:100].strip(". ")
        suffix = PurePosixPath(original).suffix.lower()
        if suffix not in IMAGE_SUFFIXES:
            suffix = next((end for sign, end in _SIGNATURES if head.startswith(sign)), ".img")
        name = f"{split}/{stem or format(number, '06d')}{suffix}"
        if f"{class_name}/{name}".casefold() in self._taken:
            name = f"{split}/{number:06d}-{stem}{suffix}"
        self._taken.add(f"{class_name}/{name}".casefold())
        return name

    def _folder(self, class_name: str) -> str:
        """A folder for the class that every file system accepts; the name itself is data."""
        if class_name not in self._folders:
            plain = re.sub(r"[^\w\- ]", "_", class_name)[:80].strip() or "class"
            if plain.casefold() in {used.casefold() for used in self._folders.values()}:
                plain = f"{plain}-{storage.digest(class_name, length=8)}"
            self._folders[class_name] = plain
        return self._folders[class_name]


def _columns(table: datasets.Dataset, data: str) -> _Columns:
    import datasets

    features = table.features
    images = [name for name, feature in features.items() if _is_image(feature)]
    labels = [
        name for name, feature in features.items() if isinstance(feature, datasets.ClassLabel)
    ]
    labels += [
        name
        for name in _LABEL_COLUMNS
        if name in features and getattr(features[name], "dtype", "") in ("string", "int64", "int32")
    ]
    if not images or not labels:
        missing = "image" if not images else "class"
        raise DatasetError(
            f"the data set has no {missing} column; its columns are {', '.join(features)}.",
            where=data,
            fix=f"One column with images and one named {_LABEL_COLUMNS[0]} are needed.",
        )
    feature = features[labels[0]]
    names = list(feature.names) if isinstance(feature, datasets.ClassLabel) else None
    return _Columns(images[0], labels[0], names)


def _is_image(feature: Any) -> bool:
    import datasets

    if isinstance(feature, datasets.Image):
        return True
    # Parquet written without the datasets library: a struct of bytes and path.
    return isinstance(feature, dict) and "bytes" in feature


def _undecoded(table: datasets.Dataset, column: str) -> datasets.Dataset:
    import datasets

    if isinstance(table.features[column], datasets.Image):
        return table.cast_column(column, datasets.Image(decode=False))
    return table


def _class_name(label: Any, columns: _Columns) -> str | None:
    """The label's name without path separators, or ``None``."""
    if label is None:
        return None
    if columns.names is not None:
        if not 0 <= label < len(columns.names):
            return None
        label = columns.names[label]
    name = re.sub(r"[/\\\x00-\x1f]+", "-", str(label)).strip()
    return name if name.strip(".") else None


def _sides(splits: list[str]) -> dict[str, str | None]:
    """Train or test by split name: a data set of one split is split by us."""
    if len(splits) == 1:
        return {splits[0]: None}
    held_out = [name for name in splits if name.startswith("test")]
    held_out = held_out or [name for name in splits if name.startswith("val")]
    if not held_out:
        return dict.fromkeys(splits)
    return {name: "test" if name in held_out else "train" for name in splits}


def _origin(tables: datasets.DatasetDict) -> dict[str, list[str]]:
    """What tells one state of a Hub data set from another: its files, with their commits."""
    return {
        name: [str(len(table)), *sorted(table.info.download_checksums or {})]
        for name, table in tables.items()
    }


def _download_folders() -> tuple[Path, ...]:
    """Where the Hub's libraries keep what they download."""
    import datasets
    from huggingface_hub import constants

    caches = (datasets.config.HF_DATASETS_CACHE, constants.HF_HUB_CACHE)
    return tuple(Path(cache).resolve() for cache in caches)


def _head(path: Path) -> bytes:
    with path.open("rb") as file:
        return file.read(12)


def _first_line(error: Exception) -> str:
    return first_line(error).rstrip(".") + "."


def _plain(name: str) -> str:
    return re.sub(r"[^a-z0-9]", "", name.lower())


@contextlib.contextmanager
def _quiet() -> Iterator[Any]:
    """The ``datasets`` library without its progress bars: our events tell the progress."""
    import datasets

    shown = not datasets.utils.are_progress_bars_disabled()
    datasets.disable_progress_bars()
    try:
        yield datasets
    finally:
        if shown:
            datasets.enable_progress_bars()
