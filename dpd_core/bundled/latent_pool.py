"""A pool of encoded training images with their prompts, of which a part is made anew each step.

Turned, cut and described images are too many to encode beforehand, and encoding and describing
each anew would take longer than training on it. So a step draws from a pool that lies on the
device, and some of the oldest are replaced meanwhile.
"""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import Executor, Future, ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context

import numpy as np
import torch
from diffusers import AutoencoderKL
from torch import Tensor
from transformers import CLIPTokenizer

from dpd_core.bundled.autoencoder import to_tensor
from dpd_core.bundled.crops import Crops, CropSampler
from dpd_core.bundled.prompts import tokenize, training_prompt
from dpd_core.hardware import Hardware
from dpd_core.students.features import EfficientNetLite0, resized

_PART = 64


@dataclass(frozen=True)
class Drawn:
    """A batch.

    Attributes:
        latents: Scaled, (n, c, h, w).
        ids: Token ids of the prompts, (n, 77).
        maps: Last maps of the feature network, (n, 320, 4, 4), where they are wanted.
    """

    latents: Tensor
    ids: Tensor
    maps: Tensor | None = None


class LatentPool:
    """Encoded crops with prompts; :meth:`draw` takes some and renews some.

    Args:
        sampler: Where the images come from.
        class_names: What their labels mean.
        vae, tokenizer: Encode images and prompts.
        capacity: Images in the pool.
        fresh: How many are made anew at each draw, on the average.
        every: Draws from one renewal to the next: each makes the device wait.
        seed: Of the first filling.
        network: Gives the maps to align with, or ``None``.
        workers: Processes that describe images; 0 does it here.
    """

    def __init__(
        self,
        sampler: CropSampler,
        class_names: Sequence[str],
        vae: AutoencoderKL,
        tokenizer: CLIPTokenizer,
        hardware: Hardware,
        *,
        capacity: int,
        fresh: int,
        seed: int,
        every: int = 1,
        network: EfficientNetLite0 | None = None,
        workers: int = 0,
    ):
        self._sampler, self._names, self._vae = sampler, list(class_names), vae
        self._tokenizer, self._hardware, self._network = tokenizer, hardware, network
        # Forked processes would inherit the device's context.
        self._workers: Executor | None = (
            ProcessPoolExecutor(workers, mp_context=get_context("spawn")) if workers else None
        )
        self._fresh, self._every, self._oldest, self._draws = fresh * every, every, 0, 0
        self._coming: tuple[Crops, list[Future[list[str]]]] | None = None
        rng, size = np.random.default_rng((seed, 1)), 1024
        parts = []
        # All are described by the processes while the first are encoded.
        ordered = [
            self._order(min(size, capacity - start), rng) for start in range(0, capacity, size)
        ]
        parts = [self._made(*order) for order in ordered]
        self._pool = Drawn(
            torch.cat([part.latents for part in parts]),
            torch.cat([part.ids for part in parts]),
            torch.cat([part.maps for part in parts]) if network is not None else None,  # type: ignore[misc]
        )

    def draw(self, count: int, rng: np.random.Generator) -> Drawn:
        """``count`` of the pool, after some of its oldest were replaced."""
        self._draws += 1
        if self._fresh and self._draws % self._every == 0:
            if self._coming is not None:
                self._replace(self._made(*self._coming))
            self._coming = self._order(self._fresh, rng)
        rows = torch.from_numpy(rng.integers(len(self._pool.latents), size=count))
        rows = rows.to(self._pool.latents.device)
        maps = self._pool.maps
        return Drawn(
            self._pool.latents[rows], self._pool.ids[rows], maps[rows] if maps is not None else None
        )

    def whole(self) -> Drawn:
        """All of it."""
        return self._pool

    def close(self) -> None:
        """End the processes."""
        if self._workers is not None:
            self._workers.shutdown(cancel_futures=True)

    def _order(self, count: int, rng: np.random.Generator) -> tuple[Crops, list[Future[list[str]]]]:
        crops = self._sampler.draw(count, rng)
        images = crops.images.permute(0, 2, 3, 1).cpu().numpy()
        names = [self._names[label] if label >= 0 else "" for label in crops.labels]
        seeds = rng.integers(2**62, size=count)
        futures = []
        for start in range(0, count, _PART):
            part = slice(start, start + _PART)
            wanted = (images[part], names[part], crops.metres[part], seeds[part])
            if self._workers is not None:
                futures.append(self._workers.submit(_prompts, *wanted))
            else:
                done: Future[list[str]] = Future()
                done.set_result(_prompts(*wanted))
                futures.append(done)
        return crops, futures

    @torch.no_grad()
    def _made(self, crops: Crops, futures: list[Future[list[str]]]) -> Drawn:
        device = self._hardware.device
        latents, maps = [], []
        for images in crops.images.split(512):
            batch = to_tensor(images)
            with self._hardware.autocast():
                mean = self._vae.encode(batch).latent_dist.mean
                if self._network is not None:
                    maps.append(self._network.maps(resized(batch))[-1].half())
            latents.append((mean.float() * self._vae.config.scaling_factor).half())
        ids = tokenize(self._tokenizer, [text for future in futures for text in future.result()])
        return Drawn(torch.cat(latents), ids.to(device), torch.cat(maps) if maps else None)

    def _replace(self, made: Drawn) -> None:
        size = len(self._pool.latents)
        rows = (self._oldest + torch.arange(len(made.latents))) % size
        rows = rows.to(made.latents.device)
        self._pool.latents[rows], self._pool.ids[rows] = made.latents, made.ids
        if made.maps is not None and self._pool.maps is not None:
            self._pool.maps[rows] = made.maps
        self._oldest = (self._oldest + len(made.latents)) % size


def _prompts(
    images: np.ndarray, names: Sequence[str], metres: np.ndarray, seeds: np.ndarray
) -> list[str]:
    return [
        training_prompt(image, name, float(ground), np.random.default_rng(int(seed)))
        for image, name, ground, seed in zip(images, names, metres, seeds, strict=True)
    ]
