"""The guard against copies: candidates that come too near to a real training image are refused.

How near is too near the training images say themselves: the share ``max_similarity`` of them comes
less near to any *other* training image, by features and by layout (see
:mod:`dpd_core.students.copies`, whose figures the evaluation shows beside those of test images).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from dpd_core import storage
from dpd_core.dataset.index import load_index
from dpd_core.dataset.pixels import pixels
from dpd_core.events import Emit, Meter
from dpd_core.hardware import Hardware
from dpd_core.project import Project
from dpd_core.students import copies
from dpd_core.students.copies import Likeness, References

MEASURED = 400
"""Training images that the limits are measured on, evenly over the index."""


@dataclass(frozen=True)
class CopyGuard:
    """The training images prepared for comparison, and the limits; made by :func:`copy_guard`.

    Attributes:
        references: The training images.
        ids: Their ids.
        features, layout: The highest similarities that are let pass.
        hardware: Where to compute.
    """

    references: References
    ids: list[str]
    features: float
    layout: float
    hardware: Hardware

    def likeness(self, images: np.ndarray) -> Likeness:
        """How near images, uint8 (M, H, W, 3), come to the training images."""
        return copies.likeness(images, self.references, device=self.hardware.device)

    def refuses(self, found: Likeness) -> np.ndarray:
        """Which of them come too near, bool (M,)."""
        return (found.features > self.features) | (found.layout > self.layout)


def copy_guard(
    project: Project, share: float, hardware: Hardware, emit: Emit, *, stage: str
) -> CopyGuard | None:
    """The guard of a project.

    Args:
        project: With its training images; at least two.
        share: Of the training images that are less near to others than the limits, in (0, 1].
            At 1 nothing is refused and the guard is ``None``.
        hardware: Where to compute.
        emit, stage: Progress.
    """
    train = load_index(project).select(split="train")
    if share >= 1 or len(train) < 2:
        return None
    shown = pixels(project, train, copies.SIDE, emit=emit, stage=stage)
    device = hardware.device
    references = copies.prepare(shown, cache=project.path("cache", "features"), device=device)
    rows = np.arange(0, len(train), -(-len(train) // MEASURED))
    key = storage.digest(
        "guard", copies.SIDE, copies.BLUR, copies.LAYOUT_SIDE, [record.sha256 for record in train]
    )
    path = project.path("cache", "copies", f"{key}.json")
    if not path.exists():
        meter = Meter(emit, stage, len(rows), message="comparing the real images with each other")
        found = copies.likeness(
            shown[rows], references, exclude=rows, device=device, on_images=meter.advance
        )
        storage.write_json(
            path, {"features": found.features.tolist(), "layout": found.layout.tolist()}
        )
    between = storage.read_json(path, fix="Delete it and run the stage again.")
    features, layout = (float(np.quantile(between[k], share)) for k in ("features", "layout"))
    return CopyGuard(references, [record.id for record in train], features, layout, hardware)
