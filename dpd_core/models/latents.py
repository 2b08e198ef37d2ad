"""Latents of a collection, encoded once and found again by content.

They are kept in shards (:mod:`dpd_core.models.shards`) of up to 256 images; only images never seen
before are encoded, and a run killed half-way continues at the shard it was writing. Shards hold
float16 and all computing is in float32. A fresh run returns the rounded values as well, so that it
cannot differ from a cached one.
"""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Callable, Collection, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from dpd_core import storage
from dpd_core.dataset.images import to_square
from dpd_core.dataset.index import ImageRecord, load_index
from dpd_core.dataset.pixels import open_record
from dpd_core.errors import DatasetError, ModelError
from dpd_core.events import Emit, Meter, ignore
from dpd_core.models.backbone import Posterior, backbone_identity, load_backbone
from dpd_core.models.shards import Shards
from dpd_core.project import Project

SHARD = 256
"""Images in one file: what an interrupted run can lose, and what one read brings."""

_BATCH_PIXELS = 2**20
"""Pixels encoded at once: 16 images of 256 px, which fits laptops and small GPUs alike."""


class Encoder(Protocol):
    """The part of a backbone that encoding needs."""

    @property
    def fingerprint(self) -> str:
        """Identity of the latents: two encoders with the same one make the same latents."""

    @property
    def image_size(self) -> int:
        """Side of the images in pixels."""

    def encode_images(self, pixels: Any) -> Posterior:
        """Posterior of uint8 images (B, H, W, 3)."""


@dataclass(frozen=True)
class Latents:
    """Posteriors of a list of images, multiplied by the model's scaling factor.

    Attributes:
        ids: Image ids, in the order of the index.
        mean: float32 (N, C, h, w).
        std: float32 (N, C, h, w).
        key: Digest of the model and the images: equal keys mean equal latents.
    """

    ids: list[str]
    mean: Tensor
    std: Tensor
    key: str

    def of(self, image_id: str) -> Posterior:
        """The posterior of one image, each part (C, h, w).

        Raises:
            KeyError: the image is not among these latents.
        """
        row = self._row[image_id]
        return Posterior(self.mean[row], self.std[row])

    def rows(self, ids: Sequence[str]) -> list[int]:
        """Row numbers of the images, for ``mean[rows]`` and ``std[rows]``.

        Raises:
            KeyError: an image is not among these latents.
        """
        return [self._row[image_id] for image_id in ids]

    def without(self, ids: Collection[str]) -> Latents:
        """The latents but for some images; the same object if none of them is there."""
        kept = [row for row, image_id in enumerate(self.ids) if image_id not in ids]
        if len(kept) == len(self.ids):
            return self
        left = [self.ids[row] for row in kept]
        return Latents(left, self.mean[kept], self.std[kept], storage.digest(self.key, left))

    @cached_property
    def _row(self) -> dict[str, int]:
        return {image_id: row for row, image_id in enumerate(self.ids)}


def latents_for(
    project: Project,
    splits: Sequence[str] = ("train",),
    emit: Emit = ignore,
    *,
    stage: str = "prototypes",
) -> Latents:
    """Latents of the project's images by the project's model, which is loaded on a miss only.

    Args:
        project: Needs a finished dataset stage.
        splits: ``"train"``, ``"test"`` or both.
        emit: Gets progress, and a warning for each damaged shard.
        stage: Stage name of the events.

    Raises:
        DatasetError: there is no image in these splits, or a file has changed or gone.
        ModelError: the model cannot be loaded, or its latents are not numbers.
    """
    fingerprint = backbone_identity(project.config)
    return _latents(project, fingerprint, lambda: load_backbone(project), splits, emit, stage)


def encode_dataset(
    project: Project,
    backbone: Encoder,
    *,
    splits: Sequence[str] = ("train",),
    emit: Emit = ignore,
    stage: str = "prototypes",
) -> Latents:
    """Like :func:`latents_for` with a model that is loaded already."""
    return _latents(project, backbone.fingerprint, lambda: backbone, splits, emit, stage)


