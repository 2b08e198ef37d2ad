"""A diffusers model as one file in the original layout of Stable Diffusion."""

import re
from pathlib import Path

import torch
from diffusers import AutoencoderKL, UNet2DConditionModel
from safetensors.torch import save_file
from transformers import CLIPTextModel

_RESNET = {
    "norm1": "in_layers.0",
    "conv1": "in_layers.2",
    "time_emb_proj": "emb_layers.1",
    "norm2": "out_layers.0",
    "conv2": "out_layers.3",
    "conv_shortcut": "skip_connection",
}
_UNET = {
    "time_embedding.linear_1": "time_embed.0",
    "time_embedding.linear_2": "time_embed.2",
    "conv_in": "input_blocks.0.0",
    "conv_norm_out": "out.0",
    "conv_out": "out.2",
    "mid_block.resnets.0": "middle_block.0",
    "mid_block.attentions.0": "middle_block.1",
    "mid_block.resnets.1": "middle_block.2",
}
_VAE = {
    "conv_norm_out": "norm_out",
    "mid_block.resnets.0": "mid.block_1",
    "mid_block.resnets.1": "mid.block_2",
    "mid_block.attentions.0": "mid.attn_1",
    "group_norm": "norm",
    "to_q": "q",
    "to_k": "k",
    "to_v": "v",
    "to_out.0": "proj_out",
    "conv_shortcut": "nin_shortcut",
    "downsamplers.0": "downsample",
    "upsamplers.0": "upsample",
}


def save_single_file(folder: Path, path: Path, dtype: torch.dtype = torch.float32) -> Path:
    """Write the model in a diffusers folder as one file."""
    unet = UNet2DConditionModel.from_pretrained(folder, subfolder="unet")
    vae = AutoencoderKL.from_pretrained(folder, subfolder="vae")
    text = CLIPTextModel.from_pretrained(folder, subfolder="text_encoder").state_dict()
    layers = unet.config.layers_per_block
    levels = len(vae.config.block_out_channels)
    weights = {
        f"model.diffusion_model.{unet_name(name, layers)}": value
        for name, value in unet.state_dict().items()
    }
    attentions = {name.partition(".1.")[0] for name in weights if ".1." in name}
    for name in [name for name in weights if ".UP." in name]:
        # The upsampling stands after the attention, where there is one.
        block, _, rest = name.partition(".UP.")
        weights[f"{block}.{2 if block in attentions else 1}.{rest}"] = weights.pop(name)
    for name, value in vae.state_dict().items():
        # Attention of the VAE was made of convolutions of 1 × 1.
        flat = ".attentions." in name and value.ndim == 2
        weights[f"first_stage_model.{vae_name(name, levels)}"] = (
            value[:, :, None, None] if flat else value
        )
    for name, value in text.items():
        plain = name.removeprefix("text_model.")
        weights[f"cond_stage_model.transformer.text_model.{plain}"] = value
    save_file({k: v.to(dtype).contiguous().clone() for k, v in weights.items()}, path)
    return path


def unet_name(name: str, layers: int) -> str:
    """A UNet's tensor in the original layout; ``layers`` resnets a block on the way down."""
    found = re.match(r"(down|up)_blocks\.(\d+)\.(\w+)\.(\d+)\.(.*)", name)
    if found is None:
        for new, old in _UNET.items():
            if name.startswith(f"{new}."):
                renamed = name.replace(new, old, 1)
                return _resnet(renamed) if ".resnets." in name else renamed
        raise ValueError(name)
    way, block, kind, number, rest = found[1], int(found[2]), found[3], int(found[4]), found[5]
    if kind == "downsamplers":
        return f"input_blocks.{(block + 1) * (layers + 1)}.0.op.{rest.removeprefix('conv.')}"
    if kind == "upsamplers":
        return f"output_blocks.{block * (layers + 1) + layers}.UP.{rest}"
    place = block * (layers + 1) + number
    first = f"input_blocks.{place + 1}" if way == "down" else f"output_blocks.{place}"
    return f"{first}.1.{rest}" if kind == "attentions" else _resnet(f"{first}.0.{rest}")


def _resnet(name: str) -> str:
    head, _, rest = name.rpartition(".")
    before, _, last = head.rpartition(".")
    return f"{before}.{_RESNET.get(last, last)}.{rest}"


def vae_name(name: str, levels: int) -> str:
    """A VAE's tensor in the original layout."""
    for new, old in _VAE.items():
        name = re.sub(rf"\b{re.escape(new)}\b", old, name)
    name = re.sub(r"down_blocks\.(\d+)\.resnets", r"down.\1.block", name)
    name = re.sub(r"down_blocks\.(\d+)", r"down.\1", name)
    up = re.search(r"up_blocks\.(\d+)", name)
    if up:
        turned = f"up.{levels - 1 - int(up[1])}"
        name = name.replace(up[0], turned).replace(f"{turned}.resnets", f"{turned}.block")
    return name


def settings_only(folder: Path, target: Path) -> Path:
    """The small files of a model's folder, without weights."""
    for path in folder.rglob("*"):
        if path.is_file() and path.suffix in (".json", ".txt"):
            copy = target / path.relative_to(folder)
            copy.parent.mkdir(parents=True, exist_ok=True)
            copy.write_bytes(path.read_bytes())
    return target
