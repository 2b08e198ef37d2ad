"""Which member of each cluster stands for it: the setting ``choice`` of the prototypes stage.

``typical`` is the published procedure: the member with the largest margin, see
:mod:`dpd_core.prototypes.clusterer`. Typical images are much alike, and a classifier fitted to them
has seen little of what a class can look like. ``taught`` begins with them and exchanges members,
one cluster at a time, as long as the loss of :mod:`dpd_core.students.ridge` falls: that of a ridge
regression fitted to all representatives together and asked about the real training images. Each
cluster keeps one of its own members, so its caption stays true.

This is coordinate descent over a discrete choice (as in k-medoids by swapping: Kaufman & Rousseeuw,
1987), with the data set's own loss in place of the distance. The outcome is kept in
``cache/choice/`` under a digest of everything that determines it, so that a run that comes to the
same question has the answer without the search.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from dpd_core import storage
from dpd_core.dataset.index import DatasetIndex, load_index
from dpd_core.events import Emit, Log, Meter
from dpd_core.hardware import Hardware, choose_hardware
from dpd_core.models.backbone import image_side
from dpd_core.project import Project
from dpd_core.prototypes.files import Slot
from dpd_core.prototypes.overrides import read_overrides
from dpd_core.seeding import derive_seed, generator
from dpd_core.students import ridge
from dpd_core.students import training as students
from dpd_core.students.networks import Student

TRIES = 8
"""Other members tried for each prototype; four times as many found nothing better."""
MAX_IMAGES = 4000
"""Real images that the choice is made from and measured by; of more, as many of each class are
drawn. Bounds memory and time."""


def taught_prototypes(
    project: Project,
    first: Mapping[Slot, str],
    members: Mapping[Slot, Collection[str]],
    fixed: Collection[Slot],
    emit: Emit,
    *,
    stage: str,
) -> dict[Slot, str]:
    """A prototype for each slot from which, together with the others, most is learnt.

    Args:
        project: With its training images; those excluded by hand have no part in it.
        first: Image id of each slot's prototype to begin with.
        members: Ids of the images that may stand for a slot.
        fixed: Slots that keep theirs: those chosen by hand.
        emit, stage: Progress.

    Returns:
        Image id by slot, each the first one or one of the slot's members.
    """
    slots = sorted(first)
    stays = [slot in fixed for slot in slots]
    tries = TRIES * (len(slots) - sum(stays))
    if tries == 0:
        return dict(first)
    index, side = load_index(project), min(ridge.SIDE, image_side(project.config))
    pool = _pool(project, index, [first[slot] for slot in slots], [members[s] for s in slots])
    key = storage.digest(
        "choice",
        pool.ids,
        pool.clusters,
        [first[slot] for slot in slots],
        stays,
        tries,
        side,
        ridge.NETWORKS,
        ridge.NETWORK_STEPS,
        project.config.seed,
        {record.id: record.sha256 for record in index.select(split="train")},
    )
    path = project.path("cache", "choice", f"{key}.json")
    if not path.exists():
        hardware = choose_hardware(project.config)
        real = ridge.real_images(project, index, side=side, emit=emit, stage=stage)
        networks = ridge.trained_networks(project, real, hardware=hardware, emit=emit, stage=stage)
        row_of = {image_id: row for row, image_id in enumerate(real.ids)}
        images = real.pixels[[row_of[image_id] for image_id in pool.ids]]
        spaces = feature_spaces(networks, images, hardware)
        meter = Meter(emit, stage, tries, message="choosing prototypes")
        found = exchange(
            spaces,
            pool.labels,
            pool.clusters,
            [pool.ids.index(first[slot]) for slot in slots],
            tries=tries,
            seed=derive_seed(project.config.seed, "choice"),
            fixed=stays,
            on_try=meter.advance,
        )
        storage.write_json(
            path,
            {
                "prototypes": [pool.ids[row] for row in found.rows],
                "before": found.before,
                "after": found.after,
            },
        )
    result = storage.read_json(path, fix="Delete it and run the stage again.")
    chosen = dict(zip(slots, result["prototypes"], strict=True))
    changed = sum(chosen[slot] != first[slot] for slot in slots)
    emit(
        Log(
            stage,
            f"{changed} of {len(slots)} prototypes exchanged for other members of their "
            f"clusters (loss {result['before']:.3f}, then {result['after']:.3f})",
        )
    )
    return chosen


@dataclass(frozen=True)
class _Pool:
    """The real images that take part, and the rows of each slot's members among them."""

    ids: list[str]
    labels: np.ndarray
    clusters: list[list[int]]


def _pool(
    project: Project,
    index: DatasetIndex,
    first: Sequence[str],
    members: Sequence[Collection[str]],
) -> _Pool:
    excluded = read_overrides(project).excluded
    train, classes = index.select(split="train"), sorted(index.classes)
    most = max(MAX_IMAGES // len(classes), 1)
    ids, labels = [], []
    for column, name in enumerate(classes):
        of_class = sorted(
            record.id for record in train if record.class_name == name and record.id not in excluded
        )
        draws = generator(project.config.seed, "choice", name)
        drawn = torch.randperm(len(of_class), generator=draws)[:most].tolist()
        taken = sorted({*(of_class[row] for row in drawn), *first}.intersection(of_class))
        ids += taken
        labels += [column] * len(taken)
    row_of = {image_id: row for row, image_id in enumerate(ids)}
    clusters = [sorted(row_of[i] for i in of_slot if i in row_of) for of_slot in members]
    return _Pool(ids, np.array(labels), clusters)


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
        spaces.append(ridge.normalised_features(features, features.mean(0), features.std(0) + 1e-4))
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
    targets, picked = ridge.one_hot(labels, n_classes), torch.tensor(rows)
    losses = [ridge.ridge_loss(space[picked], targets[picked], space, targets) for space in spaces]
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
        if set(members) - {first[cluster]} and not (fixed is not None and fixed[cluster])
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
