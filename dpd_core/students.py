"""Student classifiers: what a (distilled) training set is worth is what they score.

All sets are compared with the same network, the same augmentation and the same number of
optimizer *steps*, whatever their size, so that a larger set does not also buy more training.
Every student is determined by its seed: initial weights, order of the images, crops, flips.

The same networks, trained on the real training split, give the feature space in which the
distribution metrics are measured (:func:`train_feature_network`, :func:`features`).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from dpd_core.errors import ConfigError, DatasetError, ModelError
from dpd_core.seeding import derive_seed, generator

if TYPE_CHECKING:
    from dpd_core.hardware import Hardware

Images = np.ndarray
"""uint8 array (N, S, S, 3); a memory map is read batch by batch."""

CROP_AREA = (0.67, 1.0)
"""Share of the image that a random crop keeps, as in the published protocol."""
CROP_RATIO = (3 / 4, 4 / 3)
INFERENCE_BATCH = 256


class ResidualBlock(nn.Module):
    """Two 3x3 convolutions with batch normalisation and a shortcut (He et al., 2016)."""

    def __init__(self, inputs: int, outputs: int, stride: int):
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False),
            nn.BatchNorm2d(outputs),
            nn.ReLU(),
            nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False),
            nn.BatchNorm2d(outputs),
        )
        self.shortcut: nn.Module = nn.Identity()
        if stride != 1 or inputs != outputs:
            self.shortcut = nn.Sequential(
                nn.Conv2d(inputs, outputs, 1, stride, bias=False), nn.BatchNorm2d(outputs)
            )

    def forward(self, x: Tensor) -> Tensor:
        """(B, inputs, h, w) → (B, outputs, h/stride, w/stride)."""
        return F.relu(self.body(x) + self.shortcut(x))


class ConvNet(nn.Sequential):
    """The small residual network trained from scratch, about 0.3 M parameters."""

    def __init__(self, n_classes: int):
        super().__init__(
            nn.Conv2d(3, 32, 3, 2, 1, bias=False),
            nn.BatchNorm2d(32),
            nn.ReLU(),
            ResidualBlock(32, 32, 1),
            ResidualBlock(32, 64, 2),
            ResidualBlock(64, 128, 2),
            nn.AdaptiveAvgPool2d(1),
            nn.Flatten(),
            nn.Linear(128, n_classes),
        )


class Student(nn.Module):
    """A classifier of images in [0, 1] that can also show its penultimate features.

    Args:
        network: Module from normalised images (B, 3, S, S) to logits (B, n), or to a
            transformers output with ``logits``.
        mean, std: Normalisation of each channel.
        size: Side in pixels that the network insists on; 0 takes any.
        pretrained: Whether the weights come from elsewhere, which asks for small steps.
    """

    mean: Tensor
    std: Tensor

    def __init__(
        self,
        network: nn.Module,
        *,
        mean: tuple[float, ...] = (0.5, 0.5, 0.5),
        std: tuple[float, ...] = (0.25, 0.25, 0.25),
        size: int = 0,
        pretrained: bool = False,
    ):
        super().__init__()
        self.network, self.size, self.pretrained = network, size, pretrained
        self.register_buffer("mean", torch.tensor(mean).view(1, 3, 1, 1))
        self.register_buffer("std", torch.tensor(std).view(1, 3, 1, 1))

    @property
    def head(self) -> nn.Linear:
        """The last linear layer, whose input are the features."""
        return [module for module in self.network.modules() if isinstance(module, nn.Linear)][-1]

    def forward(self, images: Tensor) -> Tensor:
        """Images (B, 3, S, S), float in [0, 1] → logits (B, n)."""
        if self.size and images.shape[-1] != self.size:
            images = F.interpolate(images, (self.size, self.size), mode="bilinear", antialias=True)
        output = self.network((images - self.mean) / self.std)
        return output if isinstance(output, Tensor) else output.logits

    def features(self, images: Tensor) -> Tensor:
        """Images (B, 3, S, S), float in [0, 1] → penultimate features (B, D)."""
        seen: list[Tensor] = []
        hook = self.head.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
        try:
            self(images)
        finally:
            hook.remove()
        return seen[0]


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


def build_student(student: str, n_classes: int, *, seed: int = 0) -> Student:
    """An untrained student, or a pretrained one with a new last layer.

    Args:
        student: ``"convnet"``, ``"resnet18"`` (both from scratch, no network needed), or a
            Hub id or folder of a transformers image classifier, loaded with its weights.
        n_classes: Number of outputs.
        seed: Determines the initial weights; the global random state is left as it was.

    Raises:
        ModelError: the pretrained model cannot be loaded.
    """
    if n_classes < 2:
        raise DatasetError("a student needs at least two classes.",
                           fix="Use a data set with two classes or more.")  # fmt: skip
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        if student == "convnet":
            return Student(ConvNet(n_classes))
        if student == "resnet18":
            return Student(_resnet18(n_classes))
        return _pretrained(student, n_classes)


def _resnet18(n_classes: int) -> nn.Module:
    from transformers import ResNetConfig, ResNetForImageClassification

    settings: dict[str, Any] = {
        "embedding_size": 64, "hidden_sizes": [64, 128, 256, 512], "depths": [2, 2, 2, 2],
        "layer_type": "basic", "num_labels": n_classes,
    }  # fmt: skip
    config = ResNetConfig(**settings)
    return ResNetForImageClassification(config)


def _pretrained(source: str, n_classes: int) -> Student:
    from transformers import AutoImageProcessor, AutoModelForImageClassification

    try:
        # Only safetensors: the pickled formats could run code.
        network: Any = AutoModelForImageClassification.from_pretrained(
            source, num_labels=n_classes, ignore_mismatched_sizes=True, use_safetensors=True
        )
        processor: Any = AutoImageProcessor.from_pretrained(source, use_fast=False)
    except (OSError, ValueError, ImportError, KeyError) as error:
        raise ModelError(
            f"the student cannot be loaded ({error}).", where=source,
            fix="Use 'convnet', 'resnet18', or the id or folder of a transformers image "
            "classifier with safetensors weights and a preprocessor_config.json.",
        ) from error  # fmt: skip
    linear = [module for module in network.modules() if isinstance(module, nn.Linear)]
    if not linear or linear[-1].out_features != n_classes:
        raise ModelError("the model does not end in a linear classifier.", where=source,
                         fix="Use another student, for instance 'resnet18'.")  # fmt: skip
    # Convolutional networks take any size; a vision transformer says which one it was made for.
    size = getattr(network.config, "image_size", 0) or 0
    return Student(
        network,
        mean=tuple(getattr(processor, "image_mean", None) or (0.5,) * 3),
        std=tuple(getattr(processor, "image_std", None) or (0.5,) * 3),
        size=size if isinstance(size, int) else int(size[0]),
        pretrained=True,
    )


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
    model.to(hardware.device).train()
    recipe = FINE_TUNING if model.pretrained else FROM_SCRATCH
    optimizer = torch.optim.SGD(
        model.parameters(), recipe.learning_rate, momentum=0.9, nesterov=True,
        weight_decay=recipe.weight_decay,
    )  # fmt: skip
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda step: _warmup_cosine(step, steps, recipe.warmup)
    )
    draws = generator(seed, "augmentation")
    targets = torch.from_numpy(labels)
    for step, picked in enumerate(_batches(len(images), batch_size, steps, seed), start=1):
        batch = _to_float(images[picked], hardware.device)
        if augment:
            batch = augmented(batch, draws)
        with _autocast(hardware):
            logits = model(batch)
        loss = F.cross_entropy(logits.float(), targets[picked].to(hardware.device))
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), recipe.clip)
        optimizer.step()
        schedule.step()
        value = float(loss.detach())
        if not math.isfinite(value):
            raise ModelError(f"the student's loss became {value} at step {step}.",
                             where=student, fix="Try another seed or student.")  # fmt: skip
        if on_step is not None:
            on_step(step, value)
    return model.eval()


def train_feature_network(
    images: Images,
    labels: np.ndarray,
    n_classes: int,
    *,
    student: str = "convnet",
    steps: int,
    batch_size: int,
    seed: int,
    hardware: Hardware,
    on_step: Callable[[int, float], None] | None = None,
) -> Student:
    """The network whose penultimate features the distribution metrics use.

    It is a student of the whole real training split: a feature space tuned to the data set,
    because features of everyday photographs say little about scenes seen from above. Its own
    seed path keeps it apart from the students that are scored. Report its accuracy on the test
    split beside what is measured with it.

    Arguments and errors as in :func:`train_student`.
    """
    return train_student(
        images, labels, n_classes, student=student, steps=steps, batch_size=batch_size,
        seed=derive_seed(seed, "feature network"), hardware=hardware, on_step=on_step,
    )  # fmt: skip


def predict_proba(
    model: Student, images: Images, *, hardware: Hardware, batch_size: int = INFERENCE_BATCH
) -> np.ndarray:
    """Class probabilities, float32 (N, n_classes), of uint8 images (N, S, S, 3)."""
    return _infer(lambda x: model(x).float().softmax(1), model, images, hardware, batch_size)


def predict(
    model: Student, images: Images, *, hardware: Hardware, batch_size: int = INFERENCE_BATCH
) -> np.ndarray:
    """The most probable class of each image, int64 (N,)."""
    return predict_proba(model, images, hardware=hardware, batch_size=batch_size).argmax(1)


def features(
    model: Student, images: Images, *, hardware: Hardware, batch_size: int = INFERENCE_BATCH
) -> np.ndarray:
    """Penultimate features, float32 (N, D), of uint8 images (N, S, S, 3)."""
    return _infer(lambda x: model.features(x).float(), model, images, hardware, batch_size)


def accuracy(model: Student, images: Images, labels: np.ndarray, *, hardware: Hardware) -> float:
    """Overall accuracy (OA): the share of the images whose class is predicted, in [0, 1].

    Raises:
        DatasetError: there are no images, or not one label for each.
    """
    if len(images) == 0 or len(images) != len(labels):
        raise DatasetError(f"got {len(images)} images and {len(labels)} labels to test on.",
                           fix="Give one label for each of at least one image.")  # fmt: skip
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
    ratio = torch.exp(math.log(CROP_RATIO[0])
                      + math.log(CROP_RATIO[1] / CROP_RATIO[0]) * uniform[1])  # fmt: skip
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
        raise ConfigError(f"cannot train {steps} steps of batch size {batch_size}.",
                          fix="Use at least 1 step and batch size 2.")  # fmt: skip
    draws = generator(seed, "order")
    queue = np.empty(0, dtype=np.int64)
    for _ in range(steps):
        while len(queue) < batch_size:
            queue = np.concatenate([queue, torch.randperm(n, generator=draws).numpy()])
        picked, queue = queue[:batch_size], queue[batch_size:]
        yield picked


def _warmup_cosine(step: int, steps: int, warmup: float) -> float:
    rise = max(1, round(steps * warmup))
    if step < rise:
        return (step + 1) / rise
    return 0.5 * (1 + math.cos(math.pi * (step - rise) / max(1, steps - rise)))


def _to_float(images: np.ndarray, device: torch.device) -> Tensor:
    """uint8 (B, S, S, 3) → float (B, 3, S, S) in [0, 1]."""
    batch = torch.from_numpy(np.array(images, copy=True)).to(device)
    return batch.permute(0, 3, 1, 2).contiguous().float().div_(255)


def _autocast(hardware: Hardware) -> torch.autocast:
    # float16 would need loss scaling; these networks are small enough for float32 there.
    return torch.autocast(
        hardware.device.type, torch.bfloat16, enabled=hardware.dtype == torch.bfloat16
    )


@torch.no_grad()
def _infer(
    function: Callable[[Tensor], Tensor], model: Student, images: Images, hardware: Hardware,
    batch_size: int,
) -> np.ndarray:  # fmt: skip
    model.to(hardware.device).eval()
    parts = []
    for start in range(0, len(images), batch_size):
        with _autocast(hardware):
            output = function(_to_float(images[start : start + batch_size], hardware.device))
        parts.append(output.float().cpu().numpy())
    if not parts:
        raise DatasetError("there is no image to look at.", fix="Give at least one image.")
    return np.concatenate(parts)
