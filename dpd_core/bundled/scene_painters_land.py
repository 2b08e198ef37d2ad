"""Painters for natural scenes, fields and sports grounds.

Each painter draws one scene on the canvas and returns its attributes: plain facts that
the caption is made from.
"""

from __future__ import annotations

import itertools
import math

import numpy as np

from .scene_canvas import Canvas, Colour, Point, box, mix, place, ribbon, sector, shade

Attributes = dict[str, str | int | float]
Plot = tuple[float, float, float, float]

WATER: dict[str, Colour] = {
    "deep blue": (42, 72, 104),
    "dark blue": (30, 50, 76),
    "turquoise": (62, 138, 142),
    "green": (54, 98, 88),
    "brown": (112, 100, 70),
    "grey": (94, 110, 118),
}
CROPS: dict[str, Colour] = {
    "green": (86, 124, 58),
    "dark green": (56, 90, 50),
    "light green": (138, 160, 88),
    "yellow": (194, 178, 88),
    "tan": (190, 166, 120),
    "brown": (130, 102, 76),
}
SEASON_CROPS: dict[str, tuple[float, ...]] = {
    "spring": (4, 2, 4, 2, 1, 2),
    "summer": (4, 4, 2, 2, 1, 1),
    "autumn": (1, 1, 1, 1, 4, 4),
    "winter": (1, 1, 1, 0, 3, 5),
    "dry season": (1, 1, 1, 1, 5, 3),
}


def _crop(c: Canvas) -> tuple[str, Colour]:
    """A crop colour likely in this season: its word and a varied RGB value."""
    name = c.pick(tuple(CROPS), SEASON_CROPS[c.season])
    return name, c.vary(CROPS[name], 9)


def _hills(c: Canvas) -> str:
    """Cover the image with land for water scenes; returns a word for it."""
    cover = c.pick(("woodland", "grassland", "crop fields", "bare soil"), (3, 3, 2, 1.2))
    if cover == "woodland":
        c.grass("tree", 0.22)
        c.trees(40, radius=(0.025, 0.05))
    elif cover == "crop fields":
        c.grass()
        for gx in range(3):
            for gy in range(3):
                c.block(gx * 0.36 + 0.14, gy * 0.36 + 0.14, 0.34, 0.34, _crop(c)[1])
    else:
        c.grass("grass" if cover == "grassland" else "soil", 0.2)
        c.trees(c.n(3, 14), radius=(0.02, 0.035))
    return cover


def baseball_diamond(c: Canvas) -> Attributes:
    """One, two or four baseball fields with dirt infields and striped grass."""
    c.grass()
    c.trees(c.n(0, 10), radius=(0.03, 0.05))
    dirt_name = c.pick(("reddish brown", "tan", "brown"))
    dirt = c.vary(
        {"reddish brown": (172, 114, 80), "tan": (202, 172, 130), "brown": (146, 112, 82)}[
            dirt_name
        ],
        6,
    )
    grass = mix(c.ground_colour("grass"), c.vary((88, 132, 62), 8), 0.65)
    count = c.pick((1, 2, 4), (6, 2, 1.5))
    base = math.radians(c.pick((0, 45, 90, 135, 180, 225, 270, 315)) + c.u(-10, 10))
    track = c.chance(0.5)
    skinned = c.chance(0.3)
    if count == 1:
        spots = [(0.5 - 0.36 * math.cos(base), 0.5 - 0.36 * math.sin(base), base, c.u(0.76, 0.9))]
    elif count == 2:
        spots = [
            (
                0.5 - 0.44 * math.cos(base + k),
                0.5 - 0.44 * math.sin(base + k),
                base + k,
                c.u(0.42, 0.46),
            )
            for k in (0.0, math.pi)
        ]
    else:
        # clover leaf: the home plates meet in the middle
        spots = [
            (
                0.5 + 0.07 * math.cos(base + k),
                0.5 + 0.07 * math.sin(base + k),
                base + k,
                c.u(0.38, 0.42),
            )
            for k in (0, math.pi / 2, math.pi, 1.5 * math.pi)
        ]
    for x, y, angle, reach in spots:
        _ball_field(c, x, y, angle, reach, dirt, grass, track, skinned)
    return {"count": count, "dirt": dirt_name, "track": "yes" if track else "no"}


