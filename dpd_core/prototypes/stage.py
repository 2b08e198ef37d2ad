"""The prototypes stage: what each class looks like, as a few of its own images.

Latents are clustered class by class (:mod:`dpd_core.prototypes.clusterer`, the published
procedure), choices made by hand (``prototypes/overrides.json``) are put in, the others are
exchanged within their clusters if asked for (:mod:`dpd_core.prototypes.choice`), and the result is
written in the published format (:mod:`dpd_core.prototypes.files`) with our own files beside it. No
later stage changes a slot's prototype: captions, guidance and export use those that people saw.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from dpd_core import storage
from dpd_core.config import PrototypesConfig
from dpd_core.dataset.index import DatasetIndex, ImageRecord, load_index
from dpd_core.dataset.labels import read_labels
from dpd_core.errors import DatasetError, ProjectError
from dpd_core.events import Emit, Log, Meter, ignore
from dpd_core.models.latents import Latents, latents_for
from dpd_core.project import Project
from dpd_core.prototypes.changes import Snapshot, snapshot
from dpd_core.prototypes.choice import taught_prototypes
from dpd_core.prototypes.clusterer import PrototypeClusterer, pooled_vectors
from dpd_core.prototypes.compare import record_changes
from dpd_core.prototypes.files import (
    STAGE,
    Clustering,
    Member,
    Prototype,
    Slot,
    read_prototypes,
    write_clustering,
)
from dpd_core.prototypes.likeness import write_likeness
from dpd_core.prototypes.map import write_first_map, write_map
from dpd_core.prototypes.overrides import HandChoice, Overrides, place_choices, read_overrides

OUTLIER_FRACTION = 0.05
"""Share of each class that is left out where outliers are to be."""


def run(project: Project, config: PrototypesConfig, emit: Emit = ignore) -> dict[str, Any]:
    """The prototypes stage: ``prototypes/prototypes.json``, ``clusters.json``,
    ``centers.safetensors``, ``changes.json`` and, if asked for, ``map.json`` and
    ``likeness.safetensors``.

    Starting it again after any end repeats only what is cheap: latents and map are found by
    content.

    Raises:
        DatasetError: a class has fewer images than clusters, or none but excluded ones.
        ProjectError: the file of prototypes or of choices is not acceptable.
    """
    index = load_index(project)
    _report_labels(project, index, emit)
    given = read_prototypes(Path(config.file).expanduser(), index) if config.file else None
    overrides = read_overrides(project)
    latents = latents_for(project, ("train",), emit, stage=STAGE)
    shown = _vectors_of_the_map(project, latents, index, config, emit)
    if config.project_map:
        write_first_map(project, *shown, emit=emit)
    images = {record.id: record for record in index.images}
    excluded = _known(overrides.excluded, images, emit)
    rows = [row for row, image_id in enumerate(latents.ids) if image_id not in excluded]
    ids = [latents.ids[row] for row in rows]
    names = [images[image_id].class_name for image_id in ids]
    for name in index.classes:
        if name not in names:
            raise DatasetError(
                "all its training images are excluded or moved to other classes.",
                where=name,
                fix="Take some of them in again.",
            )
    meter = Meter(emit, STAGE, len(set(names)), message="clustering classes")
    clusterer = PrototypeClusterer(
        ipc=config.ipc,
        alpha=config.alpha,
        pool=config.pool,
        seed=project.config.seed,
        remove_outliers=config.remove_outliers,
        outlier_fraction=OUTLIER_FRACTION,
    )
    clusterer.fit(
        latents.mean[rows],
        names,
        after_class=meter.advance,
        representatives=_given_rows(given, ids, names, config.file) if given else None,
    )
    prototypes = _typical(clusterer, ids) if given is None else given
    prototypes, choices = _with_hand_choices(prototypes, overrides, clusterer, ids, emit)
    if config.choice == "taught":
        if given is None:
            fixed = {
                Slot(choice.class_name, choice.cluster_id)
                for choice in choices
                if choice.cluster_id is not None
            }
            prototypes = _taught(project, prototypes, fixed, clusterer, ids, emit)
        else:
            emit(Log(STAGE, "the prototypes are those of the file; none was exchanged.", "warning"))
    before = snapshot(project)
    write_clustering(project, _clustering(clusterer, ids, prototypes))
    if config.project_map:
        neighbors, seed = config.neighbors, project.config.seed
        write_map(project, *shown, neighbors=neighbors, seed=seed, emit=emit)
        write_likeness(project, index, emit=emit)
    chosen = {name: [entry.id for entry in entries] for name, entries in prototypes.items()}
    clusters = {
        image_id: (name, int(k))
        for image_id, name, k in zip(ids, names, clusterer.labels_, strict=True)
    }
    record_changes(project, before, Snapshot(config.to_dict(), chosen, clusters), choices)
    return {
        "classes": len(prototypes),
        "prototypes": sum(map(len, prototypes.values())),
        "images": len(ids),
        "outliers": int(clusterer.outliers_.sum()),
        "excluded": len(excluded),
        "mean_margin": round(float(clusterer.margins_.mean()), 6),
        "key": storage.digest(latents.key, chosen, clusterer.labels_.tolist()),
    }


def _known(excluded: frozenset[str], images: dict[str, ImageRecord], emit: Emit) -> set[str]:
    """The excluded training images; others are reported."""
    known = {i for i in excluded if i in images and images[i].split == "train"}
    for image_id in sorted(excluded - known):
        emit(
            Log(
                STAGE,
                f"{image_id}, left out by hand, is not a training image (any more).",
                level="warning",
            )
        )
    return known


def _given_rows(
    given: dict[str, list[Prototype]], ids: list[str], names: list[str], file: str
) -> dict[str, list[int]]:
    """Rows of the prototypes of a file."""
    row = {image_id: number for number, image_id in enumerate(ids)}
    missing = sorted(set(names) - set(given))
    if missing:
        raise ProjectError(
            f"it has no prototypes for {', '.join(missing)}.",
            where=file,
            fix="Leave these classes out of the data set.",
        )
    excluded = [entry.id for entries in given.values() for entry in entries if entry.id not in row]
    if excluded:
        raise ProjectError(
            f"its prototype {excluded[0]} is left out by hand.",
            where=file,
            fix="Take the image in again, or use another file.",
        )
    return {name: [row[entry.id] for entry in entries] for name, entries in given.items()}


def _typical(clusterer: PrototypeClusterer, ids: list[str]) -> dict[str, list[Prototype]]:
    """The representatives by class."""
    return {
        name: [_prototype(clusterer, ids, name, k, row) for k, row in enumerate(rows)]
        for name, rows in clusterer.representatives_.items()
    }


def _taught(
    project: Project,
    prototypes: dict[str, list[Prototype]],
    fixed: set[Slot],
    clusterer: PrototypeClusterer,
    ids: list[str],
    emit: Emit,
) -> dict[str, list[Prototype]]:
    """The prototypes exchanged within their clusters, but for the fixed ones."""
    first = {entry.slot: entry.id for entries in prototypes.values() for entry in entries}
    members: dict[Slot, list[str]] = {slot: [] for slot in first}
    for name, rows in clusterer.rows_.items():
        for row in rows[~clusterer.outliers_[rows]].tolist():
            members[Slot(name, int(clusterer.labels_[row]))].append(ids[row])
    chosen = taught_prototypes(project, first, members, fixed, emit, stage=STAGE)
    row_of = {image_id: row for row, image_id in enumerate(ids)}
    return {
        name: [
            _prototype(clusterer, ids, *entry.slot, row_of[chosen[entry.slot]]) for entry in entries
        ]
        for name, entries in prototypes.items()
    }


def _prototype(
    clusterer: PrototypeClusterer, ids: list[str], name: str, cluster: int, row: int
) -> Prototype:
    return Prototype(
        id=ids[row],
        class_name=name,
        cluster_id=cluster,
        file_name=ids[row].rsplit("/", 1)[-1],
        # Relative, so that the file means the same on another machine; the published code
        # looks such paths up under its image root.
        image=ids[row],
        margin=float(clusterer.margins_[row]),
        d_intra=float(clusterer.d_intra_[row]),
        d_inter_min=float(clusterer.d_inter_min_[row]),
        cluster_size=clusterer.cluster_sizes_[name][cluster],
    )


def _with_hand_choices(
    prototypes: dict[str, list[Prototype]],
    overrides: Overrides,
    clusterer: PrototypeClusterer,
    ids: list[str],
    emit: Emit,
) -> tuple[dict[str, list[Prototype]], list[HandChoice]]:
    """The prototypes with the choices made by hand, and what became of these."""
    row_of = {image_id: row for row, image_id in enumerate(ids)}
    clusters = {
        ids[row]: (name, int(clusterer.labels_[row]))
        for name, rows in clusterer.rows_.items()
        for row in rows.tolist()
    }
    chosen = {name: list(entries) for name, entries in prototypes.items()}
    choices = place_choices(overrides, clusters)
    for choice in choices:
        if choice.cluster_id is not None:
            chosen[choice.class_name][choice.cluster_id] = _prototype(
                clusterer, ids, choice.class_name, choice.cluster_id, row_of[choice.id]
            )
        else:
            what = f"{choice.id}, chosen by hand as a prototype of {choice.class_name}, is not one:"
            emit(Log(STAGE, f"{what} {choice.reason}.", level="warning"))
    return chosen, choices


def _report_labels(project: Project, index: DatasetIndex, emit: Emit) -> None:
    """Say which corrected classes do not apply to the data set as it is now."""
    for image_id, name in sorted(index.unknown_labels(read_labels(project)).items()):
        emit(
            Log(
                STAGE,
                f"{image_id}, moved by hand to {name}: the image or the class is not in "
                "the data set (any more).",
                level="warning",
            )
        )


def _vectors_of_the_map(
    project: Project, train: Latents, index: DatasetIndex, config: PrototypesConfig, emit: Emit
) -> tuple[list[str], np.ndarray]:
    """Ids and vectors (N, D) of all images, so that leaving some out or asking for more clusters
    moves no point, and test images are seen among those they are to be told from."""
    ids, vectors = list(train.ids), pooled_vectors(train.mean, config.pool)
    if config.project_map and index.select("test"):
        test = latents_for(project, ("test",), emit, stage=STAGE)
        ids += test.ids
        vectors = np.concatenate([vectors, pooled_vectors(test.mean, config.pool)])
    return ids, vectors


def _clustering(
    clusterer: PrototypeClusterer, ids: list[str], prototypes: dict[str, list[Prototype]]
) -> Clustering:
    """What the stage writes."""
    members = {
        ids[row]: Member(
            ids[row],
            name,
            int(clusterer.labels_[row]),
            float(clusterer.margins_[row]),
            float(clusterer.d_intra_[row]),
            bool(clusterer.outliers_[row]),
            float(clusterer.outlier_scores_[row]),
        )
        for name, rows in clusterer.rows_.items()
        for row in rows.tolist()
    }
    return Clustering(prototypes, members, clusterer.centers_)
