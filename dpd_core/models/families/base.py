"""What a family of text-to-image models has to say of itself.

A new family is one module beside this one: a subclass of :class:`Family` and its place in
:mod:`dpd_core.models.families.registry`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar, Self

import torch
from torch import Tensor, nn

from dpd_core.models.files import variant
from dpd_core.models.prompts import Prompts, TextEmbeddings
from dpd_core.models.schedules import DiffusionSchedule, Schedule


class Family(ABC):
    """One loaded model of a family, and what is known of all of them.

    Attributes:
        name: As people call it.
        part: Folder of the denoiser: ``"unet"`` or ``"transformer"``.
        pipeline: The diffusers pipeline, whose adapter format is written.
        attention: Layers that LoRA trains with targets ``"attention"``.
        kohya: Whether other programs know its layers under kohya's names.
        optional: Folders it can do without.
        parts: The loaded networks by folder: ``"vae"``, the denoiser, the text encoders.
        tokenizers: By folder.
        noise: Settings of the model's own scheduler.
    """

    name: ClassVar[str]
    part: ClassVar[str] = "unet"
    pipeline: ClassVar[str]
    attention: ClassVar[tuple[str, ...]] = ("to_q", "to_k", "to_v", "to_out.0")
    kohya: ClassVar[bool] = True
    optional: ClassVar[tuple[str, ...]] = ()

    def __init__(
        self, parts: dict[str, Any], tokenizers: dict[str, Any], noise: dict[str, Any], folder: Path
    ):
        self.parts, self.tokenizers, self.noise, self.folder = parts, tokenizers, noise, folder

    @classmethod
    @abstractmethod
    def recognises(cls, denoiser: Mapping[str, Any]) -> bool:
        """Whether a denoiser with these settings (its ``config.json``) is of this family."""

    @classmethod
    @abstractmethod
    def kinds(cls) -> dict[str, Any]:
        """The class of each network and of each tokenizer, by folder."""

    @classmethod
    def folders(cls) -> list[str]:
        """Those it cannot do without."""
        return [name for name in cls.kinds() if name not in cls.optional]

    @abstractmethod
    def encode(self, texts: list[str]) -> Prompts:
        """Encode texts of any length."""

    @abstractmethod
    def denoise(
        self, denoiser: Any, noisy: Tensor, timesteps: Tensor, text: TextEmbeddings, side: int
    ) -> Tensor:
        """The denoiser's output, (B, C, h, w), in the number format of ``noisy``.

        Args:
            denoiser: That of this model, possibly in a wrapper that hides its attributes.
            noisy: z_t.
            timesteps: (B,) or ().
            text: In the number format of ``noisy``.
            side: Of the images in px.
        """

    @classmethod
    def load(cls, folder: Path, dtype: torch.dtype) -> Self:
        """Read a model's folders; networks in float32, except those that are huge.

        Args:
            folder: In the diffusers format.
            dtype: Number format of the huge ones.

        Raises:
            Exception: of many kinds; the caller knows how to say it.
        """
        from diffusers import DDPMScheduler

        parts: dict[str, Any] = {}
        tokenizers: dict[str, Any] = {}
        for name, kind in cls.kinds().items():
            if name in cls.optional and not (folder / name).is_dir():
                continue
            if name.startswith("tokenizer"):
                tokenizers[name] = kind.from_pretrained(folder, subfolder=name)
                continue
            parts[name] = kind.from_pretrained(
                folder,
                subfolder=name,
                torch_dtype=dtype if name in cls.optional else torch.float32,
                use_safetensors=True,
                variant=variant(folder, name),
            )
        noise = DDPMScheduler.load_config(folder, subfolder="scheduler")
        return cls(parts, tokenizers, dict(noise), folder)

    def schedule(self, device: torch.device) -> Schedule:
        """The noise schedule."""
        return DiffusionSchedule(self.noise, device)

    @property
    def vae(self) -> Any:
        """The autoencoder."""
        return self.parts["vae"]

    @property
    def denoiser(self) -> Any:
        """The network that is trained and sampled from."""
        return self.parts[self.part]

    @property
    def encoders(self) -> list[nn.Module]:
        """The text encoders."""
        return [part for name, part in self.parts.items() if name.startswith("text_encoder")]

    @property
    def factor(self) -> int:
        """Pixels a side of one latent place."""
        return 2 ** (len(self.vae.config.block_out_channels) - 1)

    @property
    def multiple(self) -> int:
        """Images have a multiple of this many px a side."""
        return self.factor * 2 ** (len(self.denoiser.config.block_out_channels) - 1)
