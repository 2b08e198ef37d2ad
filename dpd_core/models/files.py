"""Where a model's files are, and what identifies them: shared by all that load models."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import cache
from pathlib import Path
from typing import Any

from dpd_core import storage
from dpd_core.errors import ModelError, first_line

BUNDLED = Path(__file__).parents[2] / "assets" / "base"
"""Folder of the text-to-image model that comes with the program."""

_PARTS = ("vae", "text_encoder", "tokenizer", "unet", "scheduler")
_SUFFIXES = (".json", ".safetensors", ".txt")


def resolve_model(source: str) -> Path:
    """The local folder of a text-to-image model: the bundled one, a folder, or a Hub snapshot.

    Raises:
        ModelError: there is no such folder, or the Hub does not give it.
    """
    if source == "bundled":
        if not (BUNDLED / "model_index.json").exists():
            raise ModelError(
                "the bundled model is missing.",
                where=BUNDLED,
                fix="Get the repository again, with its assets folder.",
            )
        return BUNDLED
    patterns = [f"{part}/*{end}" for part in _PARTS for end in _SUFFIXES]
    return model_folder(
        source,
        patterns=["model_index.json", *patterns],
        example="stable-diffusion-v1-5/stable-diffusion-v1-5",
    )


def model_folder(
    source: str, *, patterns: Iterable[str], ignore: Iterable[str] = (), example: str
) -> Path:
    """The local folder of a model: the folder itself, or a snapshot of the Hub's.

    Args:
        source: A folder, or a Hub id ``owner/name``. A folder of that name goes before the Hub.
        patterns, ignore: Which of the Hub's files are wanted.
        example: A Hub id for the message.

    Raises:
        ModelError: there is no such folder, or the Hub does not give it.
    """
    folder = Path(source).expanduser()
    if folder.is_dir():
        return folder.resolve()
    if folder.is_file():
        raise _single_file(folder)
    if source.startswith((".", "/", "~")) or source.count("/") != 1 or "\\" in source:
        raise ModelError(
            "there is no such folder.",
            where=source,
            fix=f"Give a model folder, a Hub id like '{example}', or 'bundled'.",
        )
    return _snapshot(source, tuple(patterns), tuple(ignore))


def variant(folder: Path, part: str) -> str | None:
    """``"fp16"`` if a part of the model has only weights of that variant, else ``None``."""
    weights = [path.name for path in (folder / part).glob("*.safetensors*")]
    return "fp16" if weights and all(".fp16" in name for name in weights) else None


def native_side(unet: Mapping[str, Any], vae: Mapping[str, Any], where: Path) -> int:
    """Side in px of the images that a model was made for, from the settings of its parts.

    Raises:
        ModelError: the model does not say it.
    """
    size = unet.get("sample_size")
    if isinstance(size, list | tuple) and size and size[0] == size[-1]:
        size = size[0]
    if not isinstance(size, int) or size < 1:
        raise ModelError(
            "the model does not say the size of its images (sample_size of the UNet).",
            where=where,
            fix="Give it with --image-size: 512 for Stable Diffusion 1, 768 for most of 2.",
        )
    return size * 2 ** (len(vae["block_out_channels"]) - 1)


def _single_file(path: Path) -> ModelError:
    """Why a file is no model folder, and how it becomes one."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, "pt") as file:
            names = set(file.keys())
    except (SafetensorError, OSError):
        return ModelError(
            "a file that is no safetensors model.",
            where=path,
            fix="Give a model folder or a Hub id. Checkpoints of other kinds (.ckpt) can run code "
            "when read; have them converted to safetensors first.",
        )
    if any(name.startswith("model.diffusion_model.") for name in names):
        return ModelError(
            "a whole model in a single file; a folder is needed.",
            where=path,
            fix='Convert it once, on a machine with a network: python -c "from diffusers import '
            "StableDiffusionPipeline as P; P.from_single_file('FILE').save_pretrained('FOLDER')\"; "
            "then give FOLDER.",
        )
    if any("lora" in name for name in names):
        return ModelError(
            "an adapter (LoRA), not a model.",
            where=path,
            fix="Give the folder of the model that it was trained for.",
        )
    return ModelError(
        "only a part of a model (its text encoder, VAE or UNet is missing).",
        where=path,
        fix="Give the whole model's folder, with vae, text_encoder, tokenizer, unet and scheduler.",
    )


def parts_digest(folder: Path, parts: Iterable[str] = _PARTS) -> str:
    """Identity of a text-to-image model, or of some of its parts, by the files in their folders."""
    found = (path for part in parts for path in (folder / part).glob("*"))
    return files_digest(folder, (path for path in found if path.suffix in _SUFFIXES))


def files_digest(folder: Path, files: Iterable[Path]) -> str:
    """Identity of files by their names in the folder and their content."""
    return storage.digest(
        {
            path.relative_to(folder).as_posix(): _file_digest(path, path.stat().st_mtime_ns)
            for path in sorted(files)
        }
    )


@cache
def _snapshot(source: str, patterns: tuple[str, ...], ignore: tuple[str, ...]) -> Path:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

    try:
        return Path(
            snapshot_download(source, allow_patterns=list(patterns), ignore_patterns=list(ignore))
        )
    except (HfHubHTTPError, HFValidationError, LocalEntryNotFoundError, OSError) as error:
        raise ModelError(
            f"the Hub did not give this model ({first_line(error)}).",
            where=source,
            fix="Check the id and the network, or download it and give its folder.",
        ) from error


@cache
def _file_digest(path: Path, changed: int) -> str:
    return storage.file_digest(path)
