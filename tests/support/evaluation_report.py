"""An evaluation report as the core writes it, with chosen numbers: for tests of what shows it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import mean, stdev
from typing import Any

CLASSES = ("beach", "forest", "harbor")


def make_report(
    set_name: str = "dpd-1",
    runs: Mapping[str, Sequence[float]] | None = None,
    *,
    classes: Sequence[str] = CLASSES,
    ipc: int = 2,
    train: int = 30,
    test: int = 10,
    steps: int = 300,
    similarities: Sequence[float] | None = None,
    limit: float = 0.5,
) -> dict[str, Any]:
    """A report.

    Args:
        runs: Accuracies in [0, 1] by set, one for each seed; the distilled set under its name.
        train, test: Real images of each class.
        similarities: SSIM of each distilled image to its nearest; falls from 0.6 if not given.
        limit: 95th percentile of the real-to-real similarity.
    """
    if runs is None:
        runs = {set_name: (0.50, 0.55, 0.60), "random": (0.40, 0.42, 0.44), "full": (0.8, 0.8, 0.8)}
    n, images = len(classes), len(classes) * ipc
    seeds = len(runs[set_name])
    if similarities is None:
        similarities = [0.6 - 0.02 * k for k in range(images)]
    accuracy = {
        name: {
            "mean": mean(values),
            "std": stdev(values) if len(values) > 1 else None,
            "runs": list(values),
            "images": n * train if name == "full" else images,
            "per_class": {
                one: min(1.0, mean(values) + 0.05 * (k - 1)) for k, one in enumerate(classes)
            },
        }
        for name, values in runs.items()
    }
    total = test * seeds
    right = round(accuracy[set_name]["mean"] * total)
    matrix = [[right if a == b else 0 for b in range(n)] for a in range(n)]
    for k in range(n):
        matrix[k][(k + 1) % n] += total - right
    measured = {
        name: {
            "images": entry["images"],
            "fid": _distance(10 - 5 * entry["mean"]),
            "kid": _distance(0.2 - 0.1 * entry["mean"]),
            "coverage": {"value": entry["mean"], "per_class": entry["per_class"]},
        }
        for name, entry in accuracy.items()
    }
    nearest = [
        {
            "class": classes[k % n],
            "slot": k // n,
            "image_id": f"{classes[k % n]}/{k // n:02d}.png",
            "ssim": value,
            "top5": value - 0.05,
        }
        for k, value in enumerate(similarities)
    ]
    above = sum(value > limit for value in similarities) / images
    return {
        "set": set_name,
        "strategy": "dpd",
        "ipc": ipc,
        "protocol": {
            "student": "convnet",
            "size": 64,
            "steps": steps,
            "batch_size": 32,
            "seed": 0,
            "seeds": list(range(seeds)),
            "train_images": n * train,
            "test_images": n * test,
            "augmentation": "none",
            "device": "cpu",
            "std": "sample standard deviation over the seeds",
        },
        "accuracy": accuracy,
        "confusion": {"classes": list(classes), "matrix": matrix},
        "distribution": {
            "reference": "test",
            "reference_images": n * test,
            "sets": measured,
            "network": {
                "student": "convnet",
                "steps": steps,
                "trained_on": n * train,
                "accuracy": 0.8,
                "per_class": {},
            },
        },
        "privacy": {
            "nn_ssim": {
                "mean": mean(similarities) - 0.05,
                "mean_highest": mean(similarities),
                "max": max(similarities),
                "images": images,
            },
            "real_to_real": {"mean": 0.30, "mean_highest": 0.35, "max": 0.6, "images": images},
            "real_to_real_p95": limit,
            "share_above_p95": above,
            "nearest": sorted(nearest, key=lambda record: -record["ssim"]),
        },
        "notes": [],
        "seconds": 1.0,
    }


def _distance(value: float) -> dict[str, Any]:
    return {"value": value, "std": None, "note": ""}
