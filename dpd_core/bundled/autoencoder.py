"""The bundled image autoencoder: 64 x 64 pixels to latents of 16 x 16 and back."""

from __future__ import annotations

import copy
import logging
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from diffusers import AutoencoderKL
from torch import Tensor
from torch.nn import functional as F

from dpd_core.bundled.corpus import IMAGE_SIZE, Collection
from dpd_core.bundled.crops import CropSampler
from dpd_core.bundled.training_loop import LoopRecipe, Trainer
from dpd_core.hardware import Hardware
from dpd_core.students.features import EfficientNetLite0, load_network, resized
from dpd_core.train.decoder import PatchDiscriminator

log = logging.getLogger(__name__)

LATENT_CHANNELS = 8
SHARES = {"eurosat": 0.3, "naip": 0.55, "banepa": 0.1, "ramp": 0.05}
"""How often the autoencoder sees each kind of image."""
KL_WEIGHT = 1e-6
PERCEPTUAL_WEIGHT = 0.15
ADVERSARIAL_WEIGHT = 0.1
"""How much the decoder is to be taken for a camera by a discriminator of patches. Without it what
is decoded is the mean of what the latents allow, which has too little fine texture."""
KEPT_WEIGHT = 0.5
"""How much latents that a start model had are held where they were."""
PLAIN_SHARE = 0.4
"""Share of a run from nothing on quarter-size crops: as many pixels a second from four times the
images, by differences of pixels alone."""
WHOLE_SHARE = 0.375
"""Whole images a step, of the recipe's batch."""


def build_autoencoder(
    channels: int = LATENT_CHANNELS, blocks: tuple[int, ...] = (32, 64, 64), side: int = IMAGE_SIZE
) -> AutoencoderKL:
    """An untrained autoencoder; each block after the first halves the side."""
    return AutoencoderKL(
        block_out_channels=blocks,
        down_block_types=("DownEncoderBlock2D",) * len(blocks),
        up_block_types=("UpDecoderBlock2D",) * len(blocks),
        layers_per_block=1,
        latent_channels=channels,
        norm_num_groups=16,
        sample_size=side,
        scaling_factor=1.0,
    )


def widened(start: AutoencoderKL, channels: int) -> AutoencoderKL:
    """A copy with more latent channels: the first are those of ``start``, the rest untrained.

    The new channels have no influence on the decoder until it learns to use them.
    """
    vae = AutoencoderKL.from_config({**start.config, "latent_channels": channels})
    old, had = start.state_dict(), start.config.latent_channels
    new = vae.state_dict()
    both = [*range(had), *range(channels, channels + had)]
    for key, value in old.items():
        if key in ("encoder.conv_out.weight", "encoder.conv_out.bias", "quant_conv.bias"):
            new[key][both] = value
        elif key == "quant_conv.weight":
            new[key].zero_()
            new[key][torch.arange(2 * channels), torch.arange(2 * channels)] = 1.0
            new[key][both] = 0.0
            new[key][torch.tensor(both)[:, None], torch.tensor(both)] = value
        elif key in ("post_quant_conv.weight", "post_quant_conv.bias", "decoder.conv_in.weight"):
            new[key].zero_()
            new[key][tuple(slice(n) for n in value.shape)] = value
        else:
            new[key] = value
    fresh = torch.arange(had, channels)
    new["post_quant_conv.weight"][fresh, fresh] = 1.0
    new["quant_conv.bias"][channels + had :] = -6.0  # nearly no noise on the new latents
    vae.load_state_dict(new)
    return vae


def to_tensor(images: np.ndarray | Tensor) -> Tensor:
    """uint8 (n, h, w, 3) or (n, 3, h, w) tensors to float32 (n, 3, h, w) in [-1, 1]."""
    if isinstance(images, np.ndarray):
        images = torch.from_numpy(np.ascontiguousarray(images)).permute(0, 3, 1, 2)
    return images.float().div(127.5).sub(1)


