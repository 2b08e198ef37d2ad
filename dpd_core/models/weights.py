"""What training changes of a model, saved and put back: LoRA layers of the denoiser or all of its
weights, and the weights of the VAE's decoder.

All are saved as plain diffusers expects them: LoRA layers for ``pipeline.load_lora_weights``, a
whole denoiser, with its settings beside it, for its class's ``from_pretrained``, the decoder under
the names of the VAE's state.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from dpd_core import storage
from dpd_core.errors import ModelError, first_line

if TYPE_CHECKING:
    from torch import nn

    from dpd_core.models.families.base import Family

LORA = "pytorch_lora_weights.safetensors"
KOHYA = "kohya_lora_weights.safetensors"
"""The LoRA layers once more, for programs that read kohya's names (ComfyUI, web UIs)."""

WHOLE = "diffusion_pytorch_model.safetensors"
DECODER = "decoder.safetensors"
_SETTINGS = "config.json"


def add_lora(
    denoiser: nn.Module, family: type[Family], *, rank: int, targets: str
) -> list[nn.Parameter]:
    """Put LoRA layers on a denoiser and return their parameters, in float32.

    Args:
        denoiser: A diffusers UNet or transformer; its own weights are frozen.
        family: Of the model.
        rank: Rank of each update, and its alpha.
        targets: ``"attention"`` for the family's attention, as published; ``"all"`` for every
            linear and convolution layer, which a small model needs to reach images unlike those
            it was pretrained on.
    """
    import torch
    from diffusers.training_utils import cast_training_params
    from peft import LoraConfig
    from torch import nn

    names: list[str] = list(family.attention)
    if targets == "all":
        names = [
            name
            for name, module in denoiser.named_modules()
            if isinstance(module, nn.Linear | nn.Conv2d)
        ]
    denoiser.requires_grad_(False)
    config = LoraConfig(r=rank, lora_alpha=rank, init_lora_weights="gaussian", target_modules=names)
    denoiser.add_adapter(config)
    cast_training_params(denoiser, dtype=torch.float32)
    return [parameter for parameter in denoiser.parameters() if parameter.requires_grad]


def unfreeze(denoiser: nn.Module) -> list[nn.Parameter]:
    """Make all weights of a denoiser trainable and return them, in float32."""
    import torch
    from torch import nn

    # diffusers' own `to` warns at every change of number format.
    nn.Module.to(denoiser, torch.float32)
    return list(denoiser.requires_grad_(True).parameters())


def save(denoiser: Any, folder: Path, family: type[Family]) -> list[Path]:
    """Write what was trained of a denoiser; returns the files."""
    if getattr(denoiser, "peft_config", None):
        return _save_lora(denoiser, folder, family)
    with storage.atomic_folder(folder / ".weights") as temporary:
        denoiser.save_pretrained(temporary, safe_serialization=True, max_shard_size="1TB")
        settings = storage.read_json(temporary / _SETTINGS)
        # Where the model lay on this machine is nobody's business.
        settings.pop("_name_or_path", None)
        storage.write_json(temporary / _SETTINGS, settings)
    return _move(folder, _SETTINGS, WHOLE)


def _save_lora(denoiser: Any, folder: Path, family: type[Family]) -> list[Path]:
    import diffusers
    from peft.utils import get_peft_model_state_dict

    weights = {
        name: tensor.float().cpu().contiguous()
        for name, tensor in get_peft_model_state_dict(denoiser).items()
    }
    # Without the metadata a reader takes alpha for the rank.
    with storage.atomic_folder(folder / ".weights") as temporary:
        getattr(diffusers, family.pipeline).save_lora_weights(
            temporary,
            **{
                f"{family.part}_lora_layers": weights,
                f"{family.part}_lora_adapter_metadata": _sorted(
                    denoiser.peft_config["default"].to_dict()
                ),
            },
        )
        storage.sort_metadata(temporary / LORA)
        if family.kohya:
            alpha = denoiser.peft_config["default"].lora_alpha
            _write_kohya(temporary / LORA, temporary / KOHYA, alpha=alpha)
    return _move(folder, LORA, *([KOHYA] if family.kohya else []))


def _write_kohya(lora: Path, path: Path, *, alpha: float) -> None:
    """The same layers under kohya's names. Other programs know alpha only from the tensors
    ``….alpha``; the conversion puts the rank there."""
    import torch
    from diffusers.utils.state_dict_utils import convert_state_dict_to_kohya
    from safetensors.torch import load_file, save_file

    layers = {
        name: torch.tensor(float(alpha)) if name.endswith(".alpha") else tensor.contiguous()
        for name, tensor in convert_state_dict_to_kohya(load_file(lora)).items()
    }
    save_file(dict(sorted(layers.items())), path)


