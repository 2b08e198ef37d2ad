"""Painters for transport scenes.

Each painter draws one scene on the canvas and returns its attributes: plain facts that
the caption is made from.
"""

from __future__ import annotations

import math

from .scene_canvas import (
    CARS,
    ROOFS,
    WHITE,
    Canvas,
    Colour,
    Point,
    box,
    mix,
    orientation_word,
    place,
    shade,
)

Attributes = dict[str, str | int | float]

YELLOW: Colour = (206, 172, 84)

# A jet seen from above: nose at (0, -0.5), total length 1.
_FUSELAGE = [
    (0, -0.5),
    (0.035, -0.46),
    (0.055, -0.38),
    (0.055, 0.25),
    (0.02, 0.5),
    (-0.02, 0.5),
    (-0.055, 0.25),
    (-0.055, -0.38),
    (-0.035, -0.46),
]
_WINGS = [(0, -0.14), (0.47, 0.16), (0.47, 0.23), (0, 0.1), (-0.47, 0.23), (-0.47, 0.16)]
_TAIL = [(0, 0.32), (0.19, 0.45), (0.19, 0.5), (0, 0.46), (-0.19, 0.5), (-0.19, 0.45)]


def _jet(
    c: Canvas, x: float, y: float, length: float, angle: float, body: Colour, accent: Colour
) -> None:
    shift = (c.sun[0] * 0.05 * length, c.sun[1] * 0.05 * length)
    for part in (_FUSELAGE, _WINGS, _TAIL):
        c.polygon(place(part, x, y, angle=angle, scale=length), (30, 34, 42), 0.4, shift)
    for side in (-0.19, 0.19):
        c.polygon(
            place(box(side, -0.06, 0.055, 0.12), x, y, angle=angle, scale=length), shade(body, 0.62)
        )
    c.polygon(place(_WINGS, x, y, angle=angle, scale=length), shade(body, 0.93))
    c.polygon(place(_TAIL, x, y, angle=angle, scale=length), mix(body, accent, 0.5))
    c.polygon(place(_FUSELAGE, x, y, angle=angle, scale=length), body)
    c.polygon(place(box(0, 0.41, 0.03, 0.17), x, y, angle=angle, scale=length), accent)


