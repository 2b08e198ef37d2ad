"""How much memory a training takes, from the headers of a model's files: no weight is read.

A model's weights are counted. What a step keeps for its backward pass grows with the latent's area
and the batch; :data:`KEPT` was counted on full-size networks without their numbers (torch's
``meta`` device, LoRA in bfloat16, fused attention), not measured on a GPU.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dpd_core import storage
from dpd_core.errors import ModelError
from dpd_core.models.files import DENOISERS, denoiser_settings

KEPT = {"Stable Diffusion 1 or 2": (190, 224, 50), "XL": (335, 410, 40), "3": (540, 760, 50)}
"""KiB kept of each latent place of each sample in a format of two bytes: LoRA on attention, LoRA on
all layers (or the whole network), and either with gradient checkpointing."""

_ATTENTION = (
    *("to_q", "to_k", "to_v", "to_out.0"),
    *("add_q_proj", "add_k_proj", "add_v_proj", "to_add_out"),
)
_OPTIMISER = 16
"""Bytes a trained number: itself, its gradient and AdamW's two moments, in float32."""
_DECODER = 3 * 2**10
"""Bytes a pixel that the decoder holds at once, for previews: six maps of 128 channels."""
_LIBRARIES = 0.7
"""GiB that CUDA and its libraries take for themselves."""
_LARGEST_HEADER = 2**26
_FULL = 4
"""Bytes a number of the parts that compute in float32."""
_HUGE = ("text_encoder_3",)


@dataclass(frozen=True)
class TrainingMemory:
    """An estimate, in GiB.

    Attributes:
        weights: Of the denoiser; encoders and autoencoder are elsewhere meanwhile.
        trained: What is trained, with gradients and moments.
        kept: What a step keeps for its backward pass.
        previews: What making a preview takes, instead of ``kept``; the autoencoder is part of it.
        encoding: Autoencoder and text encoders, which are there with the weights while captions
            are encoded, before anything is trained.
    """

    weights: float
    trained: float
    kept: float
    previews: float
    encoding: float

    @property
    def total(self) -> float:
        """The most at any time."""
        training = self.trained + max(self.kept, self.previews)
        return self.weights + max(training, self.encoding) + _LIBRARIES

    def __str__(self) -> str:
        return (
            f"about {self.total:.1f} GB: weights {self.weights:.1f}, what is trained "
            f"{self.trained:.1f}, a step {self.kept:.1f}, a preview {self.previews:.1f}; "
            f"before, while captions are encoded, the encoders {self.encoding:.1f}"
        )


def training_memory(
    folder: Path,
    *,
    side: int,
    batch: int,
    rank: int,
    targets: str,
    checkpointing: bool,
    number: int,
    previewed: int = 6,
) -> TrainingMemory:
    """Estimate what a training holds at most.

    Args:
        folder: The model.
        side: Of the images in px.
        batch: Samples a step.
        rank, targets, checkpointing: As the settings of the train stage.
        number: Bytes a number of the frozen weights.
        previewed: Images made at once.

    Raises:
        ModelError: the model has no denoiser, or its files are damaged.
    """
    part = next((name for name in DENOISERS if (folder / name).is_dir()), DENOISERS[0])
    shapes = list(_shapes(folder / part))
    count = sum(_size(shape) for _, shape in shapes)
    if targets == "whole":
        fixed = sum(_size(shape) for name, shape in shapes if name.endswith(".pos_embed"))
        trained, weights = (count - fixed) * _OPTIMISER, fixed * number
    else:
        trained = sum(_lora(name, shape, rank, targets) for name, shape in shapes) * _OPTIMISER
        weights = count * number
    settings = denoiser_settings(folder)
    vae = storage.read_record(
        folder / "vae" / "config.json", {"block_out_channels": list}, fix="Get the model again."
    )
    places = batch * (side // 2 ** (len(vae["block_out_channels"]) - 1)) ** 2
    attention, everything, least = KEPT[_kind(settings)]
    each = least if checkpointing else attention if targets == "attention" else everything
    # The constants are those of the full width; smaller networks keep less.
    wide = _width(settings) / _WIDTHS[_kind(settings)]
    pixels = min(previewed * side**2, max(side**2, 2**21))
    kept = places * each * wide * 2**10 * number / 2
    autoencoder = _FULL * _numbers(folder / "vae")
    decoding = pixels * _DECODER * min(1.0, vae["block_out_channels"][0] / 128)
    sizes = (
        weights,
        trained,
        kept,
        autoencoder + decoding if previewed else 0.0,
        autoencoder + sum(_encoder(path, number) for path in folder.glob("text_encoder*")),
    )
    return TrainingMemory(*(size / 2**30 for size in sizes))


_WIDTHS = {"Stable Diffusion 1 or 2": 320, "XL": 320, "3": 1536}


def _kind(settings: dict[str, Any]) -> str:
    if "num_attention_heads" in settings and "joint_attention_dim" in settings:
        return "3"
    return "XL" if settings.get("addition_embed_type") else "Stable Diffusion 1 or 2"


def _width(settings: dict[str, Any]) -> int:
    if _kind(settings) == "3":
        return int(settings["num_attention_heads"]) * int(settings.get("attention_head_dim", 64))
    return int(settings["block_out_channels"][0])


def _lora(name: str, shape: list[int], rank: int, targets: str) -> int:
    """Numbers of the LoRA layers on one weight."""
    if len(shape) not in (2, 4) or not name.endswith(".weight"):
        return 0
    if targets == "attention" and not name.removesuffix(".weight").endswith(_ATTENTION):
        return 0
    return rank * (shape[0] + _size(shape[1:]))


def _size(shape: list[int]) -> int:
    size = 1
    for length in shape:
        size *= length
    return size


def _numbers(folder: Path) -> int:
    return sum(_size(shape) for _, shape in _shapes(folder))


def _encoder(folder: Path, number: int) -> int:
    """Bytes of a text encoder: CLIP computes in float32, T5 in the format of the weights."""
    return _numbers(folder) * (number if folder.name in _HUGE else _FULL)


def _shapes(folder: Path) -> Iterator[tuple[str, list[int]]]:
    """Name and shape of each weight of a part of the model, from the headers of its files."""
    files = sorted(folder.glob("*.safetensors"))
    whole = [file for file in files if ".fp16" not in file.name]
    for file in whole or files:
        try:
            with file.open("rb") as opened:
                length = int.from_bytes(opened.read(8), "little")
                if length > _LARGEST_HEADER:
                    raise ValueError("its header is too large")
                header = json.loads(opened.read(length))
            for name, entry in header.items():
                if name != "__metadata__":
                    yield name, [int(side) for side in entry["shape"]]
        except (OSError, ValueError, LookupError, TypeError) as error:
            raise ModelError(
                f"not a readable file of weights ({error}).", where=file, fix="Get the model again."
            ) from error