def _move(folder: Path, *names: str) -> list[Path]:
    files = [(folder / ".weights" / name).replace(folder / name) for name in names]
    (folder / ".weights").rmdir()
    return files


def _sorted(settings: dict[str, Any]) -> dict[str, Any]:
    """peft keeps module names in sets, whose order differs between processes."""
    return {
        name: sorted(value) if isinstance(value, set) else value for name, value in settings.items()
    }


def find(folder: Path) -> Path:
    """The weights in an adapter's folder: of a whole denoiser, or of LoRA layers (whether they are
    there or not)."""
    whole = folder / WHOLE
    return whole if whole.exists() else folder / LORA


def files(folder: Path) -> list[Path]:
    """The files in an adapter's folder that plain diffusers needs to load it."""
    weights = find(folder)
    found = [folder / _SETTINGS, weights] if weights.name == WHOLE else [weights]
    if weights.name == LORA and (folder / KOHYA).exists():
        found.append(folder / KOHYA)
    return [*found, folder / DECODER] if (folder / DECODER).exists() else found


def denoiser_class(folder: Path) -> str:
    """The diffusers class of a whole denoiser that lies in an adapter's folder."""
    fix = "Train the adapter again."
    return storage.read_record(folder / _SETTINGS, {"_class_name": str}, fix=fix)["_class_name"]


def merge(denoiser: Any, adapter: Path, family: type[Family]) -> None:
    """Merge what was trained into a denoiser, in place.

    Args:
        denoiser: Of the model that it was trained for.
        family: Of that model.
        adapter: Its folder, or the file with the weights; what is in it tells the two kinds apart.

    Raises:
        ModelError: the file is missing, damaged, or made for another model.
    """
    from safetensors import SafetensorError, safe_open
    from safetensors.torch import load_file

    file = find(adapter) if adapter.is_dir() else adapter
    fix = "Use an adapter trained for this model."
    try:
        with safe_open(file, "pt") as opened:
            names = list(opened.keys())
    except (OSError, SafetensorError) as error:
        raise ModelError(
            f"not a readable adapter ({first_line(error)}).", where=file, fix=fix
        ) from error
    try:
        if set(names) == set(denoiser.state_dict()):
            denoiser.load_state_dict(load_file(file))
            return
        if not any(name.startswith(f"{family.part}.") for name in names):
            raise ValueError("it holds no weights of this kind of model")
        denoiser.load_lora_adapter(
            str(file.parent),
            weight_name=file.name,
            prefix=family.part,
            adapter_name="dpd",
            use_safetensors=True,
            local_files_only=True,
        )
        denoiser.fuse_lora(adapter_names=["dpd"])
        denoiser.unload_lora()
    except (ValueError, RuntimeError, LookupError, TypeError, AttributeError) as error:
        raise ModelError(
            f"the adapter does not fit the model ({first_line(error)}).", where=file, fix=fix
        ) from error


def decoder_parts(vae: Any) -> nn.ModuleDict:
    """The parts of a diffusers autoencoder that turn latents into images, under their own names."""
    from torch import nn

    parts = {"decoder": vae.decoder}
    if getattr(vae, "post_quant_conv", None) is not None:
        parts["post_quant_conv"] = vae.post_quant_conv
    return nn.ModuleDict(parts)


def save_decoder(vae: Any, path: Path) -> None:
    """Write the weights of a VAE's decoder in half precision.

    Those in memory are rounded likewise, so that what decodes now decodes the same when it is
    read back.
    """
    from safetensors.torch import save_file

    state = decoder_parts(vae).state_dict()
    halves = {name: value.detach().half().cpu().contiguous() for name, value in state.items()}
    for name, value in state.items():
        value.copy_(halves[name])
    with storage.atomic_path(path) as temporary:
        save_file(halves, temporary)


def load_decoder(vae: Any, path: Path) -> None:
    """Put the weights that :func:`save_decoder` wrote into a VAE, in place.

    Raises:
        ModelError: the file is missing, damaged, or made for another model.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    fix = "Train the adapter again, or synthesize with the model's own decoder (--decoder model)."
    try:
        weights = load_file(path)
    except (OSError, SafetensorError) as error:
        raise ModelError(
            f"not a readable decoder ({first_line(error)}).", where=path, fix=fix
        ) from error
    try:
        decoder_parts(vae).load_state_dict(weights)
    except RuntimeError as error:
        raise ModelError(
            f"the decoder does not fit the model ({first_line(error)}).", where=path, fix=fix
        ) from error
