"""The recipe of the bundled models: how long and with which settings each part is trained."""

from __future__ import annotations

import os
from dataclasses import dataclass

from dpd_core.bundled.training_loop import LoopRecipe
from dpd_core.hardware import Hardware

STAGES = ("autoencoder", "text-to-image", "captioner", "measure")
MINUTES_SHARES = {"autoencoder": 0.3, "text-to-image": 0.6, "captioner": 0.1}
"""How the time is shared where all are trained."""


@dataclass(frozen=True)
class Recipe:
    """Everything that decides the weights, besides the images and the weights begun with.

    Attributes:
        autoencoder, text_to_image, captioner: How each is trained.
        pool, fresh, every: Size of the pool of encoded images, how many are made anew a step, and
            after how many steps.
        aligned: Share of the training of a new text-to-image model with feature alignment.
        workers: Processes that describe images.
        described: Images that the captioner learns from.
        held_out: Images that the held-out loss is measured on.
    """

    autoencoder: LoopRecipe
    text_to_image: LoopRecipe
    captioner: LoopRecipe
    pool: int
    fresh: int
    every: int = 1
    aligned: float = 0.4
    workers: int = 0
    described: int = 12_000
    held_out: int = 256


def recipe_for(hardware: Hardware, minutes: dict[str, float]) -> Recipe:
    """The recipe for a device and the minutes of each part."""
    if hardware.device.type == "cuda":
        return Recipe(
            autoencoder=LoopRecipe(
                minutes=minutes["autoencoder"],
                batch_size=512,
                learning_rate=2e-3,
                warmup=200,
                checkpoint_seconds=60,
            ),
            text_to_image=LoopRecipe(
                minutes=minutes["text-to-image"],
                batch_size=1024,
                learning_rate=1.5e-3,
                warmup=400,
                ema_decay=0.9995,
                checkpoint_seconds=120,
            ),
            captioner=LoopRecipe(
                minutes=minutes["captioner"],
                batch_size=256,
                learning_rate=1e-3,
                warmup=200,
                checkpoint_seconds=60,
            ),
            pool=120_000,
            fresh=96,
            every=16,
            workers=max((os.cpu_count() or 2) - 2, 1),
            described=60_000,
            held_out=1024,
        )
    return Recipe(
        autoencoder=LoopRecipe(
            minutes=minutes["autoencoder"],
            batch_size=32,
            learning_rate=8e-4,
            warmup=50,
            ema_decay=0.995,
        ),
        text_to_image=LoopRecipe(
            minutes=minutes["text-to-image"],
            batch_size=24,
            learning_rate=4e-4,
            warmup=100,
            ema_decay=0.998,
        ),
        captioner=LoopRecipe(
            minutes=minutes["captioner"],
            batch_size=48,
            learning_rate=8e-4,
            warmup=100,
            ema_decay=0.997,
        ),
        pool=3072,
        fresh=6,
    )
