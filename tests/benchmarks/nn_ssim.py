"""NN-SSIM of a distilled set: ours, against reading and comparing pair by pair from disk.

Theirs is the published definition done plainly: for each distilled image and each training image
of its class both files are opened, and torchmetrics' SSIM (the same constants and borders) is
asked for the one pair. At the larger sizes it runs on the first distilled images of each class and
its time is scaled to all of them; the note says so.
"""

from __future__ import annotations

from itertools import groupby
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torchmetrics.functional.image import structural_similarity_index_measure

from dpd_core.dataset.images import open_rgb, to_square
from dpd_core.evaluate import metrics
from tests.benchmarks.harness import Cost, Options, Row, interleaved, scratch, timed

SIZES = {"toy": (3, 2, 6, 2), "small": (21, 5, 20, 1), "full": (21, 20, 70, 1)}
"""Classes, distilled and real images of each, and distilled images of each that theirs does."""
SIDE = 64


def run(options: Options) -> list[Row]:
    """One row. Mirrored images of UC Merced stand for the distilled ones: the time is the same."""
    with scratch() as folder:
        return [_row(options, folder)]


def _row(options: Options, folder: Path) -> Row:
    classes, distilled, real, done = SIZES[options.size]
    folders = sorted((options.data / "UCMerced_LandUse").iterdir())[:classes]
    files = {folder.name: sorted(folder.glob("*.jpg")) for folder in folders}
    references = [(name, file) for name, found in files.items() for file in found[:real]]
    queries = [
        (name, _mirrored(file, folder / f"{name}-{file.stem}.png"))
        for name, found in files.items()
        for file in found[:distilled]
    ]
    part = [
        pair
        for _, group in groupby(queries, key=lambda pair: pair[0])
        for pair in list(group)[:done]
    ]
    found: dict[str, dict[Path, float]] = {}

    def ours() -> Cost:
        return timed(lambda: found.update(ours=_ours(queries, references)))

    def theirs() -> Cost:
        wall, cpu = timed(lambda: found.update(theirs=_pair_by_pair(part, references)))
        return Cost(wall * len(queries) / len(part), cpu * len(queries) / len(part))

    result = interleaved(ours, theirs, options.repeats)
    difference = max(abs(found["ours"][file] - value) for file, value in found["theirs"].items())
    assert difference < 1e-4, f"the numbers differ by {difference}"
    note = f"largest difference {difference:.0e}"
    if len(part) < len(queries):
        note += f"; theirs measured on {len(part)} of {len(queries)} and scaled"
    sizes = f"{len(queries)} × {len(references)} images in {classes} classes, {SIDE} px"
    return Row("NN-SSIM, files to numbers", *result, "≥ 50×", sizes, note=note)


def _ours(queries: list, references: list) -> dict[Path, float]:
    names = sorted({name for name, _ in references})
    arrays = []
    for group in (queries, references):
        pixels = np.stack([_read(file) for _, file in group])
        arrays += [pixels, np.array([names.index(name) for name, _ in group])]
    nearest = metrics.collect_nearest(metrics.nn_ssim(*arrays))
    return {file: float(nearest.top_mean[row]) for row, (_, file) in enumerate(queries)}


def _pair_by_pair(queries: list, references: list) -> dict[Path, float]:
    found = {}
    for name, file in queries:
        values = []
        for other_name, other in references:
            if other_name == name:
                pair = [
                    torch.from_numpy(_read(path).copy()).permute(2, 0, 1)[None] / 255
                    for path in (file, other)
                ]
                values.append(float(structural_similarity_index_measure(*pair, data_range=1.0)))
        found[file] = float(np.mean(sorted(values)[-metrics.NN_SSIM_TOP :]))
    return found


def _mirrored(file: Path, target: Path) -> Path:
    Image.fromarray(_read(file)[:, ::-1]).save(target)
    return target


def _read(file: Path) -> np.ndarray:
    return np.asarray(to_square(open_rgb(file), SIDE), dtype=np.uint8)
