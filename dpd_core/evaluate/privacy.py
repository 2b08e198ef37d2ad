"""What a set gives away of the real training images: nearness beside real images, and an attack.

The similarities are those of :mod:`dpd_core.students.copies`, which synthesis uses too; here they
are set beside the same figures of real test images, which copy nothing.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy.stats import binom
from sklearn.metrics import roc_auc_score

from dpd_core.evaluate.report import ORDINARY_SHARE, Attack, Pair, Privacy, Similarity
from dpd_core.students.copies import Limits, Nearness, limits

KINDS = ("features", "layout", "ssim")


def measured(
    ours: Nearness,
    real: Nearness,
    attack: Attack,
    *,
    slots: Sequence[tuple[str, int]],
    references: Sequence[str],
) -> Privacy:
    """The privacy part of a report.

    Args:
        ours: Of the distilled images to the training images.
        real: Of real test images to the same.
        attack: See :func:`membership`.
        slots: Class name and number of each distilled image.
        references: Ids of the training images.
    """
    limit = limits(real)
    near = ours.above(limit)
    margin = {kind: getattr(ours, kind) - getattr(limit, kind) for kind in ("features", "layout")}
    by_layout = margin["layout"] > margin["features"]
    rows = np.where(by_layout, ours.by_layout, ours.by_features)
    order = np.argsort(-np.maximum(margin["layout"], margin["features"]), kind="stable")
    pairs = [
        Pair(
            class_name=slots[k][0],
            slot=slots[k][1],
            features=float(ours.features[k]),
            layout=float(ours.layout[k]),
            ssim=float(ours.ssim[k]),
            image_id=references[rows[k]],
            near=bool(near[k]),
        )
        for k in order.tolist()
    ]
    kinds = {kind: _similarity(ours, real, limit, kind) for kind in KINDS}
    return Privacy(len(ours), len(real), **kinds, attack=attack, nearest=pairs)


def membership(to_training: Nearness, to_test: Nearness) -> Attack:
    """The attack: a real image that the set comes nearer to was in the training split.

    Args:
        to_training: Nearness of the set to the real training images.
        to_test: Of the same set to real test images, with the same centre of the features.
    """
    truth = np.r_[
        np.ones(len(to_training.reached_features)), np.zeros(len(to_test.reached_features))
    ]

    def area(kind: str) -> float:
        parts = [getattr(nearness, f"reached_{kind}") for nearness in (to_training, to_test)]
        return float(roc_auc_score(truth, np.concatenate(parts)))

    return Attack(area("features"), area("layout"), int(truth.sum()), int((1 - truth).sum()))


def _similarity(ours: Nearness, real: Nearness, limit: Limits, kind: str) -> Similarity:
    values, bound = getattr(ours, kind), getattr(limit, kind)
    above = int((values > bound).sum())
    return Similarity(
        ours=float(values.mean()),
        real=float(getattr(real, kind).mean()),
        limit=bound,
        share=above / len(values),
        p_value=float(binom.sf(above - 1, len(values), ORDINARY_SHARE)),
    )
