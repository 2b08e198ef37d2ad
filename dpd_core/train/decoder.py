"""Fine-tuning the VAE's decoder on the training images: the same latents, the data's own texture.

A small autoencoder blurs whatever it was not trained on, and students notice: it can cost them
more than all the rest of a method. The encoder stays as it is, and with it every latent, every
prototype and the diffusion model; only what the latents are decoded to becomes more like the data:

    L = 4‖x̂ − x‖² + ½|x̂ − x| + 0.3 Σ_l ‖φ_l(x̂) − φ_l(x)‖² / Var φ_l(x) − 0.03 D(x̂)

with x̂ the decoded posterior sample of a training image x, φ_l the maps of the pretrained feature
network (:mod:`dpd_core.students.features`; a perceptual loss: Johnson et al., ECCV 2016) and D a
discriminator of patches (hinge loss; VQGAN: Esser et al., CVPR 2021), which learns to tell x̂ from
x meanwhile.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from dpd_core.config import TrainConfig
from dpd_core.dataset.index import DatasetIndex
from dpd_core.dataset.pixels import pixels
from dpd_core.events import Emit, Log, Meter
from dpd_core.models import weights as adapter_weights
from dpd_core.models.autoencoder import psnr_per_image
from dpd_core.models.backbone import Backbone, Posterior
from dpd_core.models.checkpoint import run_steps
from dpd_core.models.latents import Latents
from dpd_core.project import Project
from dpd_core.seeding import derive_seed, generator
from dpd_core.students.features import EfficientNetLite0, load_network, resized

PERCEPTUAL_WEIGHT, ADVERSARIAL_WEIGHT = 0.3, 0.03
LEARNING_RATE, DISCRIMINATOR_RATE, WARMUP = 3e-4, 4e-4, 20
CLIP = 1.0
MAPS, MAPS_SIDE = 5, 128
"""Maps of the feature network that are compared, and the largest side at which it looks."""
_BATCH, _BATCH_PIXELS = 12, 12 * 64 * 64
"""Images a step, and pixels where the images are larger."""
_MEASURED = 64
"""Images, evenly spread, whose PSNR is told before and after."""

RECIPE: dict[str, Any] = {
    "version": 2,
    "perceptual": [PERCEPTUAL_WEIGHT, MAPS, MAPS_SIDE],
    "adversarial": ADVERSARIAL_WEIGHT,
    "rates": [LEARNING_RATE, DISCRIMINATOR_RATE],
    "warmup": WARMUP,
    "clip": CLIP,
    "batch": [_BATCH, _BATCH_PIXELS],
}
"""What decides a tuned decoder beside the settings and the images; part of an adapter's id."""


class PatchDiscriminator(nn.Sequential):
    """How real each patch of an image looks: (B, 3, H, W) in [-1, 1] → (B, 1, H/4, W/4)."""

    def __init__(self) -> None:
        normed = nn.utils.parametrizations.spectral_norm
        super().__init__(
            normed(nn.Conv2d(3, 32, 4, 2, 1)),
            nn.LeakyReLU(0.2),
            normed(nn.Conv2d(32, 64, 4, 2, 1)),
            nn.LeakyReLU(0.2),
            normed(nn.Conv2d(64, 96, 3, 1, 1)),
            nn.LeakyReLU(0.2),
            nn.Conv2d(96, 1, 3, 1, 1),
        )


