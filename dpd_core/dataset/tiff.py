"""Reading TIFF: any depth, any number of bands, strips, tiles or planes, only the bands wanted.

Bands may be the samples of one page (GDAL's layout) or one page each. Deflate and LZMA are read by
the standard library; for LZW and Zstandard, common in GeoTIFF, tifffile would need the package
imagecodecs, so the decoder inside Pillow is used. Other compressions are refused with the way out,
unless imagecodecs is installed.
"""

from __future__ import annotations

import contextlib
import html
import io
import itertools
import logging
import math
import re
import struct
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import tifffile
from PIL import Image

from dpd_core.dataset.bands import Bands, Shown
from dpd_core.dataset.origin import Origin, of_tiff
from dpd_core.dataset.stretch import is_nodata
from dpd_core.errors import ImageRefused

MAX_SAMPLES = 1 << 28
"""Most values that are decoded of one file; the time it takes is counted in samples."""

MAX_BYTES = 1 << 30
"""Most bytes that the wanted bands, or one strip or tile, may need."""

MAX_PAGES = 1000

_DEFLATE = (8, 32946)
_BY_PILLOW = (5, 50000)  # LZW, Zstandard
_READ_BY_PILLOW = (1, 2, 3, 4, 5, 6, 7, 8, 32773, 32946, 34925, 50000)
_SAMPLES = {0: 1, 1: 1, 2: 3, 3: 1, 5: 4, 6: 3, 8: 3}
"""Colour channels by photometric interpretation, of the images that Pillow reads as meant."""

_FLOAT_PREDICTOR = 3
_MINISWHITE, _RGB, _PALETTE = 0, 2, 3
_NODATA_TAG, _GDAL_METADATA = 42113, 42112

# Damage is reported by the exception; tifffile would also log it to the console.
logging.getLogger("tifffile").addHandler(logging.NullHandler())


@dataclass(frozen=True)
class Raster:
    """The bands of a TIFF that are shown.

    Attributes:
        values: (H, W, bands) of the file's number type, upright.
        valid: (H, W, bands) or (H, W, 1) bool, false where there is no data, or ``None``.
        shown: Which bands they are.
        notes: What a person should know.
        colours: The values are colours, not to be stretched (a palette was applied).
    """

    values: np.ndarray
    valid: np.ndarray | None
    shown: Shown
    notes: tuple[str, ...] = ()
    colours: bool = False


@dataclass(frozen=True)
class Head:
    """What decides how a TIFF is read: depth, samples, whether the main image is the first page
    and plain; when and where it was taken; and what else it says."""

    bits: int
    samples: int
    plain: bool
    nodata: float | None
    origin: Origin


def head(data: bytes) -> Head:
    """Look at the tags.

    Raises:
        ImageRefused: there is no image in it.
    """
    with tifffile.TiffFile(io.BytesIO(data)) as tiff:
        pages = _pages(tiff)
        page = pages[0]
        bits = max(np.atleast_1d(page.bitspersample))
        signed = any(int(f) != 1 for f in np.atleast_1d(page.sampleformat))
        single = len(pages) == 1 or page.samplesperpixel > 1
        alpha = _alpha_of(page) is not None
        colours = page.samplesperpixel - alpha
        ordinary = _SAMPLES.get(int(page.photometric)) == colours
        readable = int(page.compression) in _READ_BY_PILLOW
        plain = page.index == 0 and single and bits <= 8 and not signed and ordinary and readable
        origin = of_tiff(page.tags)
        return Head(int(bits), page.samplesperpixel, plain, _nodata(page), origin)


def read_tiff(
    data: bytes,
    choose: Callable[[Bands], Shown],
    check_size: Callable[[int, int], None],
) -> Raster:
    """Read the wanted bands of a TIFF file.

    Args:
        data: The file's content.
        choose: From what the file says of its bands to those wanted.
        check_size: Refuses a width and height that are too large.

    Raises:
        ImageRefused: too large, no such band, or an unknown compression or number type.
    """
    with tifffile.TiffFile(io.BytesIO(data)) as tiff:
        pages = _pages(tiff)
        first = pages[0]
        check_size(first.imagewidth, first.imagelength)
        if first.dtype is None or first.dtype.kind not in "buif":
            raise ImageRefused("the number type of the TIFF is not supported.")
        notes: list[str] = []
        mask = None
        count = first.samplesperpixel * len(pages)
        alpha = _alpha_of(first) if len(pages) == 1 else None
        if alpha is not None:
            band = _bands(first, [alpha])
            if is_alpha(band):
                mask, count = band > 0, count - 1
            else:
                notes.append(NOT_ALPHA)
        said = Bands(count, _names(first, count), first.dtype.itemsize > 1, _is_rgb(first))
        palette = _palette(first)
        shown = choose(Bands(3, rgb=True) if palette is not None else said)
        wanted = [0] if palette is not None else list(shown.indices)
        _check_samples(first, len(set(wanted)) if len(pages) > 1 else 1)
        if len(pages) > 1:
            single = {band: _bands(pages[band], [0])[..., 0] for band in sorted(set(wanted))}
            values = np.stack([single[band] for band in wanted], axis=-1)
        else:
            values = _bands(first, wanted)
        nodata = _nodata(first)
        valid = mask
        if nodata is not None:
            good = ~is_nodata(values, nodata)
            valid = good if mask is None else good & mask
        if palette is not None:
            values = palette[np.clip(values[..., 0], 0, len(palette) - 1)]
            values = values[..., list(shown.indices)]
        elif first.photometric == _MINISWHITE:
            values = _inverted(values)
        turn = first.tags.valueof(274) or 1
        values, valid = upright(values, turn), None if valid is None else upright(valid, turn)
        return Raster(values, valid, shown, tuple(notes), palette is not None)