def airplane(c: Canvas) -> Attributes:
    """Jets on an airport apron, or one on a runway."""
    body_name = c.pick(("white", "silver"), (3, 1))
    body = c.vary({"white": (236, 238, 240), "silver": (196, 200, 206)}[body_name], 4)
    accent = c.pick(((170, 56, 52), (50, 84, 146), (54, 120, 84), (196, 150, 60), (90, 94, 102)))
    runway = c.chance(0.2)
    if runway:
        c.grass()
        word = c.turn_randomly()
        road = c.vary((104, 106, 110), 8)
        c.block(0.5, 0.5, 1.8, c.u(0.4, 0.55), road)
        for edge in (-0.17, 0.17):
            c.block(0.5, 0.5 + edge, 1.8, 0.012, WHITE)
        c.dashes((-0.3, 0.5), (1.3, 0.5), 0.018, WHITE, period=0.16)
        _jet(c, c.u(0.35, 0.65), 0.5, c.u(0.36, 0.5), c.pick((1, -1)) * math.pi / 2, body, accent)
        return {
            "count": 1,
            "colour": body_name,
            "place": "runway",
            "orientation": word,
            "terminal": "no",
        }
    concrete = c.vary(c.pick(((158, 156, 152), (136, 138, 140), (176, 170, 158))), 6)
    c.ground(shade(concrete, 0.96), shade(concrete, 1.04))
    word = c.turn_randomly()
    for k in range(-2, 10):
        c.block(0.5, k * 0.17, 1.8, 0.006, shade(concrete, 0.9))
        c.block(k * 0.17, 0.5, 0.006, 1.8, shade(concrete, 0.9))
    layouts: dict[int, tuple[float, list[Point]]] = {
        1: (c.u(0.55, 0.74), [(0.5, 0.5)]),
        2: (0.42, [(0.27, 0.5), (0.73, 0.5)]),
        3: (0.31, [(0.19, 0.5), (0.5, 0.5), (0.81, 0.5)]),
        4: (0.34, [(0.3, 0.3), (0.7, 0.3), (0.3, 0.7), (0.7, 0.7)]),
        5: (0.28, [(0.2, 0.3), (0.5, 0.3), (0.8, 0.3), (0.33, 0.68), (0.67, 0.68)]),
        6: (0.28, [(0.2, 0.3), (0.5, 0.3), (0.8, 0.3), (0.2, 0.68), (0.5, 0.68), (0.8, 0.68)]),
    }
    count = c.pick((1, 2, 3, 4, 5, 6), (5, 3, 3, 2, 1, 1))
    length, spots = layouts[count]
    terminal = count in (2, 3) and c.chance(0.55)
    if terminal:
        c.block(0.5, 0.04, 1.8, 0.22, c.vary((188, 186, 180), 8), shadow=0.05)
        c.block(0.5, 0.0, 1.8, 0.06, (150, 152, 156))
    elif c.chance(0.4):
        c.block(0.5, -0.06, 1.8, 0.26, c.ground_colour("grass"))
    heading = c.u(0, 6.28) if count == 1 else c.pick((0.0, math.pi)) * (not terminal)
    for x, y in spots:
        c.stroke([(x, y), (x, y + 0.34 * (1 if heading == 0 else -1))], 0.010, YELLOW)
        y += 0.04 if terminal else 0.0
        _jet(
            c,
            x + c.u(-0.02, 0.02),
            y + c.u(-0.02, 0.02),
            length,
            heading + c.u(-0.08, 0.08),
            body,
            accent,
        )
    return {
        "count": count,
        "colour": body_name,
        "place": "apron",
        "orientation": word if count == 3 else "none",
        "terminal": "yes" if terminal else "no",
    }


def freeway(c: Canvas) -> Attributes:
    """A divided multi-lane road across the image, sometimes below an overpass."""
    verge = c.pick(("grass", "soil"), (3, 1))
    c.grass(verge)
    word = c.turn_randomly()
    road = c.asphalt()
    lanes = c.pick((2, 3, 4), (2, 3, 1.5))
    lane = c.u(0.062, 0.075)
    median = c.u(0.03, 0.13)
    trees = c.chance(0.55)
    half = median / 2 + lane * lanes
    if trees:
        for side in (-1, 1):
            for _ in range(c.n(8, 16)):
                c.tree(c.u(-0.2, 1.2), 0.5 + side * (half + c.u(0.09, 0.35)), c.u(0.025, 0.045))
    flow: list[float] = []
    for side in (-1, 1):
        c.block(0.5, 0.5 + side * (median + lane * lanes) / 2, 1.9, lane * lanes + 0.05, road)
        for k in range(lanes + 1):
            y = 0.5 + side * (median / 2 + k * lane)
            if k in (0, lanes):
                c.block(0.5, y, 1.9, 0.009, YELLOW if k == 0 else WHITE, alpha=0.9)
            else:
                c.dashes((-0.3 + c.u(0, 0.05), y), (1.3, y), 0.010, WHITE, period=0.11, fill=0.55)
        flow += [0.5 + side * (median / 2 + (k + 0.5) * lane) for k in range(lanes)]
    if median < 0.07:
        c.block(0.5, 0.5, 1.9, 0.014, (186, 184, 178), shadow=0.008)
    cars = c.traffic(flow, c.pick((0.1, 0.25, 0.45)), length=0.058)
    overpass = c.chance(0.25)
    if overpass:
        at, tilt = c.u(0.3, 0.7), math.pi / 2 + c.u(-0.25, 0.25)
        c.shadow(box(at, 0.5, 2 * half + 0.1, 0.13, tilt), 0.04)
        c.block(at, 0.5, 2.0, 0.13, c.vary((152, 150, 146), 6), angle=tilt)
        for edge in (-0.058, 0.058):
            c.block(at + edge, 0.5, 2.0, 0.012, (196, 194, 190), angle=tilt)
    return {
        "lanes": 2 * lanes,
        "orientation": word,
        "cars": cars,
        "median": (
            "concrete barrier"
            if median < 0.07
            else "grassy median"
            if verge == "grass"
            else "bare median"
        ),
        "verge": verge,
        "trees": "yes" if trees else "no",
        "overpass": "yes" if overpass else "no",
    }


