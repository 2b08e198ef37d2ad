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

from dpd_core.config import SynthesizeConfig
from dpd_core.models import guidance
from dpd_core.models.latents import Latents
from dpd_core.models.sampling import Guide, ModeGuidance, ObjectiveGuidance, PrototypeGuidance
from dpd_core.synthesize.latent_student import LatentStudent, train_latent_student
from dpd_core.synthesize.selection import slot_difficulty
from dpd_core.synthesize.strategies import Strategy
from dpd_core.train.classifier import LatentClassifier

OMEGA, REDUNDANCY, DEVIATION, BETA = 1.5, 1.0, 0.1, 1.0
"""ω and ρ of ``learnability``, δ of ``influence``, β of ``information``."""
_INFERENCE_BATCH = 256


@dataclass(frozen=True)
class Surroundings:
    """What there is besides the slot that is being filled.

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

    def difficulty(self, class_name: str, slot: int) -> float:
        """The difficulty that a slot of the class stands for."""
        if class_name not in self.difficulties:
            return 0.0
        slots = len(self.prototypes[class_name])
        return slot_difficulty(self.difficulties[class_name], slot, slots)


def survey(
    prototype_ids: Mapping[str, Sequence[str]],
    labels: Mapping[str, str],
    latents: Latents,
    classifier: LatentClassifier,
    strategy: Strategy,
    rule: str,
    *,
    seed: int,
) -> Surroundings:
    """Collect what a strategy and a selection rule need, and no more.

    Args:
        prototype_ids: Image ids of the prototypes by class name, in the order of the slots.
        labels: Class name by image id.
        latents: Of the training images.
        classifier: The latent classifier.
        strategy, rule: What is going to be used.
        seed: Project seed.
    """
    prototypes = {
        name: torch.stack([latents.of(one).mean for one in ids])
        for name, ids in prototype_ids.items()
    }
    difficulties: dict[str, Tensor] = {}
    if rule == "difficulty":
        difficulties = _difficulties(labels, latents, classifier)
    if strategy.guide not in ("learnability", "influence"):
        return Surroundings(prototypes, difficulties)
    student = train_latent_student(prototypes, classifier.classes, seed=seed)
    gradients = _gradients(labels, latents, student) if strategy.guide == "influence" else {}
    return Surroundings(prototypes, difficulties, student, gradients)


def build_guide(
    strategy: Strategy,
    config: SynthesizeConfig,
    surroundings: Surroundings,
    classifier: LatentClassifier,
    class_names: Sequence[str],
    prototypes: Tensor,
    target: Tensor,
) -> Guide | None:
    """The guide of a batch.

    Args:
        strategy, config: Term, scale and window.
        surroundings: See :func:`survey`.
        classifier: The latent classifier, on the device of the samples.
        class_names: Class of each sample.
        prototypes: Prototype of each sample, (B, C, h, w).
        target: What the prototype terms aim at, (B, C, h, w).
    """
    scale = strategy.scale * config.guidance_scale
    if not strategy.guided or scale == 0:
        return None
    window = (0.0, min(config.guidance_end, strategy.end))
    if strategy.guide == "prototype":
        return PrototypeGuidance(target, scale, *window)
    if strategy.guide == "mode":
        return ModeGuidance(target, scale, *window)
    device = next(classifier.parameters()).device
    columns = torch.tensor([classifier.classes.index(name) for name in class_names], device=device)
    memory = surroundings.memory(class_names, prototypes).to(device)
    slots = max((len(known) for known in surroundings.prototypes.values()), default=1)

    def classify(clean: Tensor) -> Tensor:
        return guidance.log_probability(classifier(clean), columns)

    def inform(clean: Tensor) -> Tensor:
        return guidance.information(classifier(clean), columns, clean, memory, ipc=slots, beta=BETA)

    objectives = {"classifier": classify, "information": inform}
    if surroundings.student is not None:
        student = surroundings.student.to(device)
        objectives["learnability"] = partial(_learnability, student, classifier, columns, memory)
        if surroundings.gradients:
            wanted = torch.stack([surroundings.gradients[name] for name in class_names])
            objectives["influence"] = partial(
                _influence, student, columns, wanted.to(device), memory
            )
    return ObjectiveGuidance(objectives[strategy.guide], scale, *window)


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
    columns = torch.tensor([classifier.classes.index(labels[one]) for one in latents.ids])
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
        rows = [row for row, one in enumerate(latents.ids) if labels[one] == name]
        features = student.features(latents.mean[rows])
        target = torch.full((len(rows),), column)
        gradients[name] = guidance.last_layer_gradient(
            features, student.head(features), target
        ).mean(0)
    return gradients
