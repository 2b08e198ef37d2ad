"""What a set teaches, as a number: kernel ridge regression in the features of a few networks.

A set is good if a classifier fitted to it holds for the real images. The classifier that can be
fitted in closed form is ridge regression on a network's features (FRePo: Zhou, Nezhadarya, Ba,
NeurIPS 2022):

    L = ½ mean ‖Y_r − F_r F_sᵀ (F_s F_sᵀ + λI)⁻¹ Y_s‖²

with features F, centred one-hot labels Y, r the real training images, s the set. Images are chosen
by it: real ones as prototypes (:mod:`dpd_core.prototypes.choice`), generated ones for a set
(:mod:`dpd_core.synthesize.choice`). The networks are trained once on the real training images and
kept at several moments, so that the choice does not suit one network only.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.nn import functional

from dpd_core import storage
from dpd_core.dataset.index import DatasetIndex
from dpd_core.dataset.pixels import pixels
from dpd_core.events import Emit, Meter
from dpd_core.hardware import Hardware
from dpd_core.project import Project
from dpd_core.seeding import derive_seed, generator
from dpd_core.students.networks import Student, build_student
from dpd_core.students.training import Training, augmented, to_float

NETWORKS, NETWORK_STEPS = 2, 200
"""Networks that a project trains on its real images, and the training steps of each."""
SIDE = 64
"""Side in pixels at which they see images; those of smaller models as they are."""
MOMENTS = (0.0, 0.125, 0.375, 1.0)
"""When a network is kept, as shares of its training steps."""
RIDGE = 1e-2
"""λ as a share of the mean diagonal of F_s F_sᵀ."""
_BATCH, _CALIBRATION_BATCHES, _CALIBRATION_BATCH = 32, 4, 96


def matching_networks(
    images: np.ndarray,
    labels: np.ndarray,
    n_classes: int,
    *,
    count: int,
    steps: int,
    seed: int,
    hardware: Hardware,
    folder: Path,
    key: str,
    on_step: Callable[[], None] | None = None,
) -> list[Student]:
    """Networks at several moments of their training, frozen; found again if made before.

    Args:
        images: uint8 (N, S, S, 3), real training images.
        labels: int (N,).
        n_classes: Number of outputs.
        count: How many networks; each is kept at the moments of :data:`MOMENTS`.
        steps: Training steps of each.
        seed: Project seed.
        hardware: Where to compute.
        folder: Where ``<key>-<number>.safetensors`` goes.
        key: Digest of everything that determines the networks.
        on_step: Called after each training step; may raise to stop.
    """
    networks = []
    for number in range(count):
        path = folder / f"{key}-{number}.safetensors"
        stored = _stored(path)
        if stored is None:
            states = _train(
                images,
                labels,
                n_classes,
                steps,
                derive_seed(seed, "matching", number),
                hardware,
                on_step,
            )
            flat = {
                f"{moment}/{name}": value.cpu().contiguous()
                for moment, state in enumerate(states)
                for name, value in state.items()
            }
            with storage.atomic_path(path) as temporary:
                save_file(flat, temporary)
            stored = flat
        for moment in range(len(MOMENTS)):
            network = build_student("convnet", n_classes)
            prefix = f"{moment}/"
            network.load_state_dict(
                {
                    name.removeprefix(prefix): value
                    for name, value in stored.items()
                    if name.startswith(prefix)
                }
            )
            networks.append(network.to(hardware.device).eval().requires_grad_(False))
    return networks


def _stored(path: Path) -> dict[str, Tensor] | None:
    """The tensors of a file that can be made again; ``None`` if it is not there or damaged."""
    if not path.exists():
        return None
    try:
        return load_file(path)
    except (OSError, SafetensorError):
        return None


def project_networks(
    project: Project,
    images: np.ndarray,
    labels: np.ndarray,
    classes: list[str],
    *,
    count: int,
    steps: int,
    hardware: Hardware,
    emit: Emit,
    stage: str,
) -> list[Student]:
    """:func:`matching_networks` of a project, kept in its cache.

    Args:
        project: Where they are kept.
        images, labels: All real training images and their columns.
        classes: Class names in the order of the columns.
        count, steps, hardware: As there.
        emit, stage: Progress.
    """
    content = zlib.crc32(np.ascontiguousarray(images).tobytes())
    key = storage.digest(
        "matching",
        1,
        content,
        np.asarray(labels).tolist(),
        classes,
        steps,
        MOMENTS,
        project.config.seed,
    )
    meter = Meter(emit, stage, count * steps, message="training networks on the real images")
    return matching_networks(
        images,
        labels,
        len(classes),
        count=count,
        steps=steps,
        seed=project.config.seed,
        hardware=hardware,
        folder=project.path("cache", "matching"),
        key=key,
        on_step=meter.advance,
    )


@dataclass(frozen=True)
class RealImages:
    """A project's real training images.

    Attributes:
        ids: Image ids, in the order of the index.
        pixels: uint8 (N, S, S, 3).
        labels: Places of their classes in ``classes``, int (N,).
        classes: Class names, sorted.
    """

    ids: list[str]
    pixels: np.ndarray
    labels: np.ndarray
    classes: list[str]


def real_images(
    project: Project,
    index: DatasetIndex,
    *,
    side: int,
    emit: Emit,
    stage: str,
) -> RealImages:
    """The real training images of a project, as a set is compared with them.

    Args:
        project: Where their pixels are kept.
        index: Its data set.
        side: Their side in pixels.
        emit, stage: Progress.
    """
    train, classes = index.select(split="train"), sorted(index.classes)
    images = pixels(project, train, side, emit=emit, stage=stage)
    labels = np.array([classes.index(record.class_name) for record in train])
    return RealImages([record.id for record in train], images, labels, classes)


def trained_networks(
    project: Project,
    real: RealImages,
    *,
    hardware: Hardware,
    emit: Emit,
    stage: str,
) -> list[Student]:
    """A project's networks without those of the first moment: an untrained network's features say
    little about what matters.

    Args:
        project: Where they are kept.
        real: What they are trained on.
        hardware: Where to compute.
        emit, stage: Progress.
    """
    networks = project_networks(
        project,
        real.pixels,
        real.labels,
        real.classes,
        count=NETWORKS,
        steps=NETWORK_STEPS,
        hardware=hardware,
        emit=emit,
        stage=stage,
    )
    return [network for place, network in enumerate(networks) if place % len(MOMENTS)]


@dataclass(frozen=True)
class RidgeSpace:
    """One network's features of the images that may stand in a set, with what the loss needs of
    the real ones: sums over them, so that a loss costs the same however many there are. Made by
    :func:`ridge_space`.

    Attributes:
        features: Of the P images that may stand in a set, (P, D).
        scatter: F_rᵀ F_r / R, (D, D).
        moment: F_rᵀ Y_r / R, (D, n).
        energy: ‖Y_r‖² / R.
    """

    features: Tensor
    scatter: Tensor
    moment: Tensor
    energy: float

    def loss(self, labels: Tensor, rows: Tensor) -> float:
        """The loss of the set that some of the images make.

        Args:
            labels: Centred one-hot labels of all P images, (P, n).
            rows: Those of the set, int (S,).
        """
        support = self.features[rows]
        kernel = support @ support.T
        ridge = RIDGE * kernel.diagonal().mean()
        identity = torch.eye(len(support), device=support.device)
        weights = support.T @ torch.linalg.solve(kernel + ridge * identity, labels[rows])
        fitted = (weights * (self.scatter @ weights)).sum() - 2 * (weights * self.moment).sum()
        return 0.5 * (self.energy + float(fitted))


def ridge_space(features: Tensor, real: Tensor, truth: Tensor) -> RidgeSpace:
    """A space for choosing a set.

    Args:
        features: Of the images that may stand in the set, (P, D).
        real: F_r, of the real training images, (R, D).
        truth: Y_r, (R, n).
    """
    count = len(real)
    return RidgeSpace(
        features, real.T @ real / count, real.T @ truth / count, float(truth.square().sum()) / count
    )


def normalised_space(features: Tensor, real: Tensor, truth: Tensor) -> RidgeSpace:
    """:func:`ridge_space` of features as a network gives them, normalised by the real images'."""
    mean, deviation = real.mean(0), real.std(0) + 1e-4
    support, queries = (normalised_features(part, mean, deviation) for part in (features, real))
    return ridge_space(support, queries, truth)