def _ball_field(
    c: Canvas,
    x: float,
    y: float,
    angle: float,
    reach: float,
    dirt: Colour,
    grass: Colour,
    track: bool,
    skinned: bool,
) -> None:
    """A field with home plate at (x, y), opening towards `angle`, `reach` deep."""
    q = math.pi / 4
    if track:
        c.polygon(sector(x, y, reach, angle - q - 0.05, angle + q + 0.05), dirt)
    stripes = 6
    for i in range(stripes, 0, -1):
        radius = reach * 0.94 * (0.45 + 0.55 * i / stripes)
        c.polygon(sector(x, y, radius, angle - q, angle + q), shade(grass, 1.07 if i % 2 else 0.95))
    side = reach * 0.40
    c.polygon(sector(x, y, side * 1.42, angle - q, angle + q), dirt)
    if not skinned:
        inner = [(0.13, 0), (0.71, -0.58), (1.29, 0), (0.71, 0.58)]
        c.polygon(place(inner, x, y, angle=angle, scale=side), shade(grass, 1.02))
    c.disc(x, y, reach * 0.085, dirt)
    c.disc(
        x + side * 0.68 * math.cos(angle),
        y + side * 0.68 * math.sin(angle),
        reach * 0.045,
        dirt if not skinned else shade(dirt, 0.86),
    )
    for edge in (angle - q, angle + q):
        c.stroke(
            [(x, y), (x + reach * 0.93 * math.cos(edge), y + reach * 0.93 * math.sin(edge))],
            0.010,
            (236, 234, 226),
            0.8,
        )


def beach(c: Canvas) -> Attributes:
    """A sandy shore between the sea on one side and land on the other."""
    sea_name = c.pick(("turquoise", "deep blue", "green", "grey"), (3, 3, 1.2, 1.2))
    sea = c.vary(WATER[sea_name], 8)
    sand_name = c.pick(("white", "golden", "grey"), (2, 3, 1))
    sand = c.vary(
        {"white": (228, 218, 198), "golden": (214, 188, 144), "grey": (176, 166, 150)}[sand_name], 5
    )
    backing = c.pick(("trees", "houses", "dunes", "a road"), (3, 2, 1.5, 1.5))
    side = c.turn_to_side(28)
    shore = c.curve(bend=c.u(0.03, 0.1))
    width = c.u(0.14, 0.3)
    # the land behind the sand must stay in view
    level = min(c.u(-0.15, 0.12), 0.2 - width)

    def below(offset: float) -> list[Point]:
        """Everything on the sea side of the shoreline moved landwards by `offset`."""
        moved = [(x, y + level + offset) for x, y in shore]
        return [(-0.6, -0.8), *moved, (1.6, -0.8)]

    if backing == "dunes":
        c.ground(shade(mix(sand, (150, 146, 100), 0.45), 0.88), mix(sand, (160, 150, 110), 0.2))
    else:
        c.grass("tree" if backing == "trees" else "grass", 0.18)
    if backing == "trees":
        c.trees(45, radius=(0.025, 0.045), area=(-0.2, 0.5 + level + width * 0.8, 1.2, 1.25))
    c.polygon(below(width), sand)
    if backing in ("houses", "a road"):
        road = 0.5 + level + width + 0.09
        c.stroke([(-0.4, road), (1.4, road)], 0.05, (128, 126, 124))
    if backing == "houses":
        for i in range(11):
            for row in (0.11, 0.27):
                c.house(
                    -0.2 + i * 0.14 + c.u(-0.01, 0.01),
                    road + row,
                    c.u(0.08, 0.11),
                    0.085,
                    c.vary(c.pick(((178, 104, 80), (190, 186, 180), (150, 140, 130))), 8),
                )
    c.polygon(below(0.035), shade(sand, 0.82))
    foam = (236, 240, 238)
    c.polygon(below(0.0), foam)
    shallow = mix(sea, (150, 196, 186), 0.45)
    for i in range(7):
        c.polygon(below(-0.025 - 0.045 * i), mix(shallow, sea, i / 6))
    waves = c.n(0, 3)
    for k in range(waves):
        lift = -0.08 - 0.075 * k - c.u(0, 0.02)
        start = c.n(0, 12)
        part = [(x, y + level + lift) for x, y in shore[start : start + c.n(9, 16)]]
        taper = 0.022 * np.sin(np.linspace(0.05, 3.09, len(part)))
        c.polygon(ribbon(part, taper), foam, 0.75)
    umbrellas = c.n(8, 24) if c.chance(0.3) else 0
    for _ in range(umbrellas):
        x = c.u(-0.1, 1.1)
        y = float(np.interp(x, [p[0] for p in shore], [p[1] for p in shore])) + level
        c.disc(
            x,
            y + width * c.u(0.4, 0.85),
            0.014,
            c.pick(((206, 76, 66), (240, 240, 236), (70, 110, 170))),
        )
    return {
        "sea": sea_name,
        "sand": sand_name,
        "backing": backing,
        "sea_side": side,
        "waves": "breaking waves" if waves else "calm water",
        "umbrellas": "yes" if umbrellas else "no",
    }


