"""Models of full size as folders without a number: settings, and the headers of the weights.
``python -m tests.support.headers`` prints the table of docs/models.md."""

import json
import tempfile
from pathlib import Path
from typing import Any

import torch
from torch import nn
from transformers import T5Config, T5EncoderModel

from dpd_core.models.memory import training_memory
from tests.support.models import (
    STABLE_DIFFUSION_1,
    STABLE_DIFFUSION_35_MEDIUM,
    STABLE_DIFFUSION_XL,
    build_model,
    build_model_3,
    build_model_xl,
)

T5_XXL: dict[str, Any] = {
    "vocab_size": 32128,
    "d_model": 4096,
    "d_kv": 64,
    "d_ff": 10240,
    "num_layers": 24,
    "num_heads": 64,
    "feed_forward_proj": "gated-gelu",
}
TABLE = {
    "Stable Diffusion 1.5": ((256, 8), (512, 1), (512, 8)),
    "Stable Diffusion XL": ((512, 4), (1024, 1), (1024, 4)),
    "Stable Diffusion 3.5 medium": ((512, 4), (1024, 1)),
}


def save_headers(folder: Path, name: str) -> Path:
    """Write the folder of a model in :data:`TABLE` and return it."""
    with torch.device("meta"):
        if name.endswith("1.5"):
            pipeline: Any = build_model(STABLE_DIFFUSION_1)
        elif name.endswith("XL"):
            pipeline = build_model_xl(STABLE_DIFFUSION_XL)
        else:
            pipeline = build_model_3(STABLE_DIFFUSION_35_MEDIUM)
            pipeline.text_encoder_3 = T5EncoderModel(T5Config(**T5_XXL))
    for part, network in pipeline.components.items():
        if isinstance(network, nn.Module):
            (folder / part).mkdir(parents=True)
            save = getattr(network.config, "save_pretrained", None) or network.save_config
            save(folder / part)
            shapes = {key: {"shape": list(value.shape)} for key, value in _weights(network)}
            header = json.dumps(shapes).encode()
            file = folder / part / "model.safetensors"
            file.write_bytes(len(header).to_bytes(8, "little") + header)
    return folder


def _weights(network: nn.Module) -> list[tuple[str, torch.Tensor]]:
    """What is saved of a network: each tensor once."""
    seen: set[int] = set()
    found = []
    for key, value in network.state_dict(keep_vars=True).items():
        if id(value) not in seen:
            seen.add(id(value))
            found.append((key, value))
    return found


if __name__ == "__main__":
    for known, sizes in TABLE.items():
        with tempfile.TemporaryDirectory() as temporary:
            model = save_headers(Path(temporary), known)
            for side, batch in sizes:
                given = {"side": side, "batch": batch, "rank": 4, "targets": "attention"}
                plain, least = (
                    training_memory(model, number=2, checkpointing=on, **given)  # type: ignore[arg-type]
                    for on in (False, True)
                )
                cells = (
                    *(plain.weights, plain.encoding, plain.kept, least.kept),
                    *(plain.previews, plain.total, least.total),
                )
                print(known, side, batch, *(f"{cell:.1f}" for cell in cells), sep=" | ")
