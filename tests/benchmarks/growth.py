"""Growth: reading, encoding, clustering and mapping more and more images.

The images are EuroSAT's, each number of them a folder of its own; where there are not enough, crops
of them under other names follow, none the same as another. Each step runs in a process of its own
through the project's files, so its peak memory is its own. Told is processor time, which hardly
changes while the machine has other work; that of starting (``import``) is in it.
"""

from __future__ import annotations

import io
import itertools
import random
from pathlib import Path

from PIL import Image

from tests.benchmarks.harness import Options, Row, child, scratch

SIZES = {"toy": (100, 200), "small": (1_000, 3_000), "full": (2_000, 8_000, 20_000)}
FILES = ("index", "again", "open")
"""Steps that need no model."""

_WORK = {
    "index": "dpd_core dataset: each file read, decoded, indexed",
    "again": "the same once more, nothing changed",
    "open": "the index read, as each later stage does",
    "encode": "each image encoded by the bundled VAE",
    "cluster": "KMeans in each class",
    "map": "UMAP",
}
_BEGIN = """
import sys
from dpd_core.project import Project
project = Project.open(sys.argv[1])
"""
_CODE = {
    "open": """
from dpd_core.dataset.index import load_index
assert load_index(project).images
""",
    "encode": """
from dpd_core.models.latents import latents_for
latents_for(project)
""",
    "cluster": """
from dpd_core.dataset.index import load_index
from dpd_core.models.latents import latents_for
from dpd_core.prototypes.clusterer import PrototypeClusterer
latents = latents_for(project)
names = {record.id: record.class_name for record in load_index(project).images}
PrototypeClusterer(seed=0).fit(latents.mean, [names[one] for one in latents.ids])
""",
    "map": """
from dpd_core.models.latents import latents_for
from dpd_core.prototypes.clusterer import pooled_vectors
from dpd_core.prototypes.map import write_map
latents = latents_for(project)
vectors = pooled_vectors(latents.mean, 8)
write_map(project, latents.ids, vectors, neighbors=15, min_dist=0.1, seed=0)
""",
}


def run(options: Options, steps: tuple[str, ...] = tuple(_WORK)) -> list[Row]:
    """A row for each step and number of images; theirs is the step's time at the smallest number,
    scaled in proportion."""
    rows: list[Row] = []
    first: dict[str, float] = {}
    counts = SIZES[options.size]
    with scratch() as folder:
        for count in counts:
            data = folder / f"data-{count}"
            make_images(options.data / "EuroSAT_RGB", data, count)
            for name in steps:
                done = child(_words(name, folder / f"p-{count}", data))
                seconds = done.cost.cpu
                scaled = first.setdefault(name, seconds) * count / counts[0]
                rows.append(
                    Row(
                        f"{name}, {count:,} images",
                        seconds,
                        scaled,
                        scaled / seconds,
                        None,
                        "near-linear, bounded memory",
                        _WORK[name],
                        note=f"peak memory {done.peak_mb} MB; theirs: {counts[0]:,} images scaled",
                    )
                )
                print(rows[-1].work, f"{seconds:.1f} s, {done.peak_mb} MB", flush=True)
    return rows


def _words(name: str, project: Path, data: Path) -> list[str | Path]:
    if name in ("index", "again"):
        settings = ["--test-fraction", "0", "--quiet"]
        return ["-m", "dpd_core", "dataset", "--project", project, "--data", data, *settings]
    return ["-c", _BEGIN + _CODE[name], project]


def make_images(source: Path, folder: Path, count: int) -> None:
    """Fill a folder with ``count`` images in the classes of ``source``, in turn."""
    classes = {
        path.name: sorted(path.iterdir()) for path in sorted(source.iterdir()) if path.is_dir()
    }
    turns = itertools.cycle(classes.items())
    for number in range(count):
        name, files = next(turns)
        turn, place = divmod(number // len(classes), len(files))
        target = folder / name / f"{turn}-{files[place].name}"
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(_version(files[place], turn))


def _version(path: Path, turn: int) -> bytes:
    """The file itself, or a crop of it."""
    if turn == 0:
        return path.read_bytes()
    draw = random.Random(f"{path.name} {turn}")
    left, top, side = draw.randrange(8), draw.randrange(8), draw.randrange(48, 57)
    buffer = io.BytesIO()
    with Image.open(path) as image:
        crop = image.crop((left, top, left + side, top + side)).resize(image.size)
        crop.save(buffer, "JPEG", quality=95)
    return buffer.getvalue()
