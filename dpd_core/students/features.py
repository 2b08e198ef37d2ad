"""Pretrained features: of EfficientNet-lite0, which needs no download, or of a model of the Hub.

The architecture of EfficientNet-lite0 follows Tan and Le (2019) in its "lite" form: no
squeeze-and-excitation, ReLU6 for swish, pixels from -1 to 1. Batch normalisation is folded into the
convolutions, and the classifier is left out: 3.4 million weights. Where they come from stands
beside them, in ``assets/features``.
"""

from __future__ import annotations

import hashlib
import io
from functools import cache as remembered
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import AutoImageProcessor, AutoModel

import dpd_core
from dpd_core import storage
from dpd_core.errors import ModelError

WEIGHTS = Path(dpd_core.__file__).parents[1] / "assets" / "features" / "model.safetensors"

BUNDLED = "bundled"
"""Name of the network that is always there."""

SIDE = 128
"""Pixels a side that images are resized to: 64 px enlarged to 128 serve better than as they are."""

WIDTH = 1280
"""Length of a feature vector."""

STAGES = (
    (1, 3, 1, 1, 16),
    (2, 3, 2, 6, 24),
    (2, 5, 2, 6, 40),
    (3, 3, 2, 6, 80),
    (3, 5, 1, 6, 112),
    (4, 5, 2, 6, 192),
    (1, 3, 1, 6, 320),
)
"""Blocks, kernel side, stride of the first, expansion, and channels out, a stage."""

_STEM = 32


