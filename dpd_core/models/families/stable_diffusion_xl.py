"""Stable Diffusion XL (Podell et al., 2023).

Two CLIP encoders, whose last hidden states but one stand side by side; the pooled vector of the
second and the image's size are added to the UNet's timestep. The size is the one that images have
here: a model trained and sampled at 256 px is told 256 px, in both.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from dpd_core import storage
from dpd_core.models.families.base import Family
from dpd_core.models.families.windows import ClipWindows, joined, mean_of
from dpd_core.models.prompts import Prompts, TextEmbeddings


class StableDiffusionXL(Family):
    """See :class:`Family`."""

    name = "Stable Diffusion XL"
    pipeline = "StableDiffusionXLPipeline"

    def __init__(
        self, parts: dict[str, Any], tokenizers: dict[str, Any], noise: dict[str, Any], folder: Path
    ):
        super().__init__(parts, tokenizers, noise, folder)
        self._words = [
            ClipWindows(parts[f"text_encoder{end}"], tokenizers[f"tokenizer{end}"], layer=-2)
            for end in ("", "_2")
        ]
        index = folder / "model_index.json"
        settings = storage.read_json(index) if index.exists() else {}
        self._zeros = bool(settings.get("force_zeros_for_empty_prompt", True))

    @classmethod
    def recognises(cls, denoiser: Mapping[str, Any]) -> bool:
        """A UNet that wants a pooled text and sizes."""
        return denoiser.get("addition_embed_type") == "text_time"

    @classmethod
    def kinds(cls) -> dict[str, Any]:
        """See :class:`Family`."""
        from diffusers import AutoencoderKL, UNet2DConditionModel
        from transformers import CLIPTextModel, CLIPTextModelWithProjection, CLIPTokenizer

        return {
            "vae": AutoencoderKL,
            "unet": UNet2DConditionModel,
            "text_encoder": CLIPTextModel,
            "text_encoder_2": CLIPTextModelWithProjection,
            "tokenizer": CLIPTokenizer,
            "tokenizer_2": CLIPTokenizer,
        }

    def encode(self, texts: list[str]) -> Prompts:
        """See :class:`Family`. Of a text of several windows the pooled vectors are averaged."""
        # Both read the same words, so that a text has as many windows for one as for the other.
        chunks = [self._words[0].chunks(text) for text in texts]
        flat = [[], *(chunk for text in chunks for chunk in text)]
        counts = [len(text) for text in chunks]
        made = [words.encode(flat) for words in self._words]
        states, pooled = torch.cat([states for states, _ in made], dim=-1), made[1][1]
        empty, empty_pooled = states[0], pooled[0]
        if self._zeros:
            empty, empty_pooled = torch.zeros_like(empty), torch.zeros_like(empty_pooled)
        return Prompts(
            joined(states[1:], counts),
            empty=empty,
            padding=states[0],
            pooled=mean_of(pooled[1:], counts),
            empty_pooled=empty_pooled,
        )

    def denoise(
        self, denoiser: Any, noisy: Tensor, timesteps: Tensor, text: TextEmbeddings, side: int
    ) -> Tensor:
        """See :class:`Family`."""
        # Original size, corner of the crop, target size.
        sizes = torch.tensor([side, side, 0, 0, side, side], device=noisy.device)
        added = {
            "text_embeds": text.pooled,
            "time_ids": sizes.to(noisy.dtype).expand(len(noisy), -1),
        }
        return denoiser(
            noisy, timesteps, encoder_hidden_states=text.states, added_cond_kwargs=added
        ).sample
