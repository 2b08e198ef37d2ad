"""Loading a captioner: a vision-language model that puts images into words.

``bundled`` is the small BLIP model that comes with the program; any other BLIP, SmolVLM (Idefics3)
or Qwen-VL model is given as a folder or a Hub id. Only safetensors weights and JSON are read,
and no code from a model repository is ever run.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

import torch
from PIL import Image
from safetensors import SafetensorError

import dpd_core
from dpd_core import storage
from dpd_core.captions.models import FAMILIES, CaptionModel, load_model
from dpd_core.captions.text import tidy_generated
from dpd_core.errors import ModelError, ProjectError, first_line
from dpd_core.hardware import Hardware
from dpd_core.models.files import files_digest, model_folder

BUNDLED = Path(dpd_core.__file__).parents[1] / "assets" / "captioner"
"""Folder of the captioner that comes with the program."""

INSTRUCTION = (
    "Describe this satellite image{label} in one sentence of at most {max_words} words: what is "
    "seen, how many, how it is laid out, its colors and its surroundings."
)
"""What a chat model is asked."""

TOGETHER = (
    "These {count} satellite images{label} belong together. Describe in one sentence of at most "
    "{max_words} words what they have in common: what is seen, how many, how it is laid out, its "
    "colors and its surroundings. Leave out what only some of them show."
)
"""What a chat model is asked of several images."""

OPENING = "a satellite image of {class}"
"""What a BLIP model goes on from where the class is known; else it begins by itself."""

# Part of every fingerprint: raise it when the same model would give other texts for the same
# image, so that cached captions are made again.
_RECIPE = 2
_FILES = ("*.json", "*.safetensors", "*.txt", "*.model", "*.jinja")


class Captioner(Protocol):
    """What the stage needs of a captioner.

    Attributes:
        fingerprint: Identity of its captions: equal where they would be equal.
    """

    fingerprint: str

    def caption(
        self, images: list[Image.Image], max_words: int, class_names: Sequence[str] | None = None
    ) -> list[str]:
        """One text of at most ``max_words`` words for each RGB image; may be empty. Words that
        the captioner was given to go on from are not counted.

        ``class_names`` are the readable names of the images' classes, for a captioner to
        describe the image as what it is known to be.
        """

    def caption_together(
        self, groups: list[list[Image.Image]], max_words: int, class_names: Sequence[str]
    ) -> list[str]:
        """One text of at most ``max_words`` words for each group of RGB images, on what these
        have in common; may be empty. ``class_names`` as in :meth:`caption`, one a group.

        Raises:
            ModelError: it cannot look at several images at once.
        """


class ModelCaptioner:
    """A :class:`Captioner` made of a transformers model. Make it with :func:`load_captioner`.

    The same image gets the same text in any company: decoding is greedy, and images whose inputs
    differ in shape run apart, so that nothing is ever padded.
    """

    def __init__(self, model: CaptionModel, fingerprint: str, instruction: str, source: str):
        self.fingerprint = fingerprint
        self._model, self._instruction, self._source = model, instruction, source

    def caption(
        self, images: list[Image.Image], max_words: int, class_names: Sequence[str] | None = None
    ) -> list[str]:
        """See :class:`Captioner`.

        Raises:
            ModelError: the model's parts do not fit together, or it is too large for the device.
        """
        return self._texts([[image] for image in images], max_words, class_names)

    def caption_together(
        self, groups: list[list[Image.Image]], max_words: int, class_names: Sequence[str]
    ) -> list[str]:
        """See :class:`Captioner`.

        Raises:
            ModelError: as :meth:`caption`, or the model takes one image at a time.
        """
        if not self._model.several:
            raise ModelError(
                "this captioner looks at one image at a time.",
                where=self._source,
                fix="Use a SmolVLM or Qwen-VL model for the mode 'group', or the mode "
                "'aggregated'.",
            )
        return self._texts(groups, max_words, class_names)

    def _texts(
        self, asked: list[list[Image.Image]], max_words: int, class_names: Sequence[str] | None
    ) -> list[str]:
        names = class_names or [""] * len(asked)
        texts = [""] * len(asked)
        try:
            groups: dict[tuple[Any, ...], list[tuple[int, dict[str, Any]]]] = {}
            for index, (images, name) in enumerate(zip(asked, names, strict=True)):
                question = self._question(name, max_words, len(images))
                inputs = self._model.prepare(images, question, _opening(name))
                shape = tuple((name, tuple(value.shape)) for name, value in sorted(inputs.items()))
                groups.setdefault(shape, []).append((index, inputs))
            for group in groups.values():
                answers = self._generate([inputs for _, inputs in group], max_words)
                for (index, _), answer in zip(group, answers, strict=True):
                    given = _opening(names[index]).lower()
                    went_on = given and " ".join(answer.lower().split()).startswith(given)
                    room = max_words + len(given.split()) if went_on else max_words
                    texts[index] = tidy_generated(answer, room)
        except torch.OutOfMemoryError as error:
            raise ModelError(
                "the captioner does not fit into the device's memory.",
                where=self._source,
                fix="Use a smaller model, or the bundled one.",
            ) from error
        except (ValueError, RuntimeError, IndexError, KeyError, TypeError) as error:
            raise ModelError(
                f"the captioner's parts do not fit together ({first_line(error)}).",
                where=self._source,
                fix="Get the model again, or use another one.",
            ) from error
        return texts

    def _question(self, name: str, max_words: int, count: int = 1) -> str:
        shows = "shows" if count == 1 else "show"
        label = f", which {shows} {_plain(name)}," if name else ""
        text = self._instruction if count == 1 else TOGETHER.replace("{count}", str(count))
        return text.replace("{max_words}", str(max_words)).replace("{label}", label)

    def _generate(self, inputs: list[dict[str, Any]], max_words: int) -> list[str]:
        try:
            return self._model.generate(inputs, max_words)
        except torch.OutOfMemoryError:
            # What an image needs is only known by trying; halves find the size that fits.
            if len(inputs) == 1:
                raise
            torch.cuda.empty_cache()
            half = len(inputs) // 2
            return self._generate(inputs[:half], max_words) + self._generate(
                inputs[half:], max_words
            )


def load_captioner(
    source: str, hardware: Hardware, *, instruction: str = INSTRUCTION
) -> ModelCaptioner:
    """Load a captioner.

    Args:
        source: ``"bundled"``, a local folder, or a Hub id ``owner/name``. A folder of that name
            goes before the Hub.
        hardware: Device, and number format of the chat models; BLIP models are small and compute
            in float32, so that their words do not hang on rounding.
        instruction: What a chat model is asked; ``{max_words}`` becomes the limit, ``{label}``
            what is known of the class.

    Raises:
        ModelError: the model is missing, incomplete, of another kind, or would need its own code.
    """
    folder = resolve_captioner(source)
    kind = _model_type(folder)
    if kind not in FAMILIES:
        raise ModelError(
            f"models of the type {kind!r} are not supported as captioners.",
            where=source,
            fix=f"Use one of these types: {', '.join(FAMILIES)}.",
        )
    weights = folder if any(folder.glob("*.safetensors")) else None
    if weights is None and (source == "bundled" or Path(source).expanduser().is_dir()):
        raise ModelError(
            "there are no safetensors weights in the folder.",
            where=folder,
            fix="Save the model with save_pretrained(..., safe_serialization=True); "
            "pickled weights are not loaded.",
        )
    try:
        # For a Hub model without safetensors transformers finds the Hub's own conversion of it.
        model = load_model(folder, weights or source, kind, hardware)
    except (
        OSError,
        ValueError,
        KeyError,
        RuntimeError,
        ImportError,
        TypeError,
        AttributeError,
        SafetensorError,
    ) as error:
        raise ModelError(
            f"not a usable captioner ({first_line(error)}).",
            where=source,
            fix="It needs config.json, an image processor, a tokenizer and safetensors weights.",
        ) from error
    return ModelCaptioner(model, captioner_fingerprint(source, instruction), instruction, source)


def captioner_fingerprint(source: str, instruction: str = INSTRUCTION) -> str:
    """:attr:`Captioner.fingerprint` of what :func:`load_captioner` would load, without loading it.

    Raises:
        ModelError: the model is missing.
    """
    return storage.digest(_RECIPE, _identity(resolve_captioner(source)), instruction)


def resolve_captioner(source: str) -> Path:
    """The local folder of a captioner: the bundled one, a folder, or a Hub snapshot.

    Raises:
        ModelError: there is no such folder, or the Hub does not give it.
    """
    if source == "bundled":
        if not (BUNDLED / "config.json").exists():
            raise ModelError(
                "the bundled captioner is missing.",
                where=BUNDLED,
                fix="Get the repository again, with its assets folder, or use the mode 'template'.",
            )
        return BUNDLED
    folder = model_folder(
        source, patterns=_FILES, ignore=["*/*"], example="HuggingFaceTB/SmolVLM-256M-Instruct"
    )
    if not (folder / "config.json").exists():
        raise ModelError(
            "there is no config.json in the folder.",
            where=folder,
            fix="Give a model folder in the transformers format.",
        )
    return folder


def _model_type(folder: Path) -> Any:
    try:
        config = storage.read_json(folder / "config.json")
    except ProjectError as error:
        raise ModelError(error.what, where=error.where, fix="Get the model again.") from error
    return config.get("model_type") if isinstance(config, dict) else None


def _identity(folder: Path) -> str:
    return files_digest(folder, (path for pattern in _FILES for path in folder.glob(pattern)))


def _opening(name: str) -> str:
    return OPENING.replace("{class}", _plain(name)) if name else ""


def _plain(name: str) -> str:
    # A class name must not be read as one of the model's own control words.
    return re.sub(r"[<>|\[\]{}]", " ", name).strip()
