"""The three families of captioners, each behind ``prepare`` and ``generate``.

Chat models may be shown several images at once; BLIP takes one. The image processor and the
tokenizer are loaded apart: the processors of SmolVLM and Qwen-VL that join them need torchvision
for videos, and fail without it. What they do with images and one question is done here: fill in
the chat template, and put as many image tokens into the text as the vision part gives embeddings.
"""

from __future__ import annotations

import inspect
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch import Tensor
from transformers import AutoImageProcessor, AutoModelForImageTextToText, AutoTokenizer

from dpd_core.hardware import Hardware

_VOCABULARIES = ("tokenizer.json", "vocab.txt", "vocab.json", "tokenizer.model", "spiece.model")

Inputs = dict[str, Tensor]
"""The model's inputs for one question, each with a leading dimension to concatenate along."""


class CaptionModel:
    """A loaded vision-language model.

    Args:
        model: The transformers model, on its device.
        image_processor: Its image processor.
        tokenizer: Its tokenizer.
        template: Chat template that comes with the model, if any.
    """

    def __init__(self, model: Any, image_processor: Any, tokenizer: Any, template: str | None):
        self.model, self.image_processor = model, image_processor
        self.tokenizer, self.template = tokenizer, template

    several = False
    """Whether it can look at several images together."""

    def prepare(self, images: Sequence[Image.Image], question: str, opening: str = "") -> Inputs:
        """The inputs for RGB images that are looked at together.

        Args:
            images: One, or where the model takes :attr:`several`, more.
            question: What a chat model is asked.
            opening: First words of the caption, for a model that is not asked but goes on.
        """
        raise NotImplementedError

    @torch.inference_mode()
    def generate(self, inputs: list[Inputs], max_words: int) -> list[str]:
        """The model's words for inputs of equal shapes, decoded greedily."""
        joined = {name: torch.cat([part[name] for part in inputs]) for name in inputs[0]}
        joined = {name: self._place(value) for name, value in joined.items()}
        length = joined["input_ids"].shape[1] if "input_ids" in joined else 1
        output = self.model.generate(
            **joined,
            max_new_tokens=self._room(max_words, length),
            do_sample=False,
            num_beams=1,
            # Off, because some models' own settings would make it depend on the prompt's padding.
            repetition_penalty=1.0,
            temperature=None,
            top_p=None,
            top_k=None,
        )
        words = output[:, self._words_start(length) :]
        return self.tokenizer.batch_decode(words, skip_special_tokens=True)

    def _words_start(self, length: int) -> int:
        """Where the caption starts in an output that follows a prompt of ``length`` tokens."""
        return length

    def _room(self, max_words: int, length: int) -> int:
        """Most new tokens after a prompt of ``length`` tokens: long words take several, and
        punctuation counts too."""
        return 3 * max_words + 8

    def _place(self, value: Tensor) -> Tensor:
        dtype = self.model.dtype if value.is_floating_point() else value.dtype
        return value.to(self.model.device, dtype)


class Blip(CaptionModel):
    """BLIP: pixels in, caption out; the decoder starts from its own first token."""

    def prepare(self, images: Sequence[Image.Image], question: str, opening: str = "") -> Inputs:
        """``pixel_values`` (1, 3, H, W) of the first image, and ``input_ids`` (1, L) of the
        opening.

        An opening is left out where the model would not understand it (it has a word that the
        tokenizer does not know) or would have no room left to go on.
        """
        pixels = self.image_processor(images=images[0], return_tensors="pt")["pixel_values"]
        if not opening:
            return {"pixel_values": pixels}
        ids = self.tokenizer(opening, return_tensors="pt").input_ids
        if self.tokenizer.unk_token_id in ids or ids.shape[1] > self._positions // 2:
            return {"pixel_values": pixels}
        return {"pixel_values": pixels, "input_ids": ids}

    def _words_start(self, length: int) -> int:
        # The opening is part of the caption; only the decoder's start token is not.
        return 1

    def _room(self, max_words: int, length: int) -> int:
        return min(super()._room(max_words, length), self._positions - length - 1)

    @property
    def _positions(self) -> int:
        return self.model.config.text_config.max_position_embeddings


