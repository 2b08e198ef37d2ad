"""What is measured of a distilled set: pure functions of arrays.

Features are those of a network trained on the real training split
(:func:`dpd_core.students.training.train_feature_network`), images are uint8 (N, S, S, 3), labels
are class numbers (N,). Nothing here reads the project or knows which set is which.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from dpd_core.errors import DatasetError

FID_UNBIASED_FROM = 2048
"""Images below which FID is not comparable between set sizes (Heusel et al., 2017, ask for
at least the 2,048 dimensions of Inception; the bias falls as 1/n)."""
KID_SUBSETS = 100
KID_SUBSET_SIZE = 1000
SSIM_WINDOW, SSIM_SIGMA, SSIM_K1, SSIM_K2 = 11, 1.5, 0.01, 0.03
"""Constants of Wang et al., 2004."""
NN_SSIM_TOP = 5
"""The published NN-SSIM averages this many of the highest similarities."""


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


@dataclass(frozen=True)
class Distance:
    """A distance between two samples of features.

    Attributes:
        value: The estimate; smaller is closer.
        std: Its deviation over random subsets, where the estimator has one.
        note: What limits the estimate; empty if nothing does.
    """

    value: float
    std: float | None = None
    note: str = ""

    def to_dict(self) -> dict[str, Any]:
        """As kept in the report."""
        return {"value": self.value, "std": self.std, "note": self.note}


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
    from torchmetrics.image.fid import FrechetInceptionDistance

    _check_features(real, generated)
    metric = FrechetInceptionDistance(feature=_Identity(real.shape[1]))
    metric.set_dtype(torch.float64)
    metric.update(torch.from_numpy(real.astype(np.float64)), real=True)
    metric.update(torch.from_numpy(generated.astype(np.float64)), real=False)
    smaller = min(len(real), len(generated))
    note = ""
    if smaller < FID_UNBIASED_FROM:
        note = (
            f"Biased upwards: {len(generated)} images against {len(real)}, fewer than "
            f"{FID_UNBIASED_FROM}. Compare only with sets of the same size."
        )
    # Rounding can bring the distance of equal samples a little below zero.
    return Distance(max(0.0, float(metric.compute())), note=note)


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
    from torchmetrics.image.kid import KernelInceptionDistance

    _check_features(real, generated)
    size = min(len(real), len(generated), KID_SUBSET_SIZE)
    with warnings.catch_warnings():
        # It warns that it keeps all features; they are small and in memory already.
        warnings.simplefilter("ignore", UserWarning)
        metric = KernelInceptionDistance(
            feature=_Identity(real.shape[1]), subsets=KID_SUBSETS, subset_size=size
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


@dataclass(frozen=True)
class NearestImages:
    """Structural similarity of each of M images to its nearest reference images.

    Attributes:
        top_mean: Mean of the highest five similarities, float (M,): the published NN-SSIM.
        highest: The highest similarity, float (M,).
        nearest: Row of that reference image, int (M,).
    """

    top_mean: np.ndarray
    highest: np.ndarray
    nearest: np.ndarray


def nn_ssim(
    images: np.ndarray,
    labels: np.ndarray,
    references: np.ndarray,
    reference_labels: np.ndarray,
    *,
    device: torch.device | str = "cpu",
) -> Iterator[tuple[int, float, float, int]]:
    """SSIM of each image to every reference image of its class.

    Memory is bounded by the largest class of references, whose local moments are kept while
    its images are compared one by one.

    Args:
        images: uint8 (M, S, S, 3) with labels (M,).
        references: uint8 (N, S, S, 3) with labels (N,); may be a memory map.

    Yields:
        Row of the image, mean of its five highest similarities, the highest, and the row of
        that reference; ordered by class. :func:`collect_nearest` makes arrays of them.

    Raises:
        DatasetError: a class has no reference image, or the images are smaller than the window.
    """
    if images.shape[1] < SSIM_WINDOW or images.shape[1:] != references.shape[1:]:
        raise DatasetError(
            f"cannot compare images of shape {images.shape[1:]} and {references.shape[1:]}.",
            fix=f"Use one size of at least {SSIM_WINDOW} px for both.",
        )
    for label in np.unique(labels):
        rows = np.flatnonzero(reference_labels == label)
        if not len(rows):
            raise DatasetError(
                f"class number {label} has no image to compare with.",
                fix="Give at least one reference image a class.",
            )
        moments = [_Moments.of(references[part], device) for part in _chunks(rows)]
        for row in np.flatnonzero(labels == label):
            one = _Moments.of(images[row : row + 1], device)
            similarity = torch.cat([_ssim(one, many) for many in moments]).cpu()
            top = similarity.topk(min(NN_SSIM_TOP, len(rows))).values.double().mean()
            best = int(similarity.argmax())
            yield int(row), float(top), float(similarity[best]), int(rows[best])


def collect_nearest(found: Iterator[tuple[int, float, float, int]]) -> NearestImages:
    """The results of :func:`nn_ssim` as arrays in the order of its images."""
    records = sorted(found)
    return NearestImages(
        np.array([record[1] for record in records]),
        np.array([record[2] for record in records]),
        np.array([record[3] for record in records], dtype=np.int64),
    )


def ssim(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Structural similarity of image pairs (Wang et al., 2004), float (N,).

    Mean over the three channels and all pixels, with mirrored borders like torchmetrics.

    Args:
        first: uint8 (1, S, S, 3) or (N, S, S, 3).
        second: uint8 (N, S, S, 3).
    """
    return _ssim(_Moments.of(first, "cpu"), _Moments.of(second, "cpu")).numpy()


