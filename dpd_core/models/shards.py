"""The files of the latents.

A *shard* is one safetensors file ``latents/<key>.safetensors`` with the posteriors of up to
256 images. It names its images by the SHA-256 of their files and its model by fingerprint,
and nothing else: another split, a renamed class or another project with the same images and
model finds them again (copy the folder).

Shards hold float16, half the size at an error far below the posterior's own spread.
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from dpd_core import storage
from dpd_core.events import Emit, Log

Shard = tuple[list[str], np.ndarray, np.ndarray]
"""SHA-256s of the images, then mean and standard deviation, float16 (M, C, h, w)."""


class Shards:
    """The files of one model in a project's ``latents`` folder."""

    def __init__(self, folder: Path, model: str, bands: Sequence[str], emit: Emit, stage: str):
        self.folder, self.emit, self.stage = folder, emit, stage
        self.origin = {"model": model, "bands": json.dumps(list(bands))}

    def read(self, wanted: set[str]) -> Iterator[Shard]:
        """Shards of this model with a wanted image.

        ``wanted`` is looked at anew for each file, so the caller can strike off what it got.
        A damaged file is reported and removed: its images are then encoded again.
        """
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

    def write(self, shas: list[str], mean: np.ndarray, std: np.ndarray) -> None:
        """Store one shard; ``mean`` and ``std`` are float16 (M, C, h, w)."""
        metadata = {**self.origin, "images": json.dumps(shas), "crc32": _checksum(mean, std)}
        path = self.folder / f"{_shard_name(self.origin, shas)}.safetensors"
        with storage.atomic_path(path) as temporary:
            save_file({"mean": mean, "std": std}, temporary, metadata=metadata)
            storage.sort_metadata(temporary)

    def _open(
        self, path: Path, wanted: set[str]
    ) -> tuple[list[str], np.ndarray, np.ndarray] | None:
        with safe_open(path, framework="np") as file:
            metadata = file.metadata() or {}
            if any(metadata.get(name) != value for name, value in self.origin.items()):
                return None
            shas = json.loads(metadata["images"])
            if wanted.isdisjoint(shas):
                return None
        return shas, *_read_shard(path, metadata, shas)


def _shard_name(origin: dict[str, str], shas: Sequence[str]) -> str:
    return storage.digest(origin, shas, length=32)


def _read_shard(
    path: Path, metadata: dict[str, str], shas: Sequence[str]
) -> tuple[np.ndarray, np.ndarray]:
    """Mean and standard deviation in a shard, float16 (M, C, h, w); an error of some kind if they
    are not what was written."""
    with safe_open(path, framework="np") as file:
        mean, std = file.get_tensor("mean"), file.get_tensor("std")
    if len(shas) != len(mean) or mean.shape != std.shape:
        raise ValueError("images and arrays do not agree")
    if mean.dtype != np.float16 or std.dtype != np.float16:
        raise ValueError("the numbers are not in half precision")
    if metadata["crc32"] != _checksum(mean, std):
        raise ValueError("the checksum does not match")
    return mean, std


def shard_fault(path: Path) -> str | None:
    """Why a file of latents is not what was written: its name is a digest of the model and the
    images, and it holds a checksum of the numbers. ``None``: it is."""
    try:
        with safe_open(path, framework="np") as file:
            metadata = file.metadata() or {}
        origin = {name: metadata[name] for name in ("model", "bands")}
        shas = json.loads(metadata["images"])
        if path.stem != _shard_name(origin, shas):
            return "the name does not fit the images"
        _read_shard(path, metadata, shas)
    except (SafetensorError, OSError, ValueError, KeyError, TypeError) as error:
        return str(error) or type(error).__name__
    return None


def _checksum(mean: np.ndarray, std: np.ndarray) -> str:
    return str(zlib.crc32(std.tobytes(), zlib.crc32(mean.tobytes())))
