"""What is measured of a distilled set: pure functions of arrays.

Features are those of a pretrained network (:mod:`dpd_core.students.features`), images are uint8
(N, S, S, 3), labels are class numbers (N,). Nothing here reads the project or knows which set is
which.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence

import numpy as np
import torch
from scipy.stats import ttest_ind
from torch import Tensor, nn
from torchmetrics.image.kid import KernelInceptionDistance

from dpd_core.errors import DatasetError
from dpd_core.evaluate.report import Distance

FID_UNBIASED_FROM = 2048
"""Images below which FID is not comparable between set sizes (Heusel et al., 2017, ask for
at least the 2,048 dimensions of Inception; the bias falls as 1/n)."""
KID_SUBSETS = 100
KID_SUBSET_SIZE = 1000
GRAIN_FREQUENCY = 0.25
"""Cycles a pixel from which an image's energy counts as grain: half the Nyquist frequency."""


def confusion_matrix(true: np.ndarray, predicted: np.ndarray, n_classes: int) -> np.ndarray:
    """Counts, int64 (n_classes, n_classes); rows are the true classes."""
    matrix = np.zeros((n_classes, n_classes), dtype=np.int64)
    np.add.at(matrix, (np.asarray(true), np.asarray(predicted)), 1)
    return matrix


def overall_accuracy(confusion: np.ndarray) -> float:
    """OA: the share of all tested images on the diagonal, in [0, 1]."""
    return float(np.trace(confusion) / confusion.sum())


def per_class_accuracy(confusion: np.ndarray) -> np.ndarray:
    """The share of each class's images that were recognised, float (n_classes,)."""
    return np.diag(confusion) / confusion.sum(axis=1)


def mean_std(values: Sequence[float]) -> tuple[float, float | None]:
    """Mean and sample standard deviation (n − 1); one value has no deviation: ``None``."""
    return float(np.mean(values)), float(np.std(values, ddof=1)) if len(values) > 1 else None


class _Identity(nn.Module):
    """Lets torchmetrics take features where it expects images."""

    def __init__(self, num_features: int):
        super().__init__()
        self.num_features = num_features

    def forward(self, features: Tensor) -> Tensor:
        return features


def fid(real: np.ndarray, generated: np.ndarray) -> Distance:
    """Fréchet distance of the two Gaussians fitted to the features (Heusel et al., 2017).

    Args:
        real: Features (N, D).
        generated: Features (M, D).

    Raises:
        DatasetError: fewer than two images on a side.
    """
    _check_features(real, generated)
    ours, theirs = (_deviations(features) for features in (generated, real))
    # tr √(Σ₁Σ₂) is the sum of the singular values of the deviations' product, a matrix no larger
    # than the number of images: minutes less than the root of a matrix of features.
    shared = np.linalg.svd(ours @ theirs.T, compute_uv=False).sum()
    spread = np.square(ours).sum() + np.square(theirs).sum()
    apart = np.square(real.mean(0, dtype=np.float64) - generated.mean(0, dtype=np.float64)).sum()
    smaller = min(len(real), len(generated))
    note = ""
    if smaller < FID_UNBIASED_FROM:
        note = (
            f"Biased upwards: {len(generated)} images against {len(real)}, fewer than "
            f"{FID_UNBIASED_FROM}. Compare only with sets of the same size."
        )
    # Rounding can bring the distance of equal samples a little below zero.
    return Distance(max(0.0, float(apart + spread - 2 * shared)), note=note)


def _deviations(features: np.ndarray) -> np.ndarray:
    """A matrix (at most D rows, D) whose Gram matrix is the features' covariance (D, D)."""
    values = features.astype(np.float64)
    values = (values - values.mean(0)) / (len(values) - 1) ** 0.5
    return np.asarray(np.linalg.qr(values, mode="r")) if len(values) > values.shape[1] else values


