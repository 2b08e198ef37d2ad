"""LoRA training at Stable-Diffusion-1.5 size, 256 px: ours, against the diffusers example script.

As :mod:`tests.benchmarks.lora`, with a model of random weights, which take as long as trained ones;
its files take 4.3 GB of disk while it runs.
"""

from __future__ import annotations

import torch

from tests.benchmarks.harness import Options, Row, scratch
from tests.benchmarks.lora import compare, write_images
from tests.support.models import STABLE_DIFFUSION_1, save_model

SIZES = {"toy": (3, 2), "small": (5, 4), "full": (12, 16)}
"""Steps, the first two of which do not count, and images."""
SIDE = 256


def run(options: Options) -> list[Row]:
    """One row."""
    steps, images = SIZES[options.size]
    with scratch() as folder:
        write_images(options.data / "UCMerced_LandUse", folder / "images", images)
        model = save_model(folder / "model", dtype=torch.float32, sizes=STABLE_DIFFUSION_1)
        settings = {
            "model": str(model),
            "image_size": SIDE,
            "steps": steps,
            "batch_size": 1,
            "consistency_weight": 0.0,
        }
        goal = "≥ 1.5×, peak memory no higher"
        return [compare(options, folder, model, settings, images, goal)]
