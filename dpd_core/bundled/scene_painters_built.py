"""Painters for residential and industrial scenes.

Each painter draws one scene on the canvas and returns its attributes: plain facts that
the caption is made from.
"""

from __future__ import annotations

import math

from .scene_canvas import ROOFS, WHITE, Canvas, Colour, Point, mix, shade

Attributes = dict[str, str | int | float]


def dense_residential(c: Canvas) -> Attributes:
    """Rows of closely packed houses along parallel streets."""
    c.ground(
        shade(mix(c.ground_colour("grass"), (120, 116, 104), 0.4), 0.8),
        mix(c.ground_colour("grass"), (120, 116, 104), 0.4),
    )
    word = c.turn_randomly()
    roof = c.pick(tuple(ROOFS))
    road = c.asphalt()
    pitch = c.u(0.33, 0.42)
    start = 0.5 + pitch * c.pick((0.0, 0.5)) - 3 * pitch + c.u(-0.05, 0.05)
    spacing = c.u(0.105, 0.15)
    cross = c.u(0.2, 0.8) if c.chance(0.45) else 9.0
    houses = 0
    for k in range(7):
        y = start + k * pitch
        if not -0.45 < y < 1.45:
            continue
        c.block(0.5, y, 1.9, 0.065, road)
        for side in (-1, 1):
            row = y + side * pitch * 0.27
            x = -0.3 + c.u(0, spacing)
            while x < 1.3:
                if abs(x - cross) > 0.09 and c.visible(x, row, -0.08):
                    c.house(
                        x,
                        row + c.u(-0.01, 0.01),
                        spacing * c.u(0.68, 0.84),
                        pitch * c.u(0.26, 0.32),
                        c.vary(c.pick(ROOFS[roof]), 7),
                        height=0.022,
                    )
                    houses += c.visible(x, row)
                x += spacing
        for x in range(6):
            if c.chance(0.6):
                c.tree(x * 0.24 + c.u(-0.2, 0.2), y + pitch * 0.5, c.u(0.02, 0.03))
    if cross < 1:
        c.block(cross, 0.5, 0.065, 1.9, road)
    cars = c.traffic([start + k * pitch + 0.015 for k in range(7)], 0.12, length=0.034)
    return {
        "houses": houses,
        "roofs": roof,
        "orientation": word,
        "cars": cars,
        "crossing": "yes" if cross < 1 else "no",
    }


