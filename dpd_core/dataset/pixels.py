"""Images as the models and the screen see them: decoded, square, small, and kept."""

from __future__ import annotations

import contextlib
import hashlib
import io
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


def thumbnail(project: Project, record: ImageRecord, size: int = 128) -> Path:
    """A square JPEG of at most ``size`` px for the screen, made when first asked for.

    Raises:
        DatasetError: the image is gone or has changed since it was indexed.
    """
    bands = "-".join(map(str, record.bands)) or "rgb"
    path = project.path(
        "dataset", "thumbnails", f"{size}-{bands}", record.sha256[:2], f"{record.sha256}.jpg"
    )
    if not path.exists():
        side = min(size, record.width, record.height)  # the screen enlarges better than we
        buffer = io.BytesIO()
        Image.fromarray(_square(record, side)).save(buffer, "JPEG", quality=90)
        storage.write_bytes(path, buffer.getvalue())
    return path


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
