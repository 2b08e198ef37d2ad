"""Learning rates over a training, as shares of the peak."""

from __future__ import annotations

import math


def warmup_cosine(step: int, *, warmup: int, steps: int | None = None) -> float:
    """The share of the peak learning rate at a step.

    Args:
        step: From 0.
        warmup: Steps in which it rises linearly to 1.
        steps: Steps in all, at whose end a half cosine has brought it down to 0; ``None``: it stays
            at 1, for a training without an end.
    """
    if step < warmup:
        return (step + 1) / warmup
    if steps is None:
        return 1.0
    return 0.5 * (1 + math.cos(math.pi * (step - warmup) / max(1, steps - warmup)))
