"""Guidance terms and starts, one plain function each, in the symbols of its paper.

All latents are (B, C, h, w). z_t noisy latent, ẑ₀ predicted clean latent, p prototype latent,
α_t and σ_t share of latent and noise in z_t = α_t z₀ + σ_t ε (√ᾱ_t and √(1−ᾱ_t) in the papers; 1−t
and t in flow matching), s guidance scale, y the class.

Two of the terms move something directly (:func:`prototype_pull` the noisy latent,
:func:`mode_noise` the predicted noise). The others are *objectives* of ẑ₀, (B,), of which more is
better; :func:`ascend` moves z_t along an objective's gradient, by the step DPD's pull makes.
Objectives compare a sample with the *memory* of its class, latents (B, M, C, h, w), which the
caller looks up by class name.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional

from dpd_core.models.predictions import Level

Objective = Callable[[Tensor], Tensor]
"""Clean latents (B, C, h, w) → what is to be raised, (B,)."""


def prototype_pull(
    z_t: Tensor, clean: Tensor, prototype: Tensor, *, level: Level, scale: float
) -> Tensor:
    """Pull z_t toward the prototype: z_t + s · σ_t · (p − ẑ₀) / ‖p − ẑ₀‖₂.

    The norm is over the whole latent of a sample, so the length of the pull depends on the
    noise level alone; in the coordinates of flow matching it is the same pull. The direction is the
    negative gradient of ‖p − ẑ₀‖ with respect to ẑ₀. Where the result is not finite (ẑ₀ equals p,
    or overflow) the latent stays unguided.
    Source: DPD (Xu, Ghamisi, Weng, arXiv 2601.15829), published sampling code.
    """
    difference = prototype - clean
    norm = torch.linalg.vector_norm(difference, dim=(1, 2, 3), keepdim=True)
    pulled = z_t + scale * level.noise * difference / norm
    finite = torch.isfinite(pulled).flatten(1).all(dim=1)
    return torch.where(finite.view(-1, 1, 1, 1), pulled, z_t)


def mode_noise(clean: Tensor, mode: Tensor, *, level: Level, scale: float) -> Tensor:
    """What mode guidance adds to the predicted noise: ε̂ − ε = −√(1−ᾱ_t) · λ · (m − ẑ₀).

    √(1−ᾱ_t) is σ_t / √(α_t² + σ_t²), so that ẑ₀ moves alike at one signal-to-noise ratio.

    m is the cluster's mode (here its representative), λ = 0.1 in the paper, which stops halfway
    through the steps. Source: MGD³ (Chan-Santiago et al., ICML 2025).
    """
    return -level.noise / level.norm * scale * (mode - clean)


def ascend(
    z_t: Tensor, clean: Tensor, objective: Objective, *, level: Level, scale: float
) -> Tensor:
    """Move z_t up an objective of ẑ₀: z_t + s · σ_t · g / ‖g‖₂, g = ∇_ẑ₀ objective.

    The gradient is taken with respect to ẑ₀, not through the UNet (universal guidance, Bansal et
    al., 2023), and normalised as DPD normalises its pull, so that one scale means the same step
    for every objective. Where the gradient is 0 or not finite the latent stays.
    """
    with torch.enable_grad():
        point = clean.detach().requires_grad_()
        (gradient,) = torch.autograd.grad(objective(point).sum(), point)
    norm = torch.linalg.vector_norm(gradient, dim=(1, 2, 3), keepdim=True)
    moved = z_t + scale * level.noise * gradient / norm
    finite = torch.isfinite(moved).flatten(1).all(dim=1)
    return torch.where(finite.view(-1, 1, 1, 1), moved, z_t)


def log_probability(logits: Tensor, target: Tensor) -> Tensor:
    """log p(y|ẑ₀) of the target columns, (B,): classifier guidance (Dhariwal & Nichol, 2021)."""
    return logits.log_softmax(1).gather(1, target[:, None])[:, 0]


def repulsion(clean: Tensor, memory: Tensor) -> Tensor:
    """Mean root-mean-square distance to the class's memory, (B,): large where none is near."""
    difference = clean[:, None] - memory
    return difference.square().flatten(2).mean(2).add(1e-12).sqrt().mean(1)


