"""LoRA adapters: put on a UNet, saved in the diffusers format, listed and found again."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import nn

from dpd_core import storage
from dpd_core.errors import ModelError, StageMissing
from dpd_core.project import Project

WEIGHTS = "pytorch_lora_weights.safetensors"
ATTENTION = ("to_q", "to_k", "to_v", "to_out.0")


@dataclass(frozen=True)
class Adapter:
    """A finished adapter of a project; ``record`` is what ``adapter.json`` says of it."""

    id: str
    folder: Path
    record: dict[str, Any]

    @property
    def weights(self) -> Path:
        """The file that a plain diffusers pipeline loads."""
        return self.folder / WEIGHTS


def add_lora(unet: nn.Module, *, rank: int, alpha: int, targets: str) -> list[nn.Parameter]:
    """Put LoRA layers on a UNet and return their parameters, in float32.

    Args:
        unet: A diffusers UNet; its own weights are frozen.
        rank: Rank of each update.
        alpha: LoRA alpha; 0 takes the rank.
        targets: ``"attention"`` for the published ``to_q, to_k, to_v, to_out.0``; ``"all"``
            for every linear and convolution layer, which a small model needs to reach images
            unlike those it was pretrained on.
    """
    import torch
    from diffusers.training_utils import cast_training_params
    from peft import LoraConfig

    names: list[str] = list(ATTENTION)
    if targets == "all":
        names = [
            name
            for name, module in unet.named_modules()
            if isinstance(module, nn.Linear | nn.Conv2d)
        ]
    unet.requires_grad_(False)
    config = LoraConfig(
        r=rank, lora_alpha=alpha or rank, init_lora_weights="gaussian", target_modules=names
    )
    unet.add_adapter(config)
    cast_training_params(unet, dtype=torch.float32)
    return [parameter for parameter in unet.parameters() if parameter.requires_grad]


def save_lora(unet: nn.Module, folder: Path) -> None:
    """Write ``pytorch_lora_weights.safetensors`` so that ``load_lora_weights`` reads it."""
    from diffusers import StableDiffusionPipeline
    from peft.utils import get_peft_model_state_dict

    weights = {
        name: tensor.float().cpu().contiguous()
        for name, tensor in get_peft_model_state_dict(unet).items()
    }
    # Without the metadata a reader takes alpha for the rank.
    with storage.atomic_folder(folder / ".weights") as temporary:
        StableDiffusionPipeline.save_lora_weights(
            temporary, unet_lora_layers=weights,
            unet_lora_adapter_metadata=_sorted(unet.peft_config["default"].to_dict()),
        )  # fmt: skip
        storage.sort_metadata(temporary / WEIGHTS)
    (folder / ".weights" / WEIGHTS).replace(folder / WEIGHTS)
    (folder / ".weights").rmdir()


def _sorted(settings: dict[str, Any]) -> dict[str, Any]:
    """peft keeps module names in sets, whose order differs between processes."""
    return {name: sorted(value) if isinstance(value, set) else value
            for name, value in settings.items()}  # fmt: skip


def find_adapter(project: Project, name: str = "latest") -> Adapter:
    """A finished adapter by id, or the one of the last finished training.

    Raises:
        StageMissing: nothing has been trained yet.
        ModelError: no adapter of that id.
    """
    if name == "latest":
        name = project.result("train")["adapter"]
    folder = project.path("adapters", storage.safe_name(name))
    if not (folder / "adapter.json").exists():
        known = [adapter.id for adapter in list_adapters(project)]
        if not known:
            raise StageMissing("no adapter has been trained.", where=project.root,
                               fix="Run the train stage first.")  # fmt: skip
        raise ModelError(f"there is no adapter {name!r}.", where=project.root,
                         fix=f"Known adapters: {', '.join(known)}.")  # fmt: skip
    return _read(folder / "adapter.json", name)


def _read(path: Path, name: str) -> Adapter:
    fix = "Delete the adapter's folder and run the stage 'train' again."
    return Adapter(name, path.parent, storage.read_record(path, {"finished": str}, fix=fix))


def list_adapters(project: Project) -> list[Adapter]:
    """All finished adapters of a project, oldest first."""
    found = [
        _read(path, path.parent.name)
        for path in project.path("adapters").glob("*/adapter.json")
    ]
    return sorted(found, key=lambda adapter: (adapter.record["finished"], adapter.id))
