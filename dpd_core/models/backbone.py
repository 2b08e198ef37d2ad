"""One text-to-image latent diffusion model behind one small interface.

What differs between the families (:mod:`dpd_core.models.families`) is settled there, noise levels
and predictions in :mod:`dpd_core.models.schedules`; sizes, scaling of latents, device and number
format here. Symbols follow the papers: z_t noisy latent, ẑ₀ predicted clean latent.

The VAE and the CLIP encoders compute in float32, because their share of the work is small
and rounding shows in the pictures; the denoiser computes in the hardware's number format.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from dpd_core import storage
from dpd_core.config import ProjectConfig
from dpd_core.errors import ModelError, first_line
from dpd_core.hardware import Hardware, choose_hardware
from dpd_core.models import weights as adapter_weights
from dpd_core.models.families.base import Family
from dpd_core.models.families.registry import family_of
from dpd_core.models.files import native_side, parts_digest, resolve_model
from dpd_core.models.prompts import Prompts, TextEmbeddings
from dpd_core.models.schedules import Schedule
from dpd_core.project import Project

_TILED = 1024
"""Images of more px a side go through the autoencoder in tiles."""

_DECODED = 2**21
"""Pixels decoded at once: 32 images of 256 px, two of 1024."""


@dataclass(frozen=True)
class Posterior:
    """What the VAE says of images: a diagonal normal distribution, scaled for the denoiser.

    Attributes:
        mean: (B, C, h, w), multiplied by the scaling factor.
        std: (B, C, h, w), likewise.
    """

    mean: Tensor
    std: Tensor

    def rows(self, picked: Tensor) -> Posterior:
        """The posteriors of some of the images, by their places (an integer tensor)."""
        return Posterior(self.mean[picked], self.std[picked])

    def sample(self, noise: Tensor) -> Tensor:
        """Draw from the posterior with standard normal ``noise`` of the same shape."""
        return self.mean + self.std * noise


class Backbone:
    """A loaded model. Make it with :func:`load_backbone` or :meth:`load`.

    Args:
        family: The model's networks and what is particular about them.
        hardware: Device and number format.
        image_size: Side of the images in pixels; 0 takes the model's own.

    Attributes:
        denoiser: The UNet or transformer that is trained and sampled from.
        schedule: Its noise levels, what it predicts, and its solvers.
        latent_shape: (C, h, w).
    """

    def __init__(self, family: Family, hardware: Hardware, image_size: int = 0):
        self.family, self.hardware, self.folder = family, hardware, family.folder
        self.vae, self.denoiser = family.vae, family.denoiser
        self.schedule: Schedule = family.schedule(hardware.device)
        self.image_size = image_size or native_side(self.folder)
        if self.image_size % family.multiple:
            raise ModelError(
                f"images of {self.image_size} px do not fit this model.",
                where=self.folder,
                fix=f"Use an image size that is a multiple of {family.multiple}.",
            )
        channels, side = self.vae.config.latent_channels, self.image_size // family.factor
        if self.denoiser.config.in_channels != channels:
            raise ModelError(
                "a model for inpainting or editing.", where=self.folder, fix="Give the plain model."
            )
        self.latent_shape = (channels, side, side)
        if self.image_size > _TILED:
            self.vae.enable_tiling()

    @classmethod
    def load(
        cls,
        source: str = "bundled",
        *,
        hardware: Hardware,
        image_size: int = 0,
        adapter: Path | None = None,
    ) -> Backbone:
        """Load a model in the diffusers folder format.

        Args:
            source: ``"bundled"``, a local folder or a Hub id.
            hardware: Device and number format.
            image_size: Side of the images in pixels; 0 takes the model's own.
            adapter: Folder or file of what was trained (:mod:`dpd_core.models.weights`), merged
                into the denoiser before it is cast.

        Raises:
            ModelError: the model or adapter is missing, incomplete, or does not fit.
        """
        from safetensors import SafetensorError

        folder = resolve_model(source)
        kind = family_of(folder)
        try:
            family = kind.load(folder, hardware.dtype)
        except (
            OSError,
            ValueError,
            LookupError,
            RuntimeError,
            TypeError,
            AttributeError,
            ArithmeticError,
            AssertionError,
            SafetensorError,
        ) as error:
            raise ModelError(
                f"not a usable model of the family {kind.name} ({first_line(error)}).",
                where=source,
                fix=f"It needs these folders, with safetensors weights: {', '.join(kind.folders())}"
                " and scheduler.",
            ) from error
        if adapter is not None:
            adapter_weights.merge(family.denoiser, adapter, kind)
        for part in family.parts.values():
            part.requires_grad_(False).eval()
        # The text encoders come when they are asked.
        family.vae.to(hardware.device)
        # diffusers' own `to` warns at every change of number format.
        torch.nn.Module.to(family.denoiser, hardware.device, hardware.dtype)
        return cls(family, hardware, image_size)

    @property
    def device(self) -> torch.device:
        """Where the tensors go in and come out."""
        return self.hardware.device

    @property
    def fingerprint(self) -> str:
        """Identity of the latents this model makes: VAE weights and image size."""
        return _latent_fingerprint(self.folder, self.image_size)

    @torch.no_grad()
    def encode_images(self, pixels: Any) -> Posterior:
        """Encode images.

        Args:
            pixels: uint8 (B, H, W, 3), array or tensor, H = W = :attr:`image_size`.

        Returns:
            The posterior, each part float32 (B, C, h, w).
        """
        self._wake(self.vae)
        images = self.normalised(pixels)
        distribution = self.vae.encode(images).latent_dist
        scale, mean = self.vae.config.scaling_factor, distribution.mean
        if self._latent_shift:
            mean = mean - self._latent_shift
        return Posterior(mean * scale, distribution.std * scale)

    def normalised(self, pixels: Any) -> Tensor:
        """Images as the VAE takes and gives them: uint8 (B, H, W, 3) → (B, 3, H, W) in [-1, 1]."""
        images = torch.as_tensor(pixels).to(self.device)
        return images.permute(0, 3, 1, 2).float() / 127.5 - 1

    @torch.no_grad()
    def decode_latents(self, latents: Tensor) -> Tensor:
        """Decode latents (B, C, h, w) to uint8 images (B, H, W, 3)."""
        at_once = max(1, _DECODED // self.image_size**2)
        parts = latents.to(self.device, torch.float32).split(at_once)
        images = torch.cat([self.decoded(part) for part in parts])
        images = ((images + 1) * 127.5).round().clamp(0, 255)
        return images.to(torch.uint8).permute(0, 2, 3, 1).contiguous()

    def decoded(self, latents: Tensor) -> Tensor:
        """What the decoder makes of latents (B, C, h, w): (B, 3, H, W), about [-1, 1]."""
        self._wake(self.vae)
        latents = latents / self.vae.config.scaling_factor
        if self._latent_shift:
            latents = latents + self._latent_shift
        return self.vae.decode(latents).sample

    def encode_prompts(self, texts: list[str]) -> Prompts:
        """Encode texts of any length; see :class:`Prompts`."""
        self._wake(*self.family.encoders)
        return self.family.encode(texts)

    def predict(self, noisy: Tensor, timesteps: Tensor, embeddings: TextEmbeddings) -> Tensor:
        """The denoiser's output, which is what ``schedule.prediction_type`` says, in float32.

        Args:
            noisy: z_t, (B, C, h, w).
            timesteps: (B,) or ().
            embeddings: See :meth:`Prompts.batch`.
        """
        dtype = self.hardware.dtype
        text = embeddings.to(self.device, dtype)
        output = self.family.denoise(
            self.denoiser, noisy.to(dtype), timesteps, text, self.image_size
        )
        return output.float()

    def rest(self) -> None:
        """Make room on the device: autoencoder and text encoders wait in the machine's memory until
        they are asked."""
        if self.device.type != "cpu":
            for part in (self.vae, *self.family.encoders):
                torch.nn.Module.to(part, "cpu")
            if self.device.type == "cuda":
                torch.cuda.empty_cache()

    def _wake(self, *parts: torch.nn.Module) -> None:
        for part in parts:
            if next(part.parameters()).device.type != self.device.type:
                torch.nn.Module.to(part, self.device)

    @property
    def _latent_shift(self) -> float:
        return getattr(self.vae.config, "shift_factor", None) or 0.0


def load_backbone(
    project: Project, *, adapter: Path | None = None, decoder: bool = False
) -> Backbone:
    """The model a project's settings ask for, on the hardware they ask for.

    Args:
        project: The project.
        adapter: Folder of an adapter, merged into the denoiser.
        decoder: Whether the VAE's decoder is the adapter's too.
    """
    config = project.config
    backbone = Backbone.load(
        config.model,
        hardware=choose_hardware(config),
        image_size=config.image_size,
        adapter=adapter,
    )
    if decoder and adapter is not None:
        adapter_weights.load_decoder(backbone.vae, adapter / adapter_weights.DECODER)
    return backbone


def backbone_identity(config: ProjectConfig) -> str:
    """:attr:`Backbone.fingerprint` of the model in the settings, without loading weights.

    Raises:
        ModelError: the model is not there.
    """
    return _latent_fingerprint(resolve_model(config.model), image_side(config))


def image_side(config: ProjectConfig) -> int:
    """:attr:`Backbone.image_size` of the model in the settings, without loading weights.

    Raises:
        ModelError: the model is not there.
    """
    if config.image_size:
        return config.image_size
    return native_side(resolve_model(config.model))


def model_identity(config: ProjectConfig) -> str:
    """Identity of all weights of the model in the settings, for provenance and adapters."""
    return parts_digest(resolve_model(config.model))


def _latent_fingerprint(folder: Path, image_size: int) -> str:
    return storage.digest(parts_digest(folder, ("vae",)), image_size)