def _latents(
    project: Project,
    fingerprint: str,
    load: Callable[[], Encoder],
    splits: Sequence[str],
    emit: Emit,
    stage: str,
) -> Latents:
    index = load_index(project)
    records = [record for record in index.images if record.split in splits]
    if not records:
        raise DatasetError(
            f"there are no images in the split {' and '.join(splits)}.",
            where=project.root,
            fix="Run the stage 'dataset' with another test fraction.",
        )
    table = _Table(records)
    shards = Shards(project.path("latents"), fingerprint, records[0].bands, emit, stage)
    for shas, mean, std in shards.read(table.missing):
        table.put(shas, torch.from_numpy(mean), torch.from_numpy(std))
    todo = [record for record in _unique(records) if record.sha256 in table.missing]
    if todo:
        encoder = load()
        meter = Meter(
            emit,
            stage,
            len(table.rows),
            done=len(table.rows) - len(todo),
            message="encoding images",
        )
        for start in range(0, len(todo), SHARD):
            part = todo[start : start + SHARD]
            mean, std = _encode(part, encoder, meter)
            shas = [record.sha256 for record in part]
            shards.write(shas, mean.numpy(), std.numpy())
            table.put(shas, mean, std)
    ids = [record.id for record in records]
    key = storage.digest(
        fingerprint, records[0].bands, [[record.id, record.sha256] for record in records]
    )
    return Latents(ids, *table.tensors(), key)


class _Table:
    """The result being filled: float32 rows by the content of their images."""

    def __init__(self, records: Sequence[ImageRecord]):
        self.rows: dict[str, list[int]] = defaultdict(list)
        for row, record in enumerate(records):
            self.rows[record.sha256].append(row)
        self.missing = set(self.rows)
        self._count = len(records)
        self._mean: Tensor | None = None
        self._std: Tensor | None = None

    def put(self, shas: Sequence[str], mean: Tensor, std: Tensor) -> None:
        """Take the wanted ones of a shard; ``mean`` and ``std`` are float16 (M, C, h, w)."""
        if self._mean is None or self._std is None:
            self._mean = torch.empty(self._count, *mean.shape[1:])
            self._std = torch.empty(self._count, *mean.shape[1:])
        for position, sha in enumerate(shas):
            if sha in self.missing:
                self._mean[self.rows[sha]] = mean[position].float()
                self._std[self.rows[sha]] = std[position].float()
                self.missing.remove(sha)

    def tensors(self) -> tuple[Tensor, Tensor]:
        """Mean and standard deviation, float32 (N, C, h, w)."""
        if self.missing or self._mean is None or self._std is None:
            raise RuntimeError(f"{len(self.missing)} images were not encoded")
        return self._mean, self._std


def _encode(
    records: Sequence[ImageRecord], encoder: Encoder, meter: Meter
) -> tuple[Tensor, Tensor]:
    """Posteriors of one shard, float16 (M, C, h, w). Images are decoded a shard ahead at most,
    in threads, because decoding would otherwise be what a GPU waits for."""
    size = encoder.image_size
    batch = max(1, min(64, _BATCH_PIXELS // size**2))
    means, stds = [], []
    with ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool:
        decoded = pool.map(lambda record: _pixels(record, size), records)
        for start in range(0, len(records), batch):
            count = min(batch, len(records) - start)
            pixels = np.stack([next(decoded) for _ in range(count)])
            posterior = encoder.encode_images(torch.from_numpy(pixels))
            means.append(posterior.mean.float().cpu().half())
            stds.append(posterior.std.float().cpu().half())
            meter.advance(count)
    mean, std = torch.cat(means).contiguous(), torch.cat(stds).contiguous()
    finite = mean.isfinite().flatten(1).all(1) & std.isfinite().flatten(1).all(1)
    if not bool(finite.all()):
        worst = records[int((~finite).nonzero()[0])]
        raise ModelError(
            "the model's latent of this image is not a finite number.",
            where=worst.id,
            fix="Use dtype float32, or another model.",
        )
    return mean, std


def _pixels(record: ImageRecord, size: int) -> np.ndarray:
    """uint8 (size, size, 3) of a file that is still the one in the index."""
    return np.asarray(to_square(open_record(record), size), dtype=np.uint8)


def _unique(records: Sequence[ImageRecord]) -> list[ImageRecord]:
    return list({record.sha256: record for record in reversed(records)}.values())[::-1]
