"""Which member of each cluster stands for it: the choice from which most is learnt.

The published procedure takes the member nearest each cluster's centre, the most typical one.
Typical images are much alike, and a classifier fitted to them has seen little of what a class can
look like. Here members are exchanged, one cluster at a time, as long as the loss of
:mod:`dpd_core.students.ridge` falls: that of a ridge regression fitted to all representatives
together and asked about the real training images. Each cluster keeps one of its own members, so its
caption stays true.

This is coordinate descent over a discrete choice (as in k-medoids by swapping: Kaufman & Rousseeuw,
1987), with the data set's own loss in place of the distance.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from dpd_core.hardware import Hardware
from dpd_core.seeding import generator
from dpd_core.students import training as students
from dpd_core.students.networks import Student
from dpd_core.students.ridge import normalised_features, one_hot, ridge_loss


@dataclass(frozen=True)
class Exchanged:
    """The outcome of :func:`exchange`.

    Attributes:
        rows: The chosen row of each cluster, in the order of the clusters.
        before, after: The loss of the first choice and of this one.
    """

    rows: list[int]
    before: float
    after: float


@torch.no_grad()
def feature_spaces(
    networks: Sequence[Student], images: np.ndarray, hardware: Hardware
) -> list[Tensor]:
    """Features of all images in each network, as the loss sees them.

    Args:
        networks: Frozen, in evaluation mode.
        images: uint8 (N, S, S, 3).
        hardware: Where to compute.

    Returns:
        For each network float (N, D + 1), normalised, on the CPU.
    """
    spaces = []
    for network in networks:
        features = torch.from_numpy(students.features(network, images, hardware=hardware))
        spaces.append(normalised_features(features, features.mean(0), features.std(0) + 1e-4))
    return spaces


@torch.no_grad()
def choice_loss(spaces: Sequence[Tensor], labels: Tensor, rows: Sequence[int]) -> float:
    """Loss of :mod:`dpd_core.students.ridge` for real images as the set, mean over the networks.

    Args:
        spaces: See :func:`feature_spaces`.
        labels: Columns of all images, int (N,).
        rows: The images that make the set.
    """
    n_classes = int(labels.max()) + 1
    targets, picked = one_hot(labels, n_classes), torch.tensor(rows)
    losses = [ridge_loss(space[picked], targets[picked], space, targets) for space in spaces]
    return float(torch.stack(losses).mean())


def exchange(
    spaces: Sequence[Tensor],
    labels: np.ndarray,
    clusters: Sequence[Sequence[int]],
    first: Sequence[int],
    *,
    tries: int,
    seed: int,
    fixed: Sequence[bool] | None = None,
    on_try: Callable[[], None] | None = None,
) -> Exchanged:
    """Exchange representatives for other members of their clusters while the loss falls.

    Args:
        spaces: See :func:`feature_spaces`.
        labels: Columns of all images, int (N,).
        clusters: Rows of the members of each cluster.
        first: The representative of each cluster to begin with.
        tries: Exchanges that are tried, in rounds over all clusters in random order.
        seed: Determines their order.
        fixed: Which representatives stay, by cluster; ``None``: none.
        on_try: Called after each try; may raise to stop.

    Returns:
        The choice, never worse than the first in this loss.
    """
    columns = torch.from_numpy(np.asarray(labels, dtype=np.int64))
    rows = list(first)
    loss = before = choice_loss(spaces, columns, rows)
    open_clusters = [
        cluster
        for cluster, members in enumerate(clusters)
        if len(members) > 1 and not (fixed is not None and fixed[cluster])
    ]
    draws = generator(seed, "exchange")
    queue: list[int] = []
    for _ in range(tries if open_clusters else 0):
        if not queue:
            order = torch.randperm(len(open_clusters), generator=draws)
            queue = [open_clusters[place] for place in order.tolist()]
        cluster = queue.pop()
        others = [row for row in clusters[cluster] if row != rows[cluster]]
        other = others[int(torch.randint(len(others), (), generator=draws))]
        tried = [*rows[:cluster], other, *rows[cluster + 1 :]]
        value = choice_loss(spaces, columns, tried)
        if value < loss:
            rows, loss = tried, value
        if on_try is not None:
            on_try()
    return Exchanged(rows, before, loss)
