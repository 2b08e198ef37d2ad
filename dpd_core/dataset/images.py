"""Safe decoding: what the outside world sends us, made 8-bit RGB or refused.

Images arrive as JPEG, PNG, TIFF, WebP, JPEG 2000 and more, with palettes, alpha, 16 bits,
floats or thirteen bands. Everything after this module sees 8-bit RGB.

How values become 8-bit:

* 8-bit data is kept as it is.
* Anything deeper (16-bit, 32-bit, float) is stretched for each image and band: the 2nd
  percentile becomes 0, the 98th 255. This is the usual display stretch in remote sensing;
  absolute radiometry is not kept.
* NaN, infinities, the GDAL nodata value and transparent pixels are no data: they become 0 and
  do not count for the percentiles.
"""

from __future__ import annotations

import io
import warnings
from collections.abc import Sequence
from functools import cache
from pathlib import Path

import numpy as np
from PIL import Image, ImageFile, ImageOps, UnidentifiedImageError

from dpd_core.dataset.tiff import read_tiff
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

_TIFF_SIGNATURES = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")

# PNG with 16 bits a colour channel: Pillow keeps the high byte. Unpacked as if it were
# little-endian, the same file gives the low byte.
_LOW_BYTES = {"RGB;16B": "RGB;16L", "RGBA;16B": "RGBA;16L"}


def open_rgb(source: str | Path | bytes, *, bands: Sequence[int] = ()) -> Image.Image:
    """Decode an image completely and make it 8-bit RGB.

    The orientation noted by a camera (EXIF) is applied; of an animation the first frame is
    taken; transparency is laid over black.

    Args:
        source: A file, or its content.
        bands: Which three bands, counted from 1, are red, green and blue. Empty: 4, 3, 2 of
            thirteen bands (Sentinel-2's red, green and blue), else 1, 2, 3; an image of one or
            two bands becomes grey.

    Raises:
        ImageRefused: missing, empty, damaged, not an image, too large, or without such bands.
    """
    where = None if isinstance(source, bytes) else Path(source)
    try:
        data = source if isinstance(source, bytes) else read_file(Path(source))
        return _decode(data, tuple(bands))
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


def stretch(values: np.ndarray, valid: np.ndarray | None = None) -> np.ndarray:
    """Percentile stretch of each band to 8 bits.

    Args:
        values: (H, W, C), any real number type.
        valid: (H, W, C) or (H, W, 1) bool, false where there is no data; NaN and infinities
            are never valid.

    Returns:
        (H, W, C) uint8: the 2nd percentile of the valid values is 0, the 98th 255. A band that
        is one value everywhere becomes middle grey, or black if the value is 0.
    """
    result = np.zeros(values.shape, np.uint8)
    # float32 holds 16-bit numbers exactly, in half the memory
    precision = np.result_type(values.dtype, np.float32)
    for index in range(values.shape[2]):
        band = values[..., index].astype(precision)
        good = np.isfinite(band)
        if valid is not None:
            good &= valid[..., min(index, valid.shape[2] - 1)]
        if good.any():
            result[..., index] = _stretch_band(band, good)
    return result


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