def harbor(c: Canvas) -> Attributes:
    """Boats moored along piers that reach into the water from a quay."""
    name = c.pick(("dark blue", "deep blue", "teal", "grey green"), (3, 2, 1.5, 1.5))
    water = c.vary(
        {
            "dark blue": (40, 60, 86),
            "deep blue": (44, 76, 106),
            "teal": (46, 94, 100),
            "grey green": (78, 98, 94),
        }[name],
        6,
    )
    c.ground(shade(water, 0.92), shade(water, 1.1), (2, (4, 12)))
    side = c.turn_to_side(8)
    quay = c.u(0.1, 0.2)
    c.shadow(box(0.5, quay / 2 - 0.25, 1.9, quay + 0.5), 0.015)
    c.block(0.5, quay / 2 - 0.25, 1.9, quay + 0.5, c.vary((168, 164, 156), 8))
    for _ in range(c.n(0, 4)):
        c.car(c.u(0.1, 0.9), quay * c.u(0.2, 0.6), c.pick(CARS), length=0.045)
    piers = c.pick((1, 2, 3, 4), (2, 3, 3, 1))
    wood = c.vary(c.pick(((176, 160, 136), (196, 194, 188), (146, 130, 112))), 6)
    boat = {1: 0.21, 2: 0.17, 3: 0.115, 4: 0.088}[piers] * c.u(0.92, 1.04)
    full = c.u(0.5, 1.0)
    colour = c.pick(("white", "white and blue"), (3, 1))
    boats = blue = 0
    gap = 0.84 / piers
    for k in range(piers):
        x = 0.08 + gap * (k + 0.5)
        end = c.u(0.8, 0.93)
        c.shadow(box(x, (quay + end) / 2, 0.035, end - quay), 0.012)
        c.block(x, (quay + end) / 2, 0.035, end - quay + 0.02, wood)
        step = max(boat * c.u(0.5, 0.66), 0.066)
        for j in range(int((end - quay - 0.04) / step)):
            for hand in (-1, 1):
                if not c.chance(full):
                    continue
                bx, by = x + hand * (0.026 + boat / 2), quay + 0.05 + (j + 0.4) * step
                is_blue = colour != "white" and c.chance(0.35)
                _boat(
                    c,
                    bx,
                    by,
                    boat * c.u(0.88, 1.0),
                    0.0 if hand > 0 else math.pi,
                    (76, 110, 160) if is_blue else (212, 214, 214),
                )
                boats += 1
                blue += is_blue
    if boats == 0:
        _boat(c, 0.08 + gap / 2 + 0.026 + boat / 2, 0.55, boat, 0.0, (212, 214, 214))
        boats = 1
    colour = "blue" if blue == boats else "white and blue" if blue else "white"
    return {"boats": boats, "piers": piers, "water": name, "colour": colour, "quay_side": side}


def _boat(c: Canvas, x: float, y: float, length: float, angle: float, hull: Colour) -> None:
    """A boat with its bow along local x."""
    outline = [(-0.5, -0.17), (0.2, -0.18), (0.5, 0), (0.2, 0.18), (-0.5, 0.17)]
    c.shadow(place(outline, x, y, angle=angle, scale=length), length * 0.06)
    c.polygon(place(outline, x, y, angle=angle, scale=length), hull)
    c.polygon(place(box(-0.12, 0, 0.42, 0.17), x, y, angle=angle, scale=length), shade(hull, 0.72))