NOT_ALPHA = (
    "its band marked as alpha is none (it takes many values): it was left out, not multiplied in."
)


def is_alpha(band: np.ndarray) -> bool:
    """Whether a band marked as alpha is one: most of it is nothing or everything. Near infrared
    is often marked as alpha by mistake."""
    if band.dtype.kind == "f":
        top = 1.0
    else:
        top = 255 if band.dtype.itemsize == 1 else np.iinfo(band.dtype).max
    return bool(((band == 0) | (band == top)).mean() >= 0.5)


def upright(values: np.ndarray, turn: int) -> np.ndarray:
    """An image (H, W, …) turned as its orientation tag (1 to 8) says."""
    if turn in (5, 6, 7, 8):
        values = np.swapaxes(values, 0, 1)
    if turn in (3, 4, 7, 8):
        values = values[::-1]
    if turn in (2, 3, 6, 7):
        values = values[:, ::-1]
    return values


def _pages(tiff: tifffile.TiffFile) -> list[Any]:
    """The pages that hold the bands: the main one, or all of its kind if each holds one band."""
    pages: list[Any] = []
    for page in itertools.islice(tiff.pages, MAX_PAGES):
        whole = page.aspage()
        if not (whole.is_reduced or whole.is_mask) or (whole.is_reduced and not pages):
            pages.append(whole)
    full = [page for page in pages if not page.is_reduced] or pages
    if not full:
        raise ImageRefused("the TIFF has no image.")
    main = full[0]
    for page in full[1:]:  # a small copy before the image, not marked as one
        ratio = page.imagewidth * main.imagelength - page.imagelength * main.imagewidth
        if page.imagewidth >= 2 * main.imagewidth and abs(ratio) <= 0.02 * page.imagewidth**2:
            main = page
    if main.samplesperpixel > 1:
        return [main]
    same = [main]
    for page in full[full.index(main) + 1 :]:
        if (page.shape, page.dtype) != (main.shape, main.dtype):
            break
        same.append(page)
    return same


def _check_samples(page: Any, pages: int) -> None:
    planar = page.planarconfig == 2
    each = 1 if planar else page.samplesperpixel
    total = page.imagewidth * page.imagelength * each * (3 if planar else pages)
    if total > MAX_SAMPLES:
        raise ImageRefused(
            f"{page.imagewidth} x {page.imagelength} pixels of {page.samplesperpixel} bands are "
            f"more than the limit of {MAX_SAMPLES / 1e6:.0f} million values.",
            fix="Cut it into tiles.",
        )


def _alpha_of(page: Any) -> int | None:
    """Index of the sample marked as alpha."""
    extra = tuple(int(kind) for kind in page.extrasamples or ())
    first = page.samplesperpixel - len(extra)
    return next((first + k for k, kind in enumerate(extra) if kind in (1, 2)), None)


def _is_rgb(page: Any) -> bool:
    return page.photometric == _RGB


def _palette(page: Any) -> np.ndarray | None:
    """(entries, 3) uint8 of a palette image."""
    if page.photometric != _PALETTE or page.colormap is None:
        return None
    table = np.asarray(page.colormap)
    return (table >> 8 if table.max() > 255 else table).T.astype(np.uint8)


def _inverted(values: np.ndarray) -> np.ndarray:
    """White is zero: the values the other way round."""
    if values.dtype == bool:
        return ~values
    if values.dtype.kind == "u":
        return np.iinfo(values.dtype).max - values
    return -values.astype(np.float64)


def _nodata(page: Any) -> float | None:
    text = page.tags.valueof(_NODATA_TAG)
    nodata = math.nan
    with contextlib.suppress(TypeError, ValueError):
        nodata = float(str(text).strip(" \0"))
    return None if math.isnan(nodata) else nodata


