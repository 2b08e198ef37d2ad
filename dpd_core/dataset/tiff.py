"""Reading TIFF files that Pillow cannot: many bands, deep integers, floats, no-data values.

Bands may be the samples of one page (GDAL's layout) or one page each. Deflate and no
compression are read by tifffile alone; for LZW, common in GeoTIFF, tifffile would need the
80 MB package imagecodecs, so the decoder inside Pillow is used. Other compressions are
refused with the way out, unless imagecodecs happens to be installed.
"""

from __future__ import annotations

import contextlib
import io
import logging
import math
import struct
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from dpd_core.errors import ImageRefused

if TYPE_CHECKING:
    import tifffile

MAX_BYTES = 2 << 30
"""Largest decoded page set; a thirteen-band 16-bit image of 8192 px has 1.6 GiB."""

_LZW = 5
_NODATA_TAG = 42113

# Damage is reported by the exception; tifffile would also log it to the console.
logging.getLogger("tifffile").addHandler(logging.NullHandler())


def read_tiff(
    data: bytes,
    choose: Callable[[int], Sequence[int]],
    check_size: Callable[[int, int], None],
) -> tuple[np.ndarray, np.ndarray | None]:
    """Read three bands of a TIFF file.

    Args:
        data: The file's content.
        choose: From the number of bands to the three indices (from 0) wanted.
        check_size: Refuses a width and height that are too large.

    Returns:
        Values (H, W, 3) of the file's number type, and (H, W, 3) bool, false where the value
        is the file's no-data value (``None``: it has none).

    Raises:
        ImageRefused: no tifffile, too large, no such band, or an unknown compression.
    """
    try:
        import tifffile
    except ImportError as error:
        raise ImageRefused(
            "deep and multi-band TIFF needs the package tifffile.", fix="pip install tifffile"
        ) from error

    with tifffile.TiffFile(io.BytesIO(data)) as tiff:
        pages = _band_pages(tiff)
        first = pages[0]
        check_size(first.imagewidth, first.imagelength)
        samples = first.samplesperpixel
        if first.dtype is None or first.dtype.kind not in "buif":
            raise ImageRefused("the number type of the TIFF is not supported.")
        wanted = choose(samples * len(pages))
        read = len(pages) if len(pages) == 1 else len(set(wanted))
        size = first.imagewidth * first.imagelength * samples * read * first.dtype.itemsize
        if size > MAX_BYTES:
            raise ImageRefused(
                f"the bands need {size / 2**30:.1f} GiB; the limit is {MAX_BYTES / 2**30:g}.",
                fix="Cut it into tiles.",
            )
        if len(pages) > 1:
            single = {band: _page_values(pages[band])[..., 0] for band in set(wanted)}
            values = np.stack([single[band] for band in wanted], axis=-1)
        else:
            values = _page_values(first)[..., list(wanted)]
        return values, _valid(values, first)


def _band_pages(tiff: tifffile.TiffFile) -> list[Any]:
    """The pages that hold the bands: the first, or all full-size ones of one band each."""
    if not len(tiff.pages):
        raise ImageRefused("the TIFF has no image.")
    first = tiff.pages[0].aspage()
    if first.samplesperpixel > 1:
        return [first]
    same = [first]
    for page in tiff.pages[1:]:
        other = page.aspage()
        if other.is_reduced or other.is_mask:
            continue
        if (other.shape, other.dtype) != (first.shape, first.dtype):
            break
        same.append(other)
    return same


def _page_values(page: Any) -> np.ndarray:
    """One page as (H, W, samples)."""
    packing = getattr(page.compression, "name", page.compression)
    try:
        values = _lzw_page(page) if page.compression == _LZW else page.asarray()
    except (ValueError, ImportError) as error:
        if "imagecodecs" not in str(error) and not isinstance(error, ImportError):
            raise
        raise ImageRefused(
            f"the TIFF compression {packing} is not supported (predictor {int(page.predictor)}).",
            fix="Install the package imagecodecs, or save it with Deflate and predictor 2.",
        ) from error
    if page.axes == "SYX":
        return np.moveaxis(values, 0, -1)
    return values.reshape(page.imagelength, page.imagewidth, page.samplesperpixel)


def _valid(values: np.ndarray, page: Any) -> np.ndarray | None:
    text = page.tags.valueof(_NODATA_TAG)
    nodata = math.nan
    with contextlib.suppress(TypeError, ValueError):
        nodata = float(str(text).strip(" \0"))
    if math.isnan(nodata):
        return None
    # Compare in the file's own precision: -3.4e38 as float32 is not the same as a float64.
    with np.errstate(over="ignore", invalid="ignore"):
        return values != np.float64(nodata).astype(values.dtype)


def _lzw_page(page: Any) -> np.ndarray:
    """Decode the LZW strips or tiles of a page; predictor and layout are tifffile's work."""
    page.compression = 1  # what page.decode gets is unpacked already
    values = np.zeros(page.shaped, page.dtype)
    segments = page.parent.filehandle.read_segments(page.dataoffsets, page.databytecounts)
    for packed, index in segments:
        _, _, shape = page.decode(None, index)
        if packed is None:
            continue
        raw = _unpack_lzw(packed, math.prod(shape) * page.dtype.itemsize)
        part, (sample, depth, row, column, _), _ = page.decode(raw, index)
        target = values[sample, depth : depth + 1, row : row + shape[1], column : column + shape[2]]
        target[...] = part[:, : target.shape[1], : target.shape[2]]
    return values.reshape(page.shape)


def _unpack_lzw(packed: bytes, length: int) -> bytes:
    """LZW by Pillow's libtiff: the data is handed over as a grey image of one row."""
    entries = (
        (256, length),
        (257, 1),
        (258, 8),
        (259, _LZW),
        (262, 1),
        (273, 122),
        (277, 1),
        (278, 1),
        (279, len(packed)),
    )
    header = struct.pack("<2sHIH", b"II", 42, 8, len(entries))
    header += b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in entries)
    header += struct.pack("<I", 0)
    with Image.open(io.BytesIO(header + packed), formats=("TIFF",)) as row:
        return row.tobytes()