def circular_fields(c: Canvas) -> Attributes:
    """Center-pivot irrigation circles in a grid on dry land."""
    land = c.pick(("desert", "dry grass", "soil"), (3, 2, 2))
    colour = {
        "desert": (206, 180, 138),
        "dry grass": (170, 158, 112),
        "soil": c.ground_colour("soil"),
    }[land]
    colour = c.vary(colour, 8)
    c.ground(shade(colour, 0.9), shade(colour, 1.06))
    columns, rows = c.pick(((2, 2), (3, 3), (2, 1), (3, 2), (4, 4), (2, 3)), (4, 3, 1.5, 2, 1.5, 1))
    cell = c.u(0.93, 1.0) / max(columns, rows)
    c.turn(math.radians(c.u(-6, 6)))
    names: list[str] = []
    road = shade(colour, c.pick((0.8, 1.12)))
    for i in range(max(columns, rows) + 1):
        at = 0.5 + (i - max(columns, rows) / 2) * cell
        c.stroke([(at, -0.3), (at, 1.3)], 0.014, road)
        c.stroke([(-0.3, at), (1.3, at)], 0.014, road)
    for i in range(columns):
        for j in range(rows):
            x, y = 0.5 + (i - (columns - 1) / 2) * cell, 0.5 + (j - (rows - 1) / 2) * cell
            name = c.pick(tuple(CROPS), (5, 4, 3, 0.8, 1.2, 2))
            crop = c.vary(CROPS[name], 9)
            names.append(name)
            radius = cell * c.u(0.43, 0.475)
            c.disc(x, y, radius, crop)
            for ring in (0.72, 0.4):
                c.disc(x, y, radius * ring, shade(crop, c.u(0.93, 1.08)))
            start = c.u(0, 6.28)
            if c.chance(0.35):
                c.polygon(
                    sector(x, y, radius, start, start + c.u(0.8, 3)),
                    c.vary(CROPS[c.pick(tuple(CROPS))], 9),
                )
            c.stroke(
                [(x, y), (x + radius * math.cos(start), y + radius * math.sin(start))],
                0.010,
                shade(crop, 0.7),
            )
    main = max(sorted(set(names)), key=names.count)
    return {"count": columns * rows, "columns": columns, "rows": rows, "colour": main, "land": land}


def farmland(c: Canvas) -> Attributes:
    """A patchwork or long strips of rectangular fields."""
    c.ground(shade(c.ground_colour("grass"), 0.8), c.ground_colour("grass"))
    word = c.turn_randomly()
    strips = c.chance(0.4)
    area: dict[str, float] = {}
    fields = 0

    def split(x0: float, y0: float, x1: float, y1: float, depth: int) -> list[Plot]:
        w, h = x1 - x0, y1 - y0
        if depth == 0 or max(w, h) < 0.22:
            return [(x0, y0, x1, y1)]
        cut = c.u(0.36, 0.64)
        if w > h:
            return split(x0, y0, x0 + w * cut, y1, depth - 1) + split(
                x0 + w * cut, y0, x1, y1, depth - 1
            )
        return split(x0, y0, x1, y0 + h * cut, depth - 1) + split(
            x0, y0 + h * cut, x1, y1, depth - 1
        )

    if strips:
        edges = [-0.3]
        while edges[-1] < 1.3:
            edges.append(edges[-1] + c.u(0.07, 0.2))
        plots = []
        for y0, y1 in itertools.pairwise(edges):
            cut = c.u(0.1, 0.9)
            plots += [(-0.3, y0, cut, y1), (cut, y0, 1.3, y1)]
    else:
        plots = split(-0.3, -0.3, 1.3, 1.3, c.n(4, 6))
    gap = c.u(0.008, 0.022)
    for x0, y0, x1, y1 in plots:
        name, crop = _crop(c)
        x, y, w, h = (x0 + x1) / 2, (y0 + y1) / 2, x1 - x0, y1 - y0
        fields += c.visible(x, y)
        inside = max(0.0, min(x1, 1) - max(x0, 0)) * max(0.0, min(y1, 1) - max(y0, 0))
        area[name] = area.get(name, 0.0) + inside
        c.block(x, y, w - gap, h - gap, crop)
        along_x = w > h
        for k in range(1, int((h if along_x else w) / 0.045)):
            if k % 2:
                continue
            furrow = shade(crop, 0.93)
            if along_x:
                c.block(x, y0 + k * 0.045, w - gap, 0.022, furrow)
            else:
                c.block(x0 + k * 0.045, y, 0.022, h - gap, furrow)
    hedges = c.chance(0.4)
    if hedges:
        for x0, y0, x1, _ in plots:
            for _ in range(c.n(0, 4)):
                c.tree(x0 + (x1 - x0) * c.u(0, 1), y0, c.u(0.016, 0.028))
    farm = c.chance(0.25)
    if farm:
        x, y = c.u(0.35, 0.65), c.u(0.35, 0.65)
        c.block(x, y, 0.2, 0.16, shade(c.ground_colour("soil"), 1.05))
        c.house(x - 0.04, y, 0.09, 0.06, (168, 90, 74))
        c.house(x + 0.05, y + 0.01, 0.05, 0.09, (190, 190, 186))
    ranked = sorted(area, key=lambda k: (-area[k], k))
    return {
        "layout": "long strips" if strips else "patchwork",
        "orientation": word,
        "fields": fields,
        "colour": ranked[0],
        "second_colour": ranked[1] if len(ranked) > 1 else ranked[0],
        "hedges": "yes" if hedges else "no",
        "farmhouse": "yes" if farm else "no",
    }


