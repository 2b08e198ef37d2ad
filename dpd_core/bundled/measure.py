"""Measured quality of the bundled models, on images none of them was trained on."""

from __future__ import annotations

import logging
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from dpd_core.bundled.corpus import load_split

log = logging.getLogger(__name__)

JUDGE_STEPS = 600
SAMPLING_STEPS = 20
GUIDANCE_SCALES = (2.0, 4.0, 7.0)
COLLECTIONS = ("scenes", "eurosat")


def named_class(caption: str, class_names: Sequence[str]) -> str | None:
    """Return the class a caption names: the first to appear, the longest where two start."""
    found = []
    for name in class_names:
        match = re.search(rf"\b{re.escape(name)}", caption.lower())
        if match:
            found.append((match.start(), -len(name), name))
    return min(found)[2] if found else None


def measure_vae(work: Path, vae: Any) -> dict[str, float]:
    """Return the mean and the 5th percentile of the PSNR in dB on each held-out collection."""
    import numpy as np

    from dpd_core.models.autoencoder import psnr_per_image

    metrics: dict[str, float] = {}
    for collection in COLLECTIONS:
        values = psnr_per_image(vae, load_split(work, f"{collection}-test").images)
        metrics[f"{collection}_psnr_db"] = round(float(values.mean()), 2)
        metrics[f"{collection}_psnr_db_5th_percentile"] = round(float(np.percentile(values, 5)), 2)
    return metrics


def sample_classes(
    pipeline: Any, class_names: Sequence[str], *, per_class: int, guidance: float, seed: int
) -> Any:
    """Return images (classes * per_class, 64, 64, 3) uint8 of "a satellite image of …"."""
    import numpy as np
    import torch

    pipeline.set_progress_bar_config(disable=True)
    images = []
    for index, name in enumerate(class_names):
        with torch.autocast("cpu", dtype=torch.bfloat16):
            result = pipeline(
                f"a satellite image of {name}",
                height=64,
                width=64,
                num_images_per_prompt=per_class,
                num_inference_steps=SAMPLING_STEPS,
                guidance_scale=guidance,
                generator=torch.Generator().manual_seed(seed + index),
                output_type="np",
            )
        images.append((result.images * 255).round().astype(np.uint8))
    return np.concatenate(images)


def measure_base(
    work: Path,
    pipeline: Any,
    *,
    per_class: int = 16,
    scales: Sequence[float] = GUIDANCE_SCALES,
    seed: int = 0,
) -> dict[str, Any]:
    """Return how often a classifier of real images names the class of a sampled image.

    The classifier is trained from scratch on the real training images of one collection;
    its accuracy on real held-out images stands beside the result.
    """
    import numpy as np
    import torch

    from dpd_core.hardware import Hardware
    from dpd_core.students.training import predict, train_student

    hardware = Hardware(torch.device("cpu"), torch.bfloat16, "measured on the CPU")
    metrics: dict[str, Any] = {"sampling_steps": SAMPLING_STEPS, "images_per_class": per_class}
    shares: dict[float, list[float]] = {scale: [] for scale in scales}
    for collection in COLLECTIONS:
        train = load_split(work, f"{collection}-train")
        test = load_split(work, f"{collection}-test")
        judge = train_student(
            train.images,
            train.labels,
            len(train.class_names),
            steps=JUDGE_STEPS,
            batch_size=64,
            seed=seed,
            hardware=hardware,
        )
        real = float((predict(judge, test.images, hardware=hardware) == test.labels).mean())
        metrics[f"{collection}_classifier_real_accuracy"] = round(real, 4)
        wanted = np.repeat(np.arange(len(train.class_names)), per_class)
        for scale in scales:
            images = sample_classes(
                pipeline, train.class_names, per_class=per_class, guidance=scale, seed=seed
            )
            right = predict(judge, images, hardware=hardware) == wanted
            shares[scale].append(float(right.mean()))
            metrics[f"{collection}_sampled_accuracy_guidance_{scale:g}"] = round(
                float(right.mean()), 4
            )
            per_name = right.reshape(-1, per_class).mean(1)
            log.info(
                "%s, guidance %g: %.3f (real %.3f)  %s",
                collection,
                scale,
                right.mean(),
                real,
                {n: round(float(v), 2) for n, v in zip(train.class_names, per_name, strict=True)},
            )
    metrics["best_guidance_scale"] = max(scales, key=lambda scale: sum(shares[scale]))
    return metrics


def measure_captioner(work: Path, model: Any, processor: Any) -> dict[str, float]:
    """Return how often the caption of a held-out image names its class."""
    from dpd_core.bundled.captioner import caption_images

    metrics: dict[str, float] = {}
    for collection in COLLECTIONS:
        split = load_split(work, f"{collection}-test")
        captions = caption_images(model, processor, split.images)
        right = sum(
            named_class(caption, split.class_names) == split.class_names[label]
            for caption, label in zip(captions, split.labels, strict=True)
        )
        metrics[f"{collection}_class_named"] = round(right / len(captions), 4)
    return metrics


def measure_all(work: Path, assets: Path) -> dict[str, dict[str, Any]]:
    """Load the exported models as anyone would and return the numbers of each."""
    from diffusers import StableDiffusionPipeline
    from transformers import AutoProcessor, BlipForConditionalGeneration

    results: dict[str, dict[str, Any]] = {}
    if (assets / "base").exists():
        pipeline = StableDiffusionPipeline.from_pretrained(assets / "base")
        results["base"] = {
            **measure_vae(work, pipeline.vae),
            **measure_base(work, pipeline),
        }
    if (assets / "captioner").exists():
        model = BlipForConditionalGeneration.from_pretrained(assets / "captioner").eval()
        processor = AutoProcessor.from_pretrained(assets / "captioner")
        results["captioner"] = dict(measure_captioner(work, model, processor))
    return results
