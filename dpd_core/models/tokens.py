"""How a text becomes windows of tokens: what the text encoder reads, without loading it.

A text encoder reads a fixed number of positions. A longer text is not cut: it is split into
windows that are encoded one by one, and the UNet attends to all of them.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dpd_core import storage
from dpd_core.errors import ModelError, first_line
from dpd_core.models.files import model_folder, resolve_model

_CLIP_POSITIONS = 77
_FILES = ("tokenizer/*.json", "tokenizer/*.txt", "text_encoder/config.json")


@dataclass(frozen=True)
class PromptTokenizer:
    """A tokenizer and the window of the encoder behind it.

    Attributes:
        tokenizer: A transformers tokenizer.
        window: Positions that the encoder reads at once, start and end mark included.
    """

    tokenizer: Any
    window: int

    @property
    def room(self) -> int:
        """Tokens of text in one window."""
        return self.window - 2

    def chunks(self, text: str) -> list[list[int]]:
        """The text's token ids, in as many windows as it takes (at least one)."""
        ids = self.tokenizer(
            text, add_special_tokens=False, truncation=False, verbose=False
        ).input_ids
        return [ids[start : start + self.room] for start in range(0, max(len(ids), 1), self.room)]

    def pieces(self, text: str) -> list[str]:
        """The text of each window, as the encoder reads it (CLIP reads small letters only)."""
        return [self.tokenizer.decode(ids).strip() for ids in self.chunks(text)]


def load_prompt_tokenizer(source: str) -> PromptTokenizer:
    """The tokenizer of a text-to-image model; loaded once a process, without the model.

    Args:
        source: ``"bundled"``, a local folder, a single file or a Hub id; see
            :func:`dpd_core.models.files.resolve_model`.

    Raises:
        ModelError: the model or its tokenizer is missing.
    """
    if source == "bundled":
        return _load(resolve_model(source))
    if Path(source).expanduser().is_file():
        # Its settings alone: a text is counted without converting the weights.
        from dpd_core.models.single_file import settings_of

        return _load(settings_of(Path(source).expanduser()))
    example = "stable-diffusion-v1-5/stable-diffusion-v1-5"
    return _load(model_folder(source, patterns=_FILES, example=example))


@functools.lru_cache(maxsize=4)
def _load(folder: Path) -> PromptTokenizer:
    from transformers import CLIPTokenizer

    try:
        tokenizer = CLIPTokenizer.from_pretrained(folder, subfolder="tokenizer")
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ModelError(
            f"not a usable tokenizer ({first_line(error)}).",
            where=folder,
            fix="Get the model again, or use another one.",
        ) from error
    config = storage.read_json(
        folder / "text_encoder" / "config.json", fix="The model folder is incomplete."
    )
    return PromptTokenizer(tokenizer, int(config.get("max_position_embeddings", _CLIP_POSITIONS)))
