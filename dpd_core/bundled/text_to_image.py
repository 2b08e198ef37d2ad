"""The bundled text-to-image model: a small Stable Diffusion pipeline at 64 x 64 pixels.

A CLIP text encoder with its own byte-level vocabulary and a v-predicting UNet, trained
together on the autoencoder's latents with min-SNR weights (Hang et al., 2023) and, for the first
part of a training from nothing, with the UNet's middle drawn towards the maps of a pretrained
network (REPA: Yu et al., 2025; let go midway as in HASTE: Wang et al., 2025).
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from diffusers import (
    AutoencoderKL,
    DDPMScheduler,
    DPMSolverMultistepScheduler,
    StableDiffusionPipeline,
    UNet2DConditionModel,
)
from diffusers.models.attention_processor import AttnProcessor
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

from dpd_core import storage
from dpd_core.bundled.folders import replace_folder, save_half_precision
from dpd_core.bundled.latent_pool import Drawn, LatentPool
from dpd_core.bundled.training_loop import LoopRecipe, Trainer
from dpd_core.hardware import Hardware
from dpd_core.students.features import STAGES

log = logging.getLogger(__name__)

SNR_GAMMA = 5.0
LOW_NOISE = 2.0
"""A timestep is a uniform draw to this power: low noise, which decides on texture and is all that
a start from an image passes through, comes more often."""
SCHEDULE: dict[str, Any] = {
    "num_train_timesteps": 1000,
    "beta_start": 0.00085,
    "beta_end": 0.012,
    "beta_schedule": "scaled_linear",
    "prediction_type": "v_prediction",
}
ALIGNED_WEIGHT = 0.5
PATIENCE, RISE = 3, 1.005
"""Training ends when the held-out loss was above RISE times its least at PATIENCE checkpoints."""


@dataclass(frozen=True)
class TextToImageSize:
    """Width and depth of the UNet and the text encoder."""

    unet_channels: tuple[int, ...] = (64, 128, 256)
    text_hidden: int = 128
    text_layers: int = 4


def build_text_encoder(tokenizer: CLIPTokenizer, size: TextToImageSize) -> CLIPTextModel:
    """An untrained CLIP text encoder for ``tokenizer``."""
    return CLIPTextModel(
        CLIPTextConfig(
            vocab_size=len(tokenizer),
            hidden_size=size.text_hidden,
            intermediate_size=4 * size.text_hidden,
            num_hidden_layers=size.text_layers,
            num_attention_heads=4,
            max_position_embeddings=tokenizer.model_max_length,
            projection_dim=size.text_hidden,
            bos_token_id=tokenizer.bos_token_id,
            eos_token_id=tokenizer.eos_token_id,
            pad_token_id=tokenizer.pad_token_id,
        )
    )


def build_unet(size: TextToImageSize, channels: int, sample_size: int = 16) -> UNet2DConditionModel:
    """An untrained UNet; text enters at every scale but the finest.

    Attention over the 16 x 16 positions would more than double the time of a step.
    """
    blocks = len(size.unet_channels)
    return UNet2DConditionModel(
        sample_size=sample_size,
        in_channels=channels,
        out_channels=channels,
        block_out_channels=size.unet_channels,
        down_block_types=("DownBlock2D", *("CrossAttnDownBlock2D",) * (blocks - 1)),
        up_block_types=(*("CrossAttnUpBlock2D",) * (blocks - 1), "UpBlock2D"),
        layers_per_block=1,
        cross_attention_dim=size.text_hidden,
        attention_head_dim=4,
    )


def widened(start: UNet2DConditionModel, channels: int) -> UNet2DConditionModel:
    """A copy for latents of more channels, of which the first are those of ``start``.

    It says the same of the first channels until it has learnt to look at the others.
    """
    unet = UNet2DConditionModel.from_config(
        {**start.config, "in_channels": channels, "out_channels": channels}
    )
    new = unet.state_dict()
    for key, value in start.state_dict().items():
        if new[key].shape == value.shape:
            new[key] = value
        else:
            new[key].zero_()
            new[key][tuple(slice(n) for n in value.shape)] = value
    unet.load_state_dict(new)
    return unet


class Alignment(nn.Module):
    """Maps the UNet's middle to the last map of the feature network, place by place."""

    def __init__(self, channels: int):
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv2d(channels, 2 * channels, 1),
            nn.SiLU(),
            nn.Conv2d(2 * channels, STAGES[-1][-1], 1),
        )

    def forward(self, middle: Tensor, wanted: Tensor) -> Tensor:
        """One less the mean cosine of (n, c, h, w), mapped, and ``wanted`` (n, 320, h, w)."""
        return 1 - F.cosine_similarity(self.layers(middle).float(), wanted.float(), dim=1).mean()


