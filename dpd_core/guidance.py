"""Guidance terms and starts, one plain function each, in the symbols of its paper.

All latents are (B, C, h, w). z_t noisy latent, ẑ₀ predicted clean latent, p prototype latent,
ᾱ_t cumulative product of the noise schedule at t, s guidance scale.
"""

from __future__ import annotations

import torch
from torch import Tensor


def prototype_pull(
    z_t: Tensor, clean: Tensor, prototype: Tensor, *, alpha_bar: Tensor, scale: float
) -> Tensor:
    """Pull z_t toward the prototype: z_t + s · √(1−ᾱ_t) · (p − ẑ₀) / ‖p − ẑ₀‖₂.

    The norm is over the whole latent of a sample, so the length of the pull depends on the
    noise level alone. The direction is the negative gradient of ‖p − ẑ₀‖ with respect to ẑ₀.
    Where the result is not finite (ẑ₀ equals p, or overflow) the latent stays unguided.
    Source: DPD (Xu, Ghamisi, Weng, arXiv 2601.15829), published sampling code.
    """
    difference = prototype - clean
    norm = torch.linalg.vector_norm(difference, dim=(1, 2, 3), keepdim=True)
    pulled = z_t + scale * (1 - alpha_bar).sqrt() * difference / norm
    finite = torch.isfinite(pulled).flatten(1).all(dim=1)
    return torch.where(finite.view(-1, 1, 1, 1), pulled, z_t)


def spherical_target(prototype: Tensor, noise: Tensor) -> Tensor:
    """A point near the prototype: p + u/√D, u a random unit vector of the latent's D numbers.

    Args:
        prototype: p.
        noise: Standard normal, same shape; its direction is u.
    """
    size = prototype[0].numel()
    unit = noise / torch.linalg.vector_norm(noise, dim=(1, 2, 3), keepdim=True)
    return prototype + unit / size**0.5


def is_active(step: int, steps: int, *, start: float, end: float) -> bool:
    """Whether guidance acts at this step: start ≤ i/(N−1) ≤ end (DPD, published code)."""
    share = step / max(steps - 1, 1)
    return start <= share <= end


def noised_start(prototype: Tensor, noise: Tensor, *, alpha_bar: Tensor) -> Tensor:
    """z_τ = √ᾱ_τ · c + √(1−ᾱ_τ) · ε: begin from a noised latent instead of pure noise.

    Source: D4M (Su et al., CVPR 2024), with the cluster's representative or centre as c.
    """
    return alpha_bar.sqrt() * prototype + (1 - alpha_bar).sqrt() * noise


def classifier_free(unconditional: Tensor, conditional: Tensor, scale: float) -> Tensor:
    """Classifier-free guidance (Ho & Salimans, 2022): u + w · (c − u)."""
    return unconditional + scale * (conditional - unconditional)
