"""What a training step keeps for its backward pass, counted without a number of the network:
``python -m tests.support.kept`` prints the table of docs/models.md."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from unittest import mock

import torch
from diffusers import SD3Transformer2DModel, UNet2DConditionModel

from dpd_core.models import weights
from dpd_core.models.families.base import Family
from dpd_core.models.families.stable_diffusion import StableDiffusion
from dpd_core.models.families.stable_diffusion_3 import StableDiffusion3
from dpd_core.models.families.stable_diffusion_xl import StableDiffusionXL
from tests.support.models import (
    STABLE_DIFFUSION_1,
    STABLE_DIFFUSION_35_MEDIUM,
    STABLE_DIFFUSION_XL,
    unet_blocks,
)

FAMILIES: tuple[type[Family], ...] = (StableDiffusion, StableDiffusionXL, StableDiffusion3)


class _Fused(torch.autograd.Function):
    """Attention that keeps what fused kernels keep."""

    @staticmethod
    def forward(ctx: Any, query: Any, key: Any, value: Any) -> torch.Tensor:
        output = torch.empty_like(query)
        ctx.save_for_backward(query, key, value, output)
        return output

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> tuple[torch.Tensor, ...]:
        return (gradients[0],) * 3


def kept(family: type[Family], side: int, *, targets: str, checkpointing: bool = False) -> float:
    """KiB a latent place of one sample, LoRA of rank 4 in bfloat16."""
    with torch.device("meta"), _fused_attention():
        network = _network(family).to(torch.bfloat16)
        weights.add_lora(network, family, rank=4, targets=targets)
        for parameter in network.parameters():
            parameter.data = parameter.data.to(torch.bfloat16)
        if checkpointing:
            network.enable_gradient_checkpointing()
        network.train()
        own = {value.untyped_storage()._cdata for value in network.parameters()}
        seen: dict[int, torch.Tensor] = {}

        def pack(tensor: torch.Tensor) -> torch.Tensor:
            storage = tensor.untyped_storage()._cdata
            if storage not in own:
                seen.setdefault(storage, tensor)
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
            network(**_inputs(family, side // 8))
        total = sum(tensor.untyped_storage().nbytes() for tensor in seen.values())
    return total / 2**10 / (side // 8) ** 2


def _network(family: type[Family]) -> Any:
    if family is StableDiffusion3:
        return SD3Transformer2DModel(patch_size=2, **STABLE_DIFFUSION_35_MEDIUM["transformer"])
    large = family is StableDiffusionXL
    sizes = (STABLE_DIFFUSION_XL if large else STABLE_DIFFUSION_1)["unet"]
    blocks = unet_blocks(len(sizes["block_out_channels"]), attention_first=not large)
    return UNet2DConditionModel(in_channels=4, out_channels=4, **blocks, **sizes)


def _inputs(family: type[Family], places: int) -> dict[str, Any]:
    def zeros(*shape: int) -> torch.Tensor:
        return torch.zeros(*shape, dtype=torch.bfloat16)

    if family is StableDiffusion3:
        return {
            "hidden_states": zeros(1, 16, places, places),
            "timestep": zeros(1),
            "encoder_hidden_states": zeros(1, 333, 4096),
            "pooled_projections": zeros(1, 2048),
        }
    common = {"sample": zeros(1, 4, places, places), "timestep": torch.zeros(1)}
    if family is StableDiffusion:
        return {**common, "encoder_hidden_states": zeros(1, 77, 768)}
    added = {"text_embeds": zeros(1, 1280), "time_ids": zeros(1, 6)}
    return {
        **common,
        "encoder_hidden_states": zeros(1, 77, 2048),
        "added_cond_kwargs": added,
    }


@contextmanager
def _fused_attention() -> Iterator[None]:
    """The meta device has no fused attention, and would keep the whole matrix."""
    place = "torch.nn.functional.scaled_dot_product_attention"
    with mock.patch(place, lambda query, key, value, **rest: _Fused.apply(query, key, value)):
        yield


if __name__ == "__main__":
    for known in FAMILIES:
        found = [kept(known, 512, targets=targets) for targets in ("attention", "all")]
        found.append(kept(known, 512, targets="all", checkpointing=True))
        print(known.name, *(round(value) for value in found))