class Denoiser(nn.Module):
    """UNet and text encoder, with the loss that both are trained by."""

    def __init__(self, unet: UNet2DConditionModel, text_encoder: CLIPTextModel):
        super().__init__()
        self.unet, self.text_encoder = unet, text_encoder
        self.register_buffer(
            "alphas_cumprod", DDPMScheduler(**SCHEDULE).alphas_cumprod, persistent=False
        )
        self._middle: list[Tensor] = []
        unet.mid_block.register_forward_hook(lambda _m, _i, output: self._keep(output))

    def forward(
        self, drawn: Drawn, generator: torch.Generator, hardware: Hardware
    ) -> tuple[Tensor, Tensor]:
        """The min-SNR weighted loss of v of a batch, and the UNet's middle (n, c, h, w)."""
        latents = drawn.latents.float()
        count, total = len(latents), len(self.alphas_cumprod)
        # One timestep from each of ``count`` equal slices: less variance than free draws.
        device = latents.device
        slices = torch.arange(count, device=device)
        slices = slices + torch.rand(count, generator=generator, device=device)
        timesteps = (total * (slices / count) ** LOW_NOISE).long().clamp(max=total - 1)
        noise = torch.randn(latents.shape, generator=generator, device=device)
        bar = self.alphas_cumprod[timesteps]
        signal, sigma = bar.sqrt().view(-1, 1, 1, 1), (1 - bar).sqrt().view(-1, 1, 1, 1)
        with hardware.autocast():
            states = self.text_encoder(drawn.ids).last_hidden_state
            predicted = self.unet(signal * latents + sigma * noise, timesteps, states).sample
        target = signal * noise - sigma * latents
        error = (predicted.float() - target).square().mean((1, 2, 3))
        snr = bar / (1 - bar)
        return (error * snr.clamp(max=SNR_GAMMA) / (snr + 1)).mean(), self._middle.pop()

    def _keep(self, output: Tensor) -> None:
        self._middle[:] = [output]


