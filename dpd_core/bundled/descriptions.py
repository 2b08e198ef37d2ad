"""Captions of real images from what is measured in their pixels: colours, light, texture, the run
of lines, and how much of the ground is water, vegetation, built up or bare, and where.

Colour alone does not tell a dark lake from a dark forest in hazy Sentinel-2 images, so what dark
smooth ground and broken grey ground can be is read with the class in mind; what is bare or plainly
green is seen without. Each statement is a phrase between commas, so that the statements of any
caption can be checked one by one against the image (:func:`confirmed`).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import ndimage

WATER_CLASSES = frozenset({"river", "sea or lake", "sea", "lake", "beach", "harbor"})
BUILT_CLASSES = frozenset({"highway", "industrial area", "residential area", "river", ""})
"""Classes (none included) in which broken grey ground is built up."""

# Colour words and 8-bit RGB that they stand for. Sentinel-2 patches are hazy and bluish, so the
# anchors sit closer to grey than the pure colours would.
_COLOURS: tuple[tuple[str, tuple[int, int, int]], ...] = (
    ("dark green", (45, 68, 62)),
    ("green", (78, 100, 76)),
    ("pale green", (120, 135, 105)),
    ("dark blue", (40, 60, 85)),
    ("blue", (70, 95, 130)),
    ("blue grey", (95, 108, 120)),
    ("dark grey", (75, 75, 75)),
    ("grey", (115, 115, 115)),
    ("pale grey", (160, 160, 160)),
    ("white", (215, 215, 215)),
    ("brown", (120, 98, 85)),
    ("tan", (150, 130, 110)),
    ("pale tan", (190, 170, 145)),
    ("olive", (98, 98, 70)),
    ("reddish", (150, 105, 95)),
)
_COLOUR_ANCHORS = np.array([rgb for _, rgb in _COLOURS], np.float32)

_DIRECTIONS = ("north to south", "northeast to southwest", "east to west", "northwest to southeast")
_COVERS = ("water", "vegetation", "built-up ground", "bare ground")
_AMOUNTS = (
    (0.85, "all over"),
    (0.55, "over most of it"),
    (0.3, "over a third or more"),
    (0.12, "over a small part"),
)
_TEXTURES = (
    (1.2, "with a very smooth texture"),
    (2.5, "with a smooth texture"),
    (4.0, "with a fine texture"),
    (9.0, ""),
    (14.0, "with a rough texture"),
)
_SPOTS = {"light": 1, "dark": -1}
_TOLERANCE = 0.15
"""How far beyond its threshold a measure may lie for a statement still to count as true."""


@dataclass(frozen=True)
class Measures:
    """What was measured in one image.

    Attributes:
        colour: Mean colour, RGB.
        dark, light: Mean colours of the darker and the lighter half.
        brightness: Mean luminance, 0 to 255.
        roughness: Mean step of luminance from pixel to pixel.
        coherence: Share of the steps' energy in one direction, 0 to 1.
        direction: Which way lines run, degrees east of north, 0 to 180.
        covers: Share of each kind of ground, 0 to 1.
        places: Where each lies: its centre (right, down) in [-1, 1], and its spread.
        gradient: Where it is brighter: (right, down) halves' difference in luminance.
        spots: The lightest and the darkest place: its distance in luminance from the mean, and
            its centre (right, down) in [-1, 1].
    """

    colour: np.ndarray
    dark: np.ndarray
    light: np.ndarray
    brightness: float
    roughness: float
    coherence: float
    direction: float
    covers: dict[str, float]
    places: dict[str, tuple[float, float, float]]
    gradient: tuple[float, float]
    spots: dict[str, tuple[float, float, float]]


def measure(image: np.ndarray, class_name: str = "") -> Measures:
    """Measure an image, uint8 (h, w, 3), of a class, or of none that is known."""
    pixels = image.astype(np.float32)
    luminance = pixels @ np.array([0.299, 0.587, 0.114], np.float32)
    down, right = np.gradient(luminance)
    # Structure tensor: the share of the energy of steps in one direction, and which.
    across, along = float((right**2).mean()), float((down**2).mean())
    cross = float((right * down).mean())
    coherence = float(np.hypot(across - along, 2 * cross)) / max(across + along, 1e-6)
    # Lines run at right angles to the steps; image rows point south.
    direction = float(np.degrees(0.5 * np.arctan2(2 * cross, across - along)) % 180)
    covers, places = {}, {}
    for name, mask in zip(_COVERS, _cover_masks(pixels, luminance, class_name), strict=True):
        covers[name] = float(mask.mean())
        places[name] = _place(mask)
    darker = luminance <= np.median(luminance)
    lighter = luminance >= np.median(luminance)
    side = luminance.shape[0] // 2
    return Measures(
        colour=pixels.reshape(-1, 3).mean(0),
        dark=pixels[darker].mean(0),
        light=pixels[lighter].mean(0),
        brightness=float(luminance.mean()),
        roughness=float(np.hypot(down, right).mean()),
        coherence=coherence,
        direction=direction,
        covers=covers,
        places=places,
        gradient=(
            float(luminance[:, side:].mean() - luminance[:, :side].mean()),
            float(luminance[side:].mean() - luminance[:side].mean()),
        ),
        spots=_spots(luminance),
    )


def statements(found: Measures) -> list[str]:
    """The phrases that are true of an image, most telling first."""
    said = [f"mostly {_colour_words(found.colour)[0]}"]
    dark, light = _colour_words(found.dark)[0], _colour_words(found.light)[0]
    if dark != light:
        said.append(f"tones of {dark} and {light}")
    covers = sorted(found.covers, key=lambda name: -found.covers[name])
    said += [phrase for name in covers[:3] if (phrase := _cover_phrase(name, found))]
    if found.coherence > 0.4 and found.roughness > 2.5:
        said.append("lines running " + _DIRECTIONS[int((found.direction + 22.5) // 45) % 4])
    said += [_texture(found.roughness)] if _texture(found.roughness) else []
    said += [phrase for name in _SPOTS if (phrase := _spot_phrase(name, found))]
    said += [phrase] if (phrase := _gradient_phrase(found)) else []
    if found.brightness > 125:
        said.append("bright")
    elif found.brightness < 75:
        said.append("dark")
    return said


def caption(image: np.ndarray, class_name: str = "", rng: np.random.Generator | None = None) -> str:
    """A sentence of comma-separated statements: the class, if known, then what was measured.

    With ``rng`` some statements are left out, so that one image has several captions.
    """
    said = statements(measure(image, class_name))
    if rng is not None:
        kept = rng.random(len(said)) < 0.7
        said = [phrase for phrase, wanted in zip(said, kept, strict=True) if wanted] or said[:1]
    return ", ".join([opening(class_name), *said[:6]])


def opening(class_name: str) -> str:
    """How every caption begins."""
    return f"a satellite image of {class_name}" if class_name else "a satellite image"


def confirmed(text: str, image: np.ndarray, class_name: str = "") -> tuple[int, int]:
    """How many statements of a caption a measurement confirms, and how many there are.

    The opening with the class is not counted. Numbers near a threshold count as either side of it.
    """
    found = measure(image, class_name)
    said = [phrase.strip() for phrase in text.lower().split(",")[1:] if phrase.strip()]
    return sum(_is_true(phrase, found) for phrase in said), len(said)


def _is_true(phrase: str, found: Measures) -> bool:
    near = 1 + _TOLERANCE
    if phrase.startswith("mostly "):
        return phrase[7:] in _colour_words(found.colour)
    if phrase.startswith("lines running "):
        turns = ((found.direction + 22.5 + turn) // 45 % 4 for turn in (-8, 0, 8))
        return found.coherence * near > 0.4 and phrase[14:] in {_DIRECTIONS[int(t)] for t in turns}
    if phrase.endswith(" texture"):
        return phrase in {_texture(found.roughness * k) for k in (1 / near, 1, near)}
    simple = {
        "bright": found.brightness * near > 125,
        "dark": found.brightness < 75 * near,
    }
    if phrase in simple:
        return simple[phrase]
    if "brighter " in phrase:
        return phrase in {_gradient_phrase(found, k) for k in (1 / near, 1, near)}
    for name in _SPOTS:
        if phrase.startswith(f"a {name} patch"):
            return phrase in {_spot_phrase(name, found, k) for k in (1 / near, 1, near)}
    for name in _COVERS:
        if phrase.startswith(name):
            return phrase in _cover_phrases_near(name, found)
    if phrase.startswith("tones of ") and " and " in phrase:
        dark, light = phrase[9:].split(" and ", 1)
        return dark in _colour_words(found.dark) and light in _colour_words(found.light)
    return False


def _cover_masks(
    pixels: np.ndarray, luminance: np.ndarray, class_name: str
) -> tuple[np.ndarray, ...]:
    red, green, blue = (pixels[..., channel] for channel in range(3))
    total = pixels.sum(-1) + 1
    mean = ndimage.uniform_filter(luminance, 5)
    broken = np.sqrt(np.maximum(ndimage.uniform_filter(luminance**2, 5) - mean**2, 0))
    saturation = (pixels.max(-1) - pixels.min(-1)) / (pixels.max(-1) + 1)
    bluish = (blue >= red + 8) & (green >= red) & (luminance < 95) & ((blue - red) / total > 0.06)
    leafy = ((2 * green - red - blue) / total > 0.05) & (green > red)
    if class_name in WATER_CLASSES:
        water = bluish & (broken < 5)
    elif class_name:
        water, leafy = np.zeros_like(leafy), leafy | bluish
    else:
        water = bluish & (broken < 3) & (blue >= green)
    leafy = leafy & ~water
    built = ~leafy & ~water & (broken > 9) & (saturation < 0.25) & (luminance > 60)
    if class_name not in BUILT_CLASSES:
        built = np.zeros_like(built)
    bare = ~leafy & ~water & ~built & (red >= green) & (red > blue) & (saturation > 0.08)
    return tuple(
        ndimage.uniform_filter(mask.astype(np.float32), 5) > 0.5
        for mask in (water, leafy, built, bare)
    )


def _place(mask: np.ndarray) -> tuple[float, float, float]:
    rows, columns = np.nonzero(mask)
    if not len(rows):
        return 0.0, 0.0, 1.0
    side = max(mask.shape) - 1
    right, down = 2 * columns / side - 1, 2 * rows / side - 1
    spread = float(np.sqrt(right.var() + down.var()))
    return float(right.mean()), float(down.mean()), spread


def _spots(luminance: np.ndarray) -> dict[str, tuple[float, float, float]]:
    broad = ndimage.uniform_filter(luminance, max(luminance.shape[0] // 7, 1))
    found = {}
    for name, sign in _SPOTS.items():
        row, column = np.unravel_index((sign * broad).argmax(), broad.shape)
        side = luminance.shape[0] - 1
        far = float(abs(broad[row, column] - luminance.mean()))
        found[name] = (far, 2 * column / side - 1, 2 * row / side - 1)
    return found


def _where(right: float, down: float) -> str:
    """Words for a place, from its distance right of and below the centre, in units of notice."""
    across = "left" if right <= -1 else "right" if right >= 1 else ""
    along = "upper" if down <= -1 else "lower" if down >= 1 else ""
    if across and along:
        return f"in the {along} {across}"
    return f"on the {across}" if across else f"in the {along} part" if along else ""


def _texture(roughness: float) -> str:
    return next(
        (words for limit, words in _TEXTURES if roughness < limit), "with a very rough texture"
    )


def _spot_phrase(name: str, found: Measures, scale: float = 1.0) -> str:
    """Only of places that stand out; where the image is plain, little is enough."""
    far, right, down = found.spots[name]
    if far < 1 or far * scale < 1.5 + 2 * found.roughness:
        return ""
    where = _where(right * scale / 0.33, down * scale / 0.33)
    return f"a {name} patch {where or 'in the centre'}"


def _gradient_phrase(found: Measures, scale: float = 1.0) -> str:
    right, down = (scale * value for value in found.gradient)
    if where := _where(right / 25, down / 25):
        return f"brighter {where}"
    where = _where(right / 3, down / 3)
    return f"slightly brighter {where}" if where else ""


def _cover_phrase(name: str, found: Measures, scale: float = 1.0, unit: float = 0.25) -> str:
    share = found.covers[name] * scale
    amount = next((word for limit, word in _AMOUNTS if share >= limit), "")
    if not amount:
        return ""
    right, down, spread = found.places[name]
    if amount == "all over":
        return f"{name} all over"
    where = _where(right / unit, down / unit)
    if where:
        return f"{name} {amount} {where}"
    return f"{name} {amount} in the centre" if spread < 0.5 else f"{name} {amount}"


def _cover_phrases_near(name: str, found: Measures) -> set[str]:
    scales = (1 - _TOLERANCE, 1.0, 1 + _TOLERANCE)
    return {
        _cover_phrase(name, found, scale, unit) for scale in scales for unit in (0.2, 0.25, 0.3)
    }


def _colour_words(colour: np.ndarray) -> list[str]:
    """The word nearest to a colour, and those hardly farther."""
    far = np.linalg.norm(_COLOUR_ANCHORS - colour, axis=1)
    near = np.flatnonzero(far <= far.min() * (1 + 2 * _TOLERANCE) + 3)
    return [_COLOURS[place][0] for place in sorted(near, key=lambda place: far[place])]
