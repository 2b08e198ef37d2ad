"""Safe decoding: what the outside world sends us, made 8-bit RGB or refused.

Images arrive as JPEG, PNG, TIFF, WebP, JPEG 2000 and more, with palettes, alpha, 16 bits,
floats or thirteen bands. Everything after this module sees 8-bit RGB.

How values become 8-bit:

* 8-bit data is kept as it is.
* Anything deeper (16-bit, 32-bit, float) is stretched for each image and band: the 2nd
  percentile becomes 0, the 98th 255. This is the usual display stretch in remote sensing;
  absolute radiometry is not kept.
* NaN, infinities, floats beyond ±1e30, the GDAL nodata value, common fill values that stand apart
  and transparent pixels are no data: they become 0 and do not count for the percentiles.
* What is marked as alpha but takes many values (near infrared) is a band, not multiplied in.
"""

from __future__ import annotations

import io
import logging
import warnings
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path

import numpy as np
from PIL import Image, ImageFile, ImageOps, UnidentifiedImageError

from dpd_core.dataset import bands, deep, tiff
from dpd_core.dataset import stretch as stretching
from dpd_core.dataset.origin import UNKNOWN, Origin, of_picture
from dpd_core.errors import ImageRefused

MAX_PIXELS = 8192 * 8192
"""Largest image that is decoded; a small file can claim any size ("decompression bomb")."""

MAX_FILE_BYTES = 1 << 30
"""Largest image file that is read into memory."""

IMAGE_SUFFIXES = frozenset(
    (
        ".jpg",
        ".jpeg",
        ".jpe",
        ".jfif",
        ".mpo",
        ".png",
        ".apng",
        ".tif",
        ".tiff",
        ".webp",
        ".bmp",
        ".dib",
        ".gif",
        ".jp2",
        ".j2k",
        ".j2c",
        ".avif",
        ".ppm",
        ".pgm",
        ".pbm",
        ".pnm",
    )
)
"""File name endings taken for images, in lower case."""

# Only these decoders meet foreign bytes. Not among them, on purpose: EPS (runs Ghostscript),
# and formats without a signature.
_FORMATS = ("JPEG", "PNG", "TIFF", "WEBP", "BMP", "DIB", "GIF", "JPEG2000", "PPM", "MPO", "AVIF")

# Pillow tells the console about damaged metadata; the image, or its refusal, says enough.
warnings.filterwarnings("ignore", module=r"PIL\..*")
logging.getLogger("PIL").addHandler(logging.NullHandler())

_TIFF_SIGNATURES = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")

_ORIENTATION = 0x0112


@dataclass(frozen=True)
class Decoded:
    """A decoded image: 8-bit RGB, which bands it shows, what a person should know of it, and when
    and where it was taken."""

    image: Image.Image
    bands: str
    notes: tuple[str, ...]
    origin: Origin = UNKNOWN


def open_rgb(source: str | Path | bytes, *, bands: Sequence[str | int] = ()) -> Image.Image:
    """The image of :func:`decode`."""
    return decode(source, wanted=bands).image


def decode(source: str | Path | bytes, *, wanted: Sequence[str | int] = ()) -> Decoded:
    """Decode an image completely and make it 8-bit RGB.

    The orientation noted by a camera (EXIF) is applied; of an animation the first frame is
    taken; transparency is laid over black.

    Args:
        source: A file, or its content.
        wanted: Which bands are shown, as :func:`dpd_core.dataset.bands.choose` takes it. Empty:
            true colour where the bands are known, else the first three.

    Raises:
        ImageRefused: missing, empty, damaged, not an image, too large, or without such bands.
    """
    where = None if isinstance(source, bytes) else Path(source)
    try:
        data = source if isinstance(source, bytes) else read_file(Path(source))
        return _decode(data, tuple(wanted))
    except ImageRefused as refused:
        if refused.where is not None or where is None:
            raise
        raise ImageRefused(refused.what, where=where, fix=refused.fix) from refused
    except MemoryError as error:
        raise ImageRefused("it does not fit into memory.", where=where) from error
    except UnidentifiedImageError as error:
        raise ImageRefused("not an image, or a damaged one.", where=where) from error
    except Exception as error:
        # Decoders meet hostile bytes here and fail with whatever comes (struct.error,
        # KeyError, SyntaxError, ...): each means that this one file cannot be used.
        detail = str(error).strip().rstrip(".") or type(error).__name__
        raise ImageRefused(f"the image is damaged ({detail}).", where=where) from error


