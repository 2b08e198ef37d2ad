"""Images as the models and the screen see them: decoded, square, small, and kept."""

from __future__ import annotations

import contextlib
import hashlib
import io
import os
import time
from collections.abc import Sequence
from pathlib import Path
from typing import BinaryIO

import numpy as np
from PIL import Image

from dpd_core import storage
from dpd_core.dataset import images
from dpd_core.dataset.index import ImageRecord
from dpd_core.errors import DatasetError, ImageRefused
from dpd_core.events import Emit, Meter, ignore
from dpd_core.project import Project

CACHE_FROM = 257
"""Smaller sets are decoded anew: that takes a moment, and a file for each batch would not pay."""

_KEPT_FILES = 8
_STALE_SECONDS = 3600


def pixels(
    project: Project,
    records: Sequence[ImageRecord],
    size: int,
    *,
    emit: Emit = ignore,
    stage: str = "dataset",
) -> np.ndarray:
    """The images as one array, in the order of ``records``.

    Large sets are kept on disk by content (digests, size, bands) and come back memory-mapped
    and read-only; one image at a time is decoded at its full size.

    Args:
        size: Side in px; see :func:`dpd_core.dataset.images.to_square`.
        stage: Stage name of the progress events.

    Returns:
        (N, size, size, 3) uint8.

    Raises:
        DatasetError: an image is gone or has changed since it was indexed.
    """
    shape = (len(records), size, size, 3)
    if len(records) < CACHE_FROM:
        result = np.empty(shape, np.uint8)
        for row, record in zip(result, records, strict=True):
            row[...] = _square(record, size)
        return result
    key = storage.digest(size, [[record.sha256, record.bands] for record in records], length=24)
    path = project.path("cache", "pixels", f"{key}.npy")
    if not path.exists():
        _tidy(path.parent)
        with storage.atomic_path(path) as temporary, temporary.open("wb") as file:
            _write(file, shape, records, Meter(emit, stage, len(records), message="reading images"))
    with contextlib.suppress(OSError):  # the project may be read-only
        path.touch()  # the files used last are kept
    return np.load(path, mmap_mode="r", allow_pickle=False)


THUMBNAIL, LARGE = 128, 384
"""Sides of the images for the screen, in px."""

_DIRECT_SIDE, _DIRECT_BYTES = 400, 512 * 1024
_DIRECT = {".png", ".jpg", ".jpeg"}
_LARGE_FOR = 5000
"""In a larger collection the screen shows what it enlarges from the small ones."""


def thumbnail(project: Project, record: ImageRecord, size: int = THUMBNAIL) -> Path:
    """A square JPEG of at most ``size`` px for the screen, made if it is not there.

    Raises:
        DatasetError: the image is gone or has changed since it was indexed.
    """
    path = _thumbnail_path(project, record, size)
    if not path.exists():
        side = min(size, record.width, record.height)  # the screen enlarges better than we
        buffer = io.BytesIO()
        Image.fromarray(_square(record, side)).save(buffer, "JPEG", quality=90)
        # Not flushed to the disk one by one: it can be made again.
        path.parent.mkdir(parents=True, exist_ok=True)
        part = path.with_name(f".part-{os.getpid()}-{path.name}")
        with storage.writable(path):
            part.write_bytes(buffer.getvalue())
            part.replace(path)
    return path


def make_thumbnails(
    project: Project, records: Sequence[ImageRecord], emit: Emit = ignore, *, stage: str = "dataset"
) -> None:
    """Make what :func:`on_screen` will be asked for, where the images are decoded anyway: a web
    server must not decode what strangers send."""
    sizes = (THUMBNAIL, LARGE) if len(records) <= _LARGE_FOR else (THUMBNAIL,)
    wanted = [
        (record, size)
        for record in records
        if not _is_shown_directly(record)
        for size in sizes
        if size == THUMBNAIL or min(record.width, record.height) > THUMBNAIL
        if not _thumbnail_path(project, record, size).exists()
    ]
    for record, size in Meter(emit, stage, len(wanted), message="making thumbnails").over(wanted):
        thumbnail(project, record, size)


def on_screen(project: Project, record: ImageRecord, size: int = THUMBNAIL) -> Path | None:
    """A file that a browser can show as it is, without decoding anything here: a small image
    itself, or what :func:`make_thumbnails` made of it, at ``size`` px or smaller; ``None`` if there
    is none."""
    if _is_shown_directly(record):
        return record.path
    found = (_thumbnail_path(project, record, side) for side in (size, THUMBNAIL))
    return next((path for path in found if path.is_file()), None)


def _thumbnail_path(project: Project, record: ImageRecord, size: int) -> Path:
    bands = "-".join(map(str, record.bands)) or "rgb"
    return project.path(
        "dataset", "thumbnails", f"{size}-{bands}", record.sha256[:2], f"{record.sha256}.jpg"
    )


def _is_shown_directly(record: ImageRecord) -> bool:
    small = record.width == record.height <= _DIRECT_SIDE and not record.bands
    if not small or record.path.suffix.lower() not in _DIRECT:
        return False
    try:
        return record.path.stat().st_size <= _DIRECT_BYTES
    except OSError:
        return False


def open_record(record: ImageRecord) -> Image.Image:
    """The whole image as RGB.

    Raises:
        DatasetError: it is gone or has changed since it was indexed.
    """
    try:
        data = images.read_file(record.path)
        if hashlib.sha256(data).hexdigest() != record.sha256:
            raise DatasetError(
                "the image has changed since it was indexed.",
                where=record.path,
                fix="Run the stage 'dataset' again.",
            )
        return images.open_rgb(data, bands=record.bands)
    except ImageRefused as refused:
        raise DatasetError(
            f"the image cannot be read any more: {refused.what}",
            where=record.path,
            fix="Put it back, or run the stage 'dataset' again.",
        ) from refused


def _square(record: ImageRecord, size: int) -> np.ndarray:
    return np.asarray(images.to_square(open_record(record), size))


def _write(
    file: BinaryIO, shape: tuple[int, ...], records: Sequence[ImageRecord], meter: Meter
) -> None:
    """Write an .npy file row by row: a full disk is an error here, not a crash as in a
    memory-mapped file."""
    header = {"descr": "|u1", "fortran_order": False, "shape": shape}
    np.lib.format.write_array_header_1_0(file, header)
    for record in meter.over(records):
        file.write(_square(record, shape[1]).tobytes())


def _tidy(folder: Path) -> None:
    """Delete what crashed writers left, and all but the files used last."""
    with contextlib.suppress(OSError):  # another process may tidy, or still read (Windows)
        for part in folder.glob(".part-*"):
            if time.time() - part.stat().st_mtime > _STALE_SECONDS:
                part.unlink()
        whole = [path for path in folder.glob("*.npy") if not path.name.startswith(".")]
        newest = sorted(whole, key=lambda path: path.stat().st_mtime, reverse=True)
        for path in newest[_KEPT_FILES - 1 :]:
            path.unlink()