def industrial_area(c: Canvas) -> Attributes:
    """Large flat-roofed halls on paved ground with trucks and access roads."""
    paved = c.vary((142, 140, 136), 10)
    c.ground(shade(paved, 0.92), shade(paved, 1.05))
    word = c.turn_randomly()
    road = c.asphalt()
    c.block(0.5, 0.05, 1.9, 0.11, shade(road, 0.92))
    c.dashes((-0.3, 0.05), (1.3, 0.05), 0.008, WHITE, period=0.1, alpha=0.7)
    if c.chance(0.5):
        c.block(0.5, 1.06, 1.9, 0.2, c.ground_colour("grass"))
    palette: dict[str, Colour] = {
        "white": (216, 218, 216),
        "light grey": (182, 184, 186),
        "blue": (96, 130, 168),
        "rust red": (158, 100, 82),
    }
    main = c.pick(tuple(palette), (3, 3, 2, 1.5))
    layouts: tuple[list[tuple[float, float, float, float]], ...] = (
        [(0.5, 0.5, 0.68, 0.46)],
        [(0.5, 0.3, 0.72, 0.28), (0.5, 0.7, 0.72, 0.3)],
        [(0.28, 0.46, 0.32, 0.6), (0.7, 0.3, 0.36, 0.28), (0.7, 0.7, 0.36, 0.3)],
        [
            (0.28, 0.3, 0.34, 0.28),
            (0.72, 0.3, 0.34, 0.28),
            (0.28, 0.72, 0.34, 0.3),
            (0.72, 0.72, 0.34, 0.3),
        ],
        [(0.22, 0.5, 0.2, 0.66), (0.5, 0.5, 0.2, 0.66), (0.78, 0.5, 0.2, 0.66)],
        [
            (0.2, 0.32, 0.22, 0.26),
            (0.5, 0.32, 0.24, 0.26),
            (0.8, 0.32, 0.22, 0.26),
            (0.3, 0.72, 0.42, 0.3),
            (0.77, 0.72, 0.3, 0.3),
        ],
        [
            (0.36, 0.28, 0.5, 0.2),
            (0.36, 0.53, 0.5, 0.2),
            (0.36, 0.78, 0.5, 0.2),
            (0.8, 0.5, 0.22, 0.6),
        ],
    )
    halls = c.pick(layouts, (2, 2.5, 3, 2.5, 1.5, 1.5, 1.5))
    for x, y, w, h in halls:
        colour = c.vary(palette[main] if c.chance(0.75) else c.pick(tuple(palette.values())), 6)
        x, y = x + c.u(-0.015, 0.015), y + c.u(-0.015, 0.015)
        w, h = w * c.u(0.88, 1.0), h * c.u(0.88, 1.0)
        c.block(x, y, w, h, colour, shadow=0.055)
        if c.chance(0.5):
            c.block(x, y - h / 4, w, h / 2, shade(colour, 0.92))
        else:
            for k in range(int(w / 0.1)):
                c.block(x - w / 2 + 0.05 + k * 0.1, y, 0.03, h, shade(colour, 0.92))
        for _ in range(c.n(1, 5)):
            c.block(
                x + w * c.u(-0.35, 0.35),
                y + h * c.u(-0.35, 0.35),
                0.035,
                0.035,
                shade(colour, 1.12 if c.chance(0.4) else 0.7),
                shadow=0.01,
            )
    trucks = 0
    busy = c.u(0.0, 0.7)
    for k in range(7):
        if not c.chance(busy):
            continue
        tx, lane = 0.08 + 0.14 * k + c.u(-0.02, 0.02), c.pick((0.024, 0.077, 0.93))
        c.block(
            tx, lane, 0.09, 0.034, c.pick((WHITE, (200, 198, 190), (96, 116, 150))), shadow=0.012
        )
        trucks += c.visible(tx, lane, 0.01)
    return {"halls": len(halls), "roof": main, "orientation": word, "trucks": trucks}


def sparse_residential(c: Canvas) -> Attributes:
    """A few detached houses with gardens, driveways and trees."""
    c.grass("grass", 0.2)
    side = c.turn_to_side(12)
    road, roof = c.asphalt(), c.pick(("red", "grey", "brown"))
    lane = c.u(0.08, 0.16)
    c.block(0.5, lane, 1.9, 0.085, road)
    houses = c.n(1, 4)
    spots: list[Point] = {
        1: [(0.5, 0.56)],
        2: [(0.28, 0.5), (0.72, 0.58)],
        3: [(0.22, 0.42), (0.52, 0.74), (0.78, 0.42)],
        4: [(0.25, 0.38), (0.74, 0.38), (0.27, 0.78), (0.73, 0.78)],
    }[houses]
    size = {1: 0.25, 2: 0.21, 3: 0.175, 4: 0.165}[houses]
    lot = c.u(0.13, 0.17) if houses > 2 else 0.2
    for _ in range(c.n(12, 34)):
        x, y = c.u(-0.05, 1.05), c.u(lane + 0.1, 1.1)
        if all(math.hypot(x - hx, y - hy) > lot for hx, hy in spots):
            c.tree(x, y, c.u(0.03, 0.06))
    pool = c.chance(0.35)
    for k, (x, y) in enumerate(spots):
        x, y = x + c.u(-0.025, 0.025), y + c.u(-0.025, 0.025)
        drive = x + size * 0.3
        c.stroke([(drive, lane), (drive, y)], 0.036, shade(road, 1.15))
        colour, angle = c.vary(c.pick(ROOFS[roof]), 6), c.u(-0.15, 0.15)
        c.house(x, y, size, size * 0.62, colour, angle, 0.04)
        if c.chance(0.6):
            c.house(
                x + size * 0.26,
                y + size * 0.3,
                size * 0.42,
                size * 0.6,
                shade(colour, 0.97),
                angle,
                0.03,
            )
        if pool and k == 0:
            c.block(x - size * 0.55, y + size * 0.62, 0.14, 0.09, (206, 202, 192), angle=angle)
            c.block(x - size * 0.55, y + size * 0.62, 0.11, 0.062, (84, 176, 190), angle=angle)
    return {"houses": houses, "roofs": roof, "road_side": side, "pool": "yes" if pool else "no"}


