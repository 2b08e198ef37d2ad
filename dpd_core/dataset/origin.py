"""When and where an image was taken: dates of cameras, georeferences of GeoTIFF.

The pixels that the models see are squares cut from the image; what is kept here belongs to the
file as it is, in its own columns and rows.
"""

from __future__ import annotations

import contextlib
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from PIL import Image

_LONGEST_NAME = 100
_DATE_TIME, _EXIF, _DATE_TIME_ORIGINAL = 306, 0x8769, 36867
_SCALE, _TIEPOINT, _TRANSFORMATION, _KEYS, _TEXTS = 33550, 33922, 34264, 34735, 34737
_RASTER_TYPE, _CITATION, _GEOGRAPHIC, _GEOGRAPHIC_NAME, _PROJECTED, _PROJECTED_NAME = (
    1025,
    1026,
    2048,
    2049,
    3072,
    3073,
)
_POINT = 2
_EPSG = range(1024, 32767)
"""Codes of coordinate systems that GeoTIFF takes from EPSG; 32767 says that it is none of them."""


@dataclass(frozen=True)
class Origin:
    """When and where an image was taken; empty where the file does not say it.

    Attributes:
        taken: Date and time in ISO 8601, in the time zone of whoever wrote it.
        crs: The coordinate system: ``EPSG:…``, or its name.
        transform: Six numbers a, b, c, d, e, f from column and row (of a pixel's upper left corner)
            to coordinates: x = a · column + b · row + c, y = d · column + e · row + f.
    """

    taken: str = ""
    crs: str = ""
    transform: tuple[float, ...] = ()

    @classmethod
    def from_record(cls, record: Mapping[str, Any]) -> Origin:
        """What a JSON-able record says.

        Raises:
            TypeError, ValueError: it is of another kind.
        """
        taken, crs = record.get("taken", ""), record.get("crs", "")
        transform = tuple(record.get("transform", ()))
        numbers = all(isinstance(value, int | float) for value in transform)
        if not isinstance(taken, str) or not isinstance(crs, str) or not numbers:
            raise TypeError("an origin of another kind")
        if len(transform) not in (0, 6) or not all(map(math.isfinite, transform)):
            raise ValueError("a georeference has six numbers")
        return cls(taken, crs, transform) if taken or crs or transform else UNKNOWN

    def record(self) -> dict[str, Any]:
        """What is known, JSON-able."""
        known = {"taken": self.taken, "crs": self.crs, "transform": list(self.transform)}
        return {name: value for name, value in known.items() if value}


UNKNOWN = Origin()


def of_picture(image: Image.Image) -> Origin:
    """What the camera wrote into a JPEG, PNG or WebP (EXIF): the date. Where a photo was taken
    (GPS) is left out: it is a person's place, not the image's georeference."""
    with contextlib.suppress(Exception):  # damaged metadata; Pillow raises what comes
        exif = image.getexif()
        dates = exif.get_ifd(_EXIF).get(_DATE_TIME_ORIGINAL), exif.get(_DATE_TIME)
        return Origin(taken=next(filter(None, map(_date, dates)), ""))
    return UNKNOWN


def of_tiff(tags: Any) -> Origin:
    """What the tags of a TIFF's page say: date and georeference.

    Args:
        tags: ``TiffPage.tags`` of tifffile.
    """
    exif = tags.valueof(_EXIF)
    original = exif.get("DateTimeOriginal") if isinstance(exif, dict) else None
    dates = original, tags.valueof(_DATE_TIME_ORIGINAL), tags.valueof(_DATE_TIME)
    taken = next(filter(None, map(_date, dates)), "")
    keys = _geo_keys(_numbers(tags.valueof(_KEYS)), str(tags.valueof(_TEXTS) or ""))
    return Origin(taken, _crs(keys), _transform(tags, keys.get(_RASTER_TYPE) == _POINT))


def _date(value: Any) -> str | None:
    """EXIF's ``2018:07:04 10:10:31`` in ISO 8601."""
    pattern = r"(\d{4})[:-](\d\d)[:-](\d\d)(?:[ T](\d\d:\d\d(?::\d\d)?))?"
    found = re.match(pattern, str(value or "")[:40])
    if found is None or found[1] == "0000" or found[2] == "00":
        return None
    date = "-".join(found.group(1, 2, 3))
    return f"{date}T{found[4]}" if found[4] else date


def _numbers(value: Any) -> tuple[float, ...]:
    """A tag's numbers; none if it holds something else, or one that is not finite."""
    if not isinstance(value, tuple | list) or len(value) > 4096:
        return ()
    good = all(isinstance(number, int | float) and math.isfinite(number) for number in value)
    return tuple(value) if good else ()


def _geo_keys(directory: Sequence[float], texts: str) -> dict[int, int | str]:
    """The key directory: four numbers of head, then key, place, count and value of each."""
    keys: dict[int, int | str] = {}
    for start in range(4, len(directory) - 3, 4):
        key, place, count, value = (int(number) for number in directory[start : start + 4])
        if place == 0:
            keys[key] = value
        elif place == _TEXTS:
            keys[key] = texts[value : value + count].strip("|\0 ")
    return keys


def _crs(keys: Mapping[int, int | str]) -> str:
    for key in (_PROJECTED, _GEOGRAPHIC):
        if keys.get(key) in _EPSG:
            return f"EPSG:{keys[key]}"
        if key in keys:  # one of its own making
            break
    names = (keys.get(key) for key in (_PROJECTED_NAME, _CITATION, _GEOGRAPHIC_NAME))
    text = next((name for name in names if isinstance(name, str) and name), "")
    return "".join(char for char in text if char.isprintable())[:_LONGEST_NAME]


def _transform(tags: Any, point: bool) -> tuple[float, ...]:
    """From column and row to coordinates. Where values are those of points, the corner of a pixel
    lies half a pixel before them, as GDAL has it."""
    scale, tie, matrix = (
        _numbers(tags.valueof(tag)) for tag in (_SCALE, _TIEPOINT, _TRANSFORMATION)
    )
    if len(matrix) >= 8:
        a, b, _, c, d, e, _, f = matrix[:8]
    elif len(scale) >= 2 and len(tie) >= 6:
        a, b, d, e = scale[0], 0.0, 0.0, -scale[1]
        c, f = tie[3] - a * tie[0], tie[4] - e * tie[1]
    else:
        return ()
    if point:
        c, f = c - (a + b) / 2, f - (d + e) / 2
    found = tuple(float(value) for value in (a, b, c, d, e, f))
    return found if all(map(math.isfinite, found)) else ()