def train_text_to_image(
    pool: LatentPool,
    held_out: Drawn,
    recipe: LoopRecipe,
    folder: Path,
    hardware: Hardware,
    *,
    unet: UNet2DConditionModel,
    text_encoder: CLIPTextModel,
    aligned: float = 0.0,
    compiled: bool = False,
    stop_at: int | None = None,
    on_preview: Callable[[UNet2DConditionModel, CLIPTextModel], None] | None = None,
) -> None:
    """Train in place; the averaged weights of the least held-out loss are what is left.

    Args:
        pool: Where training batches come from.
        held_out: A batch of places that no training image shows.
        recipe, folder, hardware, stop_at: See :class:`Trainer`.
        unet, text_encoder: What is trained.
        aligned: Share of the run in which the UNet's middle is drawn to pretrained features.
        compiled: Whether the UNet is compiled.
        on_preview: Gets both with the averaged weights after every checkpoint.
    """
    if hardware.device.type == "cpu":
        # On a CPU the backward pass of fused attention is slower than plain matrix products.
        unet.set_attn_processor(AttnProcessor())
    denoiser = Denoiser(unet, text_encoder).to(hardware.device)
    alignment = Alignment(unet.config.block_out_channels[-1]).to(hardware.device)
    trainer = Trainer(
        {"unet": unet, "text": text_encoder, "alignment": alignment},
        recipe,
        folder,
        name="text-to-image",
        hardware=hardware,
    )
    if compiled:
        unet.compile()
    watch = _HeldOut(denoiser, held_out, trainer, folder, hardware)

    def loss_of(
        rng: np.random.Generator, generator: torch.Generator, step: int
    ) -> tuple[Tensor, dict[str, Tensor]]:
        drawn = pool.draw(recipe.batch_size, rng)
        loss, middle = denoiser(drawn, generator, hardware)
        numbers = {"diffusion": loss.detach()}
        if drawn.maps is not None and trainer.progress < aligned:
            far = alignment(middle, drawn.maps)
            numbers["alignment"] = far.detach()
            loss = loss + ALIGNED_WEIGHT * far
        return loss, numbers

    def checkpoint(step: int) -> bool:
        trainer.swapped()
        ended = watch.look(step)
        if on_preview is not None:
            on_preview(unet, text_encoder)
        trainer.swapped()
        return ended

    trainer.run(loss_of, stop_at=stop_at, on_checkpoint=checkpoint)
    trainer.averaged()
    watch.look(trainer.step)
    watch.restore_best()


class _HeldOut:
    """The loss on held-out places over the training; keeps the best averaged weights."""

    def __init__(
        self,
        denoiser: Denoiser,
        held_out: Drawn,
        trainer: Trainer,
        folder: Path,
        hardware: Hardware,
    ):
        self._denoiser, self._held_out, self._hardware = denoiser, held_out, hardware
        self._trainer, self._best = trainer, folder / "best.safetensors"
        self._path = folder / "held_out_loss.json"
        self._losses: list[list[float]] = (
            storage.read_json(self._path) if self._path.exists() else []
        )

    def look(self, step: int) -> bool:
        """Measure the present weights; whether it is time to stop."""
        self._denoiser.eval()
        with torch.no_grad():
            fixed = torch.Generator(self._hardware.device).manual_seed(0)
            loss = float(self._denoiser(self._held_out, fixed, self._hardware)[0])
        self._denoiser.train()
        least = min((value for _, value in self._losses), default=float("inf"))
        self._losses = [*(pair for pair in self._losses if pair[0] < step), [step, loss]]
        storage.write_json(self._path, self._losses)
        log.info("held-out loss %.5f at step %d (least before: %.5f)", loss, step, least)
        if loss < least:
            weights = {
                key: value.detach().contiguous() for key, value in self._trainer.parameters.items()
            }
            save_file(weights, self._best)
        recent = [value for _, value in self._losses[-PATIENCE:]]
        return len(self._losses) > PATIENCE and min(recent) > RISE * least

    def restore_best(self) -> None:
        """Put the best weights into the modules."""
        best = load_file(self._best)
        with torch.no_grad():
            for key, parameter in self._trainer.parameters.items():
                parameter.copy_(best[key])


def assemble_pipeline(
    vae: AutoencoderKL,
    unet: UNet2DConditionModel,
    text_encoder: CLIPTextModel,
    tokenizer: CLIPTokenizer,
) -> StableDiffusionPipeline:
    """The parts as an ordinary Stable Diffusion pipeline without safety checker."""
    return StableDiffusionPipeline(
        vae=vae,
        unet=unet,
        text_encoder=text_encoder,
        tokenizer=tokenizer,
        scheduler=DPMSolverMultistepScheduler(**SCHEDULE, steps_offset=1),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )


def export_pipeline(pipeline: StableDiffusionPipeline, target: Path) -> None:
    """Save a half-precision copy as ``target``, replacing the folder in one rename."""
    with replace_folder(target) as fresh:
        pipeline.save_pretrained(fresh, safe_serialization=True)
        save_half_precision(fresh)
