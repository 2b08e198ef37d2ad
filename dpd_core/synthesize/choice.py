"""Which candidates make the set: chosen together, by what the whole set teaches.

Scoring each candidate by itself takes the most typical one of each slot, and a set of typical
images has seen little of what a class can look like. So the candidates of all slots are a pool, and
coordinate descent goes from slot to slot and takes the candidate with which this is least:

    mean over recipes of networks of L(set)
    + COVERAGE · mean over real images of (1 − max cos to its class in the set)

L is the loss of :mod:`dpd_core.students.ridge`. The networks are of two recipes, so that the choice
suits more than one: small ones trained on the project's real images, and the pretrained feature
network; the second term, on pretrained features, is a facility location: each real image has
something like it in the set. Each slot gets one of its own candidates, so its caption stays true,
and those that the guard refused have no part in it.

The outcome is written to ``choice.json`` in the set's folder before anything is changed, so a
stopped run goes on to the same set.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from dpd_core import storage
from dpd_core.dataset.images import to_square
from dpd_core.dataset.index import load_index
from dpd_core.errors import ProjectError
from dpd_core.events import Emit, Log, Meter
from dpd_core.hardware import Hardware
from dpd_core.project import Project
from dpd_core.prototypes.files import Slot
from dpd_core.seeding import generator
from dpd_core.students import features, ridge
from dpd_core.students import training as students
from dpd_core.students.ridge import RealImages, RidgeSpace
from dpd_core.synthesize.records import BY_HAND, SlotRecord
from dpd_core.synthesize.sets import put_in_place

COVERAGE = 0.5
SWEEPS = 4
"""How often at most every candidate is tried; it ends when nothing changes any more."""
KEPT = 6
"""Candidates of each slot that are kept to look at and to choose from by hand: the best."""


@dataclass(frozen=True)
class Picked:
    """What became of a slot's candidates.

    Attributes:
        chosen: Index of the one that is the slot's image.
        scores: By index of all that could be: how much less the set's loss is with it than on the
            average of the slot's candidates, in thousandths; the chosen one's is the highest.
    """

    chosen: int
    scores: dict[int, float]


@dataclass(frozen=True)
class _Pool:
    """All candidates that may stand in the set.

    Attributes:
        images: uint8 (P, S, S, 3).
        labels: Columns, int (P,).
        indices: Index of each in its slot.
        rows: Their rows by slot.
    """

    images: np.ndarray
    labels: np.ndarray
    indices: list[int]
    rows: dict[Slot, list[int]]


class SetObjective:
    """The loss of a set that is drawn from a pool.

    Args:
        project: Keeps networks and features of the real images.
        real: Its real training images.
        images: The pool, uint8 (P, S, S, 3).
        labels: Columns, int (P,).
        hardware: Where to compute.
        emit, stage: Progress.
    """

    def __init__(
        self,
        project: Project,
        real: RealImages,
        images: np.ndarray,
        labels: np.ndarray,
        *,
        hardware: Hardware,
        emit: Emit,
        stage: str,
    ):
        n_classes = len(real.classes)
        truth = ridge.one_hot(torch.from_numpy(real.labels), n_classes)
        self._targets = ridge.one_hot(torch.from_numpy(labels), n_classes)
        self._labels = torch.from_numpy(labels)
        networks = ridge.trained_networks(project, real, hardware=hardware, emit=emit, stage=stage)
        meter = Meter(emit, stage, len(networks) + 1, message="looking at the candidates")
        self._trained: list[RidgeSpace] = []
        for network in networks:
            known, pool = (
                torch.from_numpy(students.features(network, part, hardware=hardware))
                for part in (real.pixels, images)
            )
            self._trained.append(ridge.normalised_space(pool, known, truth))
            meter.advance()
        device = hardware.device
        known = torch.from_numpy(
            features.cached_features(real.pixels, project.path("cache", "features"), device=device)
        )
        pool = torch.from_numpy(features.features(images, device=device))
        meter.advance()
        self._pretrained = ridge.normalised_space(pool, known, truth)
        centre = known.mean(0)
        self._near = [
            _cosines(known[real.labels == column], pool, centre) for column in range(n_classes)
        ]

    @torch.no_grad()
    def __call__(self, rows: Sequence[int]) -> float:
        """The loss of the set of these rows."""
        picked = torch.tensor(rows)
        trained = np.mean([space.loss(self._targets, picked) for space in self._trained])
        pretrained = self._pretrained.loss(self._targets, picked)
        return float(trained + pretrained) / 2 + COVERAGE * self._uncovered(picked)

    def _uncovered(self, picked: Tensor) -> float:
        """Mean over the real images of one less the cosine to the nearest of their class."""
        total, count = 0.0, 0
        for column, near in enumerate(self._near):
            mine = picked[self._labels[picked] == column]
            if len(mine):
                total += float((1 - near[:, mine].max(1).values).sum())
                count += len(near)
        return total / max(count, 1)


def choose_set(
    project: Project,
    root: Path,
    records: Sequence[SlotRecord],
    hardware: Hardware,
    emit: Emit,
    *,
    stage: str,
) -> list[SlotRecord]:
    """Choose the set among the candidates of all slots and keep the best of each.

    Args:
        project: With its training images.
        root: The set's folder.
        records: All slots of the set, in its order; pinned ones and those chosen by hand stay.
        hardware: Where to compute.
        emit, stage: Progress.

    Returns:
        The records as they stand now.

    Raises:
        ProjectError: an image of the set is missing.
    """
    path = root / "choice.json"
    if not path.exists():
        picked = pick(project, root, records, _open(records), hardware, emit, stage=stage)
        storage.write_json(
            path,
            [
                {
                    "class": slot.class_name,
                    "slot": slot.number,
                    "chosen": p.chosen,
                    "scores": p.scores,
                }
                for slot, p in sorted(picked.items())
            ],
        )
    outcome = {
        Slot(entry["class"], entry["slot"]): Picked(
            entry["chosen"], {int(index): score for index, score in entry["scores"].items()}
        )
        for entry in storage.read_json(path, fix="Delete it and run the stage again.")
    }
    return [
        _settled(root, record, outcome[record.slot]) if record.slot in outcome else record
        for record in records
    ]


def pick(
    project: Project,
    root: Path,
    records: Sequence[SlotRecord],
    open_to: Mapping[Slot, Sequence[int]],
    hardware: Hardware,
    emit: Emit,
    *,
    stage: str,
) -> dict[Slot, Picked]:
    """Choose among candidates of some slots, the others as they stand.

    Args:
        project, root, records, hardware, emit, stage: See :func:`choose_set`.
        open_to: By slot, the indices of the candidates that may be its image; at least one.

    Raises:
        ProjectError: an image of the set is missing.
    """
    index = load_index(project)
    side = min(ridge.SIDE, records[0].size)
    real = ridge.real_images(project, index, side=side, emit=emit, stage=stage)
    pool = _pool(root, records, open_to, real.classes, side)
    objective = SetObjective(
        project, real, pool.images, pool.labels, hardware=hardware, emit=emit, stage=stage
    )
    slots = [record.slot for record in records]
    first = [
        next(
            (row for row in pool.rows[record.slot] if pool.indices[row] == record.image.index),
            pool.rows[record.slot][0],
        )
        for record in records
    ]
    found = _descended(objective, pool, slots, first, open_to, project.config.seed, emit, stage)
    changed = sum(before != after for before, after in zip(first, found.rows, strict=True))
    emit(
        Log(
            stage,
            f"{changed} of {len(slots)} images exchanged for other candidates of their slots "
            f"(loss {found.before:.3f}, then {found.after:.3f})",
        )
    )
    return {
        slot: Picked(
            pool.indices[row],
            {
                pool.indices[candidate]: _score(found.losses, candidate, pool.rows[slot])
                for candidate in pool.rows[slot]
            },
        )
        for slot, row in zip(slots, found.rows, strict=True)
        if slot in open_to
    }


def _score(losses: Mapping[int, float], row: int, rows: Sequence[int]) -> float:
    mean = float(np.mean([losses[candidate] for candidate in rows]))
    return round(1000 * (mean - losses[row]), 3)


@dataclass(frozen=True)
class _Descended:
    """Rows of the set, the loss before and after, and by row of the pool the loss of the set with
    that candidate, when its slot was last looked at."""

    rows: list[int]
    before: float
    after: float
    losses: dict[int, float]


def _descended(
    objective: SetObjective,
    pool: _Pool,
    slots: Sequence[Slot],
    first: Sequence[int],
    open_to: Mapping[Slot, Sequence[int]],
    seed: int,
    emit: Emit,
    stage: str,
) -> _Descended:
    """Slot by slot the candidate of least loss, in sweeps until nothing changes."""
    rows = list(first)
    before = after = objective(rows)
    losses: dict[int, float] = {}
    places = [place for place, slot in enumerate(slots) if slot in open_to]
    total = SWEEPS * len(places)
    meter = Meter(emit, stage, total, message="choosing the set")
    draws = generator(seed, "set")
    for _ in range(SWEEPS):
        start = list(rows)
        for number in torch.randperm(len(places), generator=draws).tolist():
            place = places[number]
            for row in pool.rows[slots[place]]:
                losses[row] = objective([*rows[:place], row, *rows[place + 1 :]])
            rows[place] = min(
                pool.rows[slots[place]], key=lambda row: (losses[row], row != rows[place])
            )
            after = losses[rows[place]]
            meter.advance()
        if rows == start:
            break
    return _Descended(rows, before, after, losses)


def best(picked: Picked) -> set[int]:
    """Indices of the candidates that are kept: the chosen one and the best of the others."""
    order = sorted(picked.scores, key=lambda index: (index != picked.chosen, -picked.scores[index]))
    return set(order[:KEPT])


def _open(records: Sequence[SlotRecord]) -> dict[Slot, list[int]]:
    """By slot, the candidates that may be its image: none that was refused, but where all were
    the one that is least near."""
    found = {}
    for record in records:
        if record.pinned or record.from_set or record.chosen_by == BY_HAND:
            continue
        passed = [candidate.index for candidate in record.candidates if not candidate.refused]
        found[record.slot] = passed or [record.image.index]
    return found


def _pool(
    root: Path,
    records: Sequence[SlotRecord],
    open_to: Mapping[Slot, Sequence[int]],
    classes: Sequence[str],
    side: int,
) -> _Pool:
    images: list[np.ndarray] = []
    labels: list[int] = []
    indices: list[int] = []
    rows: dict[Slot, list[int]] = {}
    for record in records:
        mine = open_to.get(record.slot, [record.image.index])
        rows[record.slot] = list(range(len(images), len(images) + len(mine)))
        for index in mine:
            path = root / record.candidate_file(record.find(index))
            images.append(_read(path, side))
            labels.append(classes.index(record.class_name))
            indices.append(index)
    return _Pool(np.stack(images), np.array(labels, dtype=np.int64), indices, rows)


def _read(path: Path, side: int) -> np.ndarray:
    if not path.exists():
        raise ProjectError("an image of the set is missing.", where=path, fix="Make the set again.")
    with Image.open(path) as image:
        return np.asarray(to_square(image.convert("RGB"), side), dtype=np.uint8)


def _settled(root: Path, record: SlotRecord, picked: Picked) -> SlotRecord:
    """The slot with its choice made and its best candidates alone; done before, the same again."""
    kept = best(picked)
    candidates = tuple(
        replace(candidate, score=picked.scores[candidate.index])
        for candidate in record.candidates
        if candidate.index in kept
    )
    settled = replace(
        record,
        candidates=candidates,
        chosen=[candidate.index for candidate in candidates].index(picked.chosen),
        sampled=record.sampled or len(record.candidates),
        refused=record.refused or sum(candidate.refused for candidate in record.candidates),
    )
    # Before the record forgets them: a process killed in between leaves no file that nobody names.
    for candidate in record.candidates:
        if candidate.index not in kept:
            (root / record.candidate_file(candidate)).unlink(missing_ok=True)
    if settled != record:
        put_in_place(root, settled)
    return settled


def _cosines(real: Tensor, pool: Tensor, centre: Tensor) -> Tensor:
    """Centred cosines of features (R, D) with (P, D): (R, P)."""
    wanted, given = (torch.nn.functional.normalize(part - centre, dim=1) for part in (real, pool))
    return wanted @ given.T