def storage_tanks(c: Canvas) -> Attributes:
    """Cylindrical tanks in a regular group, with roofs, shadows and pipes."""
    ground_name = c.pick(("gravel", "bare soil", "concrete", "grass"), (2, 2, 2, 1.2))
    grounds: dict[str, Colour] = {
        "gravel": (146, 138, 126),
        "bare soil": c.ground_colour("soil"),
        "concrete": (162, 160, 156),
        "grass": c.ground_colour("grass"),
    }
    ground = c.vary(grounds[ground_name], 5)
    c.ground(shade(ground, 0.9), shade(ground, 1.06))
    c.turn(math.radians(c.pick((0, 90, 45)) + c.u(-12, 12)))
    columns, rows = c.pick(((2, 1), (2, 2), (3, 2), (3, 3), (3, 1), (4, 3)), (2, 3, 3, 2, 1.5, 1))
    cell = min(0.88 / columns, 0.8 / rows, 0.42)
    colour_name = c.pick(("white", "light grey", "rust brown"), (4, 2, 1.2))
    paint = {"white": (226, 228, 226), "light grey": (184, 188, 190), "rust brown": (154, 106, 82)}[
        colour_name
    ]
    floating = c.chance(0.45)
    berm = c.chance(0.5)
    sx, sy = c.sun
    spots = [
        (0.5 + (i - (columns - 1) / 2) * cell, 0.5 + (j - (rows - 1) / 2) * cell)
        for i in range(columns)
        for j in range(rows)
    ]
    for x, y in spots if berm else ():
        c.block(x, y, cell * 0.97, cell * 0.97, shade(ground, 1.14))
        c.block(x, y, cell * 0.89, cell * 0.89, shade(ground, 0.95))
    for j in range(rows):
        y = 0.5 + (j - (rows - 1) / 2) * cell + cell * 0.46
        c.block(0.5, y, 1.9, 0.014, (196, 194, 188), shadow=0.008)
    radius = cell * c.u(0.34, 0.4)
    for x, y in spots:
        tone, r = c.vary(paint, 5), radius * c.u(0.9, 1.0)
        for part in (0.25, 0.5):
            c.disc(x, y, r, (18, 24, 34), 0.3, (sx * r * part, sy * r * part))
        c.disc(x, y, r, shade(tone, 0.78))
        c.disc(x, y, r * 0.93, tone)
        if floating:
            c.disc(x, y, r * 0.84, shade(tone, 0.6))
            c.disc(x, y, r * 0.78, shade(tone, 0.86), 1.0, (sx * r * 0.06, sy * r * 0.06))
        else:
            c.disc(x, y, r * 0.6, shade(tone, 1.07), 1.0, (-sx * r * 0.18, -sy * r * 0.18))
            c.disc(x, y, r * 0.13, shade(tone, 0.72))
    return {
        "count": len(spots),
        "colour": colour_name,
        "ground": ground_name,
        "roof": "floating" if floating else "domed",
        "columns": columns,
        "rows": rows,
    }