@dataclass(frozen=True)
class _Moments:
    """An image batch (N, 3, S, S) in [0, 1] with what SSIM asks of each image alone.

    Kept because they depend on one image only: of the five filterings of a pair, one is left.
    That and filtering by matrix products make all pairs many times faster than torchmetrics'
    SSIM, which the tests compare with.

    Attributes:
        pixels: (N, 3, S, S).
        mean: Local means, likewise.
        luminance: Their squares plus half of SSIM's first constant.
        contrast: Local variances plus half of its second constant.
    """

    pixels: Tensor
    mean: Tensor
    luminance: Tensor
    contrast: Tensor

    @classmethod
    def of(cls, images: np.ndarray, device: torch.device | str) -> _Moments:
        pixels = torch.from_numpy(np.array(images, copy=True)).to(device).permute(0, 3, 1, 2)
        pixels = pixels.contiguous().float().div_(255)
        band = _band(pixels.shape[-1], str(pixels.device))
        mean = _smooth(pixels, band)
        variance = (_smooth(pixels.square(), band) - mean.square()).clamp_(min=0)
        return cls(pixels, mean, mean.square() + SSIM_K1**2 / 2, variance + SSIM_K2**2 / 2)


def _ssim(one: _Moments, many: _Moments) -> Tensor:
    # In place wherever that is possible: the arithmetic is waited for less than the memory.
    means = one.mean * many.mean
    covariance = _smooth(one.pixels * many.pixels, _band(means.shape[-1], str(means.device)))
    covariance.sub_(means).mul_(2).add_(SSIM_K2**2)
    numerator = means.mul_(2).add_(SSIM_K1**2).mul_(covariance)
    denominator = (one.luminance + many.luminance).mul_(one.contrast + many.contrast)
    return numerator.div_(denominator).mean(dim=(1, 2, 3))


def _smooth(images: Tensor, band: Tensor) -> Tensor:
    """The Gaussian window's weighted mean around each pixel, (…, S, S)."""
    return torch.matmul(band, torch.matmul(images, band.T))


@lru_cache(maxsize=4)
def _band(size: int, device: str) -> Tensor:
    """The window's weights as a matrix (S, S) for one direction; beyond the border the image is
    mirrored."""
    half = SSIM_WINDOW // 2
    offsets = torch.arange(-half, half + 1)
    weights = torch.exp(-(offsets.float() ** 2) / (2 * SSIM_SIGMA**2))
    rows = torch.arange(size)[:, None].expand(size, SSIM_WINDOW)
    columns = (rows + offsets).abs()
    columns = size - 1 - (size - 1 - columns).abs()
    band = torch.zeros(size, size)
    band.index_put_((rows, columns), (weights / weights.sum()).expand(size, -1), accumulate=True)
    return band.to(device)


def _chunks(rows: np.ndarray, size: int = 16) -> Iterator[np.ndarray]:
    """Few enough rows that their moments stay in the processor's cache."""
    for start in range(0, len(rows), size):
        yield rows[start : start + size]


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
