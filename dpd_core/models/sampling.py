"""Guided sampling: one plain loop over a stock diffusers solver."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from dpd_core.models import guidance
from dpd_core.models.backbone import Backbone
from dpd_core.models.predictions import Level, shift_noise
from dpd_core.models.prompts import TextEmbeddings


class Guide(Protocol):
    """What steers sampling in a window of the steps (shares of them, inclusive)."""

    @property
    def start(self) -> float: ...

    @property
    def end(self) -> float: ...

    def apply(self, z_t: Tensor, clean: Tensor, level: Level) -> tuple[Tensor, Tensor | None]:
        """The moved z_t, and what is to be added to the predicted noise (``None``: nothing)."""


@dataclass(frozen=True)
class PrototypeGuidance:
    """Prototype guidance; see :func:`guidance.prototype_pull`.

    Attributes:
        target: p, (B, C, h, w).
        scale: s.
    """

    target: Tensor
    scale: float = 1.0
    start: float = 0.0
    end: float = 0.8

    def apply(self, z_t: Tensor, clean: Tensor, level: Level) -> tuple[Tensor, Tensor | None]:
        """See :class:`Guide`."""
        pulled = guidance.prototype_pull(
            z_t, clean, self.target.to(z_t), level=level, scale=self.scale
        )
        return pulled, None


@dataclass(frozen=True)
class ModeGuidance:
    """Mode guidance; see :func:`guidance.mode_noise`.

    Attributes:
        target: m, (B, C, h, w).
        scale: λ.
    """

    target: Tensor
    scale: float = 0.1
    start: float = 0.0
    end: float = 0.5

    def apply(self, z_t: Tensor, clean: Tensor, level: Level) -> tuple[Tensor, Tensor | None]:
        """See :class:`Guide`."""
        shift = guidance.mode_noise(clean, self.target.to(clean), level=level, scale=self.scale)
        return z_t, shift


@dataclass(frozen=True)
class ObjectiveGuidance:
    """Ascent of an objective of the clean latent; see :func:`guidance.ascend`.

    Attributes:
        objective: (B, C, h, w) → (B,).
        scale: s.
    """

    objective: guidance.Objective
    scale: float = 1.0
    start: float = 0.0
    end: float = 0.8

    def apply(self, z_t: Tensor, clean: Tensor, level: Level) -> tuple[Tensor, Tensor | None]:
        """See :class:`Guide`."""
        moved = guidance.ascend(z_t, clean, self.objective, level=level, scale=self.scale)
        return moved, None


@torch.no_grad()
def sample(
    backbone: Backbone,
    *,
    noise: Tensor,
    embeddings: TextEmbeddings,
    unconditional: TextEmbeddings,
    steps: int,
    scheduler: str = "ddim",
    cfg: float = 7.5,
    guide: Guide | None = None,
    origin: Tensor | None = None,
    strength: float = 1.0,
    on_step: Callable[[], None] | None = None,
) -> Tensor:
    """Sample latents.

    At each step inside the guidance window the clean latent is predicted from the output
    after classifier-free guidance; then z_t is moved, and the solver makes its step from the moved
    z_t with the *unchanged* output (DPD, published code), or the predicted noise is changed and z_t
    is not (MGD³), as the guide says.

    Args:
        backbone: The model.
        noise: Standard normal, (B, C, h, w).
        embeddings, unconditional: Prompt and empty prompt, see :class:`Prompts`.
        steps: Sampling steps of the whole schedule.
        scheduler: Solver, see :meth:`Schedule.solver`.
        cfg: Classifier-free guidance scale; 1 leaves the unconditional side out.
        guide: What steers, or ``None``.
        origin: Latents to start from, noised; needed when ``strength`` < 1.
        strength: Share of the schedule that is sampled.
        on_step: Called after each step; may raise to stop.

    Returns:
        Clean latents, float32 (B, C, h, w).
    """
    schedule = backbone.schedule
    solver = schedule.solver(scheduler, steps, backbone.device)
    times = schedule.times(solver)
    skipped = 0
    # A flow starts from the noise as it is, and its Euler solver has no word for that.
    z_t = noise.to(backbone.device) * getattr(solver, "init_noise_sigma", 1.0)
    if strength < 1.0 and origin is not None:
        skipped = steps - max(round(steps * strength), 1)
        z_t = guidance.noised_start(
            origin.to(backbone.device),
            noise.to(backbone.device),
            level=schedule.level(times[skipped]),
        )
        if hasattr(solver, "set_begin_index"):
            # Multistep solvers count the steps themselves and must be told where this begins.
            solver.set_begin_index(skipped)
    for i in range(skipped, len(times)):
        t = times[i]
        output = _predict(backbone, z_t, t, embeddings, unconditional, cfg)
        made, ahead = i - skipped, len(times) - skipped
        if guide is not None and guidance.is_active(made, ahead, start=guide.start, end=guide.end):
            level = schedule.level(t)
            clean = schedule.predict_clean(output, z_t, t.expand(len(z_t)))
            z_t, shift = guide.apply(z_t, clean, level)
            if shift is not None:
                output = shift_noise(schedule.prediction_type, output, shift, level)
        z_t = solver.step(output, solver.timesteps[i], z_t).prev_sample
        if on_step is not None:
            on_step()
    return z_t


def _predict(
    backbone: Backbone,
    z_t: Tensor,
    t: Tensor,
    embeddings: TextEmbeddings,
    unconditional: TextEmbeddings,
    cfg: float,
) -> Tensor:
    if cfg == 1.0:
        return backbone.predict(z_t, t.expand(len(z_t)), embeddings)
    both = backbone.predict(
        torch.cat([z_t, z_t]), t.expand(2 * len(z_t)), unconditional.followed_by(embeddings)
    )
    unguided, guided = both.chunk(2)
    return guidance.classifier_free(unguided, guided, cfg)
