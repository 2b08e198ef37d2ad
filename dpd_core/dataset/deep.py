"""Values of more than 8 bits in formats whose depth Pillow does not keep: PNG, JPEG 2000, PPM.

The depth is read from the file, not guessed from Pillow's mode.
"""

from __future__ import annotations

import contextlib
import io
import struct
import zlib
from types import ModuleType

import numpy as np
from PIL import Image, ImageFile

from dpd_core.errors import ImageRefused

_SIZ = b"\xff\x51"
_CODESTREAM = b"\xff\x4f\xff\x51"
_FEWEST_LEVELS = 32

# PNG with 16 bits a colour channel: Pillow keeps the high byte. Unpacked as if it were
# little-endian, the same file gives the low byte.
_LOW_BYTES = {"RGB;16B": "RGB;16L", "RGBA;16B": "RGBA;16L"}


def depth(data: bytes, image: ImageFile.ImageFile) -> int:
    """Bits of a value as the file says, 8 where it does not matter."""
    if image.format == "PNG":
        return 16 if data[24] == 16 else 8
    if image.format == "JPEG2000":
        return _jpeg2000_depth(data)
    if image.format == "PPM" and data[:2] in (b"P5", b"P6", b"P2", b"P3"):
        return 16 if _ppm_maximum(data)[0] > 255 else 8
    return 32 if image.mode[0] in "IF" else 8


def values(data: bytes, image: ImageFile.ImageFile, bits: int) -> tuple[np.ndarray, set[str]]:
    """(H, W, C) of an image deeper than 8 bits, and what a person should know."""
    if image.format == "PNG":
        return _png(data, image), set()
    if image.format == "JPEG2000" and image.mode not in ("I;16", "I"):
        return _jpeg2000(data, image, bits)
    if image.format == "PPM" and data[:2] == b"P6":
        _, start = _ppm_maximum(data)
        count = image.width * image.height * 3
        raw = np.frombuffer(data, ">u2", count, start)
        return raw.reshape(image.height, image.width, 3).astype(np.uint16), set()
    return np.asarray(image)[..., None], set()


def _png(data: bytes, image: ImageFile.ImageFile) -> np.ndarray:
    arguments = image.tile[0].args if image.tile else ""
    raw_mode = arguments if isinstance(arguments, str) else ""
    if raw_mode == "LA;16B":
        # Grey and alpha of 16 bits have the bytes, and so the filters, of four channels of 8.
        with Image.open(io.BytesIO(_as_rgba8(data)), formats=("PNG",)) as again:
            four = np.asarray(again).astype(np.uint16)
        return four[..., ::2] * 256 + four[..., 1::2]
    if raw_mode not in _LOW_BYTES:
        return np.asarray(image)[..., None]
    high = np.asarray(image)
    with Image.open(io.BytesIO(data), formats=("PNG",)) as again:
        again.tile = [tile._replace(args=_LOW_BYTES[raw_mode]) for tile in again.tile]
        low = np.asarray(again)
    return high.astype(np.uint16) * 256 + low


def _as_rgba8(data: bytes) -> bytes:
    header = bytearray(data[12:29])
    header[12], header[13] = 8, 6
    return data[:12] + bytes(header) + struct.pack(">I", zlib.crc32(header)) + data[33:]


def _jpeg2000_depth(data: bytes) -> int:
    """The largest precision that the codestream's SIZ marker gives."""
    start = 2 if data.startswith(_CODESTREAM) else data.find(_CODESTREAM) + 2
    if start < 2 or data[start : start + 2] != _SIZ:
        return 8
    with contextlib.suppress(struct.error, ValueError):
        (count,) = struct.unpack_from(">H", data, start + 38)
        sizes = data[start + 40 : start + 40 + 3 * count : 3]
        return max((size & 0x7F) + 1 for size in sizes)
    return 8


def _jpeg2000(data: bytes, image: ImageFile.ImageFile, bits: int) -> tuple[np.ndarray, set[str]]:
    """Colour deeper than 8 bits: whole with imagecodecs, else its upper 8 bits where they do."""
    codec = _imagecodecs()
    if codec is not None:
        whole = np.asarray(codec.jpeg2k_decode(data))
        return (whole[..., None] if whole.ndim == 2 else whole), set()
    upper = np.asarray(image)
    upper = upper[..., None] if upper.ndim == 2 else upper
    colours = upper[..., :3] if upper.shape[2] > 2 else upper[..., :1]
    if int(colours.max()) < _FEWEST_LEVELS:
        raise ImageRefused(
            f"a JPEG 2000 of {bits} bits whose values lie below those that can be read.",
            fix="Install the package imagecodecs, or save it as TIFF or PNG.",
        )
    note = f"a JPEG 2000 of {bits} bits, read in its upper 8; imagecodecs reads it whole."
    return upper.astype(np.uint16), {note}


def _imagecodecs() -> ModuleType | None:
    try:
        import imagecodecs
    except ImportError:
        return None
    return imagecodecs


def _ppm_maximum(data: bytes) -> tuple[int, int]:
    """The largest value that the header allows, and where the pixels begin."""
    numbers: list[int] = []
    place = 2
    while len(numbers) < 3 and place < min(len(data), 4096):
        if data[place : place + 1].isspace():
            place += 1
        elif data[place : place + 1] == b"#":
            place = data.find(b"\n", place) + 1 or len(data)
        else:
            end = place
            while data[end : end + 1].isdigit():
                end += 1
            if end == place:
                break
            numbers.append(int(data[place:end]))
            place = end
    return (numbers[2] if len(numbers) == 3 else 0), place + 1
