"""The pretrained student: ridge regression on pretrained features, in closed form.

It shows first whether images look real: a network that has seen photographs knows what to look for,
and finds little of it in what only resembles them. Nothing is drawn at random, so one set has one
result.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from dpd_core.errors import DatasetError

NAME = "pretrained"
"""Its name among the students."""
RIDGE = 0.1
"""λ as a share of the mean diagonal of the features' kernel."""


@dataclass(frozen=True)
class RidgeHead:
    """A linear classifier of features; made by :func:`fit`.

    Attributes:
        centre: Mean of the features it was fitted to, (D,).
        weights: (D, n).
        prior: Mean of the labels, (n,).
    """

    centre: np.ndarray
    weights: np.ndarray
    prior: np.ndarray

    def scores(self, features: np.ndarray) -> np.ndarray:
        """What it says of features (M, D): float (M, n), about one for the class named."""
        return (_unit(features) - self.centre) @ self.weights + self.prior

    def predict(self, features: np.ndarray) -> np.ndarray:
        """The class of each, int (M,)."""
        return self.scores(features).argmax(1)


def fit(features: np.ndarray, labels: np.ndarray, n_classes: int) -> RidgeHead:
    """Ridge regression of one-hot labels on features of length one.

    Args:
        features: float (N, D).
        labels: Class numbers int (N,), or probabilities float (N, n_classes).
        n_classes: Number of outputs.

    Raises:
        DatasetError: features and labels do not fit, or there is nothing to tell apart.
    """
    labels = np.asarray(labels)
    if labels.ndim == 1:
        if len(labels) and not 0 <= labels.min() <= labels.max() < n_classes:
            raise DatasetError(
                f"there are labels outside of {n_classes} classes.", fix="Number them from 0."
            )
        labels = np.eye(n_classes)[labels]
    if not len(features) or labels.shape != (len(features), n_classes) or n_classes < 2:
        raise DatasetError(
            f"the labels {labels.shape} do not fit {len(features)} images of {n_classes} classes.",
            fix="Give one label for each of at least one image, of two classes or more.",
        )
    known = _unit(features)
    centre, prior = known.mean(0), labels.mean(0)
    known, wanted = known - centre, labels - prior
    if len(known) <= known.shape[1]:
        kernel = known @ known.T
        damping = RIDGE * max(float(kernel.trace()), 1e-12) / len(kernel)
        weights = known.T @ np.linalg.solve(kernel + damping * np.eye(len(kernel)), wanted)
    else:
        # The same solution, from the smaller of the two matrices.
        scatter = known.T @ known
        damping = RIDGE * max(float(scatter.trace()), 1e-12) / len(known)
        weights = np.linalg.solve(scatter + damping * np.eye(len(scatter)), known.T @ wanted)
    return RidgeHead(centre, weights, prior)


def _unit(features: np.ndarray) -> np.ndarray:
    features = np.asarray(features, dtype=np.float64)
    return features / np.maximum(np.linalg.norm(features, axis=1, keepdims=True), 1e-12)
