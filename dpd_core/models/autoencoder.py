"""What is measured of an autoencoder by itself."""

from __future__ import annotations

import numpy as np
import torch
from diffusers import AutoencoderKL


@torch.no_grad()
def psnr_per_image(vae: AutoencoderKL, images: np.ndarray, *, batch_size: int = 64) -> np.ndarray:
    """The PSNR in dB of each image's reconstruction, in float32.

    Args:
        vae: Encodes to the posterior's mean, and decodes that.
        images: uint8 (n, h, w, 3).
        batch_size: Images at a time.

    Returns:
        float32 (n,).
    """
    values = []
    for start in range(0, len(images), batch_size):
        part = torch.from_numpy(np.array(images[start : start + batch_size])).to(vae.device)
        batch = part.permute(0, 3, 1, 2).float().div_(127.5).sub_(1)
        decoded = vae.decode(vae.encode(batch).latent_dist.mean).sample.clamp(-1, 1)
        error = ((decoded - batch) / 2).square().mean((1, 2, 3))
        values.append((-10 * torch.log10(error.clamp_min(1e-8))).cpu().numpy())
    return np.concatenate(values)