def forest(c: Canvas) -> Attributes:
    """Closed tree canopy, sometimes with a track or a clearing."""
    kind = c.pick(("broadleaf", "conifer", "mixed"))
    leaf, needle = c.ground_colour("tree"), c.vary((40, 66, 50), 6)
    tones = {
        "broadleaf": [leaf, shade(leaf, 1.15)],
        "conifer": [needle, shade(needle, 0.85)],
        "mixed": [leaf, needle],
    }[kind]
    if c.season == "autumn" and kind != "conifer":
        tones += [(168, 118, 52), (146, 78, 46), (112, 108, 58)]
    feature = c.pick(("closed canopy", "track", "clearing"), (5, 2, 2))
    c.ground(shade(tones[0], 0.55), shade(tones[0], 0.8))
    open_line: list[Point] = []
    if feature == "track":
        c.turn(c.u(0, 6.28))
        open_line = c.curve(bend=0.12)
    spot = (c.u(0.25, 0.75), c.u(0.25, 0.75), c.u(0.14, 0.24))
    crowns = 11 if kind == "conifer" else c.n(8, 10)
    radius = 0.62 / crowns
    span = 1.5 if open_line else 1.12
    steps = int(crowns * span)
    for j in range(steps):
        for i in range(steps):
            x = 0.5 - span / 2 + (i + 0.5 + 0.5 * (j % 2) + c.u(-0.3, 0.3)) * span / steps
            y = 0.5 - span / 2 + (j + 0.5 + c.u(-0.3, 0.3)) * span / steps
            if not c.visible(x, y, -0.06):
                continue
            if feature == "clearing" and math.hypot(x - spot[0], y - spot[1]) < spot[2]:
                continue
            c.tree(x, y, radius * c.u(0.8, 1.2), c.pick(tones))
    if open_line:
        c.stroke(open_line, 0.05, shade(c.ground_colour("soil"), 1.1))
    elif feature == "clearing":
        grass = c.ground_colour("grass")
        c.patch(
            c.blob(spot[0], spot[1], spot[2], spot[2] * c.u(0.7, 1.0)),
            shade(grass, 0.95),
            shade(grass, 1.2),
        )
    return {"kind": kind, "feature": feature}


