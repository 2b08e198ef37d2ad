"""What the consistency loss adds to a training step: the same step with and without it, in turn."""

from __future__ import annotations

import statistics
from pathlib import Path

from tests.benchmarks.harness import Cost, Options, Row, scratch, timed
from tests.benchmarks.lora import write_images
from tests.benchmarks.run_trainer import make_trainer

SIZES = {"toy": ((2,), 2), "small": ((8, 32), 6), "full": ((8, 32), 20)}
"""Batch sizes, and steps of each kind."""


def run(options: Options) -> list[Row]:
    """A row for each batch size; ours is the step with the loss, theirs the one without."""
    batches, steps = SIZES[options.size]
    with scratch() as folder:
        write_images(options.data / "UCMerced_LandUse", folder / "images", max(batches) * 2)
        return [_row(folder, batch, steps) for batch in batches]


def _row(folder: Path, batch: int, steps: int) -> Row:
    settings = {"model": "bundled", "image_size": 0, "steps": steps, "batch_size": batch}
    trainer, _ = make_trainer(folder / "images", settings, folder)
    kinds = {"with": trainer.config, "without": trainer.config.replace(consistency_weight=0.0)}
    costs: dict[str, list[Cost]] = {kind: [] for kind in kinds}
    for number in range(steps + 1):
        for kind, config in kinds.items():
            trainer.config = config
            # The same draws for both kinds.
            costs[kind].append(timed(lambda number=number: trainer.step(number)))
    pairs = list(zip(costs["with"][1:], costs["without"][1:], strict=True))
    ours, theirs = (
        statistics.median(cost.wall for cost in side) for side in zip(*pairs, strict=True)
    )
    ratios = [statistics.median(b[kind] / a[kind] for a, b in pairs) for kind in (0, 1)]
    note = f"adds {1 / ratios[0] - 1:.1%}, by processor time {1 / ratios[1] - 1:.1%}"
    return Row(
        f"consistency loss, batch {batch}",
        ours,
        theirs,
        *ratios,
        "≤ 20 % more",
        f"{steps} steps of each kind, 64 px",
        "s a step",
        note,
    )
