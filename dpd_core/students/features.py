"""A pretrained feature network that needs no download: EfficientNet-lite0, trained on ImageNet.

The architecture follows Tan and Le (2019) in its "lite" form: no squeeze-and-excitation, ReLU6 for
swish, pixels from -1 to 1. Batch normalisation is folded into the convolutions, and the classifier
is left out: 3.4 million weights. Where they come from stands beside them, in ``assets/features``.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.nn import functional as F

import dpd_core
from dpd_core.errors import ModelError

WEIGHTS = Path(dpd_core.__file__).parents[1] / "assets" / "features" / "model.safetensors"

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


@cache
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
