"""LoRA training, samples a second: ours, against the diffusers example script.

Brought beside the project and never committed: the script ``train_text_to_image_lora.py``
(huggingface/diffusers, examples/text_to_image) and the folder ``torchvision`` of a torchvision
wheel, both in the folder given as ``--theirs``. Same model, images, texts, rank, targets, min-SNR
weighting and float32. Each side is a process of its own; the steps after the first two count.
"""

from __future__ import annotations

import itertools
import json
import shutil
import statistics
from pathlib import Path
from typing import Any

from dpd_core.models.files import BUNDLED
from tests.benchmarks.harness import Child, Cost, Options, Row, child, interleaved, scratch

SCRIPT = "train_text_to_image_lora.py"
SIZES = {"toy": ((2,), 4, 8), "small": ((8, 32), 8, 320), "full": ((8, 32), 22, 1_470)}
"""Batch sizes, steps, images."""
WARM_UP = 2


def run(options: Options) -> list[Row]:
    """A row for each batch size without the consistency loss, and one with it."""
    batches, steps, images = SIZES[options.size]
    rows = []
    with scratch() as folder:
        write_images(options.data / "UCMerced_LandUse", folder / "images", images)
        for batch in batches:
            settings = {"model": "bundled", "image_size": 0, "steps": steps, "batch_size": batch}
            for weight in (0.0, 0.1):
                given = {**settings, "consistency_weight": weight}
                rows.append(compare(options, folder, BUNDLED, given, images, "≥ 3×"))
    return rows


def compare(
    options: Options, folder: Path, model: Path, settings: dict[str, Any], images: int, goal: str
) -> Row:
    """Train by both in turn; folder has the images in ``images``."""
    batch, steps = settings["batch_size"], settings["steps"]
    side = settings["image_size"] or 64
    seen: dict[str, Child] = {}

    def ours() -> Cost:
        seen["ours"] = child(
            ["-m", "tests.benchmarks.run_trainer", folder / "images", json.dumps(settings)]
        )
        return _step(seen["ours"].answer["ends"])

    def theirs() -> Cost:
        seen["theirs"] = child(
            [
                "tests/benchmarks/run_example.py",
                options.theirs / SCRIPT,
                "--pretrained_model_name_or_path",
                model,
                "--train_data_dir",
                folder / "images",
                "--resolution",
                str(side),
                "--center_crop",
                "--train_batch_size",
                str(batch),
                "--max_train_steps",
                str(steps),
                "--rank",
                "4",
                "--snr_gamma",
                "5",
                "--seed",
                "0",
                "--checkpointing_steps",
                "1000000",
                "--output_dir",
                folder / "out",
                "--image_column",
                "image",
                "--caption_column",
                "text",
            ],
            HF_HUB_OFFLINE="1",
            HF_DATASETS_CACHE=str(folder / "cache"),
        )
        return _step(seen["theirs"].answer)

    own, other, *ratios = interleaved(ours, theirs, options.repeats)
    loss = "with the consistency loss" if settings["consistency_weight"] else "diffusion loss alone"
    encoding = seen["ours"].answer["encoding"]
    note = (
        f"encoding {images} images and their texts once: {encoding:.1f} s; peak memory "
        f"{seen['ours'].peak_mb} against {seen['theirs'].peak_mb} MB"
    )
    return Row(
        f"LoRA training, batch {batch}, {loss}",
        batch / own,
        batch / other,
        *ratios,
        goal,
        f"{steps - WARM_UP} steps × {options.repeats}, {side} px, rank 4",
        "samples/s",
        note,
    )


def write_images(source: Path, folder: Path, count: int) -> None:
    """An image folder with texts: images of all classes in turn."""
    folder.mkdir()
    classes = sorted(source.iterdir())
    files = [sorted(path.glob("*.jpg")) for path in classes]
    turns = [files[n % len(files)][n // len(files)] for n in range(count)]
    lines = []
    for file in turns:
        shutil.copyfile(file, folder / file.name)
        text = f"A satellite image of {file.parent.name}"
        lines.append(json.dumps({"file_name": file.name, "text": text}))
    (folder / "metadata.jsonl").write_text("\n".join(lines) + "\n")


def _step(ends: list[list[float]]) -> Cost:
    """What a step takes, the median; ``ends`` are its wall clock and processor time, in seconds."""
    kept = [Cost(*end) for end in ends[WARM_UP - 1 :]]
    pairs = list(itertools.pairwise(kept))
    return Cost(
        statistics.median(b.wall - a.wall for a, b in pairs),
        statistics.median(b.cpu - a.cpu for a, b in pairs),
    )
