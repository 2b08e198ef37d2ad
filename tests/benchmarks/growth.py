"""Growth: encoding, clustering and map of more and more EuroSAT images.

Each number of images is a project of its own; each step runs in a process of its own through the
project's files, so its peak memory is its own, and so is the time of importing and compiling, which
is told apart as ``start``: the same step with its result found on disk.
"""

from __future__ import annotations

import json

from tests.benchmarks.harness import Child, Options, Row, child, scratch

SIZES = {"toy": (100, 200), "small": (1_000, 3_000), "full": (1_000, 3_000, 10_000, 25_500)}
CLASSES = 10

_STEPS = {
    "encode": """
from dpd_core.latents import latents_for
latents_for(project)
""",
    "cluster": """
from dpd_core.latents import latents_for
from dpd_core.dataset import load_index
from dpd_core.prototype_clusterer import PrototypeClusterer
latents = latents_for(project)
names = {record.id: record.class_name for record in load_index(project).images}
started = time.perf_counter()
PrototypeClusterer(seed=0).fit(latents.mean, [names[one] for one in latents.ids])
""",
    "map": """
from dpd_core.latents import latents_for
from dpd_core.projection import write_map
from dpd_core.prototype_clusterer import pooled_vectors
latents = latents_for(project)
vectors = pooled_vectors(latents.mean, 8)
started = time.perf_counter()
write_map(project, latents.ids, vectors, neighbors=15, min_dist=0.1, seed=0)
""",
}
_BEGIN = """
import json, sys, time
import torch, dpd_core.backbone, diffusers
from dpd_core.project import Project
project = Project.open(sys.argv[1])
started = time.perf_counter()
"""
_END = """
print(json.dumps(time.perf_counter() - started))
"""


def run(options: Options) -> list[Row]:
    """A row for each step and number of images; theirs is the step's time at the smallest number,
    scaled in proportion."""
    rows: list[Row] = []
    first: dict[str, float] = {}
    counts = SIZES[options.size]
    for count in counts:
        with scratch() as folder:
            most = str(-(-count // CLASSES))
            made = child(
                [
                    "-m",
                    "dpd_core",
                    "dataset",
                    "--project",
                    folder / "p",
                    "--data",
                    options.data / "EuroSAT_RGB",
                    "--max-per-class",
                    most,
                    "--test-fraction",
                    "0",
                    "--json",
                    "--quiet",
                ]
            )
            images = json.loads(made.output)["results"]["dataset"]["train"]
            rows.append(_row("index", images, made, made.cost.wall, first, counts[0]))
            for name, code in _STEPS.items():
                done = child(["-c", _BEGIN + code + _END, folder / "p"])
                rows.append(_row(name, images, done, done.answer, first, counts[0]))
    return rows


def _row(
    name: str, images: int, done: Child, seconds: float, first: dict[str, float], smallest: int
) -> Row:
    in_proportion = first.setdefault(name, seconds) * images / smallest
    return Row(
        f"{name}, {images} images",
        seconds,
        in_proportion,
        in_proportion / seconds,
        None,
        "near-linear, bounded memory",
        f"EuroSAT, {CLASSES} classes, 64 px",
        note=f"peak memory {done.peak_mb} MB; theirs: {smallest} images scaled",
    )
