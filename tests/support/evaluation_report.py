"""An evaluation report as the core writes it, with chosen numbers: for tests of what shows it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import mean, stdev

from scipy.stats import binom

from dpd_core.evaluate.metrics import welch
from dpd_core.evaluate.report import (
    Accuracy,
    Attack,
    Confusion,
    Distance,
    Distribution,
    Measured,
    Pair,
    Privacy,
    Protocol,
    Report,
    Similarity,
)

CLASSES = ("beach", "forest", "harbor")


def make_report(
    set_name: str = "dpd-1",
    runs: Mapping[str, Sequence[float]] | None = None,
    *,
    pretrained: Mapping[str, float] | None = None,
    classes: Sequence[str] = CLASSES,
    ipc: int = 2,
    train: int = 30,
    test: int = 10,
    steps: int = 300,
    similarities: Sequence[float] | None = None,
    limit: float = 0.5,
) -> Report:
    """A report.

    Args:
        runs: Accuracies in [0, 1] by set, one for each seed; the distilled set under its name.
        pretrained: Accuracies of the pretrained student by set; 0.7 if not given.
        train, test: Real images of each class.
        similarities: Of each distilled image to its nearest, by features; falls from 0.6 if not
            given. By layout and SSIM it is a little less.
        limit: 95th percentile of the real-to-real similarity.
    """
    if runs is None:
        runs = {set_name: (0.50, 0.55, 0.60), "random": (0.40, 0.42, 0.44), "full": (0.8, 0.8, 0.8)}
    n, images = len(classes), len(classes) * ipc
    seeds = len(runs[set_name])
    if similarities is None:
        similarities = [0.6 - 0.02 * k for k in range(images)]
    accuracy = {
        name: _accuracy(values, n * train if name == "full" else images, classes)
        for name, values in runs.items()
    }
    for name, values in runs.items():
        if name != set_name:
            object.__setattr__(accuracy[name], "p_value", welch(values, runs[set_name]))
    chosen = dict.fromkeys(runs, 0.7) | dict(pretrained or {})
    total = test * seeds
    right = round(accuracy[set_name].mean * total)
    matrix = [[right if a == b else 0 for b in range(n)] for a in range(n)]
    for k in range(n):
        matrix[k][(k + 1) % n] += total - right
    return Report(
        set=set_name,
        manifest="0" * 64,
        strategy="dpd",
        ipc=ipc,
        protocol=Protocol(
            student="convnet",
            size=64,
            steps=steps,
            batch_size=32,
            augmentation="none",
            seed=0,
            seeds=list(range(seeds)),
            train_images=n * train,
            test_images=n * test,
            features="bundled",
            device="cpu",
        ),
        accuracy=accuracy,
        accuracy_pretrained={
            name: _accuracy((chosen[name],), entry.images, classes)
            for name, entry in accuracy.items()
        },
        confusion=Confusion(list(classes), matrix),
        distribution=Distribution(
            n * test,
            {
                name: Measured(
                    entry.images,
                    Distance(10 - 5 * entry.mean),
                    Distance(0.2 - 0.1 * entry.mean),
                    entry.mean,
                    entry.per_class,
                    2 * entry.mean,
                )
                for name, entry in accuracy.items()
            },
        ),
        privacy=_privacy(classes, similarities, limit),
        seconds=1.0,
    )


def _accuracy(values: Sequence[float], images: int, classes: Sequence[str]) -> Accuracy:
    return Accuracy(
        mean(values),
        stdev(values) if len(values) > 1 else None,
        list(values),
        images,
        {
            class_name: min(1.0, mean(values) + 0.05 * (k - 1))
            for k, class_name in enumerate(classes)
        },
    )


def _privacy(classes: Sequence[str], similarities: Sequence[float], limit: float) -> Privacy:
    def similarity(less: float) -> Similarity:
        above = sum(value - less > limit for value in similarities)
        return Similarity(
            mean(similarities) - less,
            0.35,
            limit,
            above / len(similarities),
            float(binom.sf(above - 1, len(similarities), 0.05)),
        )

    pairs = [
        Pair(
            class_name=classes[k % len(classes)],
            slot=k // len(classes),
            features=value,
            layout=value - 0.05,
            ssim=value - 0.1,
            image_id=f"{classes[k % len(classes)]}/{k // len(classes):02d}.png",
            near=value > limit,
        )
        for k, value in enumerate(similarities)
    ]
    return Privacy(
        images=len(similarities),
        real_images=len(similarities),
        features=similarity(0.0),
        layout=similarity(0.05),
        ssim=similarity(0.1),
        attack=Attack(0.62, 0.58, 90, 30),
        nearest=sorted(pairs, key=lambda pair: -pair.features),
    )