def intersection(c: Canvas) -> Attributes:
    """Two roads meeting at a right angle, with crosswalks and corner plots."""
    c.grass("grass", 0.12)
    angle = math.radians(c.pick((0, 90, 180, 270, 45), (1, 1, 1, 1, 1.2)) + c.u(-12, 12))
    c.turn(angle)
    road = c.asphalt()
    kind = c.pick(("four-way", "T-shaped"), (3, 1))
    width = c.u(0.17, 0.27)
    half = width / 2
    corner = c.pick(("buildings", "lawns", "trees"), (3, 1.5, 2))
    near = half + 0.05
    for sx in (-1, 1):
        for sy in (-1, 1):
            x, y = 0.5 + sx * (near + 0.25), 0.5 + sy * (near + 0.25)
            if corner == "buildings":
                c.block(x, y, 0.5, 0.5, c.vary((158, 154, 146), 8))
                roof = c.vary(c.pick(ROOFS["mixed"] + ((206, 204, 198),)), 8)
                c.block(
                    x - sx * 0.06, y - sy * 0.06, c.u(0.2, 0.3), c.u(0.2, 0.3), roof, shadow=0.05
                )
            elif corner == "trees":
                c.trees(9, radius=(0.035, 0.055), area=(x - 0.19, y - 0.19, x + 0.22, y + 0.22))
    pavement = shade(road, 1.3)
    arms = [0.0, math.pi / 2, math.pi] + ([1.5 * math.pi] if kind == "four-way" else [])
    for extra, colour in ((0.05, pavement), (0.0, road)):
        for arm in arms:
            c.block(
                0.5 + math.cos(arm) * 0.5,
                0.5 + math.sin(arm) * 0.5,
                1.0 + width + extra,
                width + extra,
                colour,
                angle=arm,
            )
    crosswalks = c.chance(0.7)
    cars = 0
    for arm in arms:
        ux, uy = math.cos(arm), math.sin(arm)
        at = half + 0.045
        if crosswalks:
            stripes = 5
            for k in range(stripes):
                off = (k - (stripes - 1) / 2) * width / stripes
                c.block(
                    0.5 + ux * at - uy * off,
                    0.5 + uy * at + ux * off,
                    0.05,
                    width / stripes * 0.5,
                    WHITE,
                    angle=arm,
                )
        begin = half + (0.1 if crosswalks else 0.04)
        c.stroke(
            [(0.5 + ux * begin, 0.5 + uy * begin), (0.5 + ux * 0.95, 0.5 + uy * 0.95)],
            0.012,
            YELLOW,
        )
        for lane in (-0.25, 0.25):
            if c.chance(0.45):
                far = half + c.u(0.14, 0.3)
                x = 0.5 + ux * far - uy * lane * width
                y = 0.5 + uy * far + ux * lane * width
                c.car(x, y, c.pick(CARS), length=0.07, angle=arm)
                cars += c.visible(x, y)
    return {
        "kind": kind,
        "corners": corner,
        "cars": cars,
        "orientation": "diagonal" if orientation_word(angle) == "diagonal" else "upright",
        "crosswalks": "yes" if crosswalks else "no",
    }


