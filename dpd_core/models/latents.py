"""Latents of a collection, encoded once and found again by content.

A *shard* is one safetensors file ``latents/<key>.safetensors`` with the posteriors of up to
256 images. It names its images by the SHA-256 of their files and its model by fingerprint,
and nothing else: another split, a renamed class or another project with the same images and
model finds them again (copy the folder), and only images never seen before are encoded.
A run killed half-way continues at the shard it was writing.

Shards hold float16, half the size at an error far below the posterior's own spread; all
computing is in float32. A fresh run returns the rounded values as well, so that it cannot
differ from a cached one.
"""

from __future__ import annotations

import json
import os
import zlib
from collections import defaultdict
from collections.abc import Callable, Collection, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import torch
from torch import Tensor

from dpd_core import storage
from dpd_core.errors import DatasetError, ModelError
from dpd_core.events import Emit, Log, Meter, ignore

if TYPE_CHECKING:
    import numpy as np

    from dpd_core.dataset.index import ImageRecord
    from dpd_core.models.backbone import Posterior
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
        from dpd_core.models.backbone import Posterior

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
    from dpd_core.models.backbone import backbone_identity, load_backbone

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
    from dpd_core.dataset.index import load_index

    index = load_index(project)
    records = [record for record in index.images if record.split in splits]
    if not records:
        raise DatasetError(
            f"there are no images in the split {' and '.join(splits)}.",
            where=project.root,
            fix="Run the stage 'dataset' with another test fraction.",
        )
    table = _Table(records)
    shards = _Shards(project.path("latents"), fingerprint, records[0].bands, emit, stage)
    for shas, mean, std in shards.read(table.missing):
        table.put(shas, mean, std)
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
            shards.write(shas, mean, std)
            table.put(shas, mean, std)
    ids = [record.id for record in records]
    key = storage.digest(
        fingerprint, records[0].bands, [[record.id, record.sha256] for record in records]
    )
    return Latents(ids, *table.tensors(), key)


def shard_fault(path: Path) -> str | None:
    """Why a file of latents is not what was written: its name is a digest of the model and the
    images, and it holds a checksum of the numbers. ``None``: it is."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
        origin = {name: metadata[name] for name in ("model", "bands")}
        shas = json.loads(metadata["images"])
        if path.stem != _shard_name(origin, shas):
            return "the name does not fit the images"
        _read_shard(path, metadata, shas)
    except (SafetensorError, OSError, ValueError, KeyError, TypeError) as error:
        return str(error) or type(error).__name__
    return None


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


class _Shards:
    """The files of one model in a project's ``latents`` folder."""

    def __init__(self, folder: Path, model: str, bands: Sequence[str], emit: Emit, stage: str):
        self.folder, self.emit, self.stage = folder, emit, stage
        self.origin = {"model": model, "bands": json.dumps(list(bands))}

    def read(self, wanted: set[str]) -> Iterator[tuple[list[str], Tensor, Tensor]]:
        """Shards of this model with a wanted image: (SHA-256s, mean, std as float16).

        ``wanted`` is looked at anew for each file, so the caller can strike off what it got.
        A damaged file is reported and removed: its images are then encoded again.
        """
        from safetensors import SafetensorError

        for path in storage.whole(self.folder, "*.safetensors"):
            try:
                shard = self._open(path, wanted)
            except (SafetensorError, OSError, ValueError, KeyError, TypeError) as error:
                self.emit(
                    Log(
                        self.stage,
                        f"latents/{path.name} is damaged ({error}); its images are encoded again.",
                        level="warning",
                    )
                )
                with storage.writable(path):
                    path.unlink(missing_ok=True)
                continue
            if shard is not None:
                yield shard

    def write(self, shas: list[str], mean: Tensor, std: Tensor) -> None:
        """Store one shard; ``mean`` and ``std`` are float16 (M, C, h, w)."""
        from safetensors.torch import save_file

        metadata = {**self.origin, "images": json.dumps(shas), "crc32": _checksum(mean, std)}
        path = self.folder / f"{_shard_name(self.origin, shas)}.safetensors"
        with storage.atomic_path(path) as temporary:
            save_file({"mean": mean, "std": std}, temporary, metadata=metadata)
            storage.sort_metadata(temporary)

    def _open(self, path: Path, wanted: set[str]) -> tuple[list[str], Tensor, Tensor] | None:
        from safetensors import safe_open

        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            if any(metadata.get(name) != value for name, value in self.origin.items()):
                return None
            shas = json.loads(metadata["images"])
            if wanted.isdisjoint(shas):
                return None
        return shas, *_read_shard(path, metadata, shas)


def _shard_name(origin: dict[str, str], shas: Sequence[str]) -> str:
    return storage.digest(origin, shas, length=32)


def _read_shard(path: Path, metadata: dict[str, str], shas: Sequence[str]) -> tuple[Tensor, Tensor]:
    """The float16 tensors of a shard; an error of some kind if they are not what was written."""
    from safetensors import safe_open

    with safe_open(path, framework="pt") as file:
        mean, std = file.get_tensor("mean"), file.get_tensor("std")
    if len(shas) != len(mean) or mean.shape != std.shape:
        raise ValueError("images and tensors do not agree")
    if metadata["crc32"] != _checksum(mean, std):
        raise ValueError("the checksum does not match")
    return mean, std


def _encode(
    records: Sequence[ImageRecord], encoder: Encoder, meter: Meter
) -> tuple[Tensor, Tensor]:
    """Posteriors of one shard, float16 (M, C, h, w). Images are decoded a shard ahead at most,
    in threads, because decoding would otherwise be what a GPU waits for."""
    import numpy as np

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
    import numpy as np

    from dpd_core.dataset.images import to_square
    from dpd_core.dataset.pixels import open_record

    return np.asarray(to_square(open_record(record), size), dtype=np.uint8)


def _unique(records: Sequence[ImageRecord]) -> list[ImageRecord]:
    return list({record.sha256: record for record in reversed(records)}.values())[::-1]


def _checksum(mean: Tensor, std: Tensor) -> str:
    return str(zlib.crc32(std.numpy().tobytes(), zlib.crc32(mean.numpy().tobytes())))
