"""The measures of a comparison beside its students: features, distances, nearness to real ones."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields
from typing import Any

import numpy as np

from dpd_core.dataset.index import load_index
from dpd_core.evaluate import metrics
from dpd_core.evaluate import privacy as nearness
from dpd_core.evaluate.report import Distance, Distribution, Measured, Privacy
from dpd_core.evaluate.subjects import Comparison, LabelledImages, distilled_images, split_images
from dpd_core.events import Emit, Meter
from dpd_core.seeding import derive_seed
from dpd_core.students import copies
from dpd_core.students.features import cached_features


def subject_features(comparison: Comparison, images: LabelledImages) -> np.ndarray:
    """Pretrained features of images, float32 (N, D), kept in the project's cache."""
    return cached_features(
        images.pixels,
        comparison.project.path("cache", "features"),
        network=comparison.config.features,
        device=comparison.hardware.device,
    )


def distribution(comparison: Comparison) -> Distribution:
    """FID, KID, coverage and grain of each set against the real test split."""
    real = subject_features(comparison, comparison.test)
    seed = derive_seed(comparison.project.config.seed, "kid")

    def measure(images: LabelledImages) -> Measured:
        found = subject_features(comparison, images)
        coverage, by_class = metrics.intra_class_coverage(
            real, comparison.test.labels, found, images.labels
        )
        return Measured(
            images=len(images),
            fid=metrics.fid(real, found),
            kid=metrics.kid(real, found, seed=seed),
            coverage=coverage,
            coverage_per_class={comparison.classes[k]: value for k, value in by_class.items()},
            grain=metrics.grain(
                images.pixels, images.labels, comparison.test.pixels, comparison.test.labels
            ),
        )

    return Distribution(
        len(comparison.test),
        {
            subject.name: _mean([measure(images) for images in subject.variants])
            for subject in comparison.subjects
        },
    )


def privacy(comparison: Comparison, meter: Meter, emit: Emit) -> Privacy:
    """How near distilled images come to training images, and how near real test images do."""
    project, device = comparison.project, comparison.hardware.device
    index, cache = load_index(project), project.path("cache", "features")
    train, test = (
        split_images(project, index, split, copies.SIDE, emit) for split in ("train", "test")
    )
    ours = distilled_images(comparison.distilled, comparison.classes, copies.SIDE)
    known = copies.prepare(train.pixels, cache=cache, device=device)
    queries = copies.turned(ours.pixels, device=device)
    counted: Callable[[int], None] = lambda count: meter.advance(  # noqa: E731
        count, "comparing with the training images"
    )
    to_train = copies.nearest(queries, known, device=device, on_images=counted)
    real = copies.nearest(test.pixels[comparison.control], known, device=device, on_images=counted)
    unseen = copies.prepare(test.pixels, centre=known.centre, cache=cache, device=device)
    attack = nearness.membership(to_train, copies.nearest(queries, unseen, device=device))
    slots = {record.file: record.slot for record in comparison.distilled.slots}
    return nearness.measured(
        to_train,
        real,
        attack,
        slots=[slots[source] for source in ours.sources],
        references=train.sources,
    )


def _mean(found: list[Measured]) -> Measured:
    """The mean over a set's choices of images."""

    def mean(values: list[Any]) -> Any:
        first = values[0]
        if isinstance(first, float):
            return float(np.mean(values))
        if isinstance(first, dict):
            return {key: mean([value[key] for value in values]) for key in first}
        if isinstance(first, Distance | Measured):
            names = [field.name for field in fields(first)]
            return type(first)(**{n: mean([getattr(v, n) for v in values]) for n in names})
        return first

    return mean(found)