def parking_lot(c: Canvas) -> Attributes:
    """Rows of parked cars between marked stalls and driving aisles."""
    asphalt = c.vary(c.pick(((88, 90, 94), (112, 112, 112), (132, 130, 126))), 6)
    c.ground(shade(asphalt, 0.94), shade(asphalt, 1.06))
    word = c.turn_randomly()
    length = c.u(0.1, 0.15)
    stall = length * 0.64
    pitch = length * 3.5
    fill = c.pick((0.3, 0.6, 0.85, 0.97), (1.5, 2, 3, 2))
    islands = c.chance(0.4)
    start = 0.5 - 3 * pitch + c.u(-0.1, 0.1)
    cars = stalls = 0
    for k in range(int(1.7 / pitch) + 4):
        y = start + k * pitch
        if not -0.4 < y < 1.4:
            continue
        if islands:
            c.block(0.5, y, 1.9, 0.03, c.ground_colour("grass"))
        else:
            c.block(0.5, y, 1.9, 0.010, WHITE, alpha=0.6)
        for i in range(int(1.6 / stall)):
            x = -0.3 + i * stall
            for side in (-1, 1):
                row = y + side * (length * 0.58 + 0.01)
                if not c.visible(x, row, -0.06):
                    continue
                c.block(x - stall / 2, row, 0.008, length * 1.1, WHITE, alpha=0.45)
                stalls += c.visible(x, row)
                if c.chance(fill):
                    c.car(
                        x,
                        row,
                        c.pick(CARS, (4, 3, 2.5, 1.2, 1.2, 2)),
                        length=length * 0.92,
                        angle=math.pi / 2,
                    )
                    cars += c.visible(x, row)
            if islands and i % 6 == 2:
                c.tree(x, y, 0.035)
    share = cars / max(stalls, 1)
    busy = "nearly full" if share > 0.8 else "half full" if share > 0.45 else "mostly empty"
    return {
        "cars": cars,
        "occupancy": busy,
        "orientation": word,
        "trees": "yes" if islands else "no",
    }


def railway(c: Canvas) -> Attributes:
    """Parallel tracks with sleepers on brown ballast, some with trains."""
    setting = c.pick(("grass", "trees", "warehouses"), (2, 2, 1.5))
    c.grass("soil" if setting == "warehouses" else "grass")
    word = c.turn_randomly()
    tracks = c.pick((1, 2, 3, 4, 5, 6), (1, 3, 2, 2, 1.5, 1.5))
    gap = min(c.u(0.13, 0.17), 0.86 / tracks)
    bed = gap * tracks + 0.07
    if setting == "trees":
        for side in (-1, 1):
            for _ in range(16):
                c.tree(c.u(-0.2, 1.2), 0.5 + side * (bed / 2 + c.u(0.03, 0.4)), c.u(0.03, 0.05))
    elif setting == "warehouses":
        for side in (-1, 1):
            for k in range(4):
                c.block(
                    -0.15 + k * 0.42,
                    0.5 + side * (bed / 2 + 0.16),
                    0.36,
                    0.2,
                    c.vary(c.pick(((176, 174, 170), (150, 110, 92), (200, 198, 194))), 8),
                    shadow=0.03,
                )
    ballast = c.vary(c.pick(((128, 112, 98), (120, 108, 100), (142, 126, 110))), 6)
    c.patch(box(0.5, 0.5, 1.9, bed), shade(ballast, 0.9), shade(ballast, 1.06))
    sleeper, rail = shade(ballast, 0.74), c.vary((178, 174, 168), 8)
    occupied = [c.chance(0.26) for _ in range(tracks)]
    paint_name = c.pick(("red", "blue", "white", "grey", "green"))
    paint = {
        "red": (160, 62, 54),
        "blue": (62, 94, 144),
        "white": (218, 218, 214),
        "grey": (96, 100, 106),
        "green": (70, 112, 84),
    }[paint_name]
    gauge = 0.052
    for k in range(tracks):
        y = 0.5 + (k - (tracks - 1) / 2) * gap
        for i in range(28):
            c.block(-0.3 + i * 0.058, y, 0.024, gauge + 0.03, sleeper)
        for hand in (-0.5, 0.5):
            c.block(0.5, y + hand * gauge, 1.9, 0.012, rail)
    for k, taken in enumerate(occupied):
        if not taken:
            continue
        y = 0.5 + (k - (tracks - 1) / 2) * gap
        first, coach = c.u(-0.3, 0.05), c.u(0.26, 0.34)
        for i in range(c.n(3, 5)):
            colour = c.vary(paint, 5)
            x = first + i * (coach + 0.018) + coach / 2
            c.block(x, y, coach, 0.078, colour, shadow=0.025)
            c.block(x, y, coach * 0.9, 0.024, shade(colour, 1.18))
    trains = sum(occupied)
    return {
        "tracks": tracks,
        "trains": trains,
        "train_colour": paint_name if trains else "none",
        "orientation": word,
        "setting": setting,
    }


