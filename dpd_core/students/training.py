"""Student classifiers: what a (distilled) training set is worth is what they score.

All sets are compared with the same network, the same augmentation and the same number of
optimizer *steps*, whatever their size, so that a larger set does not also buy more training.
Every student is determined by its seed: initial weights, order of the images, crops, flips.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from dpd_core.errors import ConfigError, DatasetError, ModelError
from dpd_core.hardware import Hardware
from dpd_core.seeding import derive_seed, generator
from dpd_core.students.networks import Student, build_student, student_identity
from dpd_core.students.schedules import warmup_cosine

__all__ = [
    "Student",
    "Training",
    "accuracy",
    "augmented",
    "build_student",
    "features",
    "predict",
    "predict_proba",
    "student_identity",
    "to_float",
    "train_student",
]

Images = np.ndarray
"""uint8 array (N, S, S, 3); a memory map is read batch by batch."""

WARMUP_STEPS = 10
"""First steps, with smaller learning rates, of a training without an end."""
CROP_AREA = (0.67, 1.0)
"""Share of the image that a random crop keeps, as in the published protocol."""
CROP_RATIO = (3 / 4, 4 / 3)
INFERENCE_BATCH = 256


@dataclass(frozen=True)
class Recipe:
    """Optimizer settings of a student."""

    learning_rate: float
    weight_decay: float
    clip: float = 1.0
    warmup: float = 0.05


FROM_SCRATCH = Recipe(learning_rate=0.1, weight_decay=5e-4, clip=5.0)
"""Nesterov SGD for the networks trained from nothing."""
FINE_TUNING = Recipe(learning_rate=1e-2, weight_decay=5e-4)
"""The published protocol's SGD settings for pretrained students."""


class Training:
    """A student while it is trained: the one optimisation of all students, a step at a time.

    Nesterov SGD with the student's recipe; the gradient's norm is clipped. Who trains draws the
    batches.

    Args:
        student: Trained in place, on ``hardware``.
        hardware: Where to compute.
        steps: Steps in all, over which the learning rate rises and falls again; ``None``: it rises
            over :data:`WARMUP_STEPS` and stays, for a training without an end.

    Attributes:
        age: Steps so far.
    """

    def __init__(self, student: Student, hardware: Hardware, *, steps: int | None = None):
        # Channels last: less time a step on a CPU.
        self.student = student.to(hardware.device, memory_format=torch.channels_last).train()
        self.hardware, self.steps = hardware, steps
        self.recipe = FINE_TUNING if student.pretrained else FROM_SCRATCH
        self.warmup = WARMUP_STEPS if steps is None else max(1, round(steps * self.recipe.warmup))
        self.optimizer = torch.optim.SGD(
            student.parameters(),
            self.recipe.learning_rate,
            momentum=0.9,
            nesterov=True,
            weight_decay=self.recipe.weight_decay,
        )
        self.age = 0

    def step(self, images: Tensor, targets: Tensor) -> float:
        """One step; returns its loss, the cross-entropy.

        Args:
            images: Float (B, 3, S, S) in [0, 1].
            targets: Class numbers, int (B,), or probabilities, float (B, n_classes).

        Raises:
            ModelError: the loss is no longer finite.
        """
        for group in self.optimizer.param_groups:
            share = warmup_cosine(self.age, warmup=self.warmup, steps=self.steps)
            group["lr"] = self.recipe.learning_rate * share
        with self.hardware.autocast():
            logits = self.student(images.contiguous(memory_format=torch.channels_last))
        loss = F.cross_entropy(logits.float(), targets.to(logits.device))
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.student.parameters(), self.recipe.clip)
        self.optimizer.step()
        self.age += 1
        value = float(loss.detach())
        if not math.isfinite(value):
            raise ModelError(
                f"the student's loss became {value} at step {self.age}.",
                fix="Try another seed or student.",
            )
        return value


def train_student(
    images: Images,
    labels: np.ndarray,
    n_classes: int,
    *,
    student: str = "convnet",
    steps: int,
    batch_size: int,
    seed: int,
    hardware: Hardware,
    augment: bool = True,
    probabilities: np.ndarray | None = None,
    on_step: Callable[[int, float], None] | None = None,
) -> Student:
    """Train a student for a fixed number of steps.

    Args:
        images: uint8 (N, S, S, 3).
        labels: int (N,), each in ``range(n_classes)``.
        n_classes: Number of outputs; classes without an image are allowed here.
        student: See :func:`build_student`.
        steps: Optimizer steps, the same for every set that is to be compared.
        batch_size: Images a step; a smaller set is repeated within the batch.
        seed: Determines weights, order and augmentation.
        hardware: Where to compute.
        augment: Random resized crops and mirror images (both axes: scenes seen from above
            have no preferred direction).
        probabilities: Soft labels, float (N, n_classes), to learn instead of ``labels``.
        on_step: Called after each step with the number of finished steps and the loss; what
            it raises stops the training.

    Returns:
        The trained student in evaluation mode.

    Raises:
        DatasetError: images and labels do not fit.
        ModelError: unknown student, or the loss is no longer finite.
    """
    labels = _checked(images, labels, n_classes)
    model = build_student(student, n_classes, seed=derive_seed(seed, "weights"))
    training = Training(model, hardware, steps=steps)
    draws = generator(seed, "augmentation")
    targets = torch.from_numpy(labels if probabilities is None else np.array(probabilities))
    for picked in _batches(len(images), batch_size, steps, seed):
        batch = to_float(images[picked], hardware.device)
        if augment:
            batch = augmented(batch, draws)
        value = training.step(batch, targets[picked])
        if on_step is not None:
            on_step(training.age, value)
    # In the order in which stored weights are loaded, so that both say the same to the last bit.
    return model.to(memory_format=torch.contiguous_format).eval()