class ChatModel(CaptionModel):
    """A chat model that is shown images and asked a question."""

    default_template: str
    several = True

    def prompt(self, question: str, images: int = 1) -> str:
        """The question in the model's chat format, with a token for each image.

        Raises:
            ValueError: neither the model's template nor the default one gives as many tokens.
        """
        content = [*[{"type": "image"}] * images, {"type": "text", "text": question}]
        for template in (self.template, self.tokenizer.chat_template, self.default_template):
            if template is None:
                continue
            text = self.tokenizer.apply_chat_template(
                [{"role": "user", "content": content}],
                chat_template=template,
                add_generation_prompt=True,
                tokenize=False,
            )
            # The tokenizer's template may be the one of the text model, which knows no images.
            if text.count(self.image_token) == images:
                return text
        raise ValueError(
            f"the prompt must hold {self.image_token} once an image; is it in the question?"
        )

    @property
    def image_token(self) -> str:
        """The token an image's embeddings take the place of."""
        return self.tokenizer.convert_ids_to_tokens(self.model.config.image_token_id)

    def tokens(self, question: str, image_texts: Sequence[str]) -> Inputs:
        """``input_ids`` and ``attention_mask`` (1, L): the prompt with each image's own text in
        the place of its one image token."""
        parts = self.prompt(question, len(image_texts)).split(self.image_token)
        text = parts[0] + "".join(
            own + part for own, part in zip(image_texts, parts[1:], strict=True)
        )
        # The chat template has put the special tokens there already.
        ids = self.tokenizer(text, add_special_tokens=False, return_tensors="pt").input_ids
        return {"input_ids": ids, "attention_mask": torch.ones_like(ids)}


