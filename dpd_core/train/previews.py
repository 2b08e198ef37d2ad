"""Images made while an adapter is trained: the same noise and texts at every step."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import torch
from PIL import Image

from dpd_core import storage
from dpd_core.dataset.index import DatasetIndex
from dpd_core.events import Emit, Preview
from dpd_core.models.backbone import Backbone
from dpd_core.models.sampling import sample
from dpd_core.project import Project
from dpd_core.seeding import generator
from dpd_core.train.memory import PREVIEWED


def previewer(
    project: Project, index: DatasetIndex, backbone: Backbone, folder: Path, emit: Emit
) -> Callable[[Backbone, int], None]:
    """A function (backbone, step) that samples one image for each of the first classes.

    Args:
        project: Gives the seed.
        index: Gives the classes.
        backbone: Encodes their texts now, so that its text encoders can rest from then on.
        folder: The adapter's folder; the images go to ``previews/`` in it.
        emit: Gets a :class:`Preview` for each.
    """
    names = list(index.classes)[:PREVIEWED]
    texts = [f"A satellite image of {index.readable(name)}" for name in names]

    prompts = backbone.encode_prompts(texts).to("cpu", backbone.hardware.dtype)

    def preview(backbone: Backbone, step: int) -> None:
        embeddings = prompts.batch(list(range(len(texts))))
        noise = torch.stack(
            [
                torch.randn(
                    backbone.latent_shape, generator=generator(project.config.seed, "preview", name)
                )
                for name in names
            ]
        )
        latents = sample(
            backbone,
            noise=noise,
            embeddings=embeddings,
            steps=12,
            scheduler="dpm++",
            cfg=4.0,
            unconditional=prompts.unconditional(embeddings),
        )
        images = backbone.decode_latents(latents).cpu().numpy()
        for name, text, image in zip(names, texts, images, strict=True):
            path = folder / "previews" / f"{step:06d}-{storage.safe_name(name)}.png"
            with storage.atomic_path(path) as temporary:
                Image.fromarray(image).save(temporary)
            emit(Preview("train", step, project.relative(path), text))

    return preview
