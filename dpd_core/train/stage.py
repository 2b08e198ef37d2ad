"""Fine-tuning, by LoRA or of the whole UNet, with the classification-consistency loss."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from accelerate import PartialState

from dpd_core import storage
from dpd_core.captions.current import training_captions
from dpd_core.config import TrainConfig
from dpd_core.dataset.index import load_index
from dpd_core.events import Began, Emit, Log, ignore
from dpd_core.models.backbone import Backbone, Posterior, load_backbone, model_identity
from dpd_core.models.latents import Latents, latents_for
from dpd_core.project import Project
from dpd_core.train import adapters, decoder
from dpd_core.train.classifier import EPOCHS, LatentClassifier
from dpd_core.train.classifier_training import project_classifier
from dpd_core.train.memory import needed, told
from dpd_core.train.previews import previewer
from dpd_core.train.trainer import STAGE, Examples, Trainer


def run(project: Project, config: TrainConfig, emit: Emit = ignore) -> dict[str, Any]:
    """The train stage: a latent classifier, then an adapter in ``adapters/<id>/``.

    The id derives from everything the adapter depends on, so starting the same training
    again continues from its checkpoint, or finds the finished adapter.
    """
    index = load_index(project)
    captions = training_captions(project)
    latents = latents_for(project, ("train",), emit=emit, stage=STAGE)
    classifier, report = project_classifier(
        project,
        latents,
        epochs=EPOCHS,
        max_steps=config.classifier_steps,
        emit=emit,
        stage=STAGE,
    )
    classes = {record.id: record.class_name for record in index.images}
    recipe = {
        "model": model_identity(project.config),
        "latents": latents.key,
        "captions": storage.digest(captions),
        "seed": project.config.seed,
        "settings": config.to_dict(),
        "classifier": report["key"],
    }
    if config.decoder_steps:
        recipe["decoder"] = decoder.RECIPE
    identity = storage.digest(recipe)
    folder = project.path("adapters", identity)
    emit(Began(STAGE, project.relative(folder)))
    if not (folder / adapters.RECORD).exists():
        adapters.begin(folder, recipe)
        backbone = load_backbone(project)
        _say_memory(project, backbone, config, emit)
        if config.decoder_steps:
            # One of several processes; the others find it.
            with PartialState(cpu=backbone.device.type == "cpu").main_process_first():
                decoder.tune_project_decoder(
                    project, index, backbone, latents, config, folder=folder, emit=emit, stage=STAGE
                )
        examples = _examples(backbone, latents, captions, classes, classifier)
        held_out = None
        if index.select("test"):
            test = latents_for(project, ("test",), emit=emit, stage=STAGE)
            texts = _texts_of_others(test.ids, classes, captions)
            held_out = _examples(backbone, test, texts, classes, classifier)
        trainer = Trainer(
            backbone,
            classifier,
            examples,
            config,
            folder=folder,
            seed=project.config.seed,
            held_out=held_out,
        )
        preview = previewer(project, index, backbone, folder, emit)
        final = trainer.fit(emit, preview=preview)
        adapters.finish(folder, recipe, report, final)
    else:
        emit(Log(STAGE, f"adapter {identity} is there already"))
        final = adapters.find_adapter(project, identity).final
    adapters.forget_choice(project)
    return {
        "adapter": identity,
        "classifier": report["key"],
        "steps": config.steps,
        "classifier_accuracy": report["validation_accuracy"],
        **final,
    }


def _texts_of_others(
    ids: Sequence[str], classes: dict[str, str], captions: dict[str, str]
) -> dict[str, str]:
    """Captions for images of no cluster: those of their class, in turn."""
    by_class: dict[str, list[str]] = {}
    for image_id, text in sorted(captions.items()):
        texts = by_class.setdefault(classes[image_id], [])
        if text not in texts:
            texts.append(text)
    seen: dict[str, int] = {}
    found = {}
    for image_id in sorted(ids):
        name = classes[image_id]
        place = seen[name] = seen.get(name, -1) + 1
        if name in by_class:
            found[image_id] = by_class[name][place % len(by_class[name])]
    return found


def _say_memory(project: Project, backbone: Backbone, config: TrainConfig, emit: Emit) -> None:
    """Say how much memory the training takes, and warn where a GPU has less."""
    estimate = needed(backbone.folder, project.config, config, backbone.hardware)
    said, warning = told(estimate, backbone.hardware, detail=str(estimate))
    if said:
        emit(Log(STAGE, said))
    if warning:
        emit(Log(STAGE, warning, level="warning"))


def _examples(
    backbone: Backbone,
    latents: Latents,
    captions: dict[str, str],
    classes: dict[str, str],
    classifier: LatentClassifier,
) -> Examples:
    columns = {name: column for column, name in enumerate(classifier.classes)}
    texts = sorted(set(captions.values()))
    rows = {text: row for row, text in enumerate(texts)}
    kept = [row for row, identity in enumerate(latents.ids) if identity in captions]
    ids = [latents.ids[row] for row in kept]
    return Examples(
        posterior=Posterior(latents.mean[kept], latents.std[kept]),
        labels=torch.tensor([columns[classes[identity]] for identity in ids]),
        captions=[rows[captions[identity]] for identity in ids],
        # In the format in which they will be read, and where there is room for many.
        prompts=backbone.encode_prompts(texts).to("cpu", backbone.hardware.dtype),
    )