def normalised_features(features: Tensor, mean: Tensor, deviation: Tensor) -> Tensor:
    """Features (N, D) as ridge regression sees them, (N, D + 1): by the real images' mean and
    deviation (D,), with a constant, and of length about one whatever D is."""
    scaled = (features - mean) / deviation
    with_bias = torch.cat([scaled, torch.ones_like(scaled[:, :1])], 1)
    return with_bias / with_bias.shape[1] ** 0.5


def one_hot(labels: Tensor, n_classes: int) -> Tensor:
    """Centred one-hot labels, (N, n)."""
    return functional.one_hot(labels, n_classes).float() - 1 / n_classes


def _train(
    images: np.ndarray,
    labels: np.ndarray,
    n_classes: int,
    steps: int,
    seed: int,
    hardware: Hardware,
    on_step: Callable[[], None] | None,
) -> list[dict[str, Tensor]]:
    """States of one network at the moments, each with statistics fitted to its weights."""
    network = build_student("convnet", n_classes, seed=derive_seed(seed, "weights"))
    training = Training(network, hardware)
    draws = generator(seed, "draws")
    moments = {round(share * steps) for share in MOMENTS}
    states = []
    for step in range(steps + 1):
        if step in moments:
            states.append(_calibrated(network, images, draws))
        if step == steps:
            break
        training.step(*draw(images, labels, _BATCH, draws, hardware.device))
        if on_step is not None:
            on_step()
    return states


