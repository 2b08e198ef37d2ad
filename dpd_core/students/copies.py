"""How near images come to real ones: by what they show, by their layout, by their pixels.

Three similarities, because each is blind where another sees:

- *features*: centred cosine of the pretrained features of the slightly blurred image. It sees
  through shifts and changes of colour; the blur takes away the fine noise that hides a copy.
- *layout*: correlation of the images at 16 × 16 pixels. Nothing fine hides anything from it.
- *ssim*: structural similarity (Wang et al., 2004) to those references that are nearest in layout.

Each is the highest over all references and over the eight orientations of the image. What a value
means is said only by the same figure of real images: see :func:`limits`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields
from pathlib import Path

import numpy as np
import torch
from scipy.ndimage import gaussian_filter
from torch import Tensor
from torchmetrics.functional.image import structural_similarity_index_measure

from dpd_core.errors import DatasetError
from dpd_core.students.features import cached_features, features, resized

SIDE = 64
"""Pixels a side at which images are compared, and at which the feature network sees them: enlarged
to 128 it finds fewer of the copies under noise, and takes three times as long."""
BLUR = 1.0
"""Standard deviation of the blur in pixels, at :data:`SIDE`."""
LAYOUT_SIDE = 16
SHORTLIST = 16
"""References, in their best orientation, that the structural similarity is computed for."""
PERCENTILE = 0.95
"""Share of real images that come less near to other real images than the limit says."""
_CHUNK = 32


@dataclass(frozen=True)
class References:
    """Real images prepared for comparison; made by :func:`prepare`.

    Attributes:
        pixels: uint8 (N, SIDE, SIDE, 3).
        features: Centred and of length one, float32 (N, D).
        centre: The mean that was taken off, (D,).
        layouts: Without their mean and of length one, float32 (N, 768).
    """

    pixels: np.ndarray
    features: np.ndarray
    centre: np.ndarray
    layouts: np.ndarray

    def __len__(self) -> int:
        return len(self.pixels)


@dataclass(frozen=True)
class Nearness:
    """The highest similarity of each of M images to any of N references, and to which.

    Attributes:
        features, layout, ssim: float (M,), at most 1.
        by_features, by_layout, by_ssim: Row of that reference, int (M,).
        reached_features, reached_layout: The highest similarity of each reference to any of the
            images, float (N,).
    """

    features: np.ndarray
    layout: np.ndarray
    ssim: np.ndarray
    by_features: np.ndarray
    by_layout: np.ndarray
    by_ssim: np.ndarray
    reached_features: np.ndarray
    reached_layout: np.ndarray

    def __len__(self) -> int:
        return len(self.features)

    def above(self, limit: Limits) -> np.ndarray:
        """Which images come nearer than real ones do, by features or by layout: bool (M,)."""
        return (self.features > limit.features) | (self.layout > limit.layout)


@dataclass(frozen=True)
class Likeness:
    """The highest similarity of each of M images to any reference, by the two kinds that say what
    a copy is.

    Attributes:
        features, layout: float (M,), at most 1.
        by_features, by_layout: Row of that reference, int (M,).
    """

    features: np.ndarray
    layout: np.ndarray
    by_features: np.ndarray
    by_layout: np.ndarray


@dataclass(frozen=True)
class Limits:
    """The similarities that 95 % of real images stay below."""

    features: float
    layout: float
    ssim: float


@dataclass(frozen=True)
class Queries:
    """Images in all eight orientations, prepared for several comparisons; see :func:`turned`.

    Attributes:
        pixels: uint8 (8, M, SIDE, SIDE, 3).
        features: Of the blurred images, float32 (8, M, D).
        layouts: As of the references, float32 (8, M, 768).
    """

    pixels: np.ndarray
    features: np.ndarray
    layouts: np.ndarray

    def __len__(self) -> int:
        return self.pixels.shape[1]

    def part(self, rows: slice) -> Queries:
        """Some of the images."""
        return Queries(self.pixels[:, rows], self.features[:, rows], self.layouts[:, rows])


def prepare(
    images: np.ndarray,
    *,
    centre: np.ndarray | None = None,
    cache: Path | None = None,
    device: torch.device | str = "cpu",
) -> References:
    """Make real images ready to be compared with.

    Args:
        images: uint8 (N, h, w, 3), square; other sides than :data:`SIDE` are resized.
        centre: Taken off their features, (D,); ``None``: their own mean.
        cache: Folder that keeps their features by content; ``None`` keeps nothing.
        device: Where they are computed.

    Raises:
        DatasetError: there is no image, or they are not square.
    """
    pixels = at_side(images)
    found = cached_features(_blurred(pixels), cache, side=SIDE, device=device)
    centre = found.mean(0) if centre is None else centre
    return References(pixels, _unit(found - centre), centre, _layouts(pixels))


def turned(images: np.ndarray, *, device: torch.device | str = "cpu") -> Queries:
    """Prepare images for several comparisons; arguments and errors as in :func:`nearest`."""
    pixels = oriented(at_side(images))
    flat = pixels.reshape(-1, SIDE, SIDE, 3)
    shape = pixels.shape[:2]
    return Queries(
        pixels,
        features(_blurred(flat), side=SIDE, device=device).reshape(*shape, -1),
        _layouts(flat).reshape(*shape, -1),
    )


def nearest(
    images: np.ndarray | Queries,
    references: References,
    *,
    exclude: np.ndarray | None = None,
    device: torch.device | str = "cpu",
    on_images: Callable[[int], None] | None = None,
) -> Nearness:
    """Compare images with the references in all eight orientations.

    Args:
        images: uint8 (M, h, w, 3), square, or what :func:`turned` made of them.
        references: From :func:`prepare`.
        exclude: Row of one reference that each image is not compared with, int (M,): itself, where
            real images are compared with each other.
        device: Where it is computed.
        on_images: Called with the number of images finished since the last call; may raise.

    Raises:
        DatasetError: there is no image or no reference left, or the images are not square.
    """
    if exclude is not None and len(references) < 2:
        raise DatasetError("there is no other image to compare with.", fix="Use more images.")
    parts = []
    for start in range(0, max(len(images), 1), _CHUNK):
        rows = slice(start, start + _CHUNK)
        if isinstance(images, Queries):
            part = images.part(rows)
        else:
            part = turned(images[rows], device=device)
        skipped = None if exclude is None else np.asarray(exclude)[rows]
        parts.append(_nearest(part, references, skipped, device))
        if on_images is not None:
            on_images(len(part))
    names = [field.name for field in fields(Nearness)]
    stacks = {name: [getattr(part, name) for part in parts] for name in names}
    return Nearness(
        **{
            name: np.max(found, 0) if name.startswith("reached") else np.concatenate(found)
            for name, found in stacks.items()
        }
    )


def likeness(
    images: np.ndarray,
    references: References,
    *,
    exclude: np.ndarray | None = None,
    device: torch.device | str = "cpu",
    on_images: Callable[[int], None] | None = None,
) -> Likeness:
    """The part of :func:`nearest` that is quick; arguments and errors as there."""
    if exclude is not None and len(references) < 2:
        raise DatasetError("there is no other image to compare with.", fix="Use more images.")
    parts = []
    for start in range(0, max(len(images), 1), _CHUNK):
        part = turned(images[start : start + _CHUNK], device=device)
        skipped = None if exclude is None else np.asarray(exclude)[start : start + _CHUNK]
        alike, layout, _ = _similarities(part, references, skipped)
        parts.append((alike.max(1), layout.max(1), alike.argmax(1), layout.argmax(1)))
        if on_images is not None:
            on_images(len(part))
    return Likeness(*(np.concatenate(found) for found in zip(*parts, strict=True)))


def limits(real: Nearness) -> Limits:
    """What real images stay below, from their own nearness to other real images."""
    return Limits(
        *(
            float(np.quantile(values, PERCENTILE))
            for values in (real.features, real.layout, real.ssim)
        )
    )


def oriented(images: np.ndarray) -> np.ndarray:
    """(M, s, s, …) → (8, M, s, s, …): the four quarter turns, then those of the mirror image."""
    both = (images, images[:, :, ::-1])
    return np.stack([np.rot90(hand, k, (1, 2)) for hand in both for k in range(4)])


def at_side(images: np.ndarray) -> np.ndarray:
    """Square images at the side at which they are compared, uint8 (M, SIDE, SIDE, 3).

    Raises:
        DatasetError: there is no image, or they are not square.
    """
    if images.ndim != 4 or images.shape[1] != images.shape[2] or images.shape[3] != 3:
        raise DatasetError(
            f"cannot compare images of shape {images.shape[1:]}.", fix="Use square RGB images."
        )
    if not len(images):
        raise DatasetError("there is no image to compare.", fix="Give at least one image.")
    if images.shape[1] == SIDE:
        return np.asarray(images)
    batch = torch.from_numpy(np.array(images)).permute(0, 3, 1, 2).float()
    whole = resized(batch, SIDE).round().clamp(0, 255).to(torch.uint8)
    return whole.permute(0, 2, 3, 1).numpy()


def _nearest(
    images: Queries,
    references: References,
    exclude: np.ndarray | None,
    device: torch.device | str,
) -> Nearness:
    """:func:`nearest` of a few images."""
    every = np.arange(len(images))
    alike, layout, turn = _similarities(images, references, exclude)
    left = len(references) - (exclude is not None)
    short = np.argsort(-layout, 1, kind="stable")[:, : min(SHORTLIST, left)]
    structure = np.stack(
        [
            _ssim(images.pixels[turn[row, found], row], references.pixels[found], device)
            for row, found in enumerate(short)
        ]
    )
    return Nearness(
        alike.max(1),
        layout.max(1),
        structure.max(1),
        alike.argmax(1),
        layout.argmax(1),
        short[every, structure.argmax(1)],
        alike.max(0),
        layout.max(0),
    )


def _similarities(
    images: Queries, references: References, exclude: np.ndarray | None
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """By features and by layout, (M, N) each, and the orientation that is nearest by layout."""
    alike = (_unit(images.features - references.centre) @ references.features.T).max(0)
    layout = images.layouts @ references.layouts.T
    turn, layout = layout.argmax(0), layout.max(0)
    if exclude is not None:
        every = np.arange(len(images))
        alike[every, exclude] = layout[every, exclude] = -np.inf
    return alike, layout, turn


def _blurred(pixels: np.ndarray) -> np.ndarray:
    smooth = gaussian_filter(pixels.astype(np.float32), (0, BLUR, BLUR, 0))
    return np.clip(smooth + 0.5, 0, 255).astype(np.uint8)


def _layouts(pixels: np.ndarray) -> np.ndarray:
    """Images at 16 × 16 without each channel's mean, of length one, float32 (M, 768); a flat image
    has no layout and is like no other."""
    block = SIDE // LAYOUT_SIDE
    shape = (len(pixels), LAYOUT_SIDE, block, LAYOUT_SIDE, block, 3)
    small = pixels.reshape(shape).mean((2, 4), dtype=np.float32)
    small = small - small.mean((1, 2), keepdims=True)
    return _unit(small.reshape(len(pixels), -1))


def _ssim(first: np.ndarray, second: np.ndarray, device: torch.device | str) -> np.ndarray:
    """Structural similarity of pairs, float32 (n,), of uint8 images (n, S, S, 3)."""
    ours, theirs = (_floats(images, device) for images in (first, second))
    found = structural_similarity_index_measure(ours, theirs, data_range=1.0, reduction="none")
    assert isinstance(found, Tensor)
    return found.reshape(-1).cpu().numpy()


def _floats(images: np.ndarray, device: torch.device | str) -> Tensor:
    batch = torch.from_numpy(np.ascontiguousarray(images)).to(device)
    return batch.permute(0, 3, 1, 2).contiguous().float().div_(255)


def _unit(vectors: np.ndarray) -> np.ndarray:
    length = np.linalg.norm(vectors, axis=-1, keepdims=True)
    return (vectors / np.maximum(length, 1e-6)).astype(np.float32)