def read_file(path: Path) -> bytes:
    """The content of an image file.

    Raises:
        ImageRefused: not a regular file, not readable, empty or larger than
            :data:`MAX_FILE_BYTES`.
    """
    try:
        if not path.is_file():
            what = "not a regular file." if path.exists() else "the file is missing."
            raise ImageRefused(what, where=path)
        size = path.stat().st_size
        if size > MAX_FILE_BYTES:
            raise ImageRefused(
                f"the file has {size / 2**30:.1f} GiB; the limit is {MAX_FILE_BYTES / 2**30:g}.",
                where=path,
                fix="Cut it into tiles.",
            )
        data = path.read_bytes()
    except OSError as error:
        raise ImageRefused(f"cannot be read ({error.strerror}).", where=path) from error
    if not data:
        raise ImageRefused("the file is empty.", where=path)
    return data


def to_square(image: Image.Image, size: int) -> Image.Image:
    """Cut the largest centred square and resize it to ``size`` by ``size`` px with antialiasing.

    The one way in which images reach the models, the students and the screen.
    """
    if image.size == (size, size):
        return image.convert("RGB")
    return ImageOps.fit(image.convert("RGB"), (size, size), Image.Resampling.LANCZOS)


def check_size(width: int, height: int) -> None:
    """Refuse what would not fit into memory once decoded.

    Raises:
        ImageRefused: no pixels, or more than :data:`MAX_PIXELS`.
    """
    if width < 1 or height < 1:
        raise ImageRefused("the image has no pixels.")
    if width * height > MAX_PIXELS:
        raise ImageRefused(
            f"{width} x {height} pixels are more than the limit of {MAX_PIXELS / 1e6:.0f} million.",
            fix="Cut it into tiles.",
        )


def _decode(data: bytes, wanted: tuple[str | int, ...]) -> Decoded:
    if not data:
        raise ImageRefused("the file is empty.")
    nodata = None
    origin: Origin | None = None
    if data[:4] in _TIFF_SIGNATURES:
        head = tiff.head(data)
        origin = head.origin
        asked = head.samples > 3 and bool(wanted)
        if not head.plain or asked:
            raster = tiff.read_tiff(data, lambda known: bands.choose(known, wanted), check_size)
            said = set(raster.notes)
            return _finish(_from_raster(raster, said), raster.shown, said, origin)
        nodata = head.nodata
    with Image.open(io.BytesIO(data), formats=_formats()) as image:
        check_size(*image.size)
        depth = deep.depth(data, image)
        if depth > 8:
            decoded = _decode_deep(data, image, depth, wanted)
            return replace(decoded, origin=origin or of_picture(image))
        image.load()
        origin = origin or of_picture(image)
        picture = ImageOps.exif_transpose(image)
    notes: set[str] = set()
    values = _values(picture, notes)
    grey = picture.mode in ("1", "L", "LA", "La")
    count = 1 if grey else values.shape[2]
    shown = bands.choose(bands.Bands(count, rgb=not grey), wanted)
    result = _shown(values, shown)
    if nodata is not None:
        missing = (values[..., :3] == nodata).all(axis=-1, keepdims=True)
        result = np.where(missing, 0, result).astype(np.uint8)
    return _finish(result, shown, notes, origin)