@torch.no_grad()
def _calibrated(network: Student, images: np.ndarray, draws: torch.Generator) -> dict[str, Tensor]:
    """The network's state with batch-norm statistics measured for its present weights: those
    of an untrained network say nothing yet, those of a young one lag behind."""
    before = {name: value.clone() for name, value in network.state_dict().items()}
    device = next(network.parameters()).device
    fake = np.zeros(len(images), dtype=np.int64)
    with _averaged_norms(network) as norms:
        for norm in norms:
            norm.reset_running_stats()
        for _ in range(_CALIBRATION_BATCHES):
            network(draw(images, fake, _CALIBRATION_BATCH, draws, device)[0])
    state = {name: value.clone() for name, value in network.state_dict().items()}
    network.load_state_dict(before)
    return state


@contextmanager
def _averaged_norms(network: Student) -> Iterator[list[nn.BatchNorm2d]]:
    """Within, batch normalisation takes as much of each training batch into its statistics. Gives
    the layers."""
    norms = [module for module in network.modules() if isinstance(module, nn.BatchNorm2d)]
    before = [norm.momentum for norm in norms]
    try:
        for norm in norms:
            norm.momentum = None
        yield norms
    finally:
        for norm, own in zip(norms, before, strict=True):
            norm.momentum = own


def draw(
    images: np.ndarray, labels: np.ndarray, count: int, draws: torch.Generator, device: Any
) -> tuple[Tensor, Tensor]:
    """``count`` augmented images (B, 3, S, S) with their labels (B,), without repetition."""
    rows = torch.randperm(len(images), generator=draws)[:count].numpy()
    batch = augmented(to_float(images[rows], device), draws)
    return batch, torch.from_numpy(np.asarray(labels)[rows]).to(device)
