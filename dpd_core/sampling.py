"""Guided sampling: one plain loop over a stock diffusers solver."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from dpd_core import guidance
from dpd_core.backbone import Backbone


@dataclass(frozen=True)
class PrototypeGuidance:
    """Prototype guidance over a window of the steps; see :func:`guidance.prototype_pull`.

    Attributes:
        target: p, (B, C, h, w).
        scale: s.
        start, end: Window as shares of the steps, inclusive.
    """

    target: Tensor
    scale: float = 1.0
    start: float = 0.0
    end: float = 0.8


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
    guide: PrototypeGuidance | None = None,
    origin: Tensor | None = None,
    strength: float = 1.0,
    on_step: Callable[[], None] | None = None,
) -> Tensor:
    """Sample latents.

    At each step inside the guidance window the clean latent is predicted from the output
    after classifier-free guidance, z_t is pulled toward the target, and the solver makes its
    step from the pulled z_t with the *unchanged* output (DPD, published code).

    Args:
        backbone: The model.
        noise: Standard normal, (B, C, h, w).
        embeddings, unconditional: Prompt and empty prompt, each (B, L, D).
        steps: Sampling steps of the whole schedule.
        scheduler: Solver, see :meth:`Backbone.scheduler`.
        cfg: Classifier-free guidance scale; 1 leaves the unconditional side out.
        guide: Prototype guidance, or ``None``.
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
            z_t = guidance.prototype_pull(
                z_t, backbone.predict_clean(output, z_t, t.expand(len(z_t))),
                guide.target.to(z_t), alpha_bar=alphas[t], scale=guide.scale,
            )  # fmt: skip
        z_t = solver.step(output, t, z_t).prev_sample
        if on_step is not None:
            on_step()
    return z_t


def _predict(
    backbone: Backbone, z_t: Tensor, t: Tensor, embeddings: Tensor, unconditional: Tensor,
    cfg: float,
) -> Tensor:  # fmt: skip
    if cfg == 1.0:
        return backbone.predict(z_t, t.expand(len(z_t)), embeddings)
    both = backbone.predict(
        torch.cat([z_t, z_t]), t.expand(2 * len(z_t)), torch.cat([unconditional, embeddings])
    )
    unguided, guided = both.chunk(2)
    return guidance.classifier_free(unguided, guided, cfg)
