"""Metrics, each against a value known otherwise."""

import numpy as np
import pytest
import torch
from torchmetrics.image.fid import FrechetInceptionDistance

from dpd_core.errors import DatasetError
from dpd_core.evaluate import metrics


def scenes(count, size=20, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (count, size, size, 3)).astype(np.uint8)


def gaussian(count, mean=0.0, scale=1.0, width=4, seed=0):
    values = np.random.default_rng(seed).normal(mean, scale, (count, width))
    return values.astype(np.float32)


def test_confusion_matrix_has_true_classes_in_rows():
    matrix = metrics.confusion_matrix(np.array([0, 0, 1, 2]), np.array([0, 1, 1, 0]), 3)
    assert matrix.tolist() == [[1, 1, 0], [0, 1, 0], [1, 0, 0]]
    assert metrics.overall_accuracy(matrix) == 0.5
    assert metrics.per_class_accuracy(matrix).tolist() == [0.5, 1.0, 0.0]


def test_mean_and_sample_deviation():
    assert metrics.mean_std([1.0, 3.0]) == (2.0, pytest.approx(2**0.5))
    assert metrics.mean_std([1.0]) == (1.0, None)


def test_fid_of_gaussians_is_the_closed_form():
    real, moved = gaussian(20000), gaussian(20000, mean=2.0, scale=3.0, seed=1)
    # ‖μ₁ − μ₂‖² + Σ(σ₁ − σ₂)² for diagonal covariances, in four dimensions.
    assert metrics.fid(real, moved).value == pytest.approx(4 * 4 + 4 * 4, rel=0.03)
    assert metrics.fid(real, moved).note == ""
    assert metrics.fid(real, real).value == pytest.approx(0, abs=1e-6)


def test_fid_says_when_it_is_biased():
    found = metrics.fid(gaussian(3000), gaussian(30, seed=1))
    assert "30 images" in found.note
    assert found.value > metrics.fid(gaussian(3000), gaussian(3000, seed=1)).value


def test_fid_survives_fewer_images_than_dimensions():
    found = metrics.fid(gaussian(50, width=64), gaussian(6, width=64, seed=1))
    assert np.isfinite(found.value)
    assert found.value > 0


def test_kid_is_unbiased_where_fid_is_not():
    values = [
        metrics.kid(gaussian(400, seed=s), gaussian(20, seed=s + 100), seed=0).value
        for s in range(16)
    ]
    assert abs(np.mean(values)) < 3 * np.std(values) / 16**0.5
    assert metrics.kid(gaussian(400), gaussian(20, mean=2.0, seed=1), seed=0).value > 1


def test_kid_matches_the_definition():
    real, made = gaussian(12), gaussian(12, mean=0.5, seed=1)
    kernel = lambda a, b: (a @ b.T / a.shape[1] + 1) ** 3  # noqa: E731
    xx, yy, xy = kernel(real, real), kernel(made, made), kernel(real, made)
    n = len(real)
    expected = ((xx.sum() - np.trace(xx)) + (yy.sum() - np.trace(yy))) / (n * (n - 1))
    expected -= 2 * xy.mean()
    assert metrics.kid(real, made, seed=0).value == pytest.approx(expected, rel=1e-4)


def test_kid_is_seeded_and_leaves_the_global_state():
    torch.manual_seed(5)
    state = torch.get_rng_state()
    first = metrics.kid(gaussian(60), gaussian(20, seed=1), seed=3)
    assert torch.equal(torch.get_rng_state(), state)
    torch.manual_seed(6)
    assert metrics.kid(gaussian(60), gaussian(20, seed=1), seed=3) == first
    assert metrics.kid(gaussian(60), gaussian(20, seed=1), seed=4) != first


@pytest.mark.parametrize("distance", [metrics.fid, lambda a, b: metrics.kid(a, b, seed=0)])
def test_distances_need_two_images_and_one_network(distance):
    with pytest.raises(DatasetError):
        distance(gaussian(5), gaussian(1))
    with pytest.raises(DatasetError):
        distance(gaussian(5), gaussian(5, width=3))


def test_coverage_is_the_best_cosine_of_the_own_class():
    real = np.array([[1.0, 0.0], [0.0, 2.0], [1.0, 1.0]])
    labels = np.array([0, 0, 1])
    distilled = np.array([[5.0, 0.0], [3.0, 3.0], [0.0, 1.0]])
    overall, by_class = metrics.intra_class_coverage(real, labels, distilled, np.array([0, 0, 1]))
    half = 2**-0.5
    assert by_class[0] == pytest.approx((1 + half) / 2)
    assert by_class[1] == pytest.approx(half), "the better image is of another class"
    assert overall == pytest.approx((1 + half + half) / 3)


def test_coverage_needs_every_class():
    with pytest.raises(DatasetError, match="1"):
        metrics.intra_class_coverage(np.eye(2), np.array([0, 1]), np.eye(2), np.array([0, 0]))


@pytest.mark.parametrize(("count", "width"), [(30, 8), (6, 16)])
def test_fid_is_that_of_torchmetrics(count, width):
    class Same(torch.nn.Module):
        num_features = width

        def forward(self, features):
            return features

    real, made = gaussian(40, width=width), gaussian(count, mean=0.5, width=width, seed=1)
    metric = FrechetInceptionDistance(feature=Same())
    metric.set_dtype(torch.float64)
    metric.update(torch.from_numpy(real).double(), real=True)
    metric.update(torch.from_numpy(made).double(), real=False)
    assert metrics.fid(real, made).value == pytest.approx(float(metric.compute()), rel=1e-4)


def test_fine_energy_is_that_of_a_wave_known_otherwise():
    column = np.arange(32)
    fine, coarse = (
        np.round(128 + 100 * np.sin(2 * np.pi * frequency * column)) for frequency in (3 / 8, 1 / 8)
    )
    images = np.stack(
        [np.broadcast_to(pattern[None, :, None], (32, 32, 3)) for pattern in (fine, coarse)]
    ).astype(np.uint8)
    found = metrics.fine_energy(images)
    assert found[0] == pytest.approx((100 / 255) ** 2 / 2, rel=0.01), "its whole variance"
    assert found[1] < 1e-4


def test_grain_tells_blur_and_noise_from_photographs():
    real, labels = scenes(12, size=32), np.arange(12) % 3
    noisy = np.clip(real + np.random.default_rng(2).normal(0, 60, real.shape), 0, 255)
    blurred = np.repeat(np.repeat(real[:, ::4, ::4], 4, 1), 4, 2)
    assert metrics.grain(real, labels, real, labels) == pytest.approx(1)
    assert metrics.grain(noisy.astype(np.uint8), labels, real, labels) > 1.1
    assert metrics.grain(blurred, labels, real, labels) < 0.7
    # Each class counts alike, however many images it has.
    many = np.r_[np.arange(12), [0] * 20]
    assert metrics.grain(real[many], labels[many], real, labels) < 1.2


def test_welch_compares_a_few_runs():
    assert metrics.welch((0.5,), (0.4, 0.5)) is None
    assert metrics.welch((0.5, 0.5), (0.5, 0.5)) == 1.0
    assert metrics.welch((0.5, 0.5), (0.4, 0.4)) == 0.0
    # Degrees of freedom and p-value of a case from a textbook's table: t = 2.0, 4 degrees.
    assert metrics.welch((1, 2, 3), (1, 2, 3)) == pytest.approx(1.0)
    assert metrics.welch((3.0, 4.0, 5.0), (1.0, 2.0, 3.0)) == pytest.approx(0.0705, abs=1e-3)