def kid(real: np.ndarray, generated: np.ndarray, *, seed: int) -> Distance:
    """Kernel distance: unbiased MMD² with the cubic kernel (Bińkowski et al., 2018).

    The mean over 100 random subsets of min(N, M, 1000) features a side. It has no bias with
    the number of images, and therefore may be slightly negative.

    Args:
        real: Features (N, D).
        generated: Features (M, D).
        seed: Chooses the subsets; the global random state is left as it was.

    Raises:
        DatasetError: fewer than two images on a side.
    """
    _check_features(real, generated)
    size = min(len(real), len(generated), KID_SUBSET_SIZE)
    with warnings.catch_warnings():
        # It warns that it keeps all features; they are small and in memory already.
        warnings.simplefilter("ignore", UserWarning)
        metric = KernelInceptionDistance(
            feature=_Identity(real.shape[1]),
            subsets=KID_SUBSETS,
            subset_size=size,
            # Of several processes each has all features; together they would count them twice.
            sync_on_compute=False,
        )
    metric.update(torch.from_numpy(real).float(), real=True)
    metric.update(torch.from_numpy(generated).float(), real=False)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        mean, deviation = metric.compute()
    note = ""
    if size < KID_SUBSET_SIZE:
        note = f"Subsets of {size} images: unbiased, but noisier than with {KID_SUBSET_SIZE}."
    return Distance(float(mean), float(deviation), note)


def intra_class_coverage(
    real: np.ndarray, real_labels: np.ndarray, distilled: np.ndarray, distilled_labels: np.ndarray
) -> tuple[float, dict[int, float]]:
    """How well a few images stand for all: mean of the best same-class cosine similarity.

    Args:
        real: Features (N, D) with labels (N,).
        distilled: Features (M, D) with labels (M,).

    Returns:
        The mean over all real images, and the mean by class number.

    Raises:
        DatasetError: a class of the real images has no distilled image.
    """
    best = np.empty(len(real))
    for label in np.unique(real_labels):
        rows, columns = real_labels == label, distilled_labels == label
        if not columns.any():
            raise DatasetError(
                f"class number {label} has no distilled image.", fix="Synthesize all classes."
            )
        similarity = _normalised(real[rows]) @ _normalised(distilled[columns]).T
        best[rows] = similarity.max(axis=1)
    by_class = {int(k): float(best[real_labels == k].mean()) for k in np.unique(real_labels)}
    return float(best.mean()), by_class


def fine_energy(images: np.ndarray) -> np.ndarray:
    """Energy of each image above half the Nyquist frequency, float (N,): what the eye calls grain.

    The mean over the channels of their variance at radial frequencies above a quarter of a cycle a
    pixel, in units of squared grey levels from 0 to 1.

    Args:
        images: uint8 (N, S, S, 3).
    """
    side = images.shape[1]
    along = np.fft.fftfreq(side)
    fine = np.hypot(along[:, None], along[None]) > GRAIN_FREQUENCY
    energy = np.empty(len(images))
    for row, image in enumerate(images):
        spectrum = np.fft.fft2(image.astype(np.float64) / 255, axes=(0, 1))
        energy[row] = (np.abs(spectrum[fine]) ** 2).sum() / 3 / side**4
    return energy


def grain(
    images: np.ndarray, labels: np.ndarray, real: np.ndarray, real_labels: np.ndarray
) -> float:
    """Fine energy of images relative to real ones of the same classes; 1 is a photograph's own,
    less is blurred, more is noise.

    Each class counts alike, whatever the number of its images.

    Args:
        images: uint8 (N, S, S, 3) with labels (N,).
        real: uint8 (M, S, S, 3) with labels (M,).
    """
    found, known = fine_energy(images), fine_energy(real)
    classes = np.intersect1d(labels, real_labels)
    ours, truth = (
        np.mean([values[of == label].mean() for label in classes])
        for values, of in ((found, labels), (known, real_labels))
    )
    return float(ours / max(truth, 1e-12))


def welch(first: Sequence[float], second: Sequence[float]) -> float | None:
    """Two-sided p-value of Welch's t-test; ``None`` where a side has fewer than two values."""
    if min(len(first), len(second)) < 2:
        return None
    if len({*first}) == len({*second}) == 1:
        return 1.0 if first[0] == second[0] else 0.0
    with warnings.catch_warnings():
        # It warns of a side without spread, whose test is the one-sample test.
        warnings.simplefilter("ignore", RuntimeWarning)
        return float(ttest_ind(first, second, equal_var=False).pvalue)


def _normalised(features: np.ndarray) -> np.ndarray:
    return features / np.maximum(np.linalg.norm(features, axis=1, keepdims=True), 1e-12)


def _check_features(real: np.ndarray, generated: np.ndarray) -> None:
    if real.ndim != 2 or generated.ndim != 2 or real.shape[1] != generated.shape[1]:
        raise DatasetError(
            f"cannot compare features of shape {real.shape} and {generated.shape}.",
            fix="Use one network for both.",
        )
    if min(len(real), len(generated)) < 2:
        raise DatasetError(
            "a distance of distributions needs two images on each side.",
            fix="Use more images, or measure no distributions.",
        )
