"""What a strategy's guidance and selection know of the classes, and the guides made from it.

Everything is kept by class *name*: centres looked up by their place in a list once made guidance
harmful in another implementation of this idea.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial

import torch
from torch import Tensor

from dpd_core.models import guidance
from dpd_core.models.latents import Latents
from dpd_core.models.sampling import Guide, ModeGuidance, ObjectiveGuidance, PrototypeGuidance
from dpd_core.synthesize.latent_student import LatentStudent, train_latent_student
from dpd_core.synthesize.resolved import ResolvedSynthesis
from dpd_core.synthesize.selection import slot_difficulty
from dpd_core.train.classifier import LatentClassifier

OMEGA, REDUNDANCY, DEVIATION, BETA = 1.5, 1.0, 0.1, 1.0
"""ω and ρ of ``learnability``, δ of ``influence``, β of ``information``."""
_INFERENCE_BATCH = 256


@dataclass(frozen=True)
class ClassContext:
    """What guidance and selection know of the classes besides the slot that is being filled.

    Attributes:
        prototypes: Prototype latents by class name, (K, C, h, w), in the order of the slots.
        difficulties: 1 − p(y) of the class's real images, by class name; empty if not needed.
        student: Classifier trained on the prototypes alone; ``None`` if not needed.
        gradients: Mean real gradient of the student's last layer, (n, D), by class name.
    """

    prototypes: Mapping[str, Tensor] = field(default_factory=dict)
    difficulties: Mapping[str, Tensor] = field(default_factory=dict)
    student: LatentStudent | None = None
    gradients: Mapping[str, Tensor] = field(default_factory=dict)

    def others(self, class_name: str, prototype: Tensor) -> Tensor:
        """The other prototypes of the class, (M, C, h, w)."""
        known = self.prototypes.get(class_name)
        if known is None:
            return prototype.new_zeros((0, *prototype.shape))
        same = (known == prototype).flatten(1).all(1)
        return known[~same]

    def memory(self, class_names: Sequence[str], prototypes: Tensor) -> Tensor:
        """The other prototypes of each sample's class, (B, M, C, h, w).

        M is the same for all classes, so that a slot does not depend on its neighbours in the
        batch: classes with fewer repeat theirs, a class with no other gives its own.
        """
        size = max((len(known) for known in self.prototypes.values()), default=1) - 1
        rows = []
        for name, prototype in zip(class_names, prototypes, strict=True):
            others = self.others(name, prototype)
            others = others if len(others) else prototype[None]
            rows.append(others[torch.arange(size) % len(others)])
        return torch.stack(rows)

    def difficulty(self, class_name: str, number: int) -> float:
        """The difficulty that a slot of the class stands for, by its number."""
        if class_name not in self.difficulties:
            return 0.0
        slots = len(self.prototypes[class_name])
        return slot_difficulty(self.difficulties[class_name], number, slots)


def class_context(
    prototype_ids: Mapping[str, Sequence[str]],
    labels: Mapping[str, str],
    latents: Latents,
    classifier: LatentClassifier,
    resolved: ResolvedSynthesis,
    *,
    seed: int,
) -> ClassContext:
    """Collect what guidance and selection need, and no more.

    Args:
        prototype_ids: Image ids of the prototypes by class name, in the order of the slots.
        labels: Class name by image id.
        latents: Of the training images.
        classifier: The latent classifier.
        resolved: Guidance term and selection rule.
        seed: Project seed.
    """
    prototypes = {
        name: torch.stack([latents.of(image).mean for image in ids])
        for name, ids in prototype_ids.items()
    }
    difficulties: dict[str, Tensor] = {}
    if resolved.rule == "difficulty":
        difficulties = _difficulties(labels, latents, classifier)
    if resolved.guide not in ("learnability", "influence"):
        return ClassContext(prototypes, difficulties)
    student = train_latent_student(prototypes, classifier.classes, seed=seed)
    gradients = _gradients(labels, latents, student) if resolved.guide == "influence" else {}
    return ClassContext(prototypes, difficulties, student, gradients)


def build_guide(
    resolved: ResolvedSynthesis,
    context: ClassContext,
    classifier: LatentClassifier | None,
    class_names: Sequence[str],
    prototypes: Tensor,
    target: Tensor,
) -> Guide | None:
    """The guide of a batch.

    Args:
        resolved: Term, scale and window.
        context: See :func:`class_context`.
        classifier: The latent classifier, on the device of the samples; prototype terms need none.
        class_names: Class of each sample.
        prototypes: Prototype of each sample, (B, C, h, w).
        target: What the prototype terms aim at, (B, C, h, w).
    """
    if resolved.guide == "none":
        return None
    window = (0.0, resolved.end)
    if resolved.guide == "prototype":
        return PrototypeGuidance(target, resolved.scale, *window)
    if resolved.guide == "mode":
        return ModeGuidance(target, resolved.scale, *window)
    assert classifier is not None, "an objective needs the latent classifier"
    objective = _objective(resolved.guide, context, classifier, class_names, prototypes)
    return ObjectiveGuidance(objective, resolved.scale, *window)


def _objective(
    name: str,
    context: ClassContext,
    classifier: LatentClassifier,
    class_names: Sequence[str],
    prototypes: Tensor,
) -> guidance.Objective:
    """What is climbed, for the samples of one batch."""
    device = next(classifier.parameters()).device
    columns = torch.tensor([classifier.classes.index(c) for c in class_names], device=device)
    memory = context.memory(class_names, prototypes).to(device)
    if name == "classifier":
        return partial(_log_probability, classifier, columns)
    if name == "information":
        ipc = max((len(known) for known in context.prototypes.values()), default=1)
        return partial(_information, classifier, columns, memory, ipc)
    assert context.student is not None
    student = context.student.to(device)
    if name == "learnability":
        return partial(_learnability, student, classifier, columns, memory)
    wanted = torch.stack([context.gradients[c] for c in class_names]).to(device)
    return partial(_influence, student, columns, wanted, memory)


def _log_probability(classifier: LatentClassifier, columns: Tensor, clean: Tensor) -> Tensor:
    return guidance.log_probability(classifier(clean), columns)


def _information(
    classifier: LatentClassifier, columns: Tensor, memory: Tensor, ipc: int, clean: Tensor
) -> Tensor:
    return guidance.information(classifier(clean), columns, clean, memory, ipc=ipc, beta=BETA)


def _learnability(
    student: LatentStudent,
    classifier: LatentClassifier,
    columns: Tensor,
    memory: Tensor,
    clean: Tensor,
) -> Tensor:
    return guidance.learnability(
        student(clean),
        classifier(clean),
        columns,
        clean,
        memory,
        omega=OMEGA,
        redundancy=REDUNDANCY,
    )


def _influence(
    student: LatentStudent, columns: Tensor, gradients: Tensor, memory: Tensor, clean: Tensor
) -> Tensor:
    features = student.features(clean)
    return guidance.influence(
        features, student.head(features), columns, gradients, clean, memory, deviation=DEVIATION
    )


@torch.no_grad()
def _difficulties(
    labels: Mapping[str, str], latents: Latents, classifier: LatentClassifier
) -> dict[str, Tensor]:
    device = next(classifier.parameters()).device
    columns = torch.tensor([classifier.classes.index(labels[image]) for image in latents.ids])
    logits = torch.cat(
        [classifier(part.to(device)).cpu() for part in latents.mean.split(_INFERENCE_BATCH)]
    )
    wrong = 1 - logits.softmax(1).gather(1, columns[:, None])[:, 0]
    return {name: wrong[columns == column] for column, name in enumerate(classifier.classes)}


@torch.no_grad()
def _gradients(
    labels: Mapping[str, str], latents: Latents, student: LatentStudent
) -> dict[str, Tensor]:
    gradients = {}
    for column, name in enumerate(student.classes):
        rows = [row for row, image in enumerate(latents.ids) if labels[image] == name]
        features = student.features(latents.mean[rows])
        target = torch.full((len(rows),), column)
        gradients[name] = guidance.last_layer_gradient(
            features, student.head(features), target
        ).mean(0)
    return gradients
