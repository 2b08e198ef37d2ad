"""Trying a prompt: a few images of it, and of another one from the same noise to compare with.

``python -m dpd_core preview --project DIR --prompt TEXT --before TEXT`` is not a stage: it leaves
no record and makes nothing out of date. The images are those of the strategy it names, made by the
sampler of the stage ``synthesize``: with a prototype, they are the first candidates that the stage
would sample for its slot with this text. They are kept by content in ``previews/``, so that a text
tried before is not sampled again.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from dpd_core import storage
from dpd_core.captions.selection import select_prototypes
from dpd_core.captions.text import checked_caption
from dpd_core.config import PreviewConfig
from dpd_core.errors import ConfigError, StageMissing
from dpd_core.events import Emit, Log, Meter, Preview, ignore
from dpd_core.models.backbone import model_identity
from dpd_core.models.latents import latents_for
from dpd_core.project import Project
from dpd_core.prototypes.files import Prototype, Slot, list_prototypes
from dpd_core.synthesize.resolved import ResolvedSynthesis, resolved_preview
from dpd_core.synthesize.sampler import Sampler, SlotTask, project_sampler, sampling_backbone
from dpd_core.train.adapters import Adapter, find_adapter
from dpd_core.train.classifier import LatentClassifier, load_classifier

NAME = "preview"
FOLDER = "previews"
NO_SLOT = Slot("", 0)
"""Gives the noise where no prototype is named."""


def run(project: Project, config: PreviewConfig, emit: Emit = ignore) -> dict[str, Any]:
    """Sample the images of one or two prompts.

    Returns:
        ``prompts``: for each text ``text`` and ``files`` (paths in the project), the one to
        compare with first; ``folder`` of the tried text; ``prototype``, ``adapter`` (id) and
        ``strategy``.

    Raises:
        ConfigError: no prompt, or a strategy that needs a prototype without one.
        CaptionError: an unacceptable text, or no such prototype.
        StageMissing: prototypes or latents that are asked for are not there, or the strategy is
            steered by the latent classifier and there is none yet.
    """
    texts = [checked_caption(config.prompt, where="preview.prompt")]
    if config.before:
        texts.insert(0, checked_caption(config.before, where="preview.before"))
    how = resolved_preview(config)
    prototypes = list_prototypes(project) if config.prototype else []
    target = _target(prototypes, config, how)
    adapter = _adapter(project, config, emit)
    classifier = load_classifier(project) if how.needs_classifier else None
    recipe = {
        "model": model_identity(project.config),
        "adapter": adapter.id if adapter else None,
        "classifier": classifier.metadata["key"] if classifier else None,
        "seed": project.config.seed,
        "image_size": project.config.image_size,
        "prototypes": [list(p.key) for p in prototypes] if how.needs_prototype else [],
        "slot": str(target.slot) if target else None,
        "settings": config.replace(prompt="", before="", adapter="").to_dict(),
    }
    folders = {text: project.path(FOLDER, storage.digest(recipe, text)) for text in texts}
    missing = [text for text, folder in folders.items() if not (folder / "recipe.json").exists()]
    if missing:
        emit(Log(NAME, "loading the model"))
        sampler = _sampler(project, adapter, classifier, how, prototypes, emit)
        sampled_steps = max(round(how.steps * how.strength), 1)
        meter = Meter(emit, NAME, len(missing) * sampled_steps, message="sampling images")
        for text in missing:
            # Each text by itself, so that no other one has a part in its images.
            task = SlotTask(target.slot, text, target.id) if target else None
            task = task or SlotTask(NO_SLOT, text)
            (samples,) = sampler.sample([task], on_step=meter.advance)
            _save(folders[text], samples.images.numpy(), {**recipe, "text": text})
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


def _sampler(
    project: Project,
    adapter: Adapter | None,
    classifier: LatentClassifier | None,
    how: ResolvedSynthesis,
    prototypes: list[Prototype],
    emit: Emit,
) -> Sampler:
    backbone = sampling_backbone(project, adapter, how)
    seed = project.config.seed
    if not how.needs_prototype:
        return Sampler(backbone, how, seed)
    prototype_ids: dict[str, list[str]] = {}
    for prototype in prototypes:
        prototype_ids.setdefault(prototype.class_name, []).append(prototype.id)
    latents = latents_for(project, ("train",), emit=emit, stage=NAME)
    return project_sampler(project, backbone, how, latents, classifier, prototype_ids, seed=seed)


def _save(folder: Path, images: np.ndarray, recipe: dict[str, Any]) -> None:
    with storage.atomic_folder(folder) as temporary:
        for number, image in enumerate(images):
            Image.fromarray(image).save(temporary / f"{number}.png")
        storage.write_json(temporary / "recipe.json", recipe)


def _target(
    prototypes: list[Prototype], config: PreviewConfig, how: ResolvedSynthesis
) -> Prototype | None:
    if not config.prototype:
        if how.needs_prototype:
            raise ConfigError(
                f"the strategy {config.strategy!r} needs a prototype.",
                where="preview.prototype",
                fix="Give CLASS/NUMBER.",
            )
        return None
    found = select_prototypes(prototypes, (config.prototype,))
    if len(found) != 1:
        raise ConfigError(
            f"got {config.prototype!r}.",
            where="preview.prototype",
            fix="Give one cluster as CLASS/NUMBER.",
        )
    return found[0]


def _adapter(project: Project, config: PreviewConfig, emit: Emit) -> Adapter | None:
    """The adapter to use; before anything has been trained ``latest`` is the plain model."""
    if config.adapter == "none":
        return None
    try:
        return find_adapter(project, config.adapter)
    except StageMissing:
        emit(Log(NAME, "nothing has been trained yet: these images are the plain model's"))
        return None
