"""Stable Diffusion 1.x and 2.x and what is built like them: Text2Earth, the bases of DiffusionSat
and GeoSynth, the bundled model.

One CLIP encoder; its last hidden states are what a UNet attends to.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from dpd_core.models.families.base import Family
from dpd_core.models.families.windows import ClipWindows, joined
from dpd_core.models.prompts import Prompts, TextEmbeddings


class StableDiffusion(Family):
    """See :class:`Family`."""

    name = "Stable Diffusion 1 or 2"
    pipeline = "StableDiffusionPipeline"

    def __init__(
        self, parts: dict[str, Any], tokenizers: dict[str, Any], noise: dict[str, Any], folder: Path
    ):
        super().__init__(parts, tokenizers, noise, folder)
        self._words = ClipWindows(parts["text_encoder"], tokenizers["tokenizer"])
        # Text2Earth's UNet wants a class label; its published use passes 0.
        self._class_labels = getattr(self.denoiser, "class_embedding", None) is not None

    @classmethod
    def recognises(cls, denoiser: Mapping[str, Any]) -> bool:
        """A UNet that wants nothing beside the text."""
        return "cross_attention_dim" in denoiser and not denoiser.get("addition_embed_type")

    @classmethod
    def kinds(cls) -> dict[str, Any]:
        """See :class:`Family`."""
        from diffusers import AutoencoderKL, UNet2DConditionModel
        from transformers import CLIPTextModel, CLIPTokenizer

        return {
            "vae": AutoencoderKL,
            "unet": UNet2DConditionModel,
            "text_encoder": CLIPTextModel,
            "tokenizer": CLIPTokenizer,
        }

    def encode(self, texts: list[str]) -> Prompts:
        """See :class:`Family`."""
        chunks = [self._words.chunks(text) for text in texts]
        states, _ = self._words.encode([[], *(chunk for text in chunks for chunk in text)])
        embeddings = joined(states[1:], [len(text) for text in chunks])
        return Prompts(embeddings, empty=states[0], padding=states[0])

    def denoise(
        self, denoiser: Any, noisy: Tensor, timesteps: Tensor, text: TextEmbeddings, side: int
    ) -> Tensor:
        """See :class:`Family`."""
        labels = None
        if self._class_labels:
            labels = torch.zeros(noisy.shape[0], dtype=torch.long, device=noisy.device)
        return denoiser(
            noisy, timesteps, encoder_hidden_states=text.states, class_labels=labels
        ).sample
