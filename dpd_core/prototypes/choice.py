"""The exchange of a set's prototypes in its project; see :mod:`dpd_core.prototypes.exchange`
for the method.

The outcome is kept in ``cache/exchange/`` under a digest of everything that determines it, so that
a set that is continued, or made again, has the same prototypes without the search.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass

import numpy as np
import torch

from dpd_core import storage
from dpd_core.config import SynthesizeConfig
from dpd_core.dataset.index import DatasetIndex, load_index
from dpd_core.events import Emit, Log, Meter
from dpd_core.hardware import choose_hardware
from dpd_core.models.backbone import image_side
from dpd_core.project import Project
from dpd_core.prototypes.exchange import exchange, feature_spaces
from dpd_core.prototypes.files import Slot
from dpd_core.prototypes.overrides import read_overrides
from dpd_core.prototypes.stage import load_clustering
from dpd_core.seeding import derive_seed, generator
from dpd_core.students.ridge import real_images, trained_networks

STAGE = "synthesize"
MAX_IMAGES = 4000
"""Real images that the choice is made from and measured by; of more, as many of each class are
drawn. Bounds memory and time."""


@dataclass(frozen=True)
class _Pool:
    """The real images that take part, and the members of each slot's cluster among them."""

    ids: list[str]
    labels: np.ndarray
    clusters: list[list[int]]


def exchange_prototypes(
    project: Project,
    config: SynthesizeConfig,
    prototypes: Mapping[Slot, str],
    fixed: Collection[Slot],
    emit: Emit,
    *,
    stage: str = STAGE,
) -> dict[Slot, str]:
    """A prototype for each slot, from the same cluster as before.

    Args:
        project: With clusters of its training images.
        config: Settings ``exchange_tries``, ``refine_size``, ``exchange_networks`` and
            ``exchange_network_steps``.
        prototypes: Image id of each slot's present prototype.
        fixed: Slots that keep it; those chosen by hand keep theirs anyhow.
        emit, stage: Progress.

    Returns:
        Image id by slot.

    Raises:
        StageMissing: there are no clusters.
    """
    slots = sorted(prototypes)
    chosen_by_hand = {
        image for of_class in read_overrides(project).chosen.values() for image in of_class.values()
    }
    stays = [slot in fixed or prototypes[slot] in chosen_by_hand for slot in slots]
    tries = config.exchange_tries * (len(slots) - sum(stays))
    if tries == 0:
        return dict(prototypes)
    index, side = load_index(project), image_side(project.config)
    pool = _pool(project, index, [prototypes[slot] for slot in slots], slots)
    key = storage.digest(
        "exchange",
        1,
        pool.ids,
        pool.clusters,
        [prototypes[slot] for slot in slots],
        stays,
        tries,
        min(config.refine_size, side),
        config.exchange_networks,
        config.exchange_network_steps,
        project.config.seed,
        {one.id: one.sha256 for one in index.select(split="train")},
    )
    path = project.path("cache", "exchange", f"{key}.json")
    if not path.exists():
        hardware = choose_hardware(project.config)
        real = real_images(project, index, config, side=side, emit=emit, stage=stage)
        networks = trained_networks(
            project, real, config, hardware=hardware, emit=emit, stage=stage
        )
        row_of = {image: row for row, image in enumerate(real.ids)}
        images = real.pixels[[row_of[image] for image in pool.ids]]
        found = _search(
            pool,
            feature_spaces(networks, images, hardware),
            [prototypes[slot] for slot in slots],
            stays,
            tries,
            derive_seed(project.config.seed, STAGE),
            emit,
            stage,
        )
        storage.write_json(path, found)
    chosen = storage.read_json(path, fix="Delete it and run the stage again.")["prototypes"]
    return dict(zip(slots, chosen, strict=True))


def _search(
    pool: _Pool,
    spaces: list[torch.Tensor],
    first: list[str],
    stays: list[bool],
    tries: int,
    seed: int,
    emit: Emit,
    stage: str,
) -> dict[str, object]:
    place_of = {one: place for place, one in enumerate(pool.ids)}
    meter = Meter(emit, stage, tries, message="choosing prototypes")
    found = exchange(
        spaces,
        pool.labels,
        pool.clusters,
        [place_of[one] for one in first],
        tries=tries,
        seed=seed,
        fixed=stays,
        on_try=meter.advance,
    )
    chosen = [pool.ids[row] for row in found.rows]
    changed = sum(new != old for new, old in zip(chosen, first, strict=True))
    emit(
        Log(
            stage,
            f"{changed} of {len(first)} prototypes exchanged for other members of their "
            f"clusters (loss {found.before:.3f}, then {found.after:.3f})",
        )
    )
    return {"prototypes": chosen, "before": found.before, "after": found.after}


def _pool(project: Project, index: DatasetIndex, prototypes: list[str], slots: list[Slot]) -> _Pool:
    members = load_clustering(project).members
    train, classes = index.select(split="train"), sorted(index.classes)
    most = max(MAX_IMAGES // len(classes), 1)
    ids = []
    for name in classes:
        of_class = sorted(one.id for one in train if one.class_name == name)
        draws = generator(project.config.seed, "exchange", name)
        drawn = torch.randperm(len(of_class), generator=draws)[:most].tolist()
        ids += sorted({*(of_class[row] for row in drawn), *prototypes}.intersection(of_class))
    class_of = {one.id: one.class_name for one in train}
    by_cluster: dict[Slot, list[int]] = {}
    for row, one in enumerate(ids):
        member = members.get(one)
        if member is not None and not member.outlier:
            by_cluster.setdefault(Slot(member.class_name, member.cluster_id), []).append(row)
    labels = np.array([classes.index(class_of[one]) for one in ids])
    return _Pool(ids, labels, [by_cluster.get(slot, []) for slot in slots])