def golf_course(c: Canvas) -> Attributes:
    """Light fairways and greens with sand bunkers between trees."""
    rough = mix(c.ground_colour("grass"), c.ground_colour("tree"), 0.45)
    c.ground(shade(rough, 0.9), shade(rough, 1.1))
    fairway = mix((126, 164, 82), c.ground_colour("grass"), c.u(0.1, 0.4))
    sand = c.vary((226, 212, 176), 6)
    c.turn(c.u(0, 6.28))
    fairways = c.n(1, 3)
    offsets = {1: (0.0,), 2: (-0.22, 0.24), 3: (-0.32, 0.02, 0.34)}[fairways]
    c.trees(c.n(14, 28), radius=(0.025, 0.05), area=(-0.1, -0.1, 1.1, 1.1))
    pond = c.chance(0.35)
    bunkers = 0
    greens: list[Point] = []
    for offset in offsets:
        line = [(x, y + offset) for x, y in c.curve(bend=c.u(0.06, 0.13))][7:22]
        width = c.u(0.15, 0.24) / (1 + 0.18 * (fairways - 1))
        t = np.linspace(0, 1, len(line))
        shape = (
            width
            * np.sqrt(np.clip(1 - (2 * t - 1) ** 4, 0.02, 1))
            * (1 + 0.2 * np.sin(t * c.u(4, 9) + c.u(0, 6)))
        )
        c.polygon(ribbon(line, shape * 1.25), mix(rough, fairway, 0.4))
        c.polygon(ribbon(line, shape), fairway)
        for k in range(2, len(line) - 2, 2):
            c.stroke(line[k : k + 2], float(shape[k]) * 0.96, shade(fairway, 1.05))
        greens.append(line[c.pick((1, -2))])
    if pond:
        x = c.u(0.3, 0.7)
        y = c.pick((c.u(0.06, 0.2), c.u(0.8, 0.92))) if fairways == 1 else 0.52
        water = c.vary((56, 84, 100), 6)
        c.patch(c.blob(x, y, c.u(0.09, 0.15), c.u(0.06, 0.09), 0.25), shade(water, 0.9), water)
    c.trees(c.n(3, 9), radius=(0.03, 0.05))
    # the bunkers are counted, so nothing may cover them
    for gx, gy in greens:
        c.polygon(c.blob(gx, gy, 0.1, 0.085, 0.12), fairway)
        c.polygon(c.blob(gx, gy, 0.072, 0.06, 0.12), (150, 190, 104))
        near, first = c.n(1, 3), c.u(0, 6.28)
        for k in range(near):
            around = first + k * 2 * math.pi / near + c.u(-0.3, 0.3)
            bx, by = gx + 0.125 * math.cos(around), gy + 0.125 * math.sin(around)
            shape_b = c.blob(0, 0, c.u(0.03, 0.042), c.u(0.04, 0.06), 0.3, 20)
            c.polygon(place(shape_b, bx, by, angle=around), sand)
            bunkers += c.visible(bx, by, 0.01)
    return {"fairways": fairways, "bunkers": bunkers, "pond": "yes" if pond else "no"}


def lake(c: Canvas) -> Attributes:
    """A closed body of water surrounded by land."""
    cover = _hills(c)
    name = c.pick(("deep blue", "dark blue", "turquoise", "green", "brown"), (4, 3, 1.5, 2, 0.5))
    water = c.vary(WATER[name], 7)
    c.turn(c.u(0, 6.28))
    x, y = c.u(0.42, 0.58), c.u(0.42, 0.58)
    rx = c.u(0.22, 0.42)
    ry = rx * c.u(0.6, 1.0)
    outline = c.blob(x, y, rx, ry, c.u(0.12, 0.3))
    around = [(px - x, py - y) for px, py in outline]
    bank = (
        shade(c.ground_colour("soil"), 1.1)
        if c.chance(0.6)
        else shade(c.ground_colour("tree"), 0.8)
    )
    c.polygon(place(around, x, y, scale=1.09), bank)
    c.patch(outline, shade(water, 0.94), mix(water, (110, 150, 150), 0.2), (2, 5))
    c.polygon(place(around, x, y, scale=0.82), water, 0.5)
    c.polygon(place(around, x, y, scale=0.6), shade(water, 0.85), 0.4)
    islands = c.pick((0, 1, 2), (6, 2, 1))
    for k in range(islands):
        ix, iy = x + (k * 2 - islands + 1) * rx * 0.35, y + c.u(-0.2, 0.2) * ry
        c.polygon(c.blob(ix, iy, 0.075, 0.06), bank)
        c.polygon(c.blob(ix, iy, 0.06, 0.048), c.ground_colour("tree"))
    extent = "large" if rx > 0.35 else "small" if rx < 0.27 else "medium-sized"
    return {"water": name, "surroundings": cover, "islands": islands, "extent": extent}


