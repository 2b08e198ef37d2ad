"""How long the phases of the stages take on this machine: what is said before any work begins.

An estimate is a number of units of work, which the settings and the images give, times the seconds
that a unit took on the machine where :data:`SECONDS` were measured, times how much slower this
machine is at one small convolution. A plan on its way corrects it by what its phases really took.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any

from dpd_core import STAGES
from dpd_core.config import ProjectConfig
from dpd_core.dataset.index import load_index
from dpd_core.errors import DPDError
from dpd_core.project import Project
from dpd_core.settings import StageConfig
from dpd_core.synthesize.resolved import resolved

SECONDS = {
    "checking images": 0.004,
    "encoding images": 0.016,
    "training networks on the real images": 0.2,
    "choosing prototypes": 0.01,
    "laying out": 0.003,
    "comparing images": 0.012,
    "captioning images": 0.05,
    "training the latent classifier": 0.45,
    "fine-tuning the decoder": 0.7,
    "training": 0.075,
    "sampling images": 0.04,
    "comparing the real images with each other": 0.06,
    "looking at the candidates": 0.003,
    "choosing the set": 0.15,
    "training students": 0.2,
    "comparing with the training images": 0.06,
    "writing images": 0.02,
}
"""Seconds a unit on one core of an AMD EPYC, by the name of the phase: an image, a step, or (where
a step's batch is a setting) a sample."""

STARTING = {
    "checking images": 2.0,
    "encoding images": 2.0,
    "laying out": 14.0,
    "captioning images": 2.0,
    "training": 5.0,
    "sampling images": 3.0,
    "training students": 8.0,
    "comparing with the training images": 10.0,
}
"""Seconds before the first unit: imports, loading models, compiling."""

REFERENCE_SECONDS = 0.031
"""What :func:`pace` takes on that core."""

PACES = (0.02, 4.0)
"""Limits of the factor: so short a measure says no more."""

FULL_SIZE = 85.0
"""How much longer a step of a Stable-Diffusion-sized model takes than one of the bundled one
(docs/speed.md, the two LoRA rows)."""

TITLES = {
    "checking images": "reading your images",
    "encoding images": "encoding the images",
    "clustering classes": "clustering each class",
    "training networks on the real images": "learning what teaches a classifier",
    "choosing prototypes": "choosing prototypes",
    "laying out": "laying out the map",
    "comparing images": "comparing the images",
    "captioning images": "putting the clusters into words",
    "writing captions": "putting the clusters into words",
    "training the latent classifier": "learning your classes",
    "fine-tuning the decoder": "sharpening the decoder",
    "training": "adapting the model",
    "sampling images": "making new images",
    "comparing the real images with each other": "learning how alike real images are",
    "looking at the candidates": "looking at the candidates",
    "choosing the set": "choosing the set",
    "training students": "testing the set on students",
    "comparing with the training images": "measuring nearness to real images",
    "writing images": "packing the data set",
}
"""What a phase is called for people, by the name it has in its stage."""

ASSUMED = (1000, 10)
"""Training images and classes, as long as the images have not been read."""


@dataclass(frozen=True)
class Phase:
    """A part of a stage that tells how far it is.

    Attributes:
        stage: The stage.
        name: How the messages of its progress begin.
        seconds: What it is expected to take here.
    """

    stage: str
    name: str
    seconds: float

    @property
    def title(self) -> str:
        """Its name for people."""
        return TITLES.get(self.name, self.name or self.stage)


def seconds(project: Project, configs: Mapping[str, StageConfig]) -> float:
    """What stages are expected to take here, in all."""
    return sum(phase.seconds for phase in phases(project, configs))


def phases(project: Project, configs: Mapping[str, StageConfig]) -> list[Phase]:
    """The phases of stages with these settings, in order."""
    images, classes = counts(project)
    factor = min(max(pace(project.config.device) / REFERENCE_SECONDS, PACES[0]), PACES[1])
    model = 1.0 if project.config.model == "bundled" else FULL_SIZE
    ipc = getattr(configs.get("prototypes"), "ipc", None) or _ipc(project)
    found = []
    for stage in STAGES:
        if stage not in configs:
            continue
        for name, units in _UNITS[stage](configs[stage], images, classes, ipc):
            heavy = model if stage in ("train", "synthesize") else 1.0
            unit = SECONDS.get(name, 0.01) * heavy
            spent = (STARTING.get(name, 0.0) + units * unit) * factor
            found.append(Phase(stage, name, round(spent, 1)))
    return found


def counts(project: Project) -> tuple[int, int]:
    """Training images and classes; :data:`ASSUMED` where nothing has been read."""
    try:
        index = load_index(project)
    except DPDError:
        return ASSUMED
    return sum(info.train for info in index.classes.values()), len(index.classes)


def _ipc(project: Project) -> int:
    record = project.record("prototypes")
    return int(record["settings"]["ipc"]) if record else 5


Units = list[tuple[str, float]]


def _dataset(config: Any, images: int, classes: int, ipc: int) -> Units:
    return [("checking images", images)]


def _prototypes(config: Any, images: int, classes: int, ipc: int) -> Units:
    units: Units = [("encoding images", 1.3 * images), ("clustering classes", 10.0 * classes)]
    if config.choice == "taught":
        # Two networks of 200 steps (dpd_core/students/ridge.py), and eight tries a slot.
        units += [("training networks on the real images", 400)]
        units += [("choosing prototypes", 8 * classes * ipc)]
    if config.project_map:
        units += [("laying out", images), ("comparing images", 1.3 * images)]
    return units


def _captions(config: Any, images: int, classes: int, ipc: int) -> Units:
    if config.mode == "template":
        return [("writing captions", 1)]
    each = 1 if config.mode == "vlm" else config.nearest
    return [("captioning images", min(images, classes * ipc * each))]


def _train(config: Any, images: int, classes: int, ipc: int) -> Units:
    # 200 epochs of at least a batch of 128.
    steps = config.classifier_steps or 200 * max(1, images // 128)
    units: Units = [("training the latent classifier", steps)]
    units += [("fine-tuning the decoder", config.decoder_steps)] * bool(config.decoder_steps)
    previews = config.steps // config.preview_steps if config.preview_steps else 0
    return [*units, ("training", config.steps * config.batch_size + 40 * previews)]


def _synthesize(config: Any, images: int, classes: int, ipc: int) -> Units:
    how = resolved(config)
    samples = classes * ipc * how.candidates
    doubled = 1 if how.cfg == 1.0 else 2
    units: Units = []
    if how.max_similarity < 1:
        # At most so many (dpd_core/synthesize/guard.py).
        units += [("comparing the real images with each other", min(images, 400))]
    units += [("sampling images", samples * how.steps * how.strength * doubled)]
    if how.chooses_together:
        # Six networks of the ridge loss and the pretrained one; at most four sweeps
        # (dpd_core/synthesize/choice.py).
        units += [("looking at the candidates", 7.0 * samples)]
        units += [("choosing the set", 4 * classes * ipc)]
    return units


def _evaluate(config: Any, images: int, classes: int, ipc: int) -> Units:
    students = (1 + len(config.baselines)) * config.seeds * (1 + config.soft_labels)
    units: Units = [("training students", students * config.student_steps)]
    compared = 2 * classes * ipc
    return units + [("comparing with the training images", compared)] * config.distribution


def _export(config: Any, images: int, classes: int, ipc: int) -> Units:
    return [("writing images", classes * ipc * (1 + config.parquet))]


_UNITS = {
    "dataset": _dataset,
    "prototypes": _prototypes,
    "captions": _captions,
    "train": _train,
    "synthesize": _synthesize,
    "evaluate": _evaluate,
    "export": _export,
}


@cache
def pace(device: str) -> float:
    """Seconds that ten steps of one small convolution take on a device: the best of four. On a
    processor its own time is taken, to which other work of the machine adds little."""
    import torch

    from dpd_core.hardware import choose_hardware

    where = choose_hardware(ProjectConfig(device=device)).device
    own = where.type == "cpu"
    clock, share = (time.process_time, torch.get_num_threads()) if own else (time.perf_counter, 1)
    layer = torch.nn.Conv2d(64, 64, 3, padding=1).to(where)
    images = torch.zeros(8, 64, 16, 16, device=where)
    best = float("inf")
    with torch.inference_mode():
        for _ in range(4):
            begun = clock()
            for _ in range(10):
                out = layer(images)
            out.sum().item()  # waits for a device that computes apart
            best = min(best, (clock() - begun) / share)
    return best
