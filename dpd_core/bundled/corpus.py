"""The images that the bundled models learn from, packed into one file.

Two sources, both openly licensed: EuroSAT RGB (Sentinel-2, 64 px, ten classes) and aerial
photographs without classes (``open_aerial``: NAIP of Californian cities, drone mosaics). The
pack is all that a machine needs to train: compressed images, labels, what is held out, ground
resolution.

What is held out: of EuroSAT the first hundred images a class in the order of their SHA-256, so that
they are the same wherever the data set was unpacked; of the aerial photographs every twelfth
*place*, since the same place was photographed in several years.
"""

from __future__ import annotations

import hashlib
import io
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from safetensors import safe_open
from safetensors.torch import save_file

from dpd_core.dataset.class_names import readable_name

IMAGE_SIZE = 64
HELD_OUT_A_CLASS = 100
HELD_OUT_PLACES = 12
"""Every which place of the aerial photographs is held out."""

_SUFFIXES = {".jpg", ".jpeg", ".png", ".tif"}


@dataclass(frozen=True)
class Kind:
    """One kind of images in the pack.

    Attributes:
        name: Its name in the pack.
        pattern: Of the files' names; EuroSAT's is told by its folders.
        side: Pixels a side in the pack; what is larger is reduced.
        metres: Ground that a pixel covers, in the pack.
        compression: Format and quality in the pack.
    """

    name: str
    pattern: str
    side: int
    metres: float
    compression: tuple[str, int]


EUROSAT = Kind("eurosat", r"", 64, 10.0, ("JPEG", 90))
AERIAL = (
    Kind("naip", r"[a-z_]+_20\d\d_\d+", 256, 0.6, ("WEBP", 84)),
    Kind("banepa", r"banepa_", 256, 0.3, ("WEBP", 85)),
    # Seven centimetres a pixel show leaves, not scenes: reduced fourfold.
    Kind("ramp", r"ramp2_", 64, 0.3, ("JPEG", 92)),
)
KINDS = (EUROSAT, *AERIAL)


@dataclass(frozen=True)
class Collection:
    """Images of one kind, of the training or of the held-out part.

    Attributes:
        kind: Which.
        images: uint8 (n, side, side, 3).
        labels: int64 (n,), -1 where there is no class.
        class_names: What the labels mean.
    """

    kind: Kind
    images: np.ndarray
    labels: np.ndarray
    class_names: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.images)


@dataclass(frozen=True)
class _Entry:
    kind: Kind
    path: Path
    label: int
    held_out: bool


def eurosat_files(folder: Path, per_class: int = 0) -> dict[str, tuple[list[Path], list[Path]]]:
    """Training and held-out files of each class folder, in order of the files' SHA-256.

    Args:
        folder: EuroSAT RGB, a folder of class folders.
        per_class: At most so many training files a class; 0 takes all.

    Raises:
        FileNotFoundError: there are no class folders.
    """
    found: dict[str, tuple[list[Path], list[Path]]] = {}
    for class_folder in sorted(path for path in folder.iterdir() if path.is_dir()):
        files = [path for path in class_folder.iterdir() if path.suffix.lower() in _SUFFIXES]
        files.sort(key=lambda path: hashlib.sha256(path.read_bytes()).hexdigest())
        train = files[HELD_OUT_A_CLASS:]
        if files:
            found[class_folder.name] = (train[: per_class or None], files[:HELD_OUT_A_CLASS])
    if not found:
        raise FileNotFoundError(
            f"No class folders with images in {folder}. Give the EuroSAT RGB folder that holds "
            "AnnualCrop, Forest and the other classes."
        )
    return found


def place_of(stem: str) -> str:
    """The place that an aerial photograph shows: its name without the year; of map tiles, the
    square of four by four tiles, since neighbours share what lies at the border."""
    tile = re.search(r"-(\d+)-(\d+)-\d+$", stem)
    if tile:
        return f"tile-{int(tile[1]) // 4}-{int(tile[2]) // 4}"
    return re.sub(r"_20\d\d_", "_", stem)


def is_held_out(place: str) -> bool:
    """Whether a place is held out: decided by its name alone."""
    return int(hashlib.sha256(place.encode()).hexdigest(), 16) % HELD_OUT_PLACES == 0


def pack_corpus(eurosat: Path, aerial: Path | None, target: Path, per_class: int = 1600) -> None:
    """Write the pack.

    Args:
        eurosat: EuroSAT RGB, a folder of class folders.
        aerial: The aerial photographs, in whatever folders below; ``None`` goes without.
        target: The file; replaced as a whole.
        per_class: Training images of EuroSAT, a class.
    """
    names: list[str] = []
    entries: list[_Entry] = []
    for label, (name, parts) in enumerate(eurosat_files(eurosat, per_class).items()):
        names.append(readable_name(name))
        for held_out, files in zip((False, True), parts, strict=True):
            entries += [_Entry(EUROSAT, path, label, held_out) for path in files]
    entries += list(_aerial_entries(aerial)) if aerial is not None else []
    packed = [_compressed(entry) for entry in entries]
    tensors = {
        "bytes": torch.frombuffer(bytearray(b"".join(packed)), dtype=torch.uint8),
        "ends": torch.tensor([len(part) for part in packed]).cumsum(0),
        "kind": torch.tensor([KINDS.index(entry.kind) for entry in entries]),
        "label": torch.tensor([entry.label for entry in entries]),
        "held_out": torch.tensor([entry.held_out for entry in entries]),
    }
    target.parent.mkdir(parents=True, exist_ok=True)
    temporary = target.with_name(target.name + ".part")
    save_file(tensors, temporary, metadata={"class_names": json.dumps(names)})
    temporary.replace(target)


def read_pack(path: Path) -> tuple[list[Collection], list[Collection]]:
    """The training and the held-out collections of a pack, decoded (about 0.6 GB)."""
    with safe_open(path, framework="np") as stored:
        names = tuple(json.loads(stored.metadata()["class_names"]))
        packed, ends, kinds, labels, held_out = (
            stored.get_tensor(key) for key in ("bytes", "ends", "kind", "label", "held_out")
        )
    starts = np.concatenate([[0], ends[:-1]])
    parts: tuple[list[Collection], list[Collection]] = ([], [])
    for place, kind in enumerate(KINDS):
        for part, wanted in zip(parts, (False, True), strict=True):
            rows = np.flatnonzero((kinds == place) & (held_out == wanted))
            images = np.empty((len(rows), kind.side, kind.side, 3), np.uint8)
            for number, row in enumerate(rows):
                with Image.open(io.BytesIO(packed[starts[row] : ends[row]].tobytes())) as image:
                    images[number] = np.asarray(image.convert("RGB"))
            if len(rows):
                part.append(
                    Collection(kind, images, labels[rows], names if kind is EUROSAT else ())
                )
    return parts


def _aerial_entries(folder: Path) -> Iterator[_Entry]:
    for path in sorted(folder.rglob("*")):
        if path.suffix.lower() in _SUFFIXES:
            kind = next(kind for kind in AERIAL if re.match(kind.pattern, path.stem))
            yield _Entry(kind, path, -1, is_held_out(place_of(path.stem)))


def _compressed(entry: _Entry) -> bytes:
    side, (form, quality) = entry.kind.side, entry.kind.compression
    with Image.open(entry.path) as opened:
        image = opened.convert("RGB")
    if image.size != (side, side):
        image = image.resize((side, side), Image.Resampling.LANCZOS)
    buffer = io.BytesIO()
    options = {"subsampling": 0} if form == "JPEG" else {"method": 4}
    image.save(buffer, form, quality=quality, **options)
    return buffer.getvalue()
