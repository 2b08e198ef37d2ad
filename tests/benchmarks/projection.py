"""The UMAP map of 10,000 latents in a cold process: ours, against umap-learn as it is.

Each side is a process of its own, timed from start to exit, so importing and compiling count. All
make a seeded map (one that comes out the same twice); umap-learn without a seed, which lays out
faster on several threads, is a row of its own. "Later" is ours again, with the map on disk.
"""

from __future__ import annotations

import numpy as np

from dpd_core.config import ProjectConfig
from dpd_core.project import Project
from tests.benchmarks.harness import Cost, Options, Row, child, interleaved, scratch

SIZES = {"toy": 300, "small": 2_000, "full": 10_000}
WIDTH = 256

_OURS = """
import sys, numpy as np
from dpd_core.project import Project
from dpd_core.projection import write_map
vectors = np.load(sys.argv[2])
ids = [str(row) for row in range(len(vectors))]
write_map(Project.open(sys.argv[1]), ids, vectors, neighbors=15, min_dist=0.1, seed=0)
"""

_THEIRS = """
import sys, numpy as np, umap
seed = int(sys.argv[3]) if sys.argv[3] else None
vectors = np.load(sys.argv[2])
umap.UMAP(n_neighbors=15, min_dist=0.1, random_state=seed).fit_transform(vectors)
"""


def run(options: Options) -> list[Row]:
    """Three rows."""
    count = SIZES[options.size]
    with scratch() as folder:
        file, root = folder / "vectors.npy", folder / "project"
        np.save(file, _vectors(count))
        project = Project.create(root, config=ProjectConfig())

        def ours() -> Cost:
            project.path("prototypes", "map.json").unlink(missing_ok=True)
            return later()

        def later() -> Cost:
            return child(["-c", _OURS, root, file]).cost

        def theirs(seed: str) -> Cost:
            return child(["-c", _THEIRS, root, file, seed]).cost

        sizes = f"{count} × {WIDTH}"
        cold = interleaved(ours, lambda: theirs("0"), options.repeats)
        free = interleaved(ours, lambda: theirs(""), options.repeats)
        again = sorted(later() for _ in range(3))[1]
    rows = [
        Row("map, cold process, seeded", *cold, "≥ 3×", sizes),
        Row(
            "map, cold process, theirs unseeded",
            *free,
            "",
            sizes,
            note="theirs differs from run to run, ours does not",
        ),
        Row(
            "map, cold process, later",
            again.wall,
            cold[1],
            cold[1] / again.wall,
            None,
            "instant",
            sizes,
            note="found on disk; the rest is starting Python",
        ),
    ]
    return rows


def _vectors(count: int) -> np.ndarray:
    """Unit vectors around 45 centres, float32 (count, WIDTH)."""
    draws = np.random.default_rng(0)
    centres = draws.normal(size=(45, WIDTH))
    vectors = centres[draws.integers(0, 45, count)] + draws.normal(size=(count, WIDTH))
    return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)
