"""The painter function of every scene class, by class name."""

from __future__ import annotations

from collections.abc import Callable

from . import scene_painters_built as built
from . import scene_painters_land as land
from . import scene_painters_transport as transport
from .scene_canvas import Canvas

Painter = Callable[[Canvas], dict[str, str | int | float]]

PAINTERS: dict[str, Painter] = {
    "airplane": transport.airplane,
    "baseball diamond": land.baseball_diamond,
    "beach": land.beach,
    "circular fields": land.circular_fields,
    "dense residential": built.dense_residential,
    "farmland": land.farmland,
    "forest": land.forest,
    "freeway": transport.freeway,
    "golf course": land.golf_course,
    "harbor": transport.harbor,
    "industrial area": built.industrial_area,
    "intersection": transport.intersection,
    "lake": land.lake,
    "parking lot": transport.parking_lot,
    "railway": transport.railway,
    "river": land.river,
    "roundabout": transport.roundabout,
    "sparse residential": built.sparse_residential,
    "storage tanks": built.storage_tanks,
    "tennis court": land.tennis_court,
}