class Convolution(nn.Conv2d):
    """A convolution whose output has the input's side over the stride, rounded up; any ReLU6 after.

    The padding stands at the far edges first, as in TensorFlow, where the weights were trained.
    """

    def __init__(
        self,
        inside: int,
        outside: int,
        kernel: int,
        *,
        stride: int = 1,
        groups: int = 1,
        active: bool = True,
    ):
        super().__init__(inside, outside, kernel, stride=stride, groups=groups)
        self.active = active

    def forward(self, x: Tensor) -> Tensor:
        """(n, inside, h, w) → (n, outside, ⌈h / stride⌉, ⌈w / stride⌉)."""
        kernel, stride = self.kernel_size[0], self.stride[0]
        if kernel > 1:
            missing = [max((-(-n // stride) - 1) * stride + kernel - n, 0) for n in x.shape[-2:]]
            (top, left) = (n // 2 for n in missing)
            x = F.pad(x, (left, missing[1] - left, top, missing[0] - top))
        x = super().forward(x)
        return F.relu6(x) if self.active else x


class Block(nn.Module):
    """Expand, convolve each channel by itself, project; added to the input where shapes allow."""

    def __init__(self, inside: int, outside: int, kernel: int, stride: int, expansion: int):
        super().__init__()
        wide = inside * expansion
        self.expand = Convolution(inside, wide, 1) if expansion > 1 else nn.Identity()
        self.depthwise = Convolution(wide, wide, kernel, stride=stride, groups=wide)
        self.project = Convolution(wide, outside, 1, active=False)
        self.residual = stride == 1 and inside == outside

    def forward(self, x: Tensor) -> Tensor:
        """(n, inside, h, w) → (n, outside, ⌈h / stride⌉, ⌈w / stride⌉)."""
        y = self.project(self.depthwise(self.expand(x)))
        return x + y if self.residual else y


class EfficientNetLite0(nn.Module):
    """The network up to its last feature map. Load it with :func:`load_network`."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = Convolution(3, _STEM, 3, stride=2)
        stages, inside = [], _STEM
        for blocks, kernel, stride, expansion, outside in STAGES:
            stage = [Block(inside, outside, kernel, stride, expansion)]
            stage += [Block(outside, outside, kernel, 1, expansion) for _ in range(blocks - 1)]
            stages.append(nn.Sequential(*stage))
            inside = outside
        self.stages = nn.ModuleList(stages)
        self.head = Convolution(inside, WIDTH, 1)

    def maps(self, images: Tensor, stages: int = len(STAGES)) -> list[Tensor]:
        """The maps after each of the first ``stages`` stages, for losses on features.

        Args:
            images: (n, 3, h, w) in [-1, 1], of any side; nothing is resized.
            stages: How many, at most seven. They have 16, 24, 40, 80, 112, 192 and 320 channels at
                a half, a quarter, an eighth, a sixteenth (twice) and a thirty-second (twice) of
                the side.
        """
        x = self.stem(images)
        found = []
        for stage in self.stages[:stages]:
            x = stage(x)
            found.append(x)
        return found

    def forward(self, images: Tensor) -> Tensor:
        """(n, 3, h, w) in [-1, 1] → (n, 1280): the mean of the last map."""
        return self.head(self.maps(images)[-1]).mean((2, 3))


def load_network(device: torch.device | str = "cpu") -> EfficientNetLite0:
    """The network with its weights, frozen, in float32; read once a device.

    Raises:
        ModelError: the weights are missing or damaged.
    """
    return _loaded(str(device))


@remembered
def _loaded(device: str) -> EfficientNetLite0:
    network = EfficientNetLite0()
    try:
        stored = load_file(WEIGHTS)
        network.load_state_dict({key: value.float() for key, value in stored.items()})
    except (OSError, SafetensorError, RuntimeError) as error:
        raise ModelError(
            "the weights of the feature network cannot be read.",
            where=WEIGHTS,
            fix="Get the repository again, with its assets folder.",
        ) from error
    return network.requires_grad_(False).eval().to(device)


def resized(images: Tensor, side: int = SIDE) -> Tensor:
    """(n, 3, h, w) → (n, 3, side, side), smoothed where it gets smaller; gradients pass."""
    if images.shape[-2:] == (side, side):
        return images
    return F.interpolate(images, size=(side, side), mode="bilinear", antialias=True)


@torch.no_grad()
def features(
    images: np.ndarray,
    *,
    side: int = SIDE,
    batch_size: int = 64,
    device: torch.device | str = "cpu",
) -> np.ndarray:
    """The feature vectors of images.

    Args:
        images: uint8 (n, h, w, 3).
        side: Pixels a side that they are resized to.
        batch_size: Images at a time.
        device: Where it is computed.

    Returns:
        float32 (n, 1280), not below zero.
    """
    network, found = load_network(device), [np.empty((0, WIDTH), np.float32)]
    for start in range(0, len(images), batch_size):
        part = np.ascontiguousarray(images[start : start + batch_size])
        batch = torch.from_numpy(part).to(device).permute(0, 3, 1, 2).float() / 127.5 - 1
        found.append(network(resized(batch, side)).cpu().numpy())
    return np.concatenate(found)


def features_by(
    network: str,
    images: np.ndarray,
    *,
    side: int = SIDE,
    batch_size: int = 64,
    device: torch.device | str = "cpu",
) -> np.ndarray:
    """The feature vectors of images by a network of one's choice.

    Args:
        network: ``"bundled"``, or the Hub id or folder of a transformers vision model, for example
            DINOv2 or CLIP.
        images: uint8 (n, h, w, 3).
        side: Pixels a side that the bundled network looks at; others have their own.
        batch_size: Images at a time.
        device: Where it is computed.

    Returns:
        float32 (n, d).

    Raises:
        ModelError: the model cannot be loaded, or gives no features of images.
    """
    if network == BUNDLED:
        return features(images, side=side, batch_size=batch_size, device=device)
    model, processor = hub_model(network, str(device))
    found = []
    for start in range(0, len(images), batch_size):
        inputs = processor(images=list(images[start : start + batch_size]), return_tensors="pt")
        found.append(_pooled(model, inputs["pixel_values"].to(device), network))
    return np.concatenate(found)


def cached_features(
    images: np.ndarray,
    cache: Path | None,
    *,
    network: str = BUNDLED,
    side: int = SIDE,
    device: torch.device | str = "cpu",
) -> np.ndarray:
    """:func:`features_by`, kept in a folder by the images' content.

    Args:
        images: uint8 (n, h, w, 3).
        cache: The folder; ``None`` keeps nothing.
        network, side, device: As there.
    """
    if cache is None:
        return features_by(network, images, side=side, device=device)
    content = hashlib.sha256(str(images.shape).encode())
    for start in range(0, len(images), 1024):
        content.update(np.ascontiguousarray(images[start : start + 1024]).tobytes())
    key = storage.digest("features", side, network_identity(network), content.hexdigest())
    path = cache / f"{key}.npy"
    if path.exists():
        try:
            found = np.load(path, allow_pickle=False)
        except (OSError, ValueError):
            found = np.empty(0)
        if found.ndim == 2 and len(found) == len(images) and np.isfinite(found).all():
            return found
    found = features_by(network, images, side=side, device=device)
    # Not straight to the file: NumPy's own writing does not say that it was the disk that is full.
    buffer = io.BytesIO()
    np.save(buffer, found, allow_pickle=False)
    storage.write_bytes(path, buffer.getvalue())
    return found


@remembered
def network_identity(network: str) -> str:
    """What determines a network's features, for cache keys: of the bundled one and of a folder the
    files' content; a Hub id is taken at its word."""
    if network == BUNDLED:
        return storage.file_digest(WEIGHTS)
    folder = Path(network).expanduser()
    if not folder.is_dir():
        return network
    files = sorted([*folder.glob("*.safetensors"), *folder.glob("*.json")])
    return storage.digest([[path.name, storage.file_digest(path)] for path in files])


@remembered
def hub_model(source: str, device: str) -> tuple[Any, Any]:
    """A transformers model by Hub id or folder, frozen, and its image processor; read once.

    Raises:
        ModelError: it cannot be loaded.
    """
    try:
        # Only safetensors: the pickled formats could run code.
        model: Any = AutoModel.from_pretrained(source, use_safetensors=True)
        processor: Any = AutoImageProcessor.from_pretrained(source, use_fast=False)
    except (OSError, ValueError, ImportError, KeyError) as error:
        raise ModelError(
            f"the feature network cannot be loaded ({error}).",
            where=source,
            fix="Use 'bundled', or the id or folder of a transformers vision model (DINOv2, CLIP) "
            "with safetensors weights and a preprocessor_config.json.",
        ) from error
    return model.requires_grad_(False).eval().to(device), processor


@torch.no_grad()
def _pooled(model: Any, pixels: Tensor, source: str) -> np.ndarray:
    """One vector an image: of CLIP its image embedding, else the pooled or the first token."""
    try:
        if hasattr(model, "get_image_features"):
            output = model.get_image_features(pixel_values=pixels)
        else:
            output = model(pixel_values=pixels)
    except (TypeError, ValueError) as error:
        raise ModelError(
            f"the model takes no images ({error}).", where=source, fix="Use a vision model."
        ) from error
    if not isinstance(output, Tensor):
        pooled = getattr(output, "pooler_output", None)
        output = pooled if pooled is not None else output.last_hidden_state[:, 0]
    return output.flatten(1).float().cpu().numpy()
