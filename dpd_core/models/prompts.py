"""Encoded texts: what a denoiser is told, each text as long as it needs."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class TextEmbeddings:
    """A batch of encoded texts.

    Attributes:
        states: What the denoiser attends to, (B, L, D).
        pooled: One vector a text, (B, P), for families whose denoiser wants it.
    """

    states: Tensor
    pooled: Tensor | None = None

    def to(self, device: torch.device, dtype: torch.dtype | None = None) -> TextEmbeddings:
        """The same elsewhere, or in another number format."""
        pooled = None if self.pooled is None else self.pooled.to(device, dtype)
        return TextEmbeddings(self.states.to(device, dtype), pooled)

    def followed_by(self, other: TextEmbeddings) -> TextEmbeddings:
        """Both batches as one, this one first; of the same length."""
        pooled = None
        if self.pooled is not None and other.pooled is not None:
            pooled = torch.cat([self.pooled, other.pooled])
        return TextEmbeddings(torch.cat([self.states, other.states]), pooled)

    def replaced(self, rows: Tensor, other: TextEmbeddings) -> TextEmbeddings:
        """With the rows of another batch where ``rows``, bool (B,), says so."""
        rows = rows.to(self.states.device)
        pooled = self.pooled
        if pooled is not None and other.pooled is not None:
            pooled = torch.where(rows[:, None], other.pooled, pooled)
        return TextEmbeddings(torch.where(rows[:, None, None], other.states, self.states), pooled)


@dataclass(frozen=True)
class Prompts:
    """Encoded texts, each as many windows long as it takes.

    Attributes:
        embeddings: One tensor (windows · W, D) a text.
        empty: The unconditional side of classifier-free guidance, (W, D).
        padding: The encoded empty text, which pads shorter texts in a batch, (W, D).
        pooled: One vector a text, (N, P); ``None`` where the family has none.
        empty_pooled: That of the unconditional side, (P,).
    """

    embeddings: list[Tensor]
    empty: Tensor
    padding: Tensor
    pooled: Tensor | None = None
    empty_pooled: Tensor | None = None

    def batch(self, rows: list[int]) -> TextEmbeddings:
        """The texts of these rows, all as long as the longest."""
        longest = max(self.embeddings[row].shape[0] for row in rows)
        states = torch.stack([self._pad(self.embeddings[row], longest) for row in rows])
        return TextEmbeddings(states, None if self.pooled is None else self.pooled[rows])

    def unconditional(self, like: TextEmbeddings) -> TextEmbeddings:
        """The unconditional side in the shape of a batch made by :meth:`batch`."""
        windows = like.states.shape[1] // self.empty.shape[0]
        states = torch.cat([self.empty] * windows).expand_as(like.states)
        pooled = None
        if self.empty_pooled is not None and like.pooled is not None:
            pooled = self.empty_pooled.expand_as(like.pooled)
        return TextEmbeddings(states, pooled)

    def to(self, device: torch.device | str, dtype: torch.dtype) -> Prompts:
        """The same elsewhere and in another number format."""

        def moved(tensor: Tensor) -> Tensor:
            return tensor.to(device, dtype)

        return Prompts(
            [moved(tensor) for tensor in self.embeddings],
            moved(self.empty),
            moved(self.padding),
            None if self.pooled is None else moved(self.pooled),
            None if self.empty_pooled is None else moved(self.empty_pooled),
        )

    def _pad(self, embedding: Tensor, length: int) -> Tensor:
        missing = (length - embedding.shape[0]) // self.padding.shape[0]
        return torch.cat([embedding, *[self.padding] * missing])