class DecoderTuner:
    """The optimisation of one decoder. :meth:`fit` runs it to the end or to a stop.

    Args:
        backbone: Model whose VAE's decoder is trained, in place.
        posterior: The training images' latents, (N, C, h, w).
        images: The training images at the model's size, uint8 (N, H, W, 3).
        steps: Optimizer steps.
        seed: Project seed; determines every draw, with the step's number.
    """

    def __init__(
        self,
        backbone: Backbone,
        posterior: Posterior,
        images: np.ndarray,
        *,
        steps: int,
        seed: int,
    ):
        self.backbone, self.posterior, self.images = backbone, posterior, images
        self.steps, self.seed = steps, seed
        self.network = load_network(backbone.device)
        decoder = adapter_weights.decoder_parts(backbone.vae)
        decoder.requires_grad_(True)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(derive_seed(seed, "decoder discriminator"))
            self.discriminator = PatchDiscriminator().to(backbone.device)
        self.weights = list(decoder.parameters())
        # One optimizer for both sides, so that one checkpoint holds all there is.
        self.optimizer = torch.optim.AdamW(
            [
                {"params": self.weights, "lr": LEARNING_RATE},
                {
                    "params": list(self.discriminator.parameters()),
                    "lr": DISCRIMINATOR_RATE,
                    "betas": (0.5, 0.9),
                },
            ],
            weight_decay=0.0,
        )
        self.state: dict[str, Any] = {
            **{f"decoder.{name}": value for name, value in decoder.named_parameters()},
            **{
                f"discriminator.{name}": value
                for part in (
                    self.discriminator.named_parameters(),
                    self.discriminator.named_buffers(),
                )
                for name, value in part
            },
        }

    def fit(
        self,
        checkpoint: Path,
        *,
        checkpoint_steps: int,
        on_step: Callable[[int, float], None] | None = None,
    ) -> None:
        """Train; arguments as for :func:`dpd_core.models.checkpoint.run_steps`."""
        run_steps(
            self.step,
            self.steps,
            checkpoint,
            parameters=self.state,
            optimizer=self.optimizer,
            every=checkpoint_steps,
            on_step=on_step,
        )
        self.backbone.vae.requires_grad_(False)

    def step(self, number: int) -> float:
        """One step of both sides; ``number`` counts from 0 and determines the draw. Returns L."""
        rise = min(1.0, (number + 1) / WARMUP)
        fall = 0.5 * (1 + np.cos(np.pi * number / self.steps))
        self.optimizer.param_groups[0]["lr"] = LEARNING_RATE * rise * fall
        real, latents = self._draw(number)
        decoded = self._decode(latents)
        self.discriminator.requires_grad_(False)
        loss = self._loss(decoded, real)
        self.optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(self.weights, CLIP)
        self.discriminator.requires_grad_(True)
        hinge = functional.relu(1 - self.discriminator(real)).mean()
        hinge = hinge + functional.relu(1 + self.discriminator(decoded.detach())).mean()
        hinge.backward()
        self.optimizer.step()
        return float(loss.detach())

    def _draw(self, number: int) -> tuple[Tensor, Tensor]:
        """Images (B, 3, H, W) in [-1, 1] and draws from their posteriors."""
        draws = generator(self.seed, "decoder", number)
        count = max(2, min(_BATCH, _BATCH_PIXELS // self.images.shape[1] ** 2))
        rows = torch.randint(len(self.images), (count,), generator=draws)
        noise = torch.randn(count, *self.posterior.mean.shape[1:], generator=draws)
        latents = self.posterior.rows(rows).sample(noise)
        real = self.backbone.normalised(np.array(self.images[rows.numpy()]))
        return real, latents.to(self.backbone.device)

    def _decode(self, latents: Tensor) -> Tensor:
        with self.backbone.hardware.autocast():
            decoded = self.backbone.decoded(latents)
        return decoded.float()

    def _loss(self, decoded: Tensor, real: Tensor) -> Tensor:
        difference = decoded - real
        loss = 4 * difference.square().mean() + 0.5 * difference.abs().mean()
        loss = loss + PERCEPTUAL_WEIGHT * perceptual_distance(self.network, decoded, real)
        return loss - ADVERSARIAL_WEIGHT * self.discriminator(decoded).mean()


def perceptual_distance(network: EfficientNetLite0, images: Tensor, truth: Tensor) -> Tensor:
    """Mean squared difference of the network's maps, each divided by its variance; a scalar.

    Args:
        network: Frozen, in evaluation mode.
        images: (B, 3, S, S) in [-1, 1]; gradients reach them.
        truth: What they should look like, the same shape.
    """
    images, truth = (resized(batch, min(MAPS_SIDE, batch.shape[-1])) for batch in (images, truth))
    with torch.no_grad():
        wanted = network.maps(truth, MAPS)
    distances = [
        (seen - real).square().mean() / real.var().clamp(min=1e-4)
        for seen, real in zip(network.maps(images, MAPS), wanted, strict=True)
    ]
    return torch.stack(distances).mean()


def tune_project_decoder(
    project: Project,
    index: DatasetIndex,
    backbone: Backbone,
    latents: Latents,
    config: TrainConfig,
    *,
    folder: Path,
    emit: Emit,
    stage: str,
) -> None:
    """Give a backbone a decoder tuned to the project's training images; found again if made before.

    Args:
        project: Where the images' pixels are kept.
        index: Its data set.
        backbone: Its decoder is replaced.
        latents: Of the training images.
        config: Settings ``decoder_steps`` and ``checkpoint_steps``.
        folder: An adapter's folder, where the decoder is kept.
        emit, stage: Progress.
    """
    path, checkpoint = folder / adapter_weights.DECODER, folder / "decoder-checkpoint.safetensors"
    if path.exists():
        adapter_weights.load_decoder(backbone.vae, path)
        return
    records = {record.id: record for record in index.images}
    images = pixels(
        project,
        [records[identity] for identity in latents.ids],
        backbone.image_size,
        emit=emit,
        stage=stage,
    )
    posterior = Posterior(latents.mean, latents.std)
    measured = images[:: -(-len(images) // _MEASURED)]
    before = psnr_per_image(backbone.vae, measured, batch_size=1).mean()
    tuner = DecoderTuner(
        backbone,
        posterior,
        images,
        steps=config.decoder_steps,
        seed=project.config.seed,
    )
    meter = Meter(emit, stage, config.decoder_steps, message="fine-tuning the decoder")
    tuner.fit(
        checkpoint,
        checkpoint_steps=config.checkpoint_steps,
        on_step=lambda done, loss: meter.advance(),
    )
    adapter_weights.save_decoder(backbone.vae, path)
    checkpoint.unlink(missing_ok=True)
    after = psnr_per_image(backbone.vae, measured, batch_size=1).mean()
    emit(
        Log(
            stage,
            f"the decoder was tuned to the training images (PSNR {before:.1f} dB before, "
            f"{after:.1f} dB after)",
        )
    )
