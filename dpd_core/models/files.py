"""Where a model's files are, and what identifies them: shared by all that load models."""

from __future__ import annotations

from collections.abc import Iterable
from functools import cache
from pathlib import Path

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
    if source.startswith((".", "/", "~")) or source.count("/") != 1 or "\\" in source:
        raise ModelError(
            "there is no such folder.",
            where=source,
            fix=f"Give a model folder, a Hub id like '{example}', or 'bundled'.",
        )
    return _snapshot(source, tuple(patterns), tuple(ignore))


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
