"""Prototypes of 45 classes × 700 images from latents: ours, against the published procedure
done plainly.

Theirs pools, flattens and normalises latent by latent, clusters each class by scikit-learn's
KMeans with 10 restarts and whatever threads it takes by itself, and measures each image's distance
to each centre in a loop. Both draw the same seeds, so the representatives must be the same ones.
"""

from __future__ import annotations

import warnings
from unittest.mock import patch

import numpy as np
import torch
from sklearn.cluster import KMeans

from dpd_core.prototypes import clusterer as prototype_clusterer
from dpd_core.prototypes.clusterer import PrototypeClusterer
from dpd_core.seeding import derive_seed
from tests.benchmarks.harness import Cost, Options, Row, interleaved, timed

SIZES = {"toy": (3, 40), "small": (10, 700), "full": (45, 700)}
"""Classes and images of each."""
IPC, POOL, SHAPE = 5, 8, (4, 16, 16)


def run(options: Options) -> list[Row]:
    """Two rows: with the outlier factors that ours finds besides, and without them."""
    classes, images = SIZES[options.size]
    latents, names = _latents(classes, images)
    found = {}

    def ours() -> Cost:
        clusterer = PrototypeClusterer(ipc=IPC, pool=POOL)
        cost = timed(lambda: clusterer.fit(latents, names))
        found["ours"] = clusterer.representatives_
        return cost

    def theirs() -> Cost:
        return timed(lambda: found.update(theirs=_plainly(latents, names)))

    result = interleaved(ours, theirs, options.repeats)
    with patch.object(prototype_clusterer, "_outlier_factors", lambda rows: np.ones(len(rows))):
        alike = interleaved(ours, theirs, options.repeats)
    pairs = [
        pair
        for name, rows in found["ours"].items()
        for pair in zip(rows, found["theirs"][name], strict=True)
    ]
    same = sum(a == b for a, b in pairs)
    assert same == classes * IPC, f"only {same} of {classes * IPC} representatives are the same"
    sizes = f"{classes} classes × {images}, latents {'×'.join(map(str, SHAPE))}, {IPC} a class"
    note = f"all {same} representatives the same"
    return [
        Row("prototypes from latents", *alike, "≥ 10×", sizes, note=note),
        Row("the same, ours with outlier factors", *result, "", sizes, note="theirs has none"),
    ]


def _latents(classes: int, images: int) -> tuple[torch.Tensor, list[str]]:
    """Clouds of several lumps a class, like those of real scenes: (N, C, h, w) and the names."""
    draws = torch.Generator().manual_seed(0)
    lumps = torch.randn(classes, 7, *SHAPE, generator=draws)
    which = torch.randint(0, 7, (classes, images), generator=draws)
    noise = torch.randn(classes, images, *SHAPE, generator=draws)
    latents = torch.stack([lumps[k, which[k]] for k in range(classes)]) + noise
    names = [f"class {number:02d}" for number in range(classes) for _ in range(images)]
    return latents.flatten(0, 1), names


def _plainly(latents: torch.Tensor, names: list[str]) -> dict[str, list[int]]:
    by_class: dict[str, list[tuple[int, np.ndarray]]] = {}
    for row, name in enumerate(names):
        pooled = torch.nn.functional.adaptive_avg_pool2d(latents[row : row + 1], POOL)
        vector = torch.nn.functional.normalize(pooled.flatten(1), dim=1)[0].numpy()
        by_class.setdefault(name, []).append((row, vector))
    found = {}
    for name in sorted(by_class):
        rows, vectors = zip(*by_class[name], strict=True)
        seed = derive_seed(0, "prototypes", name) % 2**32
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            model = KMeans(IPC, n_init=10, random_state=seed).fit(np.stack(vectors))
        best: dict[int, tuple[float, int]] = {}
        for row, vector, own in zip(rows, vectors, model.labels_.tolist(), strict=True):
            distances = [float(np.linalg.norm(vector - c)) for c in model.cluster_centers_]
            other = min(value for k, value in enumerate(distances) if k != own)
            margin = other - distances[own]
            if own not in best or margin > best[own][0]:
                best[own] = (margin, row)
        found[name] = [best[k][1] for k in range(IPC)]
    return found