def _stretch_band(band: np.ndarray, good: np.ndarray) -> np.ndarray:
    known = band[good]
    # A regular sample of a million is as good for two percentiles, and bounded.
    sample = known[:: max(1, known.size // 1_000_000)]
    low, high = np.percentile(sample, (2, 98))
    if high <= low:
        low, high = known.min(), known.max()
    with np.errstate(over="ignore", invalid="ignore"):
        if high > low:
            scaled = (np.where(good, band, low) - low) / (high - low)
        else:
            scaled = np.full(band.shape, 0.5 if low else 0.0)
    # nan_to_num: the span of extreme floats can overflow
    levels = np.clip(np.nan_to_num(scaled * 255), 0, 255).round()
    return np.where(good, levels, 0).astype(np.uint8)


def _decode(data: bytes, bands: tuple[int, ...]) -> Image.Image:
    if not data:
        raise ImageRefused("the file is empty.")
    if data[:4] in _TIFF_SIGNATURES and not _plain_tiff(data, bands):
        read = read_tiff(data, lambda count: _choose_bands(count, bands), check_size)
        return _from_array(*read)
    with Image.open(io.BytesIO(data), formats=_formats()) as image:
        check_size(*image.size)
        low_bytes = _LOW_BYTES.get(_rawmode(image))
        # 16-bit integers and floats have the modes I, I;16.. and F; PNG's 16-bit colour hides
        # behind an ordinary mode.
        if low_bytes or image.mode[0] in "IF":
            values = _deep_values(data, image, low_bytes)
            alpha = values[..., 3:] > 0 if values.shape[2] == 4 else None
            chosen = _choose_bands(3 if alpha is not None else values.shape[2], bands)
            rgb = _from_array(values[..., chosen], alpha)
            rgb.info["exif"] = image.info.get("exif", b"")
            return ImageOps.exif_transpose(rgb)
        image.load()
        upright = ImageOps.exif_transpose(image)
    rgb = _flatten(upright)
    if bands:
        grey = upright.mode in ("1", "L", "LA", "La")
        chosen = _choose_bands(1 if grey else 3, bands)
        rgb = Image.merge("RGB", [rgb.getchannel(band) for band in chosen])
    return rgb


@cache
def _formats() -> tuple[str, ...]:
    Image.init()
    return tuple(name for name in _FORMATS if name in Image.OPEN)


def _rawmode(image: ImageFile.ImageFile) -> str:
    if image.format != "PNG" or not image.tile:
        return ""
    arguments = image.tile[0].args
    return arguments if isinstance(arguments, str) else ""


def _deep_values(data: bytes, image: ImageFile.ImageFile, low_bytes: str | None) -> np.ndarray:
    """Values of an image deeper than 8 bits, (H, W, C)."""
    values = np.asarray(image)
    if low_bytes is None:
        return values[..., None]
    with Image.open(io.BytesIO(data), formats=("PNG",)) as again:
        again.tile = [tile._replace(args=low_bytes) for tile in again.tile]
        low = np.asarray(again)
    return values.astype(np.uint16) * 256 + low


def _flatten(image: Image.Image) -> Image.Image:
    """8-bit image of any mode to RGB, transparency over black (it marks missing data)."""
    if image.mode == "RGB" and "transparency" not in image.info:
        return image
    if not image.has_transparency_data:
        return image.convert("RGB")
    layer = image.convert("RGBA")
    black = Image.new("RGBA", layer.size, (0, 0, 0, 255))
    return Image.alpha_composite(black, layer).convert("RGB")


def _choose_bands(count: int, bands: tuple[int, ...]) -> list[int]:
    """Indices from 0 of the bands shown as red, green and blue, of ``count`` bands."""
    if not bands:
        if count == 13:
            return [3, 2, 1]
        return [0, 1, 2] if count >= 3 else [0, 0, 0]
    if len(bands) != 3 or min(bands) < 1:
        raise ImageRefused(
            f"the bands {', '.join(map(str, bands))} are not three numbers from 1.",
            fix="Give three, e.g. 4,3,2.",
        )
    if max(bands) > count:
        raise ImageRefused(
            f"band {max(bands)} was asked for; the image has {count}.",
            fix=f"Choose three bands from 1 to {count}, or leave the choice empty.",
        )
    return [band - 1 for band in bands]


def _from_array(values: np.ndarray, valid: np.ndarray | None) -> Image.Image:
    """(H, W, 1 or 3) numbers to RGB; ``valid`` as in :func:`stretch`."""
    if values.dtype == bool:
        values = values.astype(np.uint8) * 255
    if values.dtype != np.uint8:
        values = stretch(values, valid)
    elif valid is not None:
        values = np.where(valid, values, 0).astype(np.uint8)
    return Image.fromarray(np.ascontiguousarray(np.broadcast_to(values, (*values.shape[:2], 3))))


def _plain_tiff(data: bytes, bands: tuple[int, ...]) -> bool:
    """Whether Pillow reads the TIFF as it is meant: 8 bits in an ordinary colour mode.

    Not plain are deep values (Pillow would keep the high byte), a stack of grey pages (taken
    for bands), and a fourth band that is neither alpha nor ink, or is asked for by number.
    """
    try:
        with Image.open(io.BytesIO(data), formats=("TIFF",)) as image:
            depth = max(image.tag_v2.get(258, (1,)))  # type: ignore[attr-defined]
            samples = image.tag_v2.get(277, 1)  # type: ignore[attr-defined]
            stack = image.mode == "L" and getattr(image, "n_frames", 1) > 1
            extra = samples > 3 and (bool(bands) or image.mode not in ("CMYK", "RGBA"))
    except UnidentifiedImageError:
        return False
    return depth <= 8 and not stack and not extra
