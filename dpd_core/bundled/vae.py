"""The bundled image autoencoder: 64 x 64 pixels to 4 x 16 x 16 latents and back."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np
    import torch
    from diffusers import AutoencoderKL

from dpd_core.bundled.training_loop import LoopRecipe, Trainer, bf16_autocast

log = logging.getLogger(__name__)

KL_WEIGHT = 1e-6
EDGE_WEIGHT = 0.5
CROPPED_SHARE = 0.55


def build_vae(
    block_channels: tuple[int, ...] = (32, 64, 64), sample_size: int = 64
) -> AutoencoderKL:
    """Return an untrained autoencoder; each block after the first halves the side."""
    from diffusers import AutoencoderKL

    blocks = len(block_channels)
    return AutoencoderKL(
        block_out_channels=block_channels,
        down_block_types=("DownEncoderBlock2D",) * blocks,
        up_block_types=("UpDecoderBlock2D",) * blocks,
        layers_per_block=1,
        latent_channels=4,
        norm_num_groups=16,
        sample_size=sample_size,
    )


def to_tensor(images: np.ndarray) -> torch.Tensor:
    """Turn (n, h, w, 3) uint8 into (n, 3, h, w) float32 in [-1, 1]."""
    import torch

    return torch.from_numpy(images).permute(0, 3, 1, 2).float().div_(127.5).sub_(1)


def jitter_colours(
    images: torch.Tensor, generator: torch.Generator, *, strength: float
) -> torch.Tensor:
    """Shift brightness, contrast, saturation and channel balance of (n, 3, h, w) in [-1, 1].

    ``strength`` is the standard deviation of the logarithmic gains.
    """
    import torch

    def draw(*shape: int) -> torch.Tensor:
        return torch.randn(len(images), *shape, generator=generator) * strength

    grey = images.mean(1, keepdim=True)
    centre = grey.mean((2, 3), keepdim=True)
    images = grey + (images - grey) * draw(1, 1, 1).exp()
    images = centre + (images - centre) * draw(1, 1, 1).exp()
    images = (images + 1) * (0.4 * draw(3, 1, 1)).exp() * (0.7 * draw(1, 1, 1)).exp() - 1
    return images.clamp(-1, 1)


def augment(images: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """Widen what the autoencoder sees, (n, 3, h, w) in [-1, 1] to the same shape.

    Flips, quarter turns and slight zooms; colour changes; a fifth of the images become
    mosaics of four halved ones and some are sharpened, because aerial photographs hold
    finer detail than Sentinel-2 patches do.
    """
    import torch
    from torch.nn import functional as F

    count, size = len(images), images.shape[-1]
    quarters = torch.randint(4, (count,), generator=generator) * (torch.pi / 2)
    flips = torch.randint(2, (count,), generator=generator) * 2.0 - 1
    zooms = 1 - 0.4 * torch.rand(count, generator=generator)
    # Half stay pixel-exact: resampling softens, and the decoder has to learn to be sharp.
    zooms[torch.rand(count, generator=generator) < 0.5] = 1.0
    cos, sin = quarters.cos() * zooms, quarters.sin() * zooms
    shift = (1 - zooms)[:, None] * (2 * torch.rand(count, 2, generator=generator) - 1)
    rows = torch.stack(
        [
            torch.stack([flips * cos, -sin, shift[:, 0]], 1),
            torch.stack([flips * sin, cos, shift[:, 1]], 1),
        ],
        1,
    )
    grid = F.affine_grid(rows, list(images.shape), align_corners=False)
    images = F.grid_sample(images, grid, padding_mode="reflection", align_corners=False)
    mosaics = count // 5
    if mosaics:
        halves = F.avg_pool2d(images, 2)
        pick = torch.randint(count, (mosaics, 4), generator=generator)
        top = torch.cat([halves[pick[:, 0]], halves[pick[:, 1]]], 3)
        bottom = torch.cat([halves[pick[:, 2]], halves[pick[:, 3]]], 3)
        images = torch.cat([torch.cat([top, bottom], 2)[..., :size, :size], images[mosaics:]])
    blurred = F.avg_pool2d(F.pad(images, (1, 1, 1, 1), mode="reflect"), 3, stride=1)
    amount = torch.rand(count, 1, 1, 1, generator=generator)
    amount = torch.where(amount > 0.6, (amount - 0.6) * 4, torch.zeros_like(amount))
    images = images + amount * (images - blurred)
    return jitter_colours(images.clamp(-1, 1), generator, strength=0.2)


def reconstruction_loss(
    vae: AutoencoderKL, images: torch.Tensor, generator: torch.Generator
) -> tuple[torch.Tensor, dict[str, float]]:
    """Return the loss of one batch (n, 3, h, w) in [-1, 1], and its parts for the log."""
    import torch

    with bf16_autocast():
        posterior = vae.encode(images).latent_dist
        decoded = vae.decode(posterior.sample(generator)).sample
    decoded = decoded.float()
    difference = decoded - images
    squared = difference.square().mean()
    # Edges: differences of neighbouring pixels carry what the eye calls sharpness.
    edges = torch.diff(difference, dim=2).abs().mean() + torch.diff(difference, dim=3).abs().mean()
    # Summed over an image's latents: about a tenth of the whole loss at 28 dB.
    kl = posterior.kl().float().mean()
    loss = 4 * squared + 0.5 * difference.abs().mean() + 0.5 * EDGE_WEIGHT * edges
    psnr = float(10 * torch.log10(4 / squared.detach()))
    return loss + KL_WEIGHT * kl, {"psnr": psnr, "kl": float(kl.detach())}


def train_vae(
    images: list[np.ndarray],
    recipe: LoopRecipe,
    folder: Path,
    *,
    vae: AutoencoderKL | None = None,
    stop_at: int | None = None,
) -> AutoencoderKL:
    """Train on equal shares of each stack (n, h, w, 3) uint8; return the averaged model."""
    import numpy as np
    import torch

    torch.manual_seed(recipe.seed)
    vae = vae or build_vae()
    trainer = Trainer({"vae": vae}, recipe, folder, name="vae")

    def loss_of(
        rng: np.random.Generator, generator: torch.Generator, step: int
    ) -> tuple[torch.Tensor, dict[str, float]]:
        stacks = rng.integers(len(images), size=recipe.part_size)
        batch = np.stack([images[s][rng.integers(len(images[s]))] for s in stacks])
        tensor = augment(to_tensor(batch), generator)
        if step < CROPPED_SHARE * recipe.steps:
            # Quarter-size crops first: the same pixels a second from four times the images.
            tensor = tensor[..., : tensor.shape[-1] // 2, : tensor.shape[-1] // 2]
        else:
            tensor = tensor[: max(1, len(tensor) // 4)]
        return reconstruction_loss(vae, tensor, generator)

    trainer.run(loss_of, stop_at=stop_at)
    trainer.load_ema()
    return vae


def encode(vae: AutoencoderKL, images: np.ndarray, *, batch_size: int = 64) -> Any:
    """Return the mean latents (n, 4, h/4, w/4) float32 of uint8 images, not yet scaled."""
    import torch

    latents = []
    with torch.no_grad(), bf16_autocast():
        for start in range(0, len(images), batch_size):
            batch = to_tensor(images[start : start + batch_size])
            latents.append(vae.encode(batch).latent_dist.mean.float())
    return torch.cat(latents)


def measure_scale(vae: AutoencoderKL, images: np.ndarray) -> float:
    """Return the factor that brings latents of ``images`` to a standard deviation of one."""
    return 1.0 / float(encode(vae, images).std())
