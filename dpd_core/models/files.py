"""Where a model's files are, and what identifies them: shared by all that load models."""

from __future__ import annotations

from collections.abc import Iterable
from functools import cache
from pathlib import Path
from typing import Any

from huggingface_hub import try_to_load_from_cache
from huggingface_hub.errors import HFValidationError

from dpd_core import storage
from dpd_core.errors import ModelError
from dpd_core.models.hub import hub_snapshot

BUNDLED = Path(__file__).parents[2] / "assets" / "base"
"""Folder of the text-to-image model that comes with the program."""

DENOISERS = ("unet", "transformer")
"""Folders in which the network that is trained may lie."""

_PARTS = (
    "vae",
    *(f"{kind}{end}" for end in ("", "_2", "_3") for kind in ("text_encoder", "tokenizer")),
    *DENOISERS,
    "scheduler",
)
_INCOMPLETE = "The model folder is incomplete: get it again."
_SUFFIXES = (".json", ".safetensors", ".txt")


def resolve_model(source: str) -> Path:
    """The local folder of a text-to-image model: the bundled one, a folder, a Hub snapshot, or
    what a single file was converted to (:mod:`dpd_core.models.single_file`).

    Raises:
        ModelError: there is no such folder, the Hub does not give it, or the file is no whole
            model.
    """
    if source == "bundled":
        if not (BUNDLED / "model_index.json").exists():
            raise ModelError(
                "the bundled model is missing.",
                where=BUNDLED,
                fix="Get the repository again, with its assets folder.",
            )
        return BUNDLED
    if Path(source).expanduser().is_file():
        from dpd_core.models.single_file import folder_of

        return folder_of(Path(source).expanduser())
    patterns = [f"{part}/*{end}" for part in _PARTS for end in _SUFFIXES]
    return model_folder(
        source,
        patterns=["model_index.json", *patterns],
        example="stable-diffusion-v1-5/stable-diffusion-v1-5",
    )


def folder_at_hand(source: str) -> Path | None:
    """As :func:`resolve_model`, but ``None`` where something would have to be downloaded or
    converted first: for what is only told in passing."""
    if source == "bundled":
        return BUNDLED
    folder = Path(source).expanduser()
    if folder.is_dir():
        return folder.resolve()
    if source.count("/") != 1 or source.startswith((".", "/", "~")) or folder.exists():
        return None
    try:
        found = try_to_load_from_cache(source, "model_index.json")
    except HFValidationError:
        return None
    return Path(found).parent if isinstance(found, str) else None


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
        raise ModelError(
            "a file; a model folder is needed.", where=folder, fix="Give the folder, or a Hub id."
        )
    if source.startswith((".", "/", "~")) or source.count("/") != 1 or "\\" in source:
        raise ModelError(
            "there is no such folder.",
            where=source,
            fix=f"Give a model folder, a Hub id like '{example}', or 'bundled'.",
        )
    return hub_snapshot(source, tuple(patterns), tuple(ignore))


def variant(folder: Path, part: str) -> str | None:
    """``"fp16"`` if a part of the model has only weights of that variant, else ``None``."""
    weights = [path.name for path in (folder / part).glob("*.safetensors*")]
    return "fp16" if weights and all(".fp16" in name for name in weights) else None


def denoiser_settings(folder: Path) -> dict[str, Any]:
    """The settings (``config.json``) of a model's denoiser.

    Raises:
        ModelError: there is no denoiser.
    """
    for part in DENOISERS:
        if (folder / part / "config.json").is_file():
            return storage.read_record(folder / part / "config.json", {}, fix=_INCOMPLETE)
    raise ModelError(
        "not a usable text-to-image model (no settings of a UNet or a transformer).",
        where=folder,
        fix="It needs the folders vae, text_encoder, tokenizer, unet (or transformer) and "
        "scheduler with safetensors weights.",
    )


def native_side(folder: Path) -> int:
    """Side in px of the images that a model was made for, from the settings of its parts.

    Raises:
        ModelError: the model does not say it.
    """
    size = denoiser_settings(folder).get("sample_size")
    vae = storage.read_record(
        folder / "vae" / "config.json", {"block_out_channels": list}, fix=_INCOMPLETE
    )
    if isinstance(size, list | tuple) and size and size[0] == size[-1]:
        size = size[0]
    if not isinstance(size, int) or size < 1:
        raise ModelError(
            "the model does not say the size of its images (sample_size of its denoiser).",
            where=folder,
            fix="Give it with --image-size: 512 for Stable Diffusion 1, 768 for most of 2, 1024 "
            "for XL and 3.",
        )
    return size * 2 ** (len(vae["block_out_channels"]) - 1)


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
def _file_digest(path: Path, changed: int) -> str:
    return storage.file_digest(path)
