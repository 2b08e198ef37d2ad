"""Trying a prompt: a few images of it, and of another one from the same noise to compare with.

``python -m dpd_core preview --project DIR --prompt TEXT --before TEXT`` is not a stage: it leaves
no record and makes nothing out of date. With a prototype, the noise is that of the first
candidates which the stage ``synthesize`` would sample for it. The images are kept by content in
``previews/``, so that a text tried before is not sampled again.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch import Tensor

from dpd_core import storage
from dpd_core.captions.selection import select_prototypes
from dpd_core.captions.text import checked_caption
from dpd_core.config import PreviewConfig
from dpd_core.errors import ConfigError, StageMissing
from dpd_core.events import Emit, Log, Meter, Preview, ignore
from dpd_core.models.backbone import Backbone, model_identity
from dpd_core.models.latents import latents_for
from dpd_core.models.sampling import PrototypeGuidance, sample
from dpd_core.project import Project
from dpd_core.prototypes.files import Prototype, list_prototypes
from dpd_core.seeding import derive_seed
from dpd_core.synthesize.stage import sampling_backbone
from dpd_core.synthesize.strategies import get_strategy
from dpd_core.train.adapters import Adapter, find_adapter

NAME = "preview"
FOLDER = "previews"


def run(project: Project, config: PreviewConfig, emit: Emit = ignore) -> dict[str, Any]:
    """Sample the images of one or two prompts.

    Returns:
        ``prompts``: for each text ``text`` and ``files`` (paths in the project), the one to
        compare with first; ``folder`` of the tried text; ``prototype``, ``adapter`` (id) and
        ``strategy``.

    Raises:
        ConfigError: no prompt, or a strategy that needs a prototype without one.
        CaptionError: an unacceptable text, or no such prototype.
        StageMissing: prototypes or latents that are asked for are not there.
    """
    texts = [checked_caption(config.prompt, where="preview.prompt")]
    if config.before:
        texts.insert(0, checked_caption(config.before, where="preview.before"))
    target = _target(project, config)
    adapter = _adapter(project, config, emit)
    recipe = {
        "model": model_identity(project.config),
        "adapter": adapter.id if adapter else None,
        "seed": project.config.seed,
        "image_size": project.config.image_size,
        "prototype": list(target.key) if target else None,
        "slot": target.cluster_id if target else None,
        "settings": config.replace(prompt="", before="", adapter="").to_dict(),
    }
    folders = {text: project.path(FOLDER, storage.digest(recipe, text)) for text in texts}
    missing = [text for text, folder in folders.items() if not (folder / "recipe.json").exists()]
    if missing:
        emit(Log(NAME, "loading the model"))
        backbone = sampling_backbone(project, adapter, get_strategy(config.strategy))
        origin = _origin(project, target, emit) if _needs_prototype(config) else None
        noise = initial_noise(project, target, config.images, backbone.latent_shape)
        meter = Meter(emit, NAME, len(missing) * config.steps, message="sampling images")
        for text in missing:
            images = _sample(backbone, text, noise, origin, config, meter)
            _save(folders[text], images, {**recipe, "text": text})
    for number, (text, folder) in enumerate(folders.items()):
        emit(Preview(NAME, number, project.relative(folder / "0.png"), text))
    return {
        "prompts": [
            {
                "text": text,
                "files": [
                    project.relative(folders[text] / f"{k}.png") for k in range(config.images)
                ],
            }
            for text in texts
        ],
        "folder": project.relative(folders[texts[-1]]),
        "prototype": config.prototype,
        "adapter": recipe["adapter"] or "",
        "strategy": config.strategy,
    }


def initial_noise(
    project: Project, target: Prototype | None, count: int, shape: tuple[int, ...]
) -> Tensor:
    """(count, \\*shape) standard normal: of the first candidates of a prototype's slot in the
    stage ``synthesize``, or of no slot."""
    slot: tuple[str | int, ...] = (
        ("synthesize", target.class_name, target.cluster_id) if target else (NAME, "", 0)
    )
    draws = [
        # Synthesis draws a direction along with the noise.
        torch.randn(
            2,
            *shape,
            generator=torch.Generator().manual_seed(derive_seed(project.config.seed, *slot, k)),
        )[0]
        for k in range(count)
    ]
    return torch.stack(draws)


def _sample(
    backbone: Backbone,
    text: str,
    noise: Tensor,
    origin: Tensor | None,
    config: PreviewConfig,
    meter: Meter,
) -> Tensor:
    """uint8 (count, H, W, 3). Each text is sampled in a batch of its own: padding one to the
    other's length would change its images."""
    strategy = get_strategy(config.strategy)
    prompts = backbone.encode_prompts([text])
    embeddings = prompts.batch([0] * len(noise))
    target = None if origin is None else origin.expand(len(noise), *origin.shape[1:])
    guide = None
    if strategy.guided and target is not None and config.guidance_scale > 0:
        guide = PrototypeGuidance(target, config.guidance_scale)
    latents = sample(
        backbone,
        noise=noise,
        embeddings=embeddings,
        unconditional=prompts.unconditional(embeddings),
        steps=config.steps,
        scheduler=config.scheduler,
        cfg=config.cfg or strategy.cfg,
        guide=guide,
        origin=target,
        strength=strategy.strength,
        on_step=meter.advance,
    )
    meter.advance(config.steps - max(round(config.steps * strategy.strength), 1))
    return backbone.decode_latents(latents).cpu()


def _save(folder: Path, images: Tensor, recipe: dict[str, Any]) -> None:
    with storage.atomic_folder(folder) as temporary:
        for number, image in enumerate(images.numpy()):
            Image.fromarray(image).save(temporary / f"{number}.png")
        storage.write_json(temporary / "recipe.json", recipe)


def _target(project: Project, config: PreviewConfig) -> Prototype | None:
    if not config.prototype:
        if _needs_prototype(config):
            raise ConfigError(
                f"the strategy {config.strategy!r} needs a prototype.",
                where="preview.prototype",
                fix="Give CLASS/NUMBER.",
            )
        return None
    found = select_prototypes(list_prototypes(project), (config.prototype,))
    if len(found) != 1:
        raise ConfigError(
            f"got {config.prototype!r}.",
            where="preview.prototype",
            fix="Give one cluster as CLASS/NUMBER.",
        )
    return found[0]


def _needs_prototype(config: PreviewConfig) -> bool:
    strategy = get_strategy(config.strategy)
    return strategy.guided or strategy.strength < 1


def _origin(project: Project, target: Prototype | None, emit: Emit) -> Tensor:
    assert target is not None
    latents = latents_for(project, ("train",), emit=emit, stage=NAME)
    return latents.of(target.id).mean[None]


def _adapter(project: Project, config: PreviewConfig, emit: Emit) -> Adapter | None:
    """The adapter to use; before anything has been trained ``latest`` is the plain model."""
    if config.adapter == "none":
        return None
    try:
        return find_adapter(project, config.adapter)
    except StageMissing:
        emit(Log(NAME, "nothing has been trained yet: these images are the plain model's"))
        return None
