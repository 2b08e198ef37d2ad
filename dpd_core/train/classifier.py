"""The latent classifier: tells the class from an unpooled latent, not from pixels.

The published DPD recipe: convolution stem of 64 channels, three stages of two residual blocks
(64, 128, 256 channels; strides 1, 2, 2), global average pooling, dropout 0.1; AdamW 1e-3,
weight decay 1e-3, 5 warm-up epochs, then cosine to 1e-6, batch 128; the posterior is sampled
anew in each step and flipped both ways with probability 0.5; 10 % of each class validate, every
fifth epoch and at the end, and the weights with the best accuracy (the last of equals) are
kept. Normalisation is BatchNorm, as published.

The network is in :mod:`dpd_core.train.classifier_network`, its optimisation in
:mod:`dpd_core.train.classifier_training`; here is what others use.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dpd_core import storage
from dpd_core.errors import DatasetError, ProjectError, StageMissing
from dpd_core.events import Emit, Log, ignore
from dpd_core.hardware import Hardware, choose_hardware
from dpd_core.train.classifier_network import RECIPE, LatentClassifier
from dpd_core.train.classifier_training import ClassifierTrainer, split_rows

if TYPE_CHECKING:
    from torch import Tensor

    from dpd_core.models.latents import Latents
    from dpd_core.project import Project

__all__ = [
    "RECIPE",
    "LatentClassifier",
    "load_classifier",
    "project_classifier",
    "read_classifier",
    "train_classifier",
]

_CURRENT = "current.json"
_FIX = "Delete the folder 'classifier' in the project; the stage 'train' makes it again."


def train_classifier(
    latents: Latents,
    labels: Sequence[str],
    *,
    epochs: int,
    seed: int,
    hardware: Hardware,
    folder: Path,
    emit: Emit = ignore,
    stage: str = "train",
    max_steps: int = 0,
) -> LatentClassifier:
    """Train a latent classifier, or find it trained.

    Args:
        latents: Posteriors of the training images.
        labels: Class name of each, N of them.
        epochs: Epochs of the recipe; see ``max_steps``.
        seed: Of weights, validation split and all draws.
        hardware: Device; bfloat16 computes in autocast, other formats in float32.
        folder: Where ``<key>/`` goes, with the checkpoint of an interrupted run or the
            finished weights.
        emit: Gets progress and, at each validation, loss and accuracy.
        stage: Stage name of the events.
        max_steps: Fewer epochs are trained if they would take more optimizer steps than this
            (one epoch at least); 0: no limit.

    Returns:
        The classifier with its best weights, frozen, in evaluation mode, on the CPU.

    Raises:
        DatasetError: fewer than two classes, or a class with a single image.
        ValueError: labels and latents do not fit each other.
    """
    if len(labels) != len(latents.ids):
        raise ValueError(f"{len(labels)} labels for {len(latents.ids)} latents")
    classes = sorted(set(labels))
    _check_classes(classes, labels)
    train, validation = split_rows(latents.ids, labels, seed)
    planned = _capped(epochs, len(train), max_steps)
    key = storage.digest(
        "latent classifier", RECIPE, latents.key, latents.ids, list(labels), planned, seed
    )
    path = folder / key
    if (path / "classifier.json").exists():
        return read_classifier(path)
    if planned < epochs:
        limit = f"to stay within {max_steps} steps"
        emit(Log(stage, f"the latent classifier trains {planned} of {epochs} epochs {limit}"))
    trainer = ClassifierTrainer(
        latents,
        labels,
        classes=classes,
        train=train,
        validation=validation,
        epochs=planned,
        seed=seed,
        hardware=hardware,
    )
    accuracy, epoch = trainer.fit(path / "checkpoint.safetensors", emit, stage)
    classifier = trainer.best_classifier()
    classifier.metadata = {
        "key": key,
        "classes": classes,
        "channels": classifier.channels,
        "recipe": RECIPE,
        "epochs": planned,
        "seed": seed,
        "train": len(train),
        "validation": len(validation),
        "validation_accuracy": accuracy,
        "epoch": epoch,
        "latents": latents.key,
    }
    _write(path, classifier)
    (path / "checkpoint.safetensors").unlink(missing_ok=True)
    return classifier


def project_classifier(
    project: Project,
    latents: Latents,
    *,
    epochs: int,
    max_steps: int = 0,
    emit: Emit = ignore,
    stage: str = "train",
) -> tuple[LatentClassifier, dict[str, Any]]:
    """The classifier of a project's latents, trained if need be, and made the current one.

    Images that people excluded from training are left out.

    Returns:
        The frozen classifier, and its metadata: ``key``, ``validation_accuracy``, ``classes``,
        ``epochs``, ``epoch`` of the best weights, numbers of images and the recipe.
    """
    from dpd_core.dataset.index import load_index
    from dpd_core.prototypes.overrides import read_overrides

    latents = latents.without(read_overrides(project).excluded)
    class_of = {record.id: record.class_name for record in load_index(project).images}
    folder = project.path("classifier")
    classifier = train_classifier(
        latents,
        [class_of[image_id] for image_id in latents.ids],
        epochs=epochs,
        max_steps=max_steps,
        seed=project.config.seed,
        hardware=choose_hardware(project.config),
        folder=folder,
        emit=emit,
        stage=stage,
    )
    storage.write_json(folder / _CURRENT, {"key": classifier.metadata["key"]})
    return classifier, dict(classifier.metadata)


def load_classifier(project: Project, key: str | None = None) -> LatentClassifier:
    """A project's classifier: the one with this key, or the one trained or found last.

    Raises:
        StageMissing: none has been trained.
        ProjectError: its files are missing or damaged.
    """
    folder = project.path("classifier")
    if key is None:
        if not (folder / _CURRENT).exists():
            raise StageMissing(
                "there is no latent classifier yet.",
                where=project.root,
                fix=f"Run `python -m dpd_core train --project {project.root}`.",
            )
        content = storage.read_json(folder / _CURRENT, fix=_FIX)
        if not isinstance(content, dict) or not _is_key(content.get("key")):
            raise ProjectError("it names no classifier.", where=folder / _CURRENT, fix=_FIX)
        key = content["key"]
    return read_classifier(project.path("classifier", key))


def read_classifier(path: Path) -> LatentClassifier:
    """A finished classifier from its folder, frozen, in evaluation mode, on the CPU.

    Raises:
        ProjectError: the files are missing or damaged.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    kinds = {"classes": list, "channels": int}
    metadata = storage.read_record(path / "classifier.json", kinds, fix=_FIX)
    try:
        weights = load_file(path / "classifier.safetensors")
        _check_fits(metadata, weights)
        classifier = LatentClassifier(metadata["classes"], metadata["channels"])
        classifier.load_state_dict(weights)
    except (OSError, SafetensorError, RuntimeError, KeyError, TypeError, ValueError) as error:
        raise ProjectError(f"not a readable classifier ({error}).", where=path, fix=_FIX) from error
    classifier.metadata = metadata
    return classifier.eval().requires_grad_(False)


