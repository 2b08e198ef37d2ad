"""What the evaluate stage compares: the distilled set, the baselines, and what they share."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from dpd_core import storage
from dpd_core.config import EvaluateConfig, PrototypesConfig
from dpd_core.dataset.images import open_rgb, to_square
from dpd_core.dataset.index import DatasetIndex, load_index
from dpd_core.dataset.pixels import pixels
from dpd_core.errors import ConfigError, DatasetError, ProjectError
from dpd_core.evaluate import baselines, subsets
from dpd_core.evaluate.subsets import Pool
from dpd_core.events import Emit
from dpd_core.hardware import Hardware, choose_hardware
from dpd_core.models.latents import latents_for
from dpd_core.project import Project
from dpd_core.prototypes.choice import taught_prototypes
from dpd_core.prototypes.clusterer import pooled_vectors
from dpd_core.prototypes.files import Member, Slot, load_clustering
from dpd_core.seeding import derive_seed
from dpd_core.students import ridge
from dpd_core.students import training as students
from dpd_core.synthesize.sets import DistilledSet

CONTROL_IMAGES = 200
"""Least number of real test images, over all classes, that the limit is read off from."""
_VERSION = 2
"""Raise it when a change here or in the students changes results: stored parts are keyed by it."""


@dataclass(frozen=True)
class LabelledImages:
    """Images with their labels, and where they come from.

    Attributes:
        pixels: uint8 (N, S, S, 3).
        labels: Class numbers, int64 (N,), in the order of the sorted class names.
        sources: Id of each image in the index; of a distilled image, its file.
    """

    pixels: np.ndarray
    labels: np.ndarray
    sources: list[str]

    def __len__(self) -> int:
        return len(self.labels)

    def rows(self, sources: list[str]) -> LabelledImages:
        """The images of these sources, in this order."""
        if sources == self.sources:
            return self
        place = {source: row for row, source in enumerate(self.sources)}
        rows = np.array([place[source] for source in sources], dtype=np.int64)
        return LabelledImages(self.pixels[rows], self.labels[rows], sources)

    @cached_property
    def digest(self) -> str:
        """Digest of pixels and labels; the order counts, as it does for a student."""
        value = hashlib.sha256(self.labels.tobytes())
        for start in range(0, len(self), 1024):
            value.update(np.ascontiguousarray(self.pixels[start : start + 1024]).tobytes())
        return value.hexdigest()[:16]


@dataclass(frozen=True)
class Subject:
    """A training set that is measured: the distilled one or a baseline.

    Attributes:
        variants: Its images in each repetition; one for all where the choice has no seed.
    """

    name: str
    variants: list[LabelledImages]

    def variant(self, repeat: int) -> LabelledImages:
        """The images that students of this repetition see."""
        return self.variants[repeat % len(self.variants)]


@dataclass(frozen=True)
class Comparison:
    """Everything that the measurements share.

    Attributes:
        classes: Sorted class names; a label is a place in it.
        train, test: The real splits.
        subjects: The distilled set, then the baselines in the order of the settings.
        control: Rows of real test images that are compared as the distilled ones are: of each class
            at least as many (or all there are).
    """

    project: Project
    config: EvaluateConfig
    hardware: Hardware
    classes: list[str]
    train: LabelledImages
    test: LabelledImages
    distilled: DistilledSet
    subjects: list[Subject]
    control: list[int]

    def key(self, kind: str, *parts: Any) -> str:
        """Name of a stored part: a digest of all that determines it."""
        return storage.digest(
            kind,
            _VERSION,
            students.student_identity(self.config.student),
            self.config.student_batch,
            self.classes,
            self.hardware.device.type,
            self.hardware.precision,
            *parts,
        )


def load_comparison(project: Project, config: EvaluateConfig, emit: Emit) -> Comparison:
    """Read the splits, the distilled set and the baselines of a project.

    Raises:
        StageMissing: no data set, no distilled set, or no clusters for the medoids.
        DatasetError: a class has no test image, or the set does not fit the data set.
        ConfigError: unknown baseline.
    """
    for name in config.baselines:
        baselines.get_baseline(name)
    index = load_index(project)
    distilled = DistilledSet.load(project, config.set_name)
    _check(index, distilled, config)
    classes = sorted(index.classes)
    train, test = (
        split_images(project, index, split, config.student_size, emit)
        for split in ("train", "test")
    )
    counts = {name: sum(slot.class_name == name for slot in distilled.slots) for name in classes}
    ours = Subject(distilled.name, [distilled_images(distilled, classes, config.student_size)])
    subjects = [ours, *_baselines(project, config, index, train, counts, emit)]
    control = _control(project, index, test, counts)
    return Comparison(
        project,
        config,
        choose_hardware(project.config),
        classes,
        train,
        test,
        distilled,
        subjects,
        control,
    )


def _check(index: DatasetIndex, distilled: DistilledSet, config: EvaluateConfig) -> None:
    untested = sorted(name for name, info in index.classes.items() if info.test == 0)
    if untested:
        raise DatasetError(
            "there is no test image, so nothing can be measured.",
            where=", ".join(untested),
            fix="Run the dataset stage with a larger test fraction or with test data.",
        )
    there = {slot.class_name for slot in distilled.slots}
    if there != set(index.classes):
        different = ", ".join(sorted(there ^ set(index.classes)))
        raise DatasetError(
            f"the distilled set and the data set differ in classes: {different}.",
            where=distilled.root,
            fix="Run the stages up to synthesize again.",
        )
    if distilled.name in config.baselines:
        raise ConfigError(
            f"the distilled set is named like the baseline {distilled.name!r}.",
            where="evaluate.baselines",
            fix="Leave that baseline out, or rename the set.",
        )


def split_images(
    project: Project, index: DatasetIndex, split: str, size: int, emit: Emit
) -> LabelledImages:
    """The real images of a split at a side of ``size`` pixels."""
    records = index.select(split=split)
    number = {name: place for place, name in enumerate(sorted(index.classes))}
    labels = np.array([number[record.class_name] for record in records], dtype=np.int64)
    images = pixels(project, records, size, emit=emit, stage="evaluate")
    return LabelledImages(images, labels, [record.id for record in records])


def distilled_images(distilled: DistilledSet, classes: list[str], size: int) -> LabelledImages:
    """The images of a distilled set at a side of ``size`` pixels.

    Raises:
        ProjectError: one is missing.
    """
    images = []
    records = sorted(distilled.slots, key=lambda record: record.slot)
    for record in records:
        path = distilled.path(record)
        if not path.exists():
            raise ProjectError(
                "an image of the distilled set is missing.",
                where=path,
                fix="Run the synthesize stage again.",
            )
        images.append(np.asarray(to_square(open_rgb(path), size), dtype=np.uint8))
    labels = np.array([classes.index(record.class_name) for record in records], dtype=np.int64)
    return LabelledImages(np.stack(images), labels, [record.file for record in records])


def _baselines(
    project: Project,
    config: EvaluateConfig,
    index: DatasetIndex,
    train: LabelledImages,
    counts: dict[str, int],
    emit: Emit,
) -> list[Subject]:
    names = list(dict.fromkeys(config.baselines))
    kinds = [baselines.get_baseline(name) for name in names]
    members: Mapping[str, Member] = {}
    if any(kind.clustered for kind in kinds):
        members = load_clustering(project).members
    vectors = _vectors(project, emit) if any(kind.measured for kind in kinds) else {}
    pools = _pools(index, "train", members, vectors)
    subjects = []
    for name, kind in zip(names, kinds, strict=True):
        if name == "rded":
            subjects.append(Subject(name, [_crops(project, index, train, counts, emit)]))
            continue
        if name == "exchanged":
            subjects.append(Subject(name, [_exchanged(project, train, members, emit)]))
            continue
        repeats = config.seeds if kind.seeded else 1
        variants = []
        for repeat in range(repeats):
            chosen = subsets.select(name, pools, counts, seed=project.config.seed, repeat=repeat)
            wanted = {image for ids in chosen.values() for image in ids}
            # In the order of the index, like the split itself.
            variants.append(train.rows([source for source in train.sources if source in wanted]))
        subjects.append(Subject(name, variants))
    return subjects


def _control(
    project: Project, index: DatasetIndex, test: LabelledImages, counts: dict[str, int]
) -> list[int]:
    chosen: list[str] = []
    least = -(-CONTROL_IMAGES // len(counts))
    for name, pool in _pools(index, "test", {}).items():
        seed = derive_seed(project.config.seed, "real to real", name)
        chosen += subsets.random_subset(pool, max(counts[name], least), seed)
    place = {source: row for row, source in enumerate(test.sources)}
    return [place[source] for source in chosen]


def _vectors(project: Project, emit: Emit) -> dict[str, np.ndarray]:
    """Pooled latents of the training images by id."""
    latents = latents_for(project, ("train",), emit, stage="evaluate")
    settings = project.record("prototypes")
    pool = settings["settings"]["pool"] if settings else PrototypesConfig().pool
    return dict(zip(latents.ids, pooled_vectors(latents.mean, pool), strict=True))


def _crops(
    project: Project,
    index: DatasetIndex,
    train: LabelledImages,
    counts: dict[str, int],
    emit: Emit,
) -> LabelledImages:
    """The crops of the baseline ``rded``, judged by the first network that refining uses."""
    classes = sorted(index.classes)
    teacher = ridge.project_networks(
        project,
        train.pixels,
        train.labels,
        classes,
        count=1,
        steps=ridge.NETWORK_STEPS,
        hardware=choose_hardware(project.config),
        emit=emit,
        stage="evaluate",
    )[-1]
    pixels, labels, rows = subsets.best_crops(
        teacher,
        train.pixels,
        train.labels,
        [counts[name] for name in classes],
        seed=project.config.seed,
        names=classes,
    )
    return LabelledImages(pixels, labels, [train.sources[row] for row in rows])


def _exchanged(
    project: Project, train: LabelledImages, members: Mapping[str, Member], emit: Emit
) -> LabelledImages:
    """The choice ``taught`` of the prototypes stage, with nothing chosen by hand."""
    of_slot: dict[Slot, list[str]] = {}
    for image, member in sorted(
        members.items(), key=lambda item: (-item[1].margin, item[1].distance, item[0])
    ):
        if not member.outlier:
            of_slot.setdefault(member.slot, []).append(image)
    typical = {slot: images[0] for slot, images in of_slot.items()}
    chosen = taught_prototypes(project, typical, of_slot, (), emit, stage="evaluate")
    wanted = set(chosen.values())
    return train.rows([source for source in train.sources if source in wanted])


def _pools(
    index: DatasetIndex,
    split: str,
    members: Mapping[str, Member],
    vectors: Mapping[str, np.ndarray] | None = None,
) -> dict[str, Pool]:
    ids: dict[str, list[str]] = {name: [] for name in sorted(index.classes)}
    for record in index.select(split=split):
        ids[record.class_name].append(record.id)
    return {
        name: Pool(name, tuple(sorted(found)), members, vectors or {})
        for name, found in ids.items()
    }