def river(c: Canvas) -> Attributes:
    """A river winding across the whole image, sometimes bridged."""
    cover = _hills(c)
    name = c.pick(("deep blue", "green", "brown", "grey", "dark blue"), (3.5, 2.5, 1.3, 1, 2.5))
    water = c.vary(WATER[name], 7)
    word = c.turn_randomly()
    bend = c.u(0.03, 0.2)
    line = c.curve(bend=bend, steps=48)
    t = np.linspace(0, 1, len(line))
    base = c.u(0.1, 0.25)
    width = base * (1 + 0.2 * np.sin(6 * t + c.u(0, 6)) + 0.12 * np.sin(13 * t + c.u(0, 6)))
    banks = c.pick(("sandy", "green"), (1, 1))
    bank = (
        shade(c.ground_colour("soil"), 1.18)
        if banks == "sandy"
        else shade(c.ground_colour("tree"), 0.85)
    )
    c.polygon(ribbon(line, width + c.u(0.04, 0.08)), bank)
    c.patch(ribbon(line, width), shade(water, 0.92), mix(water, (120, 140, 140), 0.15), (2, 5))
    c.polygon(ribbon(line, width * 0.5), shade(water, 0.9), 0.4)
    bridge = c.chance(0.3)
    if bridge:
        at = c.n(19, 28)
        (x0, y0), (x1, y1) = line[at], line[at + 1]
        along = math.atan2(y1 - y0, x1 - x0) + math.pi / 2
        road = (150, 148, 144)
        c.shadow(box(x0, y0, base * 1.6, 0.05, along), 0.03)
        c.block(x0, y0, 3.0, 0.05, road, angle=along)
        c.block(x0, y0, 3.0, 0.008, (214, 210, 196), angle=along)
    return {
        "water": name,
        "surroundings": cover,
        "orientation": word,
        "banks": banks,
        "course": "winding" if bend > 0.1 else "gently curving",
        "width": "wide" if base > 0.18 else "narrow",
        "bridge": "yes" if bridge else "no",
    }


def tennis_court(c: Canvas) -> Attributes:
    """One or several courts side by side with white lines."""
    c.grass()
    inner_name = c.pick(("green", "blue", "red clay", "purple"), (3, 3, 2.5, 1))
    outer_name = c.pick(("green", "dark green", "red", "grey"), (2.5, 2, 1.5, 1.5))
    inner = c.vary(
        {
            "green": (84, 128, 92),
            "blue": (64, 104, 150),
            "red clay": (184, 106, 76),
            "purple": (110, 90, 140),
        }[inner_name],
        7,
    )
    outer = c.vary(
        {
            "green": (112, 142, 104),
            "dark green": (58, 92, 70),
            "red": (160, 92, 78),
            "grey": (142, 144, 142),
        }[outer_name],
        6,
    )
    if inner_name == outer_name:
        outer = shade(outer, 1.15)
    if inner_name == "red clay":
        outer, outer_name = shade(inner, 1.03), "red"
    word = c.turn_randomly()
    columns, rows = c.pick(((1, 1), (2, 1), (3, 1), (4, 1), (2, 2), (3, 2)), (4, 4, 2.5, 1, 2, 1.5))
    # a whole court is about 36 m x 18 m, the playing lines 24 m x 11 m
    height = min(0.8 / rows, 0.84 / columns * 1.75, 0.72 if columns == 1 else 0.8)
    width = height / 1.75
    c.trees(c.n(3, 14), radius=(0.035, 0.06), area=(-0.1, -0.1, 1.1, 1.1))
    c.shadow(box(0.5, 0.5, width * columns, height * rows), 0.02, 0.3)
    c.block(0.5, 0.5, width * columns, height * rows, outer)
    # small courts get softer lines: at 64 pixels they are thinner than a pixel
    white = mix((238, 238, 232), inner, 0.0 if columns * rows < 3 else 0.2)
    for i in range(columns):
        for j in range(rows):
            x = 0.5 + (i - (columns - 1) / 2) * width
            y = 0.5 + (j - (rows - 1) / 2) * height
            w, h, line = width * 0.64, height * 0.68, max(0.011, width * 0.022)
            c.block(x, y, w + line, h + line, white)
            c.block(x, y, w - line, h - line, inner)
            for side in (-0.375, 0.375):
                c.block(x + w * side, y, line, h, white)
            for service in (-0.27, 0.27):
                c.block(x, y + h * service, w * 0.75, line, white)
            c.block(x, y, line, h * 0.54, white)
            c.block(x, y + line * 0.6, w * 1.12, line, (40, 46, 46), alpha=0.6)
            c.block(x, y, w * 1.12, line * 0.8, (200, 204, 204))
    return {
        "count": columns * rows,
        "surface": inner_name,
        "surround": outer_name,
        "orientation": {"horizontal": "vertical", "vertical": "horizontal"}.get(word, word),
    }