def jittered(images: Tensor, generator: torch.Generator, *, strength: float) -> Tensor:
    """Brightness, contrast, saturation and channel balance of (n, 3, h, w) in [-1, 1], changed.

    ``strength`` is the standard deviation of the logarithmic gains.
    """

    def draw(*shape: int) -> Tensor:
        shape = (len(images), *shape)
        return torch.randn(shape, generator=generator, device=images.device) * strength

    grey = images.mean(1, keepdim=True)
    centre = grey.mean((2, 3), keepdim=True)
    images = grey + (images - grey) * draw(1, 1, 1).exp()
    images = centre + (images - centre) * draw(1, 1, 1).exp()
    images = (images + 1) * (0.4 * draw(3, 1, 1)).exp() * (0.7 * draw(1, 1, 1)).exp() - 1
    return images.clamp(-1, 1)


def perceptual_distance(network: EfficientNetLite0, decoded: Tensor, images: Tensor) -> Tensor:
    """How far features lie apart, of (n, 3, h, w) in [-1, 1] each: squared distance of the maps of
    every stage, channels scaled to length one, mean over places and stages (Zhang et al., 2018)."""
    with torch.no_grad():
        wanted = network.maps(resized(images))
    found = network.maps(resized(decoded))
    distances = [
        (F.normalize(ours, dim=1) - F.normalize(theirs, dim=1)).square().sum(1).mean()
        for ours, theirs in zip(found, wanted, strict=True)
    ]
    return torch.stack(distances).mean()


def reconstruction_loss(
    vae: AutoencoderKL,
    images: Tensor,
    generator: torch.Generator,
    hardware: Hardware,
    *,
    judged: tuple[EfficientNetLite0, PatchDiscriminator] | None,
    start: AutoencoderKL | None,
) -> tuple[Tensor, dict[str, Tensor]]:
    """The loss of one batch (n, 3, h, w) in [-1, 1], and its parts for the log.

    ``judged`` adds the perceptual and the adversarial loss, and the discriminator's own.
    """
    with hardware.autocast():
        posterior = vae.encode(images).latent_dist
        noise = torch.randn(posterior.mean.shape, generator=generator, device=images.device)
        decoded = vae.decode(posterior.mean + posterior.std * noise).sample
    decoded = decoded.float()
    difference = decoded - images
    squared = difference.square().mean()
    # Differences of neighbouring pixels carry what the eye calls sharpness.
    edges = difference.diff(dim=2).abs().mean() + difference.diff(dim=3).abs().mean()
    kl = posterior.kl().float().mean()
    loss = 4 * squared + 0.25 * difference.abs().mean() + 0.25 * edges + KL_WEIGHT * kl
    numbers = {"psnr": 10 * torch.log10(4 / squared.detach()), "kl": kl.detach()}
    if judged is not None:
        network, discriminator = judged
        with hardware.autocast():
            far = perceptual_distance(network, decoded, images)
        fooled, caught = adversarial_losses(discriminator, decoded, images)
        loss = loss + PERCEPTUAL_WEIGHT * far.float() + ADVERSARIAL_WEIGHT * fooled + caught
        numbers |= {"perceptual": far.detach(), "caught": caught.detach()}
    if start is not None:
        with torch.no_grad(), hardware.autocast():
            wanted = start.encode(images).latent_dist.mean.float()
        moved = (posterior.mean[:, : wanted.shape[1]].float() - wanted).square().mean()
        loss = loss + KEPT_WEIGHT * moved
        numbers["moved"] = moved.detach()
    return loss, numbers


def adversarial_losses(
    discriminator: PatchDiscriminator, decoded: Tensor, images: Tensor
) -> tuple[Tensor, Tensor]:
    """What the decoder is to lower, and what the discriminator is to lower (hinge loss).

    Each loss has gradients for its own side alone, so that both may be added and walked together.
    """
    discriminator.requires_grad_(False)
    fooled = -discriminator(decoded).mean()
    discriminator.requires_grad_(True)
    caught = F.relu(1 - discriminator(images)).mean()
    return fooled, caught + F.relu(1 + discriminator(decoded.detach())).mean()