def roundabout(c: Canvas) -> Attributes:
    """A ring road around an island with three to five arms."""
    setting = c.pick(("lawns", "trees", "houses"), (2, 2, 2))
    c.grass()
    road = c.asphalt()
    c.turn(c.u(0, 6.28))
    arms = c.pick((3, 4, 5), (2, 5, 1))
    outer = c.u(0.25, 0.33)
    lane = c.u(0.09, 0.12)
    width = c.u(0.12, 0.16)
    angles = [2 * math.pi * k / arms + c.u(-0.1, 0.1) for k in range(arms)]
    if setting != "lawns":
        for a, b in zip(angles, [*angles[1:], angles[0] + 2 * math.pi], strict=False):
            middle = (a + b) / 2
            for _ in range(7 if setting == "trees" else 3):
                turn, far = middle + c.u(-0.35, 0.35), outer + c.u(0.13, 0.4)
                x, y = 0.5 + far * math.cos(turn), 0.5 + far * math.sin(turn)
                if setting == "trees":
                    c.tree(x, y, c.u(0.035, 0.055))
                else:
                    c.house(x, y, 0.13, 0.1, c.vary(c.pick(ROOFS["mixed"]), 8), middle)
    pavement = shade(road, 1.28)
    for edge, colour in ((0.022, pavement), (0.0, road)):
        for a in angles:
            c.block(
                0.5 + 0.55 * math.cos(a),
                0.5 + 0.55 * math.sin(a),
                1.0,
                width + 2 * edge,
                colour,
                angle=a,
            )
            c.polygon(
                place(
                    [
                        (outer * 0.8, -width * 0.95),
                        (outer + 0.13, -width / 2),
                        (outer + 0.13, width / 2),
                        (outer * 0.8, width * 0.95),
                    ],
                    0.5,
                    0.5,
                    angle=a,
                    scale=1.0 + edge,
                ),
                colour,
            )
        c.disc(0.5, 0.5, outer + edge, colour)
    for a in angles:
        c.polygon(
            place(
                [(outer + 0.01, -0.022), (outer + 0.14, 0), (outer + 0.01, 0.022)],
                0.5,
                0.5,
                angle=a,
            ),
            c.ground_colour("grass"),
        )
        c.stroke(
            [(0.5 + t * math.cos(a), 0.5 + t * math.sin(a)) for t in (outer + 0.15, 0.95)],
            0.010,
            WHITE,
        )
    island = outer - lane
    centre = c.pick(("grass", "trees", "paved"), (3, 2, 1.2))
    c.disc(0.5, 0.5, island + 0.012, WHITE)
    c.disc(
        0.5,
        0.5,
        island,
        (176, 150, 130) if centre == "paved" else shade(c.ground_colour("grass"), 1.06),
    )
    if centre == "trees":
        for _ in range(5):
            c.tree(0.5 + c.u(-0.5, 0.5) * island, 0.5 + c.u(-0.5, 0.5) * island, 0.035)
    elif centre == "paved":
        c.disc(0.5, 0.5, island * 0.45, (118, 140, 150))
    cars = 0
    busy = c.u(0.0, 0.7)
    for slot in range(7):
        if not c.chance(busy):
            continue
        a, r = (slot + c.u(0.25, 0.75)) * 2 * math.pi / 7, outer - lane * 0.5
        c.car(
            0.5 + r * math.cos(a),
            0.5 + r * math.sin(a),
            c.pick(CARS),
            length=0.062,
            angle=a + math.pi / 2,
        )
        cars += 1
    return {"arms": arms, "island": centre, "surroundings": setting, "cars": cars}
