"""Guided sampling: one plain loop over a stock diffusers solver."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from dpd_core.models import guidance
from dpd_core.models.backbone import Backbone


class Guide(Protocol):
    """What steers sampling in a window of the steps (shares of them, inclusive)."""

    @property
    def start(self) -> float: ...

    @property
    def end(self) -> float: ...

    def apply(self, z_t: Tensor, clean: Tensor, alpha_bar: Tensor) -> tuple[Tensor, Tensor | None]:
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

    def apply(self, z_t: Tensor, clean: Tensor, alpha_bar: Tensor) -> tuple[Tensor, Tensor | None]:
        """See :class:`Guide`."""
        pulled = guidance.prototype_pull(
            z_t, clean, self.target.to(z_t), alpha_bar=alpha_bar, scale=self.scale
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

    def apply(self, z_t: Tensor, clean: Tensor, alpha_bar: Tensor) -> tuple[Tensor, Tensor | None]:
        """See :class:`Guide`."""
        shift = guidance.mode_noise(
            clean, self.target.to(clean), alpha_bar=alpha_bar, scale=self.scale
        )
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

    def apply(self, z_t: Tensor, clean: Tensor, alpha_bar: Tensor) -> tuple[Tensor, Tensor | None]:
        """See :class:`Guide`."""
        moved = guidance.ascend(z_t, clean, self.objective, alpha_bar=alpha_bar, scale=self.scale)
        return moved, None


@torch.no_grad()
def sample(
    backbone: Backbone,
    *,
    noise: Tensor,
    embeddings: Tensor,
    unconditional: Tensor,
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
        embeddings, unconditional: Prompt and empty prompt, each (B, L, D).
        steps: Sampling steps of the whole schedule.
        scheduler: Solver, see :meth:`Backbone.scheduler`.
        cfg: Classifier-free guidance scale; 1 leaves the unconditional side out.
        guide: What steers, or ``None``.
        origin: Latents to start from, noised; needed when ``strength`` < 1.
        strength: Share of the schedule that is sampled.
        on_step: Called after each step; may raise to stop.

    Returns:
        Clean latents, float32 (B, C, h, w).
    """
    solver = backbone.scheduler(scheduler, steps)
    alphas = backbone.alphas_cumprod
    skipped = 0
    z_t = noise.to(backbone.device) * solver.init_noise_sigma
    if strength < 1.0 and origin is not None:
        skipped = steps - max(round(steps * strength), 1)
        first = alphas[solver.timesteps[skipped]]
        z_t = guidance.noised_start(
            origin.to(backbone.device), noise.to(backbone.device), alpha_bar=first
        )
        if hasattr(solver, "set_begin_index"):
            # Multistep solvers count the steps themselves and must be told where this begins.
            solver.set_begin_index(skipped)
    for i, t in enumerate(solver.timesteps[skipped:], start=skipped):
        z_in = solver.scale_model_input(z_t, t)
        output = _predict(backbone, z_in, t, embeddings, unconditional, cfg)
        if guide is not None and guidance.is_active(i, steps, start=guide.start, end=guide.end):
            clean = backbone.predict_clean(output, z_t, t.expand(len(z_t)))
            z_t, shift = guide.apply(z_t, clean, alphas[t])
            if shift is not None:
                output = guidance.shift_noise(
                    output, shift, alpha_bar=alphas[t], prediction=backbone.prediction_type
                )
        z_t = solver.step(output, t, z_t).prev_sample
        if on_step is not None:
            on_step()
    return z_t


def _predict(
    backbone: Backbone,
    z_t: Tensor,
    t: Tensor,
    embeddings: Tensor,
    unconditional: Tensor,
    cfg: float,
) -> Tensor:
    if cfg == 1.0:
        return backbone.predict(z_t, t.expand(len(z_t)), embeddings)
    both = backbone.predict(
        torch.cat([z_t, z_t]), t.expand(2 * len(z_t)), torch.cat([unconditional, embeddings])
    )
    unguided, guided = both.chunk(2)
    return guidance.classifier_free(unguided, guided, cfg)