def predict_proba(
    model: Student, images: Images, *, hardware: Hardware, batch_size: int = INFERENCE_BATCH
) -> np.ndarray:
    """Class probabilities, float32 (N, n_classes), of uint8 images (N, S, S, 3)."""
    return _infer(lambda x: model(x).softmax(1), model, images, hardware, batch_size)


def predict(
    model: Student, images: Images, *, hardware: Hardware, batch_size: int = INFERENCE_BATCH
) -> np.ndarray:
    """The most probable class of each image, int64 (N,)."""
    return predict_proba(model, images, hardware=hardware, batch_size=batch_size).argmax(1)


def features(
    model: Student, images: Images, *, hardware: Hardware, batch_size: int = INFERENCE_BATCH
) -> np.ndarray:
    """Penultimate features, float32 (N, D), of uint8 images (N, S, S, 3)."""
    return _infer(model.features, model, images, hardware, batch_size)


def accuracy(model: Student, images: Images, labels: np.ndarray, *, hardware: Hardware) -> float:
    """Overall accuracy (OA): the share of the images whose class is predicted, in [0, 1].

    Raises:
        DatasetError: there are no images, or not one label for each.
    """
    if len(images) == 0 or len(images) != len(labels):
        raise DatasetError(
            f"got {len(images)} images and {len(labels)} labels to test on.",
            fix="Give one label for each of at least one image.",
        )
    return float((predict(model, images, hardware=hardware) == np.asarray(labels)).mean())


def augmented(batch: Tensor, draws: torch.Generator) -> Tensor:
    """Random resized crops (area 0.67 to 1) and mirror images, one draw for each image.

    Args:
        batch: Float images (B, C, S, S).
        draws: CPU generator, so that the draws are the same on every device.

    Returns:
        Float images (B, C, S, S).
    """
    n = len(batch)
    uniform = torch.rand(6, n, generator=draws)
    area = CROP_AREA[0] + (CROP_AREA[1] - CROP_AREA[0]) * uniform[0]
    ratio = torch.exp(
        math.log(CROP_RATIO[0]) + math.log(CROP_RATIO[1] / CROP_RATIO[0]) * uniform[1]
    )
    width, height = (area * ratio).sqrt().clamp(max=1), (area / ratio).sqrt().clamp(max=1)
    matrix = torch.zeros(n, 2, 3)
    # grid_sample coordinates run from -1 to 1: a crop of width w has its centre in 1 - w.
    matrix[:, 0, 0] = width * (uniform[2] < 0.5).float().mul(2).sub(1)
    matrix[:, 1, 1] = height * (uniform[3] < 0.5).float().mul(2).sub(1)
    matrix[:, 0, 2] = (1 - width) * (uniform[4] * 2 - 1)
    matrix[:, 1, 2] = (1 - height) * (uniform[5] * 2 - 1)
    grid = F.affine_grid(matrix.to(batch.device), list(batch.shape), align_corners=False)
    return F.grid_sample(batch, grid, padding_mode="reflection", align_corners=False)


def _checked(images: Images, labels: np.ndarray, n_classes: int) -> np.ndarray:
    labels = np.asarray(labels, dtype=np.int64)
    if images.ndim != 4 or images.shape[-1] != 3 or images.dtype != np.uint8 or not len(images):
        raise DatasetError(
            f"got an array of shape {images.shape} and type {images.dtype} to train on.",
            fix="Give at least one image as uint8 (N, S, S, 3).",
        )
    if labels.shape != (len(images),) or labels.min() < 0 or labels.max() >= n_classes:
        raise DatasetError(
            f"the labels do not fit {len(images)} images of {n_classes} classes.",
            fix="Give one class number from 0 for each image.",
        )
    return labels


def _batches(n: int, batch_size: int, steps: int, seed: int) -> Iterator[np.ndarray]:
    """``steps`` full batches of positions: shuffled epochs, one after the other."""
    if steps < 1 or batch_size < 2:
        raise ConfigError(
            f"cannot train {steps} steps of batch size {batch_size}.",
            fix="Use at least 1 step and batch size 2.",
        )
    draws = generator(seed, "order")
    queue = np.empty(0, dtype=np.int64)
    for _ in range(steps):
        while len(queue) < batch_size:
            queue = np.concatenate([queue, torch.randperm(n, generator=draws).numpy()])
        picked, queue = queue[:batch_size], queue[batch_size:]
        yield picked


def to_float(images: np.ndarray, device: torch.device) -> Tensor:
    """uint8 (B, S, S, 3) → float (B, 3, S, S) in [0, 1], on a device."""
    batch = torch.from_numpy(np.array(images, copy=True)).to(device)
    return batch.permute(0, 3, 1, 2).contiguous().float().div_(255)


@torch.no_grad()
def _infer(
    function: Callable[[Tensor], Tensor],
    model: Student,
    images: Images,
    hardware: Hardware,
    batch_size: int,
) -> np.ndarray:
    model.to(hardware.device).eval()
    parts = []
    for start in range(0, len(images), batch_size):
        # In float32: bfloat16 features would be too coarse for distances between them.
        output = function(to_float(images[start : start + batch_size], hardware.device))
        parts.append(output.cpu().numpy())
    if not parts:
        raise DatasetError("there is no image to look at.", fix="Give at least one image.")
    return np.concatenate(parts)
