"""Drawing training images of one size from collections of several: where, how large, which way."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from dpd_core.bundled.corpus import IMAGE_SIZE, Collection

WINDOWS = ((1, 0.35), (2, 0.4), (4, 0.25))
"""Sides of the windows cut from larger images, in image sizes, and how often each is taken."""


@dataclass(frozen=True)
class Crops:
    """Images of one size.

    Attributes:
        images: uint8 (n, 3, size, size), on the collections' device.
        labels: int64 (n,) on the CPU, -1 where there is no class.
        metres: Ground that a pixel covers, float (n,) on the CPU.
    """

    images: Tensor
    labels: np.ndarray
    metres: np.ndarray


class CropSampler:
    """Draws images of every collection by its share.

    Larger images give windows of one, two or four image sizes at a random place, reduced to one
    size. Each is turned and mirrored: a scene seen from above has no preferred direction.
    """

    def __init__(
        self,
        collections: Sequence[Collection],
        shares: Mapping[str, float],
        device: torch.device | str = "cpu",
        size: int = IMAGE_SIZE,
    ):
        self._size = size
        self._collections = [part for part in collections if shares.get(part.kind.name, 0) > 0]
        self._stacks = [torch.from_numpy(part.images).to(device) for part in self._collections]
        weights = np.array([shares[part.kind.name] for part in self._collections], float)
        self._shares = weights / weights.sum()

    def draw(self, count: int, rng: np.random.Generator, *, turned: bool = True) -> Crops:
        """``count`` images, in an order that says nothing of where they come from."""
        images, labels, metres = [], [], []
        counts = rng.multinomial(count, self._shares)
        for part, stack, wanted in zip(self._collections, self._stacks, counts, strict=True):
            rows = rng.integers(len(part), size=wanted)
            factors = self._factors(part.kind.side, wanted, rng)
            for factor in np.unique(factors):
                chosen = rows[factors == factor]
                images.append(self._windows(stack, chosen, int(factor), rng))
                labels.append(part.labels[chosen])
                metres.append(np.full(len(chosen), part.kind.metres * factor))
        order = rng.permutation(count)
        crops = torch.cat(images)[torch.from_numpy(order).to(images[0].device)]
        if turned:
            crops = oriented(crops, rng.integers(8, size=count))
        return Crops(crops, np.concatenate(labels)[order], np.concatenate(metres)[order])

    def _factors(self, side: int, count: int, rng: np.random.Generator) -> np.ndarray:
        known = [(factor, share) for factor, share in WINDOWS if factor * self._size <= side]
        if not known:
            return np.full(count, side / self._size)
        factors, shares = zip(*known, strict=True)
        return rng.choice(factors, size=count, p=np.array(shares) / sum(shares))

    def _windows(
        self, stack: Tensor, rows: np.ndarray, factor: int, rng: np.random.Generator
    ) -> Tensor:
        side = factor * self._size
        room = stack.shape[1] - side + 1
        index = torch.arange(side)
        tops, lefts = (
            torch.from_numpy(rng.integers(room, size=len(rows)))[:, None] + index for _ in "yx"
        )
        picked, tops, lefts = (
            value.to(stack.device) for value in (torch.from_numpy(rows), tops, lefts)
        )
        windows = stack[picked[:, None, None], tops[:, :, None], lefts[:, None, :]]
        windows = windows.permute(0, 3, 1, 2)
        return windows if factor == 1 else reduced(windows, self._size)


def reduced(images: Tensor, size: int) -> Tensor:
    """uint8 (n, 3, h, w) → (n, 3, size, size), smoothed so that fine detail does not alias."""
    smaller = F.interpolate(images.float(), size=(size, size), mode="bicubic", antialias=True)
    return smaller.round().clamp(0, 255).to(torch.uint8)


def oriented(images: Tensor, ways: np.ndarray) -> Tensor:
    """(n, c, s, s), each turned by ``way % 4`` quarters and, from 4 on, mirrored."""
    found = torch.empty_like(images)
    for way in range(8):
        rows = torch.from_numpy(np.flatnonzero(ways == way)).to(images.device)
        if len(rows):
            turned = torch.rot90(images[rows], way % 4, (2, 3))
            found[rows] = turned.flip(3) if way >= 4 else turned
    return found