def information(
    logits: Tensor, target: Tensor, clean: Tensor, memory: Tensor, *, ipc: int, beta: float
) -> Tensor:
    """I(X;Y) + β(IPC) · H(X|Y), both by stand-ins, (B,).

    The first part is raised by log p(y|ẑ₀) of the latent classifier, the second by distance to
    the other prototypes of the class. β(IPC) = β · (1 − 1/IPC): with one image a class there is
    nothing to spread over. Source of the objective: information-guided diffusion sampling (Ye et
    al., 2025); the paper trains estimators for both, these are ours.
    """
    spread = beta * (1 - 1 / ipc) * repulsion(clean, memory) if memory.shape[1] else 0.0
    return log_probability(logits, target) + spread


def nearest_similarity(clean: Tensor, memory: Tensor) -> Tensor:
    """max_j cos(ẑ₀, memory_j), (B,); 0 where there is no memory."""
    if not memory.shape[1]:
        return torch.zeros(len(clean), device=clean.device)
    flat = clean.flatten(1)[:, None]
    return functional.cosine_similarity(flat, memory.flatten(2), dim=2).max(1).values


def learnability(
    student: Tensor,
    reference: Tensor,
    target: Tensor,
    clean: Tensor,
    memory: Tensor,
    *,
    omega: float,
    redundancy: float,
) -> Tensor:
    """S = ℓ(student) − ω · ℓ(reference) − ρ · max_j cos(ẑ₀, memory_j), (B,).

    High where the current student still errs and a classifier that knows all the data does not:
    hard, but learnable, and not what is there already. Source: learnability-guided diffusion.

    Args:
        student, reference: Logits of the current student and of the reference.
    """
    loss, known = -log_probability(student, target), -log_probability(reference, target)
    return loss - omega * known - redundancy * nearest_similarity(clean, memory)


def influence(
    features: Tensor,
    logits: Tensor,
    target: Tensor,
    mean_gradient: Tensor,
    clean: Tensor,
    memory: Tensor,
    *,
    deviation: float,
) -> Tensor:
    """cos(∇_W ℓ(ẑ₀), mean real ∇_W ℓ) − δ · max_j cos(ẑ₀, memory_j), (B,).

    W is the last layer, for which the gradient of the cross-entropy is (p − y) ⊗ features in
    closed form; the paper uses all layers of several checkpoints. Source: IGD (Chen et al., ICLR
    2025).

    Args:
        features: Penultimate features, (B, D).
        logits: (B, n).
        mean_gradient: Mean over the class's real images, (B, n, D).
    """
    gradient = last_layer_gradient(features, logits, target).flatten(1)
    agreement = functional.cosine_similarity(gradient, mean_gradient.flatten(1), dim=1)
    return agreement - deviation * nearest_similarity(clean, memory)


def last_layer_gradient(features: Tensor, logits: Tensor, target: Tensor) -> Tensor:
    """∂ℓ/∂W = (softmax(logits) − y) ⊗ features, (B, n, D), of each sample by itself."""
    error = logits.softmax(1) - functional.one_hot(target, logits.shape[1])
    return error[:, :, None] * features[:, None, :]


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


def noised_start(prototype: Tensor, noise: Tensor, *, level: Level) -> Tensor:
    """z_τ = α_τ · c + σ_τ · ε: begin from a noised latent instead of pure noise.

    Source: D4M (Su et al., CVPR 2024), with the cluster's representative or centre as c.
    """
    return level.signal * prototype + level.noise * noise


def classifier_free(unconditional: Tensor, conditional: Tensor, scale: float) -> Tensor:
    """Classifier-free guidance (Ho & Salimans, 2022): u + w · (c − u)."""
    return unconditional + scale * (conditional - unconditional)
