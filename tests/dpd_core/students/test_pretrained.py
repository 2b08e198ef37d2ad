"""The pretrained student's head: the closed form, and what it refuses."""

import numpy as np
import pytest

from dpd_core.errors import DatasetError
from dpd_core.students import pretrained


def groups(count: int, seed: int = 0, width: int = 20) -> tuple[np.ndarray, np.ndarray]:
    """Features of three classes around three directions, and their labels."""
    rng = np.random.default_rng(seed)
    labels = np.arange(count) % 3
    return np.eye(width)[labels] * 3 + rng.normal(0, 0.6, (count, width)), labels


@pytest.mark.parametrize("count", [6, 90])
def test_fit_minimises_the_ridge_loss(count) -> None:
    features, labels = groups(count)
    head = pretrained.fit(features, labels, 3)
    known = features / np.linalg.norm(features, axis=1, keepdims=True)
    known, wanted = known - known.mean(0), np.eye(3)[labels] - np.eye(3)[labels].mean(0)
    damping = pretrained.RIDGE * np.square(known).sum() / count
    gradient = known.T @ (known @ head.weights - wanted) + damping * head.weights
    assert np.abs(gradient).max() < 1e-9


def test_fit_tells_new_features_apart() -> None:
    head = pretrained.fit(*groups(9), 3)
    features, labels = groups(300, seed=1)
    assert (head.predict(features) == labels).mean() > 0.9
    assert head.scores(features).sum(1) == pytest.approx(np.ones(300))


def test_fit_learns_probabilities_like_labels() -> None:
    features, labels = groups(30)
    hard, soft = pretrained.fit(features, labels, 3), pretrained.fit(features, np.eye(3)[labels], 3)
    assert np.array_equal(hard.weights, soft.weights)


def test_fit_of_one_image_a_class_and_of_equal_images_is_finite() -> None:
    head = pretrained.fit(np.ones((3, 4)), np.arange(3), 3)
    assert np.isfinite(head.scores(np.ones((2, 4)))).all()


@pytest.mark.parametrize(
    ("features", "labels"),
    [(np.ones((2, 4)), [0, 3]), (np.ones((2, 4)), [0]), (np.ones((0, 4)), [])],
)
def test_fit_refuses_what_does_not_fit(features, labels) -> None:
    with pytest.raises(DatasetError):
        pretrained.fit(features, np.array(labels, dtype=int), 3)
