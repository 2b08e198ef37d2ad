"""Ways to spoil a file: cut it, flip its bits, and put the wrong thing at any place of a JSON."""

from __future__ import annotations

import copy
import json
import random
from collections.abc import Iterator
from typing import Any

HOSTILE: dict[str, Any] = {
    "null": None,
    "true": True,
    "minus one": -1,
    "a huge number": 10**30,
    "a float": 0.5,
    "an empty text": "",
    "a text": "x",
    "a path out": "../../../etc/passwd",
    "a NUL": "a\0b",
    "markup": "<img src=x onerror=alert(1)>",
    "a list": [],
    "an object": {},
    "lists": [[[]]],
    "a long text": "x" * 5000,
    "a lone surrogate": "\ud800",
}
"""Values that a reader may meet where it expects another."""

TEXTS = {
    "nothing": b"",
    "not JSON": b"{",
    "a list": b"[]",
    "a number": b"7",
    "null": b"null",
    "deep nesting": b"[" * 100_000,
    "a number too long": b'{"a": ' + b"9" * 10_000 + b"}",
    "not UTF-8": b"\xff\xfe{}",
    "NaN": b'{"a": NaN}',
    "a pickle": b"\x80\x04\x95\x0b\x00\x00\x00"
    b"\x00\x00\x00\x00\x8c\x02os\x94\x8c\x06system\x94\x93\x94.",
    "zeros": bytes(1000),
}
"""Whole contents in place of a JSON file."""


def spoilt_json(value: Any, count: int, seed: int = 0) -> Iterator[tuple[str, bytes]]:
    """``count`` spoilt versions of a JSON value, with what was done: all of :data:`TEXTS`, then
    a member taken out, or a hostile value put at some place."""
    for name, content in TEXTS.items():
        yield name, content
    draw = random.Random(seed)
    places = list(_places(value))
    ways = [(place, None) for place in places] + [
        (place, name) for place in places for name in HOSTILE
    ]
    # Each kind of place comes first once: lists of a hundred alike would hide the rest.
    draw.shuffle(ways)
    seen: set[Any] = set()
    order = sorted(ways, key=lambda way: _first(way, seen))
    for place, name in order[: max(count - len(TEXTS), 0)]:
        changed = copy.deepcopy(value)
        parent = changed
        for key in place[:-1]:
            parent = parent[key]
        where = "/".join(map(str, place))
        if name is None:
            del parent[place[-1]]
            yield f"{where} left out", json.dumps(changed).encode()
        else:
            parent[place[-1]] = HOSTILE[name]
            yield f"{where}: {name}", json.dumps(changed).encode()


def _first(way: tuple[tuple[Any, ...], str | None], seen: set[Any]) -> bool:
    kind = (tuple(key if isinstance(key, str) else 0 for key in way[0]), way[1])
    known = kind in seen
    seen.add(kind)
    return known


def _places(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    members = (
        value.items()
        if isinstance(value, dict)
        else enumerate(value[:3])
        if isinstance(value, list)
        else ()
    )
    for key, member in members:
        yield (*path, key)
        yield from _places(member, (*path, key))


def spoilt_bytes(content: bytes, count: int, seed: int = 0) -> Iterator[tuple[str, bytes]]:
    """``count`` spoilt versions of any file: half cut off, half with flipped bits."""
    draw = random.Random(seed)
    for number in range(count):
        if number % 2:
            length = draw.randrange(len(content))
            yield f"cut after {length} bytes", content[:length]
            continue
        changed = bytearray(content)
        # Most flips near the start, where the structure of a file is.
        places = [
            draw.randrange(min(len(content), 400 if draw.random() < 0.7 else len(content)))
            for _ in range(draw.choice((1, 1, 3, 20)))
        ]
        for place in places:
            changed[place] ^= 1 << draw.randrange(8)
        yield f"{len(places)} bits flipped from byte {min(places)}", bytes(changed)
