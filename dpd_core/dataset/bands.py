"""Which bands of a multi-band image are shown as red, green and blue.

Bands are known by the names that the file gives them, else by their number, as the usual products
order them. ``--bands`` takes three band numbers, three names (``B12,B8A,B04`` or
``swir2,nir,red``), a composite (:data:`COMPOSITES`) or an index (:data:`INDICES`).
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from dpd_core.errors import ConfigError, ImageRefused

COMPOSITES: Mapping[str, tuple[str, str, str]] = {
    "true": ("red", "green", "blue"),
    "nir": ("nir", "red", "green"),
    "swir": ("swir2", "nir", "red"),
    "agriculture": ("swir1", "nir", "blue"),
    "urban": ("swir2", "swir1", "red"),
}
"""Name → what is shown as red, green and blue. ``nir`` is the usual colour infrared."""

INDICES: Mapping[str, tuple[str, str]] = {
    "ndvi": ("nir", "red"),
    "ndwi": ("green", "nir"),
    "ndbi": ("swir1", "nir"),
    "ndmi": ("nir", "swir1"),
    "nbr": ("nir", "swir2"),
    "ndsi": ("green", "swir1"),
}
"""Name → bands a and b of the normalised difference (a - b) / (a + b), shown in grey: -1 is black,
1 is white."""

_S2 = {
    "B01": "coastal",
    "B02": "blue",
    "B03": "green",
    "B04": "red",
    "B05": "rededge1",
    "B06": "rededge2",
    "B07": "rededge3",
    "B08": "nir",
    "B8A": "nir2",
    "B09": "vapour",
    "B10": "cirrus",
    "B11": "swir1",
    "B12": "swir2",
}
_LANDSAT = ("coastal", "blue", "green", "red", "nir", "swir1", "swir2", "pan", "cirrus", "t1", "t2")

_BY_COUNT: Mapping[int, tuple[str, tuple[str, ...]]] = {
    13: ("Sentinel-2 L1C", tuple(_S2.values())),
    12: ("Sentinel-2 L2A", tuple(role for name, role in _S2.items() if name != "B10")),
    11: ("Landsat 8/9", _LANDSAT),
    10: (
        "Sentinel-2 at 10 and 20 m",
        tuple(role for name, role in _S2.items() if name not in ("B01", "B09", "B10")),
    ),
    8: (
        "WorldView-2/3",
        ("coastal", "blue", "green", "yellow", "red", "rededge1", "nir", "nir2"),
    ),
    7: ("Landsat 8/9 surface reflectance", _LANDSAT[:7]),
    6: ("Landsat or HLS", _LANDSAT[1:7]),
    5: ("RapidEye or MicaSense", ("blue", "green", "red", "rededge1", "nir")),
}
_BLUE_FIRST = ("blue", "green", "red", "nir")
_RED_FIRST = ("red", "green", "blue", "nir")

_WORDS = (
    (r"red.?edge", "rededge1"),
    (r"coastal|aerosol|ultra.?blue", "coastal"),
    (r"swir.{0,3}1|short.?wave.{0,14}1", "swir1"),
    (r"swir.{0,3}2|short.?wave.{0,14}2", "swir2"),
    (r"swir", "swir1"),
    (r"nir|near.?infra|infrared", "nir"),
    (r"\bblue\b|^b$", "blue"),
    (r"\bgreen\b|^g$", "green"),
    (r"\bred\b|^r$", "red"),
)
_CODE = re.compile(r"(?:sr_|sentinel.?2.?|s2.?|landsat.?\d?.?|band.?|b)+0?(\d{1,2}a?)\b.*")


@dataclass(frozen=True)
class Bands:
    """What a file says of its bands.

    Attributes:
        count: Number of bands that may be shown, without alpha.
        names: Names or descriptions, as many, or none.
        deep: More than 8 bits.
        rgb: The file says that the first three are red, green and blue.
    """

    count: int
    names: tuple[str, ...] = ()
    deep: bool = False
    rgb: bool = False


@dataclass(frozen=True)
class Shown:
    """The choice: three bands (indices from 0), or two of an index; and how it was found."""

    indices: tuple[int, ...]
    text: str

    @property
    def is_index(self) -> bool:
        """Whether it is a normalised difference of two bands."""
        return len(self.indices) == 2


def check(wanted: Sequence[str]) -> None:
    """Refuse what cannot be a choice of bands of any image.

    Raises:
        ConfigError: neither empty, three bands, a composite nor an index.
    """
    words = [word.strip().lower() for word in wanted]
    # They become parts of file names.
    plain = all(re.fullmatch(r"[\w .\-]{1,40}", word) for word in words)
    if not words or (len(words) == 1 and words[0] in (*COMPOSITES, *INDICES)):
        return
    numbers = [word for word in words if re.fullmatch(r"-?\d+", word)]
    if plain and len(words) == 3 and all(int(number) > 0 for number in numbers):
        return
    known = ", ".join((*COMPOSITES, *INDICES))
    raise ConfigError(
        f"the bands {', '.join(wanted)} are no choice of bands.",
        where="dataset.bands",
        fix=f"Give three band numbers from 1 or names, like 4,3,2 or swir2,nir,red, or one of "
        f"{known}.",
    )


def choose(bands: Bands, wanted: Sequence[str | int] = ()) -> Shown:
    """The bands to show.

    Args:
        bands: Of the file.
        wanted: As for ``--bands``; empty: true colour where it is known, else the first three; an
            image of one or two bands becomes grey.

    Raises:
        ImageRefused: the file has no such band.
    """
    words = [str(word).strip().lower() for word in wanted]
    roles, source = _roles(bands)
    if not words:
        if all(role in roles for role in COMPOSITES["true"]):
            chosen = tuple(roles.index(role) for role in COMPOSITES["true"])
            return Shown(chosen, f"true colour, bands {_listed(chosen)} ({source})")
        if bands.count < 3:
            return Shown((0, 0, 0), "grey, band 1")
        known = f"; {bands.count} bands of no known order" if bands.count > 3 else ""
        return Shown((0, 1, 2), f"bands 1, 2, 3{known}")
    if len(words) == 1 and words[0] in INDICES:
        pair = tuple(_find(role, bands, roles) for role in INDICES[words[0]])
        return Shown(pair, f"{words[0].upper()} of the bands {_listed(pair)} ({source})")
    composite = COMPOSITES.get(words[0]) if len(words) == 1 else None
    parts = composite or tuple(words)
    if len(parts) != 3:
        raise ImageRefused(
            f"the bands {', '.join(words)} are not three numbers from 1, or names.",
            fix=f"Give three, e.g. 4,3,2, or one of {', '.join((*COMPOSITES, *INDICES))}.",
        )
    chosen = tuple(_find(part, bands, roles) for part in parts)
    return Shown(chosen, f"{'-'.join(words)}, bands {_listed(chosen)}")


def _listed(indices: Sequence[int]) -> str:
    return ", ".join(str(index + 1) for index in indices)


def _find(word: str, bands: Bands, roles: Sequence[str]) -> int:
    """Index of a band by number, role or name.

    Raises:
        ImageRefused: there is none.
    """
    names = [name.strip().lower() for name in bands.names]
    if re.fullmatch(r"-?\d+", word):
        if not 1 <= int(word) <= bands.count:
            what = f"band {word} was asked for; the image has {bands.count}."
            if int(word) < 1:
                what = f"the bands count from 1; band {word} was asked for."
            raise ImageRefused(
                what,
                fix=f"Choose three bands from 1 to {bands.count}, or leave the choice empty.",
            )
        return int(word) - 1
    spellings: tuple[Sequence[str | None], ...] = (names, roles, [_code(name) for name in names])
    for known in spellings:
        if word in known:
            return known.index(word)
    code = _code(word)
    role = next((role for name, role in _S2.items() if _code(name) == code), None)
    if role in roles and bands.count in (10, 12, 13):
        return roles.index(role)
    said = ", ".join(bands.names or [role for role in roles if role]) or "without names"
    raise ImageRefused(
        f"there is no band {word}; the {bands.count} bands are {said}.",
        fix="Give band numbers from 1, or leave the choice empty.",
    )


def _roles(bands: Bands) -> tuple[tuple[str, ...], str]:
    """The role of each band as far as known, and how it is known."""
    named = _by_names(bands.names) if len(bands.names) == bands.count else ()
    if any(named):
        return named, "by their names"
    if bands.count in _BY_COUNT and not (bands.rgb and bands.count < 5):
        sensor, roles = _BY_COUNT[bands.count]
        return roles, f"{sensor}, by {bands.count} bands"
    if bands.count == 4 and bands.deep and not bands.rgb:
        return _BLUE_FIRST, "PlanetScope or Sentinel-2, by 4 deep bands: blue, green, red, infrared"
    if bands.count == 4:
        return _RED_FIRST, "4 bands: red, green, blue, infrared"
    if bands.count == 3 and bands.rgb:
        return _RED_FIRST[:3], "by the file"
    return ("",) * bands.count, "unknown"


def _by_names(names: Sequence[str]) -> tuple[str, ...]:
    codes = [_code(name) for name in names]
    roles = [_role(name) for name in names]
    landsat = any("landsat" in name.lower() or name.lower().startswith("sr_b") for name in names)
    for index, code in enumerate(codes):
        if roles[index] or not code:
            continue
        if landsat:
            number = int(code) if code.isdigit() else 99
            roles[index] = _LANDSAT[number - 1] if 1 <= number <= len(_LANDSAT) else ""
        else:
            roles[index] = next((r for name, r in _S2.items() if _code(name) == code), "")
    return tuple(roles)


def _role(name: str) -> str:
    lower = re.sub(r"[_\-]+", " ", name.lower())
    return next((role for pattern, role in _WORDS if re.search(pattern, lower)), "")


def _code(name: str) -> str:
    """Number of a band in its name: ``B04``, ``SR_B4`` and ``Band 4`` are ``4``."""
    match = _CODE.fullmatch(name.strip().lower())
    return match.group(1).lstrip("0") if match else ""
