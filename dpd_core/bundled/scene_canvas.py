"""Supersampled drawing surface shared by the scene painters.

All coordinates are in unit space: (0, 0) is the top-left and (1, 1) the bottom-right
corner of the finished image, x to the right and y down, lengths in image widths.
Nothing that draws random numbers depends on the pixel size, so one seed gives the same
scene at every size.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import TypeVar

import numpy as np
from PIL import Image, ImageDraw

Colour = tuple[int, int, int]
Point = tuple[float, float]
T = TypeVar("T")

SUPERSAMPLING = 4
# Textures are made on this fixed grid and enlarged smoothly: fast, the same at every
# size, and free of the pixel noise that a small autoencoder cannot reproduce.
_TEXTURE_CELLS = 32

SEASONS: dict[str, dict[str, Colour]] = {
    "spring": {"grass": (116, 142, 78), "tree": (74, 106, 54), "soil": (150, 126, 98)},
    "summer": {"grass": (98, 124, 66), "tree": (50, 82, 46), "soil": (158, 134, 104)},
    "autumn": {"grass": (134, 128, 78), "tree": (128, 98, 50), "soil": (140, 116, 90)},
    "winter": {"grass": (142, 136, 108), "tree": (92, 86, 68), "soil": (136, 122, 104)},
    "dry season": {"grass": (168, 150, 106), "tree": (92, 98, 60), "soil": (182, 154, 118)},
}
CARS: tuple[Colour, ...] = (
    (214, 214, 212),
    (182, 184, 186),
    (72, 76, 82),
    (148, 66, 60),
    (66, 90, 132),
    (128, 130, 132),
)
WHITE: Colour = (232, 232, 226)
ROOFS: dict[str, tuple[Colour, ...]] = {
    "red": ((172, 96, 74), (158, 84, 66), (184, 110, 84)),
    "grey": ((132, 132, 134), (150, 148, 146), (112, 114, 118)),
    "brown": ((134, 106, 84), (116, 92, 76), (150, 122, 98)),
    "mixed": ((168, 98, 78), (140, 140, 140), (124, 104, 88), (188, 182, 172)),
}
LIGHTS = ("clear", "hazy", "dim", "warm")


def mix(a: Colour, b: Colour, share: float) -> Colour:
    """Blend two RGB colours; `share` is the weight of `b` in 0..1."""
    return tuple(round(p + (q - p) * share) for p, q in zip(a, b, strict=False))  # type: ignore[return-value]


def shade(colour: Colour, factor: float) -> Colour:
    """Multiply an RGB colour by `factor`, clipped to 0..255."""
    return tuple(max(0, min(255, round(v * factor))) for v in colour)  # type: ignore[return-value]


def place(
    points: Iterable[Point], x: float, y: float, *, angle: float = 0.0, scale: float = 1.0
) -> list[Point]:
    """Scale a shape drawn around (0, 0), turn it by `angle` radians and move it to (x, y)."""
    cos, sin = math.cos(angle) * scale, math.sin(angle) * scale
    return [(x + px * cos - py * sin, y + px * sin + py * cos) for px, py in points]


def box(x: float, y: float, width: float, height: float, angle: float = 0.0) -> list[Point]:
    """Corners of a rectangle centred on (x, y), turned by `angle` radians."""
    w, h = width / 2, height / 2
    return place([(-w, -h), (w, -h), (w, h), (-w, h)], x, y, angle=angle)


def ribbon(line: Sequence[Point], width: float | Sequence[float] | np.ndarray) -> list[Point]:
    """Outline of a band of the given width (one value, or one per vertex) along `line`."""
    pts = np.asarray(line, dtype=np.float64)
    step = np.gradient(pts, axis=0)
    step /= np.maximum(np.hypot(step[:, 0], step[:, 1]), 1e-9)[:, None]
    half = np.broadcast_to(np.asarray(width, dtype=np.float64) / 2, (len(pts),))
    side = np.stack([-step[:, 1], step[:, 0]], axis=1) * half[:, None]
    return [tuple(p) for p in np.concatenate([pts + side, (pts - side)[::-1]]).tolist()]


def sector(
    x: float, y: float, radius: float, start: float, end: float, steps: int = 20
) -> list[Point]:
    """Pie slice around (x, y) from angle `start` to `end` in radians (clockwise on screen)."""
    span = (end - start) / steps
    arc = [
        (x + radius * math.cos(start + i * span), y + radius * math.sin(start + i * span))
        for i in range(steps + 1)
    ]
    return [(x, y), *arc]


def orientation_word(angle: float) -> str:
    """Word for the direction of the local x axis turned by `angle` radians."""
    degrees = math.degrees(angle) % 180
    if degrees < 22.5 or degrees > 157.5:
        return "horizontal"
    return "vertical" if 67.5 < degrees < 112.5 else "diagonal"


def _hull(points: list[Point]) -> list[Point]:
    """Convex hull (monotone chain)."""
    ordered = sorted(set(points))
    chains: list[Point] = []
    for sequence in (ordered, ordered[::-1]):
        chain: list[Point] = []
        for p in sequence:
            while len(chain) > 1 and (
                (chain[-1][0] - chain[-2][0]) * (p[1] - chain[-2][1])
                <= (chain[-1][1] - chain[-2][1]) * (p[0] - chain[-2][0])
            ):
                chain.pop()
            chain.append(p)
        chains += chain[:-1]
    return chains


class Canvas:
    """One scene being drawn: random source, season, light, sun and a rotatable frame.

    Painters draw in a local frame which `turn` rotates around the image centre, so that
    an axis-aligned layout can appear in any direction. Shadows always follow the sun.
    """

    def __init__(self, rng: np.random.Generator, size: int) -> None:
        self.rng = rng
        self.size = size
        self._px = size * SUPERSAMPLING
        self.image = Image.new("RGB", (self._px, self._px))
        self._draw = ImageDraw.Draw(self.image, "RGBA")
        self._cos, self._sin = 1.0, 0.0
        self.season = self.pick(tuple(SEASONS), (3, 5, 2, 1.5, 2))
        self.light = self.pick(LIGHTS, (5, 2, 1.5, 1.5))
        self._greens = {k: self.vary(v, 9) for k, v in SEASONS[self.season].items()}
        azimuth = self.u(0, 2 * math.pi)
        length = 1.5 if self.light == "warm" else 1.0
        self.sun = (math.cos(azimuth) * length, math.sin(azimuth) * length)

    # ---- random choices -------------------------------------------------------------
    def u(self, low: float, high: float) -> float:
        """Uniform float in [low, high)."""
        return low + (high - low) * float(self.rng.random())

    def n(self, low: int, high: int) -> int:
        """Uniform integer in low..high, both included."""
        return low + int(self.rng.random() * (high - low + 1))

    def chance(self, probability: float) -> bool:
        """True with the given probability."""
        return float(self.rng.random()) < probability

    def pick(self, options: Sequence[T], weights: Sequence[float] | None = None) -> T:
        """One of `options`, with optional relative weights."""
        if weights is None:
            return options[int(self.rng.random() * len(options))]
        mark = float(self.rng.random()) * sum(weights)
        for option, weight in zip(options, weights, strict=False):
            mark -= weight
            if mark < 0:
                return option
        return options[-1]

    def vary(self, colour: Colour, spread: float = 6.0) -> Colour:
        """`colour` with a random brightness and a smaller random hue change (+-spread)."""
        common = self.u(-spread, spread)
        return tuple(
            max(0, min(255, int(v + common + self.u(-spread, spread) * 0.4))) for v in colour
        )  # type: ignore[return-value]

    def ground_colour(self, kind: str) -> Colour:
        """Colour of 'grass', 'tree' or 'soil' in this scene's season."""
        return self._greens[kind]

    # ---- frame ----------------------------------------------------------------------
    def turn(self, angle: float) -> None:
        """Rotate everything drawn from now on by `angle` radians around the centre."""
        self._cos, self._sin = math.cos(angle), math.sin(angle)

    def turn_randomly(self) -> str:
        """Turn to a mostly horizontal, vertical or diagonal frame; returns that word."""
        base = self.pick((0, 90, 45, 135), (3, 3, 1.5, 1.5))
        angle = math.radians(base + self.u(-12, 12))
        self.turn(angle)
        return orientation_word(angle)

    def turn_to_side(self, wobble: float = 15.0) -> str:
        """Turn so that the local top edge faces a random image side; returns its name."""
        side = self.pick(("top", "right", "bottom", "left"))
        quarter = ("top", "right", "bottom", "left").index(side)
        self.turn(math.radians(90 * quarter + self.u(-wobble, wobble)))
        return side

    def to_image(self, x: float, y: float) -> Point:
        """Local to image coordinates."""
        dx, dy = x - 0.5, y - 0.5
        return 0.5 + dx * self._cos - dy * self._sin, 0.5 + dx * self._sin + dy * self._cos

    def visible(self, x: float, y: float, margin: float = 0.0) -> bool:
        """Whether a local point lies inside the image by at least `margin`."""
        ix, iy = self.to_image(x, y)
        return margin <= ix <= 1 - margin and margin <= iy <= 1 - margin

    # ---- drawing --------------------------------------------------------------------
    def _pixels(self, points: Iterable[Point], shift: Point = (0.0, 0.0)) -> list[Point]:
        cos, sin, px = self._cos, self._sin, self._px
        ox, oy = (0.5 + shift[0]) * px - 0.5, (0.5 + shift[1]) * px - 0.5
        return [
            (
                ox + ((x - 0.5) * cos - (y - 0.5) * sin) * px,
                oy + ((x - 0.5) * sin + (y - 0.5) * cos) * px,
            )
            for x, y in points
        ]

    def polygon(
        self, points: Iterable[Point], colour: Colour, alpha: float = 1.0, shift: Point = (0.0, 0.0)
    ) -> None:
        """Fill a polygon; `alpha` in 0..1, `shift` moves it in image axes."""
        self._draw.polygon(self._pixels(points, shift), fill=(*colour, int(alpha * 255)))

    def shadow(self, points: Sequence[Point], height: float, alpha: float = 0.45) -> None:
        """Shadow of a convex object of the given height (image widths) standing on `points`."""
        shift = (self.sun[0] * height, self.sun[1] * height)
        swept = _hull(self._pixels(points) + self._pixels(points, shift))
        self._draw.polygon(swept, fill=(18, 24, 34, int(alpha * 255)))

    def block(
        self,
        x: float,
        y: float,
        width: float,
        height: float,
        colour: Colour,
        *,
        angle: float = 0.0,
        shadow: float = 0.0,
        alpha: float = 1.0,
    ) -> None:
        """A rectangle centred on (x, y), optionally with the shadow of a standing object."""
        corners = box(x, y, width, height, angle)
        if shadow:
            self.shadow(corners, shadow)
        self.polygon(corners, colour, alpha)

    def disc(
        self,
        x: float,
        y: float,
        radius: float,
        colour: Colour,
        alpha: float = 1.0,
        shift: Point = (0.0, 0.0),
    ) -> None:
        """A disc; `shift` moves it in image axes (for shadows and highlights)."""
        ((cx, cy),) = self._pixels([(x, y)], shift)
        r = radius * self._px
        self._draw.ellipse((cx - r, cy - r, cx + r, cy + r), fill=(*colour, int(alpha * 255)))

    def stroke(
        self, line: Sequence[Point], width: float, colour: Colour, alpha: float = 1.0
    ) -> None:
        """A band along a polyline."""
        if len(line) == 2:
            (x0, y0), (x1, y1) = line
            length = math.hypot(x1 - x0, y1 - y0) or 1e-9
            nx, ny = (y1 - y0) / length * width / 2, (x0 - x1) / length * width / 2
            self.polygon(
                [(x0 + nx, y0 + ny), (x1 + nx, y1 + ny), (x1 - nx, y1 - ny), (x0 - nx, y0 - ny)],
                colour,
                alpha,
            )
        else:
            self.polygon(ribbon(line, width), colour, alpha)

    def dashes(
        self,
        start: Point,
        end: Point,
        width: float,
        colour: Colour,
        *,
        period: float,
        fill: float = 0.5,
        alpha: float = 1.0,
    ) -> None:
        """A dashed straight line; `fill` is the painted share of each period."""
        length = math.hypot(end[0] - start[0], end[1] - start[1])
        dx, dy = (end[0] - start[0]) / length, (end[1] - start[1]) / length
        for i in range(int(length / period)):
            a, b = i * period, (i + fill) * period
            self.stroke(
                [(start[0] + dx * a, start[1] + dy * a), (start[0] + dx * b, start[1] + dy * b)],
                width,
                colour,
                alpha,
            )

    # ---- textures -------------------------------------------------------------------
    def noise(self, cells: Sequence[int | tuple[int, int]] = (3, 8, 20)) -> np.ndarray:
        """Multi-octave value noise, float32 (32, 32), about -1..1; (rows, columns) cells
        give a streaky texture."""
        total = np.zeros((_TEXTURE_CELLS, _TEXTURE_CELLS), np.float32)
        gain, power = 1.0, 0.0
        for cell in cells:
            rows, columns = cell if isinstance(cell, tuple) else (cell, cell)
            lattice = self.rng.random((rows + 1, columns + 1), dtype=np.float32) * 2 - 1
            grid = Image.fromarray(lattice).resize(
                (_TEXTURE_CELLS, _TEXTURE_CELLS), Image.Resampling.BICUBIC
            )
            total += gain * np.asarray(grid)
            power += gain
            gain *= 0.65
        return total * (1.5 / power)

    def texture(
        self, a: Colour, b: Colour, cells: Sequence[int | tuple[int, int]] = (3, 8, 20)
    ) -> Image.Image:
        """Smooth mixture of two colours at drawing resolution."""
        share = np.clip(self.noise(cells) * 0.5 + 0.5, 0, 1)[..., None]
        low, high = np.asarray(a, np.float32), np.asarray(b, np.float32)
        rgb = (low + (high - low) * share + 0.5).astype(np.uint8)
        return Image.fromarray(rgb).resize((self._px, self._px), Image.Resampling.BILINEAR)

    def ground(
        self, a: Colour, b: Colour, cells: Sequence[int | tuple[int, int]] = (3, 8, 20)
    ) -> None:
        """Cover the whole image with a texture."""
        self.image.paste(self.texture(a, b, cells))

    def grass(self, kind: str = "grass", contrast: float = 0.16) -> None:
        """Cover the whole image with this season's 'grass', 'tree' or 'soil' ground."""
        colour = self.ground_colour(kind)
        self.ground(shade(colour, 1 - contrast), shade(colour, 1 + contrast * 0.7))

    def patch(
        self,
        points: Iterable[Point],
        a: Colour,
        b: Colour,
        cells: Sequence[int | tuple[int, int]] = (3, 8, 20),
    ) -> None:
        """Fill a polygon with a texture."""
        mask = Image.new("L", (self._px, self._px))
        ImageDraw.Draw(mask).polygon(self._pixels(points), fill=255)
        self.image.paste(self.texture(a, b, cells), (0, 0), mask)

    # ---- shapes shared by many scenes -------------------------------------------------
    def blob(
        self, x: float, y: float, rx: float, ry: float, rough: float = 0.2, steps: int = 40
    ) -> list[Point]:
        """Irregular smooth closed outline around (x, y)."""
        t = np.arange(steps) * (2 * math.pi / steps)
        radius = np.ones(steps)
        for k in (2, 3, 5):
            radius += rough / (k - 1) * self.u(0.4, 1) * np.cos(k * t + self.u(0, 6.28))
        return list(
            zip(
                (x + rx * radius * np.cos(t)).tolist(),
                (y + ry * radius * np.sin(t)).tolist(),
                strict=True,
            )
        )

    def curve(self, *, bend: float, steps: int = 28) -> list[Point]:
        """Wavy line from left of the image to right of it around y = 0.5."""
        t = np.linspace(-0.3, 1.3, steps)
        y = np.full(steps, 0.5)
        for waves, weight in ((0.8, 0.7), (1.6, 0.45)):
            y += bend * weight * np.sin(2 * math.pi * waves * t + self.u(0, 6.28))
        return list(zip(t.tolist(), y.tolist(), strict=False))

    def tree(self, x: float, y: float, radius: float, colour: Colour | None = None) -> None:
        """A tree crown with its shadow and a sunlit side."""
        base = self.vary(colour or self.ground_colour("tree"), 8)
        sx, sy = self.sun
        self.disc(x, y, radius, (16, 24, 24), 0.45, (sx * radius * 0.6, sy * radius * 0.6))
        self.disc(x, y, radius, base)
        self.disc(
            x, y, radius * 0.6, shade(base, 1.16), 1.0, (-sx * radius * 0.22, -sy * radius * 0.22)
        )

    def trees(
        self,
        count: int,
        *,
        radius: tuple[float, float] = (0.025, 0.045),
        area: tuple[float, float, float, float] = (0.0, 0.0, 1.0, 1.0),
    ) -> None:
        """Trees at random places of the local rectangle (x0, y0, x1, y1)."""
        for _ in range(count):
            self.tree(self.u(area[0], area[2]), self.u(area[1], area[3]), self.u(*radius))

    def house(
        self,
        x: float,
        y: float,
        width: float,
        depth: float,
        colour: Colour,
        angle: float = 0.0,
        height: float = 0.03,
    ) -> None:
        """A gabled house: shadow, one sunlit and one shaded roof half."""
        self.shadow(box(x, y, width, depth, angle), height)
        # the ridge runs along the longer side
        if depth > width:
            width, depth, angle = depth, width, angle + math.pi / 2
        ridge = place([(0, -depth / 4), (0, depth / 4)], x, y, angle=angle)
        # local direction of the lower half against the sun decides which side is lit
        dx, dy = ridge[1][0] - x, ridge[1][1] - y
        ix, iy = dx * self._cos - dy * self._sin, dx * self._sin + dy * self._cos
        lit = ix * self.sun[0] + iy * self.sun[1] < 0
        for (hx, hy), bright in zip(ridge, (not lit, lit), strict=False):
            self.polygon(
                box(hx, hy, width, depth / 2, angle), shade(colour, 1.1 if bright else 0.84)
            )

    def car(
        self, x: float, y: float, colour: Colour, *, length: float = 0.045, angle: float = 0.0
    ) -> None:
        """A car pointing along the local x axis turned by `angle`."""
        self.block(x, y, length, length * 0.5, colour, angle=angle, shadow=length * 0.15)

    def asphalt(self) -> Colour:
        """A road colour between dark fresh and pale worn asphalt."""
        return self.vary(self.pick(((98, 100, 104), (122, 122, 122), (142, 140, 136))), 5)

    def traffic(self, lanes: Sequence[float], density: float, *, length: float = 0.05) -> int:
        """Cars on straight lanes along local x at the given y; returns how many are in the
        image. `density` is the chance of a car at each place."""
        cars = 0
        for y in lanes:
            x = -0.2 + self.u(0, 0.2)
            while x < 1.2:
                if self.chance(density):
                    self.car(x, y, self.pick(CARS), length=length)
                    cars += self.visible(x, y)
                x += self.u(1.8, 3.0) * length
        return cars

    # ---- finishing --------------------------------------------------------------------
    def finish(self) -> Image.Image:
        """Downsample, then add relief, light slope, haze and colour cast: RGB size x size."""
        small = self.image.reduce(SUPERSAMPLING)
        rgb: np.ndarray = np.asarray(small, dtype=np.float32)
        relief = Image.fromarray(1 + 0.03 * self.noise((4, 10, 22))).resize(
            (self.size, self.size), Image.Resampling.BICUBIC
        )
        axis = (np.arange(self.size, dtype=np.float32) + 0.5) / self.size - 0.5
        slope = 1 + self.u(-0.06, 0.06) * axis[:, None] + self.u(-0.06, 0.06) * axis[None, :]
        gain = {
            "clear": self.u(1.0, 1.12),
            "hazy": self.u(0.95, 1.03),
            "dim": self.u(0.7, 0.8),
            "warm": self.u(0.93, 1.03),
        }[self.light]
        haze = self.u(0.16, 0.27) if self.light == "hazy" else self.u(0.0, 0.05)
        cast = np.asarray(
            (1.06, 1.0, 0.9)
            if self.light == "warm"
            else (self.u(0.98, 1.02), 1.0, self.u(0.98, 1.03)),
            np.float32,
        )
        rgb = rgb * (np.asarray(relief) * slope * (gain * (1 - haze)))[..., None] * cast
        rgb += np.asarray((190, 198, 206), np.float32) * haze
        return Image.fromarray(np.clip(rgb + 0.5, 0, 255).astype(np.uint8))