def _decode_deep(
    data: bytes, image: ImageFile.ImageFile, depth: int, wanted: tuple[str | int, ...]
) -> Decoded:
    values, notes = deep.values(data, image, depth)
    valid = None
    colours = {2: 1, 4: 3}.get(values.shape[2])
    if colours is not None:
        alpha = values[..., colours:]
        if tiff.is_alpha(alpha):
            valid, values = alpha > 0, values[..., :colours]
        else:
            notes.add(tiff.NOT_ALPHA)
    clear = image.info.get("transparency")
    if isinstance(clear, int):
        valid = values != clear
    count = values.shape[2]
    shown = bands.choose(bands.Bands(count, deep=True, rgb=count >= 3), wanted)
    turn = image.getexif().get(_ORIENTATION, 1)
    values = tiff.upright(values[..., list(shown.indices)], turn)
    valid = None if valid is None else tiff.upright(valid, turn)
    raster = tiff.Raster(values, valid, shown)
    return _finish(_from_raster(raster, notes), shown, notes)


def _finish(
    values: np.ndarray, shown: bands.Shown, notes: set[str], origin: Origin = UNKNOWN
) -> Decoded:
    """(H, W, 3) uint8 as the result, with a note if nothing can be seen in it."""
    if stretching.collapsed(values):
        notes.add("the whole image is one colour.")
    image = Image.fromarray(np.ascontiguousarray(values))
    return Decoded(image, shown.text, tuple(sorted(notes)), origin)


def _from_raster(raster: tiff.Raster, notes: set[str]) -> np.ndarray:
    """(H, W, 3) uint8 of the shown bands; ``notes`` grow."""
    values, valid = raster.values, raster.valid
    if raster.shown.is_index:
        return _index(values, valid)
    if values.dtype == bool:
        values = values.astype(np.uint8) * 255
    if values.dtype != np.uint8:
        values = stretching.stretch(values, valid, notes)
    elif valid is not None:
        seen = valid if valid.shape[2] == 1 else valid.any(axis=-1, keepdims=True)
        values = np.where(seen, values, 0).astype(np.uint8)
    return np.broadcast_to(values, (*values.shape[:2], 3))


def _index(values: np.ndarray, valid: np.ndarray | None) -> np.ndarray:
    """A normalised difference in grey: -1 is 0, 1 is 255; where there is no data, 0."""
    a, b = (values[..., k].astype(np.float64) for k in (0, 1))
    good = stretching.known(a) & stretching.known(b) & (a + b != 0)
    if valid is not None:
        good &= valid.all(axis=-1)
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        grey = np.clip(np.nan_to_num((a - b) / (a + b)), -1, 1) * 127.5 + 127.5
    grey = np.where(good, grey.round(), 0).astype(np.uint8)
    return np.repeat(grey[..., None], 3, axis=-1)


def _values(picture: Image.Image, notes: set[str]) -> np.ndarray:
    """8-bit image of any mode as (H, W, 3), transparency over black (it marks missing data); or as
    (H, W, 4) where what is marked as alpha is a fourth band."""
    if picture.mode in ("RGBA", "LA"):
        alpha = np.asarray(picture.getchannel("A"))
        if not tiff.is_alpha(alpha):
            notes.add(tiff.NOT_ALPHA)
            base = picture.convert("RGBA")
            return np.asarray(base) if picture.mode == "RGBA" else np.asarray(base)[..., :3]
    if picture.mode == "RGB" and "transparency" not in picture.info:
        return np.asarray(picture)
    if not picture.has_transparency_data:
        return np.asarray(picture.convert("RGB"))
    layer = picture.convert("RGBA")
    black = Image.new("RGBA", layer.size, (0, 0, 0, 255))
    return np.asarray(Image.alpha_composite(black, layer).convert("RGB"))


def _shown(values: np.ndarray, shown: bands.Shown) -> np.ndarray:
    chosen = values[..., list(shown.indices)]
    return _index(chosen, None) if shown.is_index else chosen


@cache
def _formats() -> tuple[str, ...]:
    Image.init()
    return tuple(name for name in _FORMATS if name in Image.OPEN)
