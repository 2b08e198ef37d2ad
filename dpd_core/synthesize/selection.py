"""Selection rules: which of a slot's candidates is kept.

A rule sees the candidates of one slot and gives each a score; the largest is kept, and the scores
stand in the manifest. What a rule needs to know of the rest of the class (the other prototypes,
how difficult the real images are) does not depend on what was sampled for the other slots, so
that a slot made again alone makes the same choice.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Candidates:
    """The candidates of one slot, n of them.

    Attributes:
        logits: Of the latent classifier, (n, classes).
        target: Column of the slot's class.
        latents: (n, C, h, w).
        prototype: The slot's prototype latent, (C, h, w).
        others: The other prototypes of the class, (M, C, h, w); M may be 0.
        difficulty: 1 − p(y) that this slot stands for; see :func:`slot_difficulty`.
    """

    logits: Tensor
    target: int
    latents: Tensor
    prototype: Tensor
    others: Tensor
    difficulty: float = 0.0


Rule = Callable[[Candidates], Tensor]
"""Candidates → scores (n,)."""


def margin(candidates: Candidates) -> Tensor:
    """logit_target − max_other: how typical the latent classifier finds each candidate.

    Source: DPD, published code. With a single class there is no other: the logit itself.
    """
    logits, target = candidates.logits, candidates.target
    others = torch.cat([logits[:, :target], logits[:, target + 1 :]], dim=1)
    if others.shape[1] == 0:
        return logits[:, target]
    return logits[:, target] - others.max(dim=1).values


def first(candidates: Candidates) -> Tensor:
    """No selection: the first candidate scores highest, whatever the classifier says."""
    return -torch.arange(len(candidates.logits), dtype=torch.float32)


def correct_then_confident(candidates: Candidates) -> Tensor:
    """p(y), plus 1 where y is the predicted class: right ones first, then by confidence.

    Source: CaO₂ (Wang et al., ICCV 2025), selection step.
    """
    return _probability(candidates) + _is_right(candidates)


def difficulty_matched(candidates: Candidates) -> Tensor:
    """−|1 − p(y) − d|: nearest to the difficulty d this slot stands for.

    d is a quantile of the real images' difficulties, another for each slot of the class, so that
    the set's histogram of difficulties is the real one's. Source: difficulty-guided sampling
    (2025), which matches the histogram over a pool of 5 × IPC.
    """
    return -(1 - _probability(candidates) - candidates.difficulty).abs()


def diverse(candidates: Candidates) -> Tensor:
    """min_j ‖z − p_j‖ − ‖z − p‖ over the class's other prototypes, of right ones first.

    DPD's margin of the prototypes, asked of the candidates: near the own prototype and far from
    what the other slots show. Distances are root-mean-square; a candidate of another class than
    its own comes after all right ones.
    """
    own = _distance(candidates.latents, candidates.prototype[None])[:, 0]
    score = -own
    if len(candidates.others):
        score = _distance(candidates.latents, candidates.others).min(1).values - own
    return score.tanh() + 2 * _is_right(candidates)


def slot_difficulty(real: Tensor, slot: int, slots: int) -> float:
    """The (slot + ½)/slots quantile of the class's real difficulties 1 − p(y), (N,)."""
    return float(torch.quantile(real.float(), (slot + 0.5) / slots))


RULES: dict[str, Rule] = {
    "margin": margin,
    "first": first,
    "correct": correct_then_confident,
    "difficulty": difficulty_matched,
    "diverse": diverse,
}
"""Selection rules by name."""


def _probability(candidates: Candidates) -> Tensor:
    return candidates.logits.softmax(1)[:, candidates.target]


def _is_right(candidates: Candidates) -> Tensor:
    return (candidates.logits.argmax(1) == candidates.target).float()


def _distance(a: Tensor, b: Tensor) -> Tensor:
    """Root-mean-square distances of (n, C, h, w) and (m, C, h, w), (n, m)."""
    return torch.cdist(a.flatten(1), b.flatten(1)) / a[0].numel() ** 0.5
