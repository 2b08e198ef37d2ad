"""Named ways of making a distilled set: a start, a guidance term and a selection rule."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from dpd_core.errors import ConfigError

Selection = Callable[[Tensor, int], Tensor]
"""(logits (candidates, classes), target column) → scores (candidates,); the largest is kept."""


def margin_selection(logits: Tensor, target: int) -> Tensor:
    """logit_target − max_other: how typical the latent classifier finds each candidate.

    Source: DPD, published code. With a single class there is no other: the logit itself.
    """
    others = torch.cat([logits[:, :target], logits[:, target + 1 :]], dim=1)
    if others.shape[1] == 0:
        return logits[:, target]
    return logits[:, target] - others.max(dim=1).values


def first_selection(logits: Tensor, target: int) -> Tensor:
    """No selection: the first candidate scores highest, whatever the classifier says."""
    return -torch.arange(len(logits), dtype=torch.float32)


@dataclass(frozen=True)
class Strategy:
    """One method's sampling.

    Attributes:
        source: Paper or code it is written from.
        description: One sentence for a person.
        strength: Share of the noise schedule that is sampled: 1 starts from pure noise, less
            starts from the prototype noised to that level.
        guided: Whether the prototype pulls while sampling.
        select: Rule that ranks the candidates of a slot.
    """

    source: str
    description: str
    strength: float = 1.0
    guided: bool = False
    select: Selection = margin_selection


STRATEGIES: dict[str, Strategy] = {
    "template": Strategy(
        source="Stable Diffusion with LoRA, no distillation method",
        description="Words only: random start, no guidance, the first sample is kept.",
        select=first_selection,
    ),
    "d4m": Strategy(
        source="D4M (Su et al., CVPR 2024)",
        description="Starts from the noised prototype (strength 0.7), no guidance, no selection.",
        strength=0.7,
        select=first_selection,
    ),
    "dpd": Strategy(
        source="DPD (Xu, Ghamisi, Weng, arXiv 2601.15829), published code",
        description="Random start, pulled toward the prototype; the candidate with the largest "
        "latent-classifier margin is kept.",
        guided=True,
    ),
}


def get_strategy(name: str) -> Strategy:
    """Look a strategy up by name.

    Raises:
        ConfigError: there is none of that name.
    """
    if name not in STRATEGIES:
        raise ConfigError(f"unknown strategy {name!r}.", where="synthesize.strategy",
                          fix=f"Known strategies: {', '.join(STRATEGIES)}.")  # fmt: skip
    return STRATEGIES[name]