def train_autoencoder(
    collections: Sequence[Collection],
    recipe: LoopRecipe,
    folder: Path,
    hardware: Hardware,
    *,
    vae: AutoencoderKL,
    start: AutoencoderKL | None = None,
    stop_at: int | None = None,
) -> AutoencoderKL:
    """Train and return the averaged model, its new latents brought to a deviation of one.

    Args:
        collections: Training images.
        recipe, folder, hardware: See :class:`Trainer`.
        vae: What is trained, see :func:`build_autoencoder` and :func:`widened`.
        start: A model whose latents the first channels are to stay, so that a text-to-image
            model that was trained on them can be gone on with.
        stop_at: See :meth:`Trainer.run`.
    """
    torch.manual_seed(recipe.seed)
    sampler = CropSampler(collections, SHARES, hardware.device, vae.config.sample_size)
    vae = vae.to(hardware.device)
    kept = copy.deepcopy(start).to(hardware.device).eval() if start is not None else None
    discriminator = PatchDiscriminator().to(hardware.device)
    modules = {"vae": vae, "discriminator": discriminator}
    trainer = Trainer(modules, recipe, folder, name="autoencoder", hardware=hardware)
    judged = load_network(hardware.device), discriminator
    plain_share = PLAIN_SHARE if start is None else 0.0

    def loss_of(
        rng: np.random.Generator, generator: torch.Generator, step: int
    ) -> tuple[Tensor, dict[str, Tensor]]:
        cropped = trainer.progress < plain_share
        count = recipe.batch_size if cropped else max(int(recipe.batch_size * WHOLE_SHARE), 1)
        images = to_tensor(sampler.draw(count, rng).images)
        images = jittered(images, generator, strength=0.15)
        if cropped:
            half = images.shape[-1] // 2
            top, left = rng.integers(half + 1, size=2)
            images = images[..., top : top + half, left : left + half].contiguous()
        return reconstruction_loss(
            vae, images, generator, hardware, judged=None if cropped else judged, start=kept
        )

    trainer.run(loss_of, stop_at=stop_at)
    trainer.averaged()
    sample = sampler.draw(512, np.random.default_rng(recipe.seed)).images
    had = start.config.latent_channels if start is not None else 0
    standardise(vae, sample.permute(0, 2, 3, 1).cpu().numpy(), had)
    return vae


@torch.no_grad()
def standardise(vae: AutoencoderKL, images: np.ndarray, kept: int = 0) -> None:
    """Bring the latents of uint8 ``images`` (n, h, w, 3), but for the first ``kept`` channels, to
    mean zero and, scaled by the model's factor, a deviation of one.

    What is multiplied here the decoder divides again: no image changes. Channels of one deviation
    are noised alike by the diffusion model.
    """
    latents = encode(vae, images)
    channels = latents.shape[1]
    gain = 1 / (latents.std((0, 2, 3)) * vae.config.scaling_factor)
    mean = latents.mean((0, 2, 3))
    gain[:kept], mean[:kept] = 1.0, 0.0
    gain, mean = gain.to(vae.device), mean.to(vae.device)
    into, out = vae.quant_conv, vae.post_quant_conv
    into.weight[:channels] *= gain[:, None, None, None]
    into.bias[:channels] = (into.bias[:channels] - mean) * gain
    into.bias[channels:] += 2 * gain.log()  # the variance's logarithm
    out.bias += (out.weight[:, :, 0, 0] * mean).sum(1)
    out.weight /= gain[None, :, None, None]


@torch.no_grad()
def encode(vae: AutoencoderKL, images: np.ndarray, *, batch_size: int = 64) -> Tensor:
    """The mean latents (n, c, h/4, w/4) float32 of uint8 images (n, h, w, 3), not yet scaled."""
    return torch.cat(
        [
            vae.encode(to_tensor(images[start : start + batch_size]).to(vae.device))
            .latent_dist.mean.float()
            .cpu()
            for start in range(0, len(images), batch_size)
        ]
    )


@torch.no_grad()
def reconstructed(vae: AutoencoderKL, images: np.ndarray, *, batch_size: int = 64) -> np.ndarray:
    """uint8 images (n, h, w, 3), encoded and decoded in float32."""
    found = []
    for start in range(0, len(images), batch_size):
        batch = to_tensor(images[start : start + batch_size]).to(vae.device)
        decoded = vae.decode(vae.encode(batch).latent_dist.mean).sample
        pixels = ((decoded + 1) * 127.5).round().clamp(0, 255).to(torch.uint8)
        found.append(pixels.permute(0, 2, 3, 1).cpu().numpy())
    return np.concatenate(found)


def psnr(images: np.ndarray, others: np.ndarray) -> np.ndarray:
    """The PSNR in dB of each pair of 8-bit images (n, h, w, 3)."""
    error = ((images.astype(np.float32) - others) / 255) ** 2
    return -10 * np.log10(np.maximum(error.mean((1, 2, 3)), 1e-8))