def _names(page: Any, count: int) -> tuple[str, ...]:
    """Names of the bands that GDAL wrote, or none."""
    text = str(page.tags.valueof(_GDAL_METADATA) or "")[: 1 << 20]
    found = {}
    for attributes, value in re.findall(r"<Item\b([^>]*)>([^<]*)</Item>", text):
        sample = re.search(r'sample="(\d+)"', attributes)
        if sample and re.search(r'role="description"|name="DESCRIPTION"', attributes):
            found[int(sample.group(1))] = html.unescape(value).strip()
    return tuple(found.get(k, "") for k in range(count)) if found else ()


def _bands(page: Any, wanted: Sequence[int]) -> np.ndarray:
    """(H, W, wanted) of a page; only the strips and tiles of these bands are decoded."""
    itemsize = page.dtype.itemsize
    chosen = sorted(set(wanted))
    if page.imagewidth * page.imagelength * len(chosen) * itemsize > MAX_BYTES:
        raise ImageRefused(
            f"the bands need more than {MAX_BYTES / 2**30:g} GiB.", fix="Cut it into tiles."
        )
    planar = page.planarconfig == 2 and page.samplesperpixel > 1
    per_plane = len(page.dataoffsets) // page.samplesperpixel if planar else len(page.dataoffsets)
    segments = [
        index
        for index in range(len(page.dataoffsets))
        if not planar or index // max(per_plane, 1) in chosen
    ]
    packing, compression, predictor = _packing(page), int(page.compression), int(page.predictor)
    own = compression in (1, *_DEFLATE, *_BY_PILLOW)
    if own:  # what page.decode gets is unpacked already
        page.compression = 1
        if predictor == _FLOAT_PREDICTOR:
            page.predictor = 1
    values = np.zeros((page.imagelength, page.imagewidth, len(chosen)), page.dtype)
    reader = page.parent.filehandle.read_segments(
        [page.dataoffsets[k] for k in segments],
        [page.databytecounts[k] for k in segments],
        indices=segments,
    )
    try:
        for packed, index in reader:
            _, _, shape = page.decode(None, index)
            size = math.prod(shape) * itemsize
            if size > MAX_BYTES:
                raise ImageRefused("one strip of the TIFF is too large.", fix="Write it in tiles.")
            if not packed:
                continue
            if own:
                packed = _unpack(packed, size, compression)
                if predictor == _FLOAT_PREDICTOR:
                    packed = _undo_float_predictor(packed, shape, page)
            part, (sample, _, row, column, _), _ = page.decode(packed, index)
            bands = [0] if planar else chosen
            start = chosen.index(sample) if planar else 0
            target = slice(start, start + len(bands))
            place = values[row : row + shape[1], column : column + shape[2], target]
            place[...] = part[0][: place.shape[0], : place.shape[1], bands]
    except (ValueError, ImportError) as error:
        if "imagecodecs" not in str(error) and not isinstance(error, ImportError):
            raise
        raise ImageRefused(
            f"the TIFF compression {packing} is not supported (predictor {predictor}).",
            fix="Install the package imagecodecs, or save it with Deflate or LZW.",
        ) from error
    return values[..., [chosen.index(band) for band in wanted]]


def _packing(page: Any) -> str:
    return str(getattr(page.compression, "name", page.compression))


def _unpack(packed: bytes, size: int, compression: int) -> bytes:
    """Unpack a strip or tile to at most the size that its place in the image needs."""
    if compression in _DEFLATE:
        return zlib.decompressobj().decompress(packed, size)
    if compression in _BY_PILLOW:
        return _unpack_by_pillow(packed, size, compression)
    return packed


def _undo_float_predictor(raw: bytes, shape: tuple[int, ...], page: Any) -> bytes:
    """TIFF's predictor 3: bytes of a row in planes, the highest first, each the difference to the
    byte one pixel before."""
    columns, samples = shape[2:]
    width, itemsize = columns * samples, page.dtype.itemsize
    planes = np.frombuffer(raw, np.uint8)
    planes = planes[: len(planes) // (width * itemsize) * width * itemsize]
    planes = planes.reshape(-1, width * itemsize // samples, samples)
    planes = np.cumsum(planes, axis=1, dtype=np.uint8).reshape(-1, itemsize, width)
    big = np.ascontiguousarray(planes.transpose(0, 2, 1)).view(f">f{itemsize}")
    return big.astype(page.dtype.newbyteorder(page.parent.byteorder)).tobytes()


def _unpack_by_pillow(packed: bytes, length: int, compression: int) -> bytes:
    """LZW and the like by Pillow's libtiff: the data is handed over as a grey image of one row."""
    entries = (
        (256, length),
        (257, 1),
        (258, 8),
        (259, compression),
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
