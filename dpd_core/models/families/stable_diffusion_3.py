"""Stable Diffusion 3 and 3.5 (Esser et al., 2024): a transformer that is trained by flow matching.

Two CLIP encoders stand side by side, filled up with zeros to the width of T5, whose states follow;
both pooled vectors steer the transformer's blocks. T5 is optional: without its folder zeros stand
for it, as in diffusers.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from dpd_core.models.families.base import Family
from dpd_core.models.families.windows import ClipWindows, T5Windows, joined, mean_of
from dpd_core.models.prompts import Prompts, TextEmbeddings
from dpd_core.models.schedules import FlowSchedule, Schedule


class StableDiffusion3(Family):
    """See :class:`Family`."""

    name = "Stable Diffusion 3"
    part = "transformer"
    pipeline = "StableDiffusion3Pipeline"
    attention = (
        *("to_q", "to_k", "to_v", "to_out.0"),
        *("add_q_proj", "add_k_proj", "add_v_proj", "to_add_out"),
    )
    kohya = False  # programs that know this family read the names of diffusers
    optional = ("text_encoder_3", "tokenizer_3")

    def __init__(
        self, parts: dict[str, Any], tokenizers: dict[str, Any], noise: dict[str, Any], folder: Path
    ):
        super().__init__(parts, tokenizers, noise, folder)
        self._words = [
            ClipWindows(parts[f"text_encoder{end}"], tokenizers[f"tokenizer{end}"], layer=-2)
            for end in ("", "_2")
        ]
        self._long = None
        if "text_encoder_3" in parts:
            self._long = T5Windows(parts["text_encoder_3"], tokenizers["tokenizer_3"])
        self._width = int(self.denoiser.config.joint_attention_dim)

    @classmethod
    def recognises(cls, denoiser: Mapping[str, Any]) -> bool:
        """By the transformer's class."""
        return denoiser.get("_class_name") == "SD3Transformer2DModel"

    @classmethod
    def kinds(cls) -> dict[str, Any]:
        """See :class:`Family`."""
        from diffusers import AutoencoderKL, SD3Transformer2DModel
        from transformers import (
            AutoTokenizer,
            CLIPTextModelWithProjection,
            CLIPTokenizer,
            T5EncoderModel,
        )

        return {
            "vae": AutoencoderKL,
            "transformer": SD3Transformer2DModel,
            "text_encoder": CLIPTextModelWithProjection,
            "text_encoder_2": CLIPTextModelWithProjection,
            "text_encoder_3": T5EncoderModel,
            "tokenizer": CLIPTokenizer,
            "tokenizer_2": CLIPTokenizer,
            "tokenizer_3": AutoTokenizer,
        }

    @property
    def multiple(self) -> int:
        """See :class:`Family`."""
        return self.factor * self.denoiser.config.patch_size

    def schedule(self, device: torch.device) -> Schedule:
        """Flow matching."""
        return FlowSchedule(self.noise)

    def encode(self, texts: list[str]) -> Prompts:
        """See :class:`Family`. A window is one of CLIP followed by one of T5; the side that needs
        fewer of them goes on with empty ones. The transformer gives its text no positions."""
        words = [self._words[0].chunks(text) for text in texts]
        long: list[list[list[int]]] = [
            self._long.chunks(text) if self._long else [[]] for text in texts
        ]
        counts = [max(len(w), len(m)) for w, m in zip(words, long, strict=True)]
        flat = [[], *_filled(words, counts)]
        made = [encoder.encode(flat) for encoder in self._words]
        clip = torch.cat([states for states, _ in made], dim=-1)
        clip = functional.pad(clip, (0, self._width - clip.shape[-1]))
        if self._long is None:
            rest = clip.new_zeros(len(flat), T5Windows.window, self._width)
        else:
            rest = self._long.encode([[], *_filled(long, counts)])
        states = torch.cat([clip, rest], dim=1)
        pooled = torch.cat([pooled for _, pooled in made], dim=-1)
        # Windows that only the other side needed have no words, and no part in the mean.
        said = [len(text) for text in words]
        kept = torch.cat([torch.arange(c) < s for c, s in zip(counts, said, strict=True)])
        return Prompts(
            joined(states[1:], counts),
            empty=states[0],
            padding=states[0],
            pooled=mean_of(pooled[1:][kept.to(pooled.device)], said),
            empty_pooled=pooled[0],
        )

    def denoise(
        self, denoiser: Any, noisy: Tensor, timesteps: Tensor, text: TextEmbeddings, side: int
    ) -> Tensor:
        """See :class:`Family`."""
        return denoiser(
            hidden_states=noisy,
            timestep=timesteps.expand(len(noisy)),
            encoder_hidden_states=text.states,
            pooled_projections=text.pooled,
        ).sample


def _filled(chunks: list[list[list[int]]], counts: list[int]) -> list[list[int]]:
    """The windows of all texts, each text filled up with empty ones to its count."""
    return [
        chunk
        for text, count in zip(chunks, counts, strict=True)
        for chunk in [*text, *[[]] * (count - len(text))]
    ]
