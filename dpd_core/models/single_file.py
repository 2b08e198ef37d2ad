"""A whole model in one safetensors file, as model sites give it: brought once into the folders that
diffusers reads.

The file holds weights alone. The settings of its parts and the tokenizer come from a folder of the
file's name beside it (``model.safetensors``, ``model/``), or else are asked of the Hub for the
family that the weights belong to (Stable Diffusion 1 or 2).
"""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import torch
from diffusers import AutoencoderKL, UNet2DConditionModel
from diffusers.loaders.single_file_utils import (
    create_diffusers_clip_model_from_ldm,
    fetch_diffusers_config,
)
from huggingface_hub.constants import HF_HOME
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file
from transformers import CLIPTextModel

from dpd_core import storage
from dpd_core.errors import ModelError, first_line
from dpd_core.models.hub import hub_snapshot

_UNET, _VAE = "model.diffusion_model.", "first_stage_model."
_FIRST_LAYER = f"{_UNET}input_blocks.0.0.weight"
_TEXT, _TEXTS_OF_XL = "cond_stage_model.", "conditioner.embedders."
_SETTINGS = ("unet/config.json", "vae/config.json", "text_encoder/config.json")
_COPIED = ("tokenizer", "scheduler")
_FINISHED = "model_index.json"
_LATENT_CHANNELS = 4


def folder_of(path: Path) -> Path:
    """The folder with the same model, made if it is not there (as large as the file, in the Hub
    library's folder).

    Raises:
        ModelError: the file is no whole model of a known family, is damaged, or the settings of its
            parts are neither beside it nor to be had.
    """
    half = _check(path)
    settings = _settings(path)
    status = path.stat()
    key = storage.digest(str(path.resolve()), status.st_size, status.st_mtime_ns, _stamps(settings))
    folder = Path(HF_HOME) / "dpd-studio" / f"{storage.safe_name(path.stem)}-{key}"
    if not (folder / _FINISHED).exists():
        with storage.atomic_folder(folder) as temporary:
            _convert(path, settings, temporary, torch.float16 if half else torch.float32)
    return folder


def settings_of(path: Path) -> Path:
    """The folder with the settings and the tokenizer of such a file; no weight is read.

    Raises:
        ModelError: as :func:`folder_of`.
    """
    _check(path)
    return _settings(path)


def _check(path: Path) -> bool:
    """Look at the names in the file; whether its weights are of half precision.

    Raises:
        ModelError: it is not a whole model of which images can be made here.
    """
    try:
        with safe_open(path, "pt") as file:
            names = set(file.keys())
            fault = _fault(names)
            if fault is None:
                first = file.get_slice(_FIRST_LAYER)
                if first.get_shape()[1] != _LATENT_CHANNELS:
                    fault = "a model for inpainting or editing", "Give the plain model."
                return first.get_dtype() == "F16"
    except (SafetensorError, OSError, IndexError) as error:
        raise ModelError(
            f"a file that is no safetensors model ({first_line(error)}).",
            where=path,
            fix="Give a model folder or a Hub id. Checkpoints of other kinds (.ckpt) can run code "
            "when read; have them converted to safetensors first.",
        ) from error
    what, fix = fault
    raise ModelError(f"{what}.", where=path, fix=fix)


def _fault(names: set[str]) -> tuple[str, str] | None:
    """What a file with these tensors is, and the way out, if it is no whole model."""

    def has(prefix: str) -> bool:
        return any(name.startswith(prefix) for name in names)

    if has(_TEXTS_OF_XL):
        return (
            "a Stable Diffusion XL model",
            "Give it as a folder or a Hub id: single files are read of Stable Diffusion 1 and 2.",
        )
    if _FIRST_LAYER in names and has(_VAE) and has(_TEXT):
        return None
    if any("lora" in name for name in names):
        return (
            "an adapter (LoRA), not a model",
            "Give the folder of the model that it was trained for.",
        )
    return (
        "only a part of a model (its text encoder, VAE or UNet is missing)",
        "Give the whole model: a single file, or a folder with vae, text_encoder, tokenizer, unet "
        "and scheduler.",
    )


def _settings(path: Path) -> Path:
    """The folder with the settings of the parts and the tokenizer."""
    beside = path.with_suffix("")
    if all((beside / name).is_file() for name in _SETTINGS):
        return beside
    try:
        family = fetch_diffusers_config(_empty(path))["pretrained_model_name_or_path"]
        patterns = ["*/*.json", "tokenizer/*.txt", _FINISHED]
        return hub_snapshot(family, tuple(patterns), ("safety_checker/*",))
    except (ModelError, LookupError, ValueError, TypeError, AttributeError) as error:
        raise ModelError(
            "a whole model in a single file, whose settings (text encoder, UNet, VAE, tokenizer) "
            f"are not on this machine and did not come from the Hub ({first_line(error)}).",
            where=path,
            fix=f"Put a folder '{beside.name}' beside the file with the small files of a model of "
            "the same family, Stable Diffusion 1 or 2: model_index.json, */config.json, tokenizer/ "
            "and scheduler/. Or run once with a network.",
        ) from error


def _empty(path: Path) -> dict[str, torch.Tensor]:
    """The file's tensors without their numbers: a family is told by names and shapes."""
    with safe_open(path, "pt") as file:
        return {
            name: torch.empty(file.get_slice(name).get_shape(), device="meta")
            for name in file.keys()  # noqa: SIM118
        }


def _stamps(settings: Path) -> list[Any]:
    """What the settings are recognised by."""
    return [storage.file_digest(settings / name) for name in _SETTINGS]


def _convert(path: Path, settings: Path, folder: Path, dtype: torch.dtype) -> None:
    fix = "Get the file again, or give the model as a folder."
    try:
        weights = load_file(path)
        known = {"config": str(settings), "torch_dtype": dtype, "local_files_only": True}
        for name, kind in (("unet", UNet2DConditionModel), ("vae", AutoencoderKL)):
            part = kind.from_single_file(dict(weights), subfolder=name, **known)
            part.save_pretrained(folder / name, safe_serialization=True, max_shard_size="1TB")
        text = create_diffusers_clip_model_from_ldm(
            CLIPTextModel, dict(weights), subfolder="text_encoder", **known
        )
        text.save_pretrained(folder / "text_encoder", max_shard_size="1TB")
        for name in _COPIED:
            shutil.copytree(settings / name, folder / name)
    except (
        SafetensorError,
        ValueError,
        LookupError,
        RuntimeError,
        TypeError,
        AttributeError,
        AssertionError,
    ) as error:
        raise ModelError(
            f"the model in this file does not fit its settings ({first_line(error)}).",
            where=path,
            fix=fix,
        ) from error
    storage.write_json(folder / _FINISHED, {"_class_name": "StableDiffusionPipeline"})
