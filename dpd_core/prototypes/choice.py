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
from functools import partial

import numpy as np
import torch

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
from dpd_core.students.ridge import RidgeSpace

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
        spaces = choice_spaces(networks, images, pool.labels, hardware)
        meter = Meter(emit, stage, tries, message="choosing prototypes")
        found = exchange(
            partial(choice_loss, spaces, pool.labels),
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
def choice_spaces(
    networks: Sequence[Student], images: np.ndarray, labels: np.ndarray, hardware: Hardware
) -> list[RidgeSpace]:
    """What each network makes of the images, to choose some of them that stand for all.

    Args:
        networks: Frozen, in evaluation mode.
        images: uint8 (N, S, S, 3).
        labels: Columns, int (N,).
        hardware: Where to compute.
    """
    truth = ridge.one_hot(torch.from_numpy(labels), int(labels.max()) + 1)
    spaces = []
    for network in networks:
        found = torch.from_numpy(students.features(network, images, hardware=hardware))
        spaces.append(ridge.normalised_space(found, found, truth))
    return spaces


@torch.no_grad()
def choice_loss(spaces: Sequence[RidgeSpace], labels: np.ndarray, rows: Sequence[int]) -> float:
    """Loss of :mod:`dpd_core.students.ridge` of a set, mean over the networks.

    Args:
        spaces: One a network.
        labels: Columns of all images that may stand in the set, int (P,).
        rows: Those that do.
    """
    columns = torch.from_numpy(np.asarray(labels, dtype=np.int64))
    targets, picked = ridge.one_hot(columns, int(columns.max()) + 1), torch.tensor(rows)
    return float(np.mean([space.loss(targets, picked) for space in spaces]))


def exchange(
    loss_of: Callable[[list[int]], float],
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
        loss_of: The rows of a set → its loss, for instance :func:`choice_loss`.
        clusters: Rows of the members of each cluster.
        first: The representative of each cluster to begin with.
        tries: Exchanges that are tried, in rounds over all clusters in random order.
        seed: Determines their order.
        fixed: Which representatives stay, by cluster; ``None``: none.
        on_try: Called after each try; may raise to stop.

    Returns:
        The choice, never worse than the first in this loss.
    """
    rows = list(first)
    loss = before = loss_of(rows)
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
        value = loss_of(tried)
        if value < loss:
            rows, loss = tried, value
        if on_try is not None:
            on_try()
    return Exchanged(rows, before, loss)