def _is_key(value: object) -> bool:
    """Whether this can be the name of a classifier's folder."""
    return isinstance(value, str) and bool(value) and storage.safe_name(value) == value


def _check_fits(metadata: dict[str, Any], weights: dict[str, Tensor]) -> None:
    """The sizes said are the weights' own: a network of a said size is built before it is
    compared, and could be said to be of any."""
    classes, numbers = metadata["classes"], [value.numel() for value in weights.values()]
    if not all(isinstance(name, str) for name in classes) or len(set(classes)) != len(classes):
        raise ValueError("its classes are not different names")
    if not 1 <= metadata["channels"] <= 256 or not 2 <= len(classes) <= max(numbers, default=0):
        raise ValueError("its classes or channels do not fit its weights")


def _check_classes(classes: list[str], labels: Sequence[str]) -> None:
    if len(classes) < 2:
        raise DatasetError(
            "a classifier needs at least two classes.",
            where=", ".join(classes),
            fix="Add a class to the data set.",
        )
    counts = Counter(labels)
    single = [name for name, count in counts.items() if count < 2]
    if single:
        raise DatasetError(
            "the class has a single training image; the latent classifier needs one to learn "
            "from and one to validate on.",
            where=single[0],
            fix="Add images or leave the class out.",
        )


def _capped(epochs: int, images: int, max_steps: int) -> int:
    steps = math.ceil(images / RECIPE["batch_size"])
    return epochs if max_steps == 0 else max(1, min(epochs, max_steps // steps))


def _write(path: Path, classifier: LatentClassifier) -> None:
    """Write a classifier's folder, the file whose presence says that it is finished last."""
    from safetensors.torch import save_file

    with storage.atomic_path(path / "classifier.safetensors") as temporary:
        state = {name: value.contiguous() for name, value in classifier.state_dict().items()}
        save_file(state, temporary)
    storage.write_json(path / "classifier.json", classifier.metadata)