class SmolVlm(ChatModel):
    """SmolVLM and Idefics3: an image larger than a tile is cut into tiles, plus the whole; of
    several images each is one tile."""

    default_template = (
        "<|im_start|>{% for message in messages %}{{ message['role'] | capitalize }}:"
        "{% for part in message['content'] %}{% if part['type'] == 'image' %}<image>"
        "{% else %}{{ part['text'] }}{% endif %}{% endfor %}<end_of_utterance>\n{% endfor %}"
        "{% if add_generation_prompt %}Assistant:{% endif %}"
    )

    def prepare(self, images: Sequence[Image.Image], question: str, opening: str = "") -> Inputs:
        """Tokens, ``pixel_values`` (1, tiles, 3, H, W) and ``pixel_attention_mask``."""
        tile = self.image_processor.max_image_size["longest_edge"]
        # A smaller image would be enlarged only to be cut up: 17 times the work for no detail.
        split = len(images) == 1 and max(images[0].size) > tile
        options = {} if split else {"size": {"longest_edge": tile}}
        found = self.image_processor(
            images=[list(images)],
            do_image_splitting=split,
            return_row_col_info=True,
            return_tensors="pt",
            **options,
        )
        pixels = found["pixel_values"]
        grids = zip(*(found[name][0] for name in ("rows", "cols")), strict=True)
        vision = self.model.config.vision_config
        patches = (pixels.shape[-2] // vision.patch_size) * (pixels.shape[-1] // vision.patch_size)
        count = patches // self.model.config.scale_factor**2
        return {
            **self.tokens(question, [self.image_text(int(r), int(c), count) for r, c in grids]),
            "pixel_values": pixels,
            "pixel_attention_mask": found["pixel_attention_mask"],
        }

    def image_text(self, rows: int, columns: int, count: int) -> str:
        """The text an image of ``rows`` × ``columns`` tiles (0 × 0: not cut) stands for, each
        tile being ``count`` image tokens."""
        frame, tile = "<fake_token_around_image>", self.image_token * count
        tiles = "".join(
            "".join(f"{frame}<row_{row}_col_{column}>{tile}" for column in range(1, columns + 1))
            + "\n"
            for row in range(1, rows + 1)
        )
        return f"{tiles}\n" * bool(tiles) + f"{frame}<global-img>{tile}{frame}"


class QwenVl(ChatModel):
    """Qwen2-VL, Qwen2.5-VL and Qwen3-VL: as many image tokens as the image has patches."""

    default_template = (
        "<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n{% for message in messages %}"
        "<|im_start|>{{ message['role'] }}\n{% for part in message['content'] %}"
        "{% if part['type'] == 'image' %}<|vision_start|><|image_pad|><|vision_end|>"
        "{% else %}{{ part['text'] }}{% endif %}{% endfor %}<|im_end|>\n{% endfor %}"
        "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
    )
    fewest, most = 64, 1024
    """Image tokens, the most of all images together: a 64 px image would get four, a whole scene
    tens of thousands."""

    def prepare(self, images: Sequence[Image.Image], question: str, opening: str = "") -> Inputs:
        """Tokens, ``pixel_values`` (patches, D), ``image_grid_thw`` (images, 3) and, where the
        model takes it, ``mm_token_type_ids`` (1, L), which is 1 at the images."""
        processor = self.image_processor
        area = (processor.patch_size * processor.merge_size) ** 2
        most = max(self.fewest, self.most // len(images))
        size = {"shortest_edge": self.fewest * area, "longest_edge": most * area}
        found = processor(images=list(images), size=size, return_tensors="pt")
        grid = found["image_grid_thw"]
        counts = [int(own.prod()) // processor.merge_size**2 for own in grid]
        inputs = {
            **self.tokens(question, [self.image_token * count for count in counts]),
            "pixel_values": found["pixel_values"],
            "image_grid_thw": grid,
        }
        if "mm_token_type_ids" in inspect.signature(self.model.forward).parameters:
            at_image = inputs["input_ids"] == self.model.config.image_token_id
            inputs["mm_token_type_ids"] = at_image.int()
        return inputs


FAMILIES: dict[str, type[CaptionModel]] = {
    "blip": Blip,
    "idefics3": SmolVlm,
    "smolvlm": SmolVlm,
    "qwen2_vl": QwenVl,
    "qwen2_5_vl": QwenVl,
    "qwen3_vl": QwenVl,
}
"""Family by the ``model_type`` of a model's config."""


def load_model(folder: Path, weights: Path | str, kind: str, hardware: Hardware) -> CaptionModel:
    """Load a model's parts from a folder in the transformers format.

    Args:
        folder: Config, image processor and tokenizer.
        weights: Folder or Hub id of the safetensors weights.
        kind: The config's ``model_type``, a key of :data:`FAMILIES`.
        hardware: Device and number format.

    Raises:
        OSError, ValueError: a part is missing, or the weights are not all there.
    """
    family = FAMILIES[kind]
    if not any((folder / name).exists() for name in _VOCABULARIES):
        # transformers makes an empty tokenizer then.
        raise OSError(f"there is no tokenizer: none of {', '.join(_VOCABULARIES)}")
    loaded: Any = AutoModelForImageTextToText.from_pretrained(
        weights,
        dtype=torch.float32 if family is Blip else hardware.dtype,
        use_safetensors=True,
        trust_remote_code=False,
        output_loading_info=True,
    )
    model, report = loaded
    lacking = sorted([*report["missing_keys"], *map(str, report["mismatched_keys"])])
    if lacking:
        # transformers fills them with random numbers and only warns.
        raise ValueError(f"{len(lacking)} weights are missing or misshapen, such as {lacking[0]}")
    # Pillow everywhere: torchvision's resizing gives other pixels, so other words.
    images = AutoImageProcessor.from_pretrained(folder, backend="pil", trust_remote_code=False)
    tokenizer = AutoTokenizer.from_pretrained(folder, trust_remote_code=False)
    model = model.to(hardware.device).requires_grad_(False).eval()
    return family(model, images, tokenizer, _own_template(folder))


def _own_template(folder: Path) -> str | None:
    """The chat template of the joint processor, which older models keep in its own file."""
    file = folder / "chat_template.json"
    if not file.exists():
        return None
    template = json.loads(file.read_text(encoding="utf-8")).get("chat_template")
    return template if isinstance(template, str) else None
