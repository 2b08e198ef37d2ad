"""What a denoiser predicts, and what follows from it: the one place where noise, velocity, flow and
clean latent are turned into each other.

At a noise level z_t = α_t z₀ + σ_t ε. A denoiser predicts one of

    epsilon           ε                   (Ho et al., 2020)
    v_prediction      α_t ε − σ_t z₀      (Salimans & Ho, 2022; α² + σ² = 1)
    flow_prediction   ε − z₀              (Lipman et al., 2023; Esser et al., 2024; α = 1 − σ)
    sample            z₀
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Level:
    """A noise level, or one for each sample.

    Attributes:
        signal: α_t.
        noise: σ_t, of the same shape.
        norm: √(α_t² + σ_t²); 1 where the variance is preserved.
    """

    signal: Tensor
    noise: Tensor
    norm: Tensor | float = 1.0

    @classmethod
    def of(cls, alpha_bar: Tensor) -> Level:
        """The variance-preserving level of ᾱ_t: α_t = √ᾱ_t, σ_t = √(1−ᾱ_t)."""
        return cls(alpha_bar.sqrt(), (1 - alpha_bar).sqrt())


def clean_latent(prediction: str, output: Tensor, noisy: Tensor, level: Level) -> Tensor:
    """ẑ₀ from a denoiser's output at z_t; all (B, C, h, w)."""
    if prediction == "epsilon":
        # ᾱ_T may be 0 (zero terminal SNR), where noise says nothing of the clean latent.
        return (noisy - level.noise * output) / level.signal.clamp(min=1e-4)
    if prediction == "v_prediction":
        return level.signal * noisy - level.noise * output
    if prediction == "flow_prediction":
        return noisy - level.noise * output
    return output


def target(prediction: str, clean: Tensor, noise: Tensor, level: Level) -> Tensor:
    """What the denoiser should have said for z₀ and ε; (B, C, h, w)."""
    if prediction == "epsilon":
        return noise
    if prediction == "v_prediction":
        return level.signal * noise - level.noise * clean
    if prediction == "flow_prediction":
        return noise - clean
    return clean


def shift_noise(prediction: str, output: Tensor, shift: Tensor, level: Level) -> Tensor:
    """The denoiser's output when the noise it implies is to change by ``shift`` at the same z_t.

    v = (ε − σ z_t)/α, the flow is (ε − z_t)/α, and z₀ = (z_t − σ ε)/α.

    Args:
        output, shift: (B, C, h, w).
        level: One for all; where α is 0 nothing is known of the clean latent, and the output stays.
    """
    if prediction == "epsilon":
        return output + shift
    signal = level.signal
    if signal < 1e-3:
        return output
    if prediction == "sample":
        return output - level.noise / signal * shift
    return output + shift / signal


def min_snr_weights(alphas_cumprod: Tensor, *, gamma: float, prediction_type: str) -> Tensor:
    """Min-SNR loss weights (Hang et al., ICCV 2023, equation 6), shape (B,).

    min(SNR, γ)/SNR for noise prediction, min(SNR, γ)/(SNR+1) for velocity, min(SNR, γ) for the
    clean latent; all ones for γ = 0.
    """
    if gamma == 0:
        return torch.ones_like(alphas_cumprod)
    snr = alphas_cumprod / (1 - alphas_cumprod)
    clipped = snr.clamp(max=gamma)
    if prediction_type == "epsilon":
        # A zero terminal SNR leaves 0/0, whose limit is 1.
        return torch.where(snr > 0, clipped / snr.clamp(min=1e-12), torch.ones_like(snr))
    return clipped / (snr + 1) if prediction_type == "v_prediction" else clipped
