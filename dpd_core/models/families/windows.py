"""Text encoders that read a window of tokens at once. A longer text is not cut: each of its windows
is encoded by itself, and the denoiser attends to all of them."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from dpd_core.models.tokens import PromptTokenizer

_AT_ONCE = 64
"""Windows in a batch."""


class ClipWindows:
    """A CLIP text encoder.

    Args:
        model: A transformers ``CLIPTextModel``, with projection or without.
        tokenizer: Its tokenizer.
        layer: Which hidden states the denoiser attends to: ``-1`` the last, normalised ones,
            ``-2`` the last but one.
    """

    def __init__(self, model: Any, tokenizer: Any, *, layer: int = -1):
        self.model, self.tokenizer, self.layer = model, tokenizer, layer

    @property
    def window(self) -> int:
        """Positions read at once."""
        return self.model.config.max_position_embeddings

    def chunks(self, text: str) -> list[list[int]]:
        """The text's token ids, in as many windows as it takes (at least one)."""
        return PromptTokenizer(self.tokenizer, self.window).chunks(text)

    @torch.no_grad()
    def encode(self, chunks: list[list[int]]) -> tuple[Tensor, Tensor]:
        """States (M, window, D) and pooled vectors (M, P) of windows, float32."""
        made = [
            self._encode(chunks[start : start + _AT_ONCE])
            for start in range(0, len(chunks), _AT_ONCE)
        ]
        return torch.cat([states for states, _ in made]), torch.cat([pooled for _, pooled in made])

    def _encode(self, chunks: list[list[int]]) -> tuple[Tensor, Tensor]:
        output = self.model(self._rows(chunks), output_hidden_states=self.layer != -1)
        states = output.last_hidden_state if self.layer == -1 else output.hidden_states[self.layer]
        pooled = output.text_embeds if hasattr(output, "text_embeds") else output.pooler_output
        return states.float(), pooled.float()

    def _rows(self, chunks: list[list[int]]) -> Tensor:
        tokenizer = self.tokenizer
        rows = []
        for chunk in chunks:
            row = [tokenizer.bos_token_id, *chunk, tokenizer.eos_token_id]
            rows.append(row + [tokenizer.pad_token_id] * (self.window - len(row)))
        return torch.tensor(rows, device=self.model.device)


class T5Windows:
    """A T5 encoder, in windows of 256 tokens, as Stable Diffusion 3 uses it.

    Args:
        model: A transformers ``T5EncoderModel``.
        tokenizer: Its tokenizer.
    """

    window = 256

    def __init__(self, model: Any, tokenizer: Any):
        self.model, self.tokenizer = model, tokenizer

    def chunks(self, text: str) -> list[list[int]]:
        """As :meth:`ClipWindows.chunks`."""
        ids = self.tokenizer(text, add_special_tokens=False, truncation=False, verbose=False)
        room, found = self.window - 1, ids.input_ids
        return [found[start : start + room] for start in range(0, max(len(found), 1), room)]

    @torch.no_grad()
    def encode(self, chunks: list[list[int]]) -> Tensor:
        """States of windows, float32 (M, window, D)."""
        end, fill = self.tokenizer.eos_token_id, self.tokenizer.pad_token_id
        rows = [[*chunk, end] + [fill] * (self.window - 1 - len(chunk)) for chunk in chunks]
        ids = torch.tensor(rows, device=self.model.device)
        return torch.cat([self.model(part)[0].float() for part in ids.split(_AT_ONCE // 8)])


def joined(windows: Tensor, counts: list[int]) -> list[Tensor]:
    """The windows of each text end to end: (M, W, D) → ``len(counts)`` tensors (count · W, D)."""
    return [torch.cat(list(part)) for part in windows.split(counts)]


def mean_of(vectors: Tensor, counts: list[int]) -> Tensor:
    """The mean over each text's windows: (M, P) → (N, P)."""
    return torch.stack([part.mean(0) for part in vectors.split(counts)])
