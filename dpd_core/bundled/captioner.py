"""The bundled captioner: a small BLIP that says what a 64 x 64 patch shows."""

from __future__ import annotations

import copy
import logging
import re
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np
    import torch
    from transformers import BertTokenizer, BlipForConditionalGeneration, BlipProcessor

from dpd_core.bundled.corpus import Split
from dpd_core.bundled.folders import replace_folder, save_half_precision
from dpd_core.bundled.training_loop import LoopRecipe, Trainer, bf16_autocast
from dpd_core.bundled.vae import jitter_colours, to_tensor
from dpd_core.bundled.vocabulary import general_phrases

log = logging.getLogger(__name__)

CLASS_WEIGHT = 0.5
SPECIAL_TOKENS = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")


@dataclass(frozen=True)
class CaptionerSize:
    """Width and depth of the two halves; image and patch sides in pixels."""

    image: int = 64
    patch: int = 8
    hidden: int = 192
    vision_layers: int = 4
    text_layers: int = 3
    heads: int = 4
    vocabulary: int = 3000


def build_tokenizer(texts: Sequence[str], vocabulary: int) -> BertTokenizer:
    """Train a lower-case WordPiece vocabulary on ``texts`` and the general word list."""
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, trainers
    from transformers import BertTokenizer

    words: Counter[str] = Counter()
    for text in [*texts, *general_phrases()]:
        words.update(re.findall(r"\w+|[^\w\s]", text.lower()))
    model = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    model.normalizer = normalizers.BertNormalizer()
    model.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    trainer = trainers.WordPieceTrainer(
        vocab_size=vocabulary,
        special_tokens=list(SPECIAL_TOKENS),
        initial_alphabet=[*"abcdefghijklmnopqrstuvwxyz0123456789.,;:!?-'\"()/%&+"],
        show_progress=False,
    )
    corpus = (" ".join([word] * max(2, round(count**0.5))) for word, count in words.items())
    model.train_from_iterator(corpus, trainer)
    learnt = sorted(model.get_vocab(), key=model.get_vocab().__getitem__)
    return BertTokenizer(
        vocab={token: index for index, token in enumerate(learnt)}, model_max_length=64
    )


def build_captioner(tokenizer: BertTokenizer, size: CaptionerSize) -> BlipForConditionalGeneration:
    """Return an untrained BLIP whose special token ids are those of ``tokenizer``."""
    from transformers import (
        BlipConfig,
        BlipForConditionalGeneration,
        BlipTextConfig,
        BlipVisionConfig,
    )

    text = BlipTextConfig(
        vocab_size=len(tokenizer),
        hidden_size=size.hidden,
        encoder_hidden_size=size.hidden,
        intermediate_size=4 * size.hidden,
        projection_dim=size.hidden,
        num_hidden_layers=size.text_layers,
        num_attention_heads=size.heads,
        max_position_embeddings=64,
        # BLIP starts sentences with its own [DEC]; here the tokenizer's [CLS] has that part.
        bos_token_id=tokenizer.cls_token_id,
        eos_token_id=tokenizer.sep_token_id,
        sep_token_id=tokenizer.sep_token_id,
        pad_token_id=tokenizer.pad_token_id,
        hidden_dropout_prob=0.0,
        attention_probs_dropout_prob=0.0,
        label_smoothing=0.0,
    )
    vision = BlipVisionConfig(
        image_size=size.image,
        patch_size=size.patch,
        hidden_size=size.hidden,
        intermediate_size=4 * size.hidden,
        projection_dim=size.hidden,
        num_hidden_layers=size.vision_layers,
        num_attention_heads=size.heads,
        initializer_range=0.02,
    )
    model = BlipForConditionalGeneration(
        BlipConfig(
            text_config=text.to_dict(),
            vision_config=vision.to_dict(),
            projection_dim=size.hidden,
            image_text_hidden_size=size.hidden,
        )
    )
    model.generation_config.max_length = None
    model.generation_config.max_new_tokens = 40
    return model


def build_processor(tokenizer: BertTokenizer, size: CaptionerSize) -> BlipProcessor:
    """Return the processor that resizes to the model's side and normalises to [-1, 1]."""
    from transformers import BlipImageProcessor, BlipProcessor

    images = BlipImageProcessor(
        size={"height": size.image, "width": size.image},
        image_mean=[0.5, 0.5, 0.5],
        image_std=[0.5, 0.5, 0.5],
    )
    return BlipProcessor(images, tokenizer)


def augment(images: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """Zoom in a little, shift colours and add noise to (n, 3, h, w) in [-1, 1].

    No flips: the captions speak of left and right. Colours move little enough to keep
    their names.
    """
    import torch
    from torch.nn import functional as F

    count = len(images)
    zooms = 1 - 0.15 * torch.rand(count, generator=generator)
    shift = (1 - zooms)[:, None] * (2 * torch.rand(count, 2, generator=generator) - 1)
    zero = torch.zeros(count)
    rows = torch.stack(
        [torch.stack([zooms, zero, shift[:, 0]], 1), torch.stack([zero, zooms, shift[:, 1]], 1)], 1
    )
    grid = F.affine_grid(rows, list(images.shape), align_corners=False)
    images = F.grid_sample(images, grid, padding_mode="reflection", align_corners=False)
    images = jitter_colours(images, generator, strength=0.1)
    noise = 0.06 * torch.rand(count, 1, 1, 1, generator=generator)
    return images + noise * torch.randn(images.shape, generator=generator)


def train_captioner(
    splits: Sequence[tuple[float, Split]],
    recipe: LoopRecipe,
    folder: Path,
    *,
    tokenizer: BertTokenizer,
    size: CaptionerSize | None = None,
    stop_at: int | None = None,
    on_preview: Callable[[BlipForConditionalGeneration, int], None] | None = None,
) -> BlipForConditionalGeneration:
    """Train on shares of each split; return the averaged model.

    A linear class head on the mean patch helps the vision half find the scene type early;
    it is thrown away afterwards.
    """
    import numpy as np
    import torch
    from torch.nn import functional as F

    torch.manual_seed(recipe.seed)
    size = size or CaptionerSize()
    model = build_captioner(tokenizer, size)
    offsets = np.cumsum([0, *(len(split.class_names) for _, split in splits)])
    head = torch.nn.Linear(size.hidden, int(offsets[-1]))
    trainer = Trainer({"blip": model, "head": head}, recipe, folder, name="captioner")
    shares = [share for share, _ in splits]
    encoded = [
        tokenizer(list(split.captions), padding=True, truncation=True, return_tensors="pt")
        for _, split in splits
    ]

    def draw(rng: np.random.Generator) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        counts = rng.multinomial(recipe.part_size, shares)
        images, labels, ids = [], [], []
        for part, (count, (_, split)) in enumerate(zip(counts, splits, strict=True)):
            rows = rng.integers(len(split), size=count)
            images.append(split.images[rows])
            labels.append(split.labels[rows] + offsets[part])
            ids.append(encoded[part].input_ids[torch.from_numpy(rows)])
        width = max(part.shape[1] for part in ids)
        padded = [
            F.pad(part, (0, width - part.shape[1]), value=tokenizer.pad_token_id) for part in ids
        ]
        stacked = torch.cat(padded)
        width = int((stacked != tokenizer.pad_token_id).sum(1).max())
        return (
            to_tensor(np.concatenate(images)),
            torch.from_numpy(np.concatenate(labels)).long(),
            stacked[:, :width],
        )

    def loss_of(
        rng: np.random.Generator, generator: torch.Generator, step: int
    ) -> tuple[torch.Tensor, dict[str, float]]:
        images, labels, ids = draw(rng)
        visible = ids != tokenizer.pad_token_id
        with bf16_autocast():
            seen = model.vision_model(pixel_values=augment(images, generator)).last_hidden_state
            said = model.text_decoder(
                input_ids=ids,
                attention_mask=visible.long(),
                encoder_hidden_states=seen,
                labels=ids.masked_fill(~visible, -100),
                reduction="mean",
            )
            logits = head(seen[:, 1:].mean(1))
        class_loss = F.cross_entropy(logits.float(), labels)
        accuracy = float((logits.argmax(1) == labels).float().mean())
        return said.loss.float() + CLASS_WEIGHT * class_loss, {"class_accuracy": accuracy}

    def preview(step: int) -> None:
        if on_preview is None:
            return
        averaged = copy.deepcopy(model)
        with torch.no_grad():
            for key, parameter in averaged.named_parameters():
                parameter.copy_(trainer.ema[f"blip.{key}"])
        on_preview(averaged.eval(), step)

    trainer.run(loss_of, stop_at=stop_at, on_checkpoint=preview)
    trainer.load_ema()
    return model


def export_captioner(
    model: BlipForConditionalGeneration,
    tokenizer: BertTokenizer,
    target: Path,
    *,
    size: CaptionerSize | None = None,
) -> None:
    """Save a half-precision copy with its processor as ``target``, replaced as a whole."""
    with replace_folder(target) as fresh:
        model.save_pretrained(fresh)
        build_processor(tokenizer, size or CaptionerSize()).save_pretrained(fresh)
        save_half_precision(fresh)


def caption_images(
    model: Any, processor: Any, images: np.ndarray, *, batch_size: int = 64
) -> list[str]:
    """Return one greedy caption for each image of (n, h, w, 3) uint8."""
    import torch

    captions: list[str] = []
    for start in range(0, len(images), batch_size):
        batch = list(images[start : start + batch_size])
        pixels = processor(images=batch, return_tensors="pt").pixel_values
        with torch.no_grad():
            ids = model.generate(pixel_values=pixels, max_new_tokens=40)
        captions += processor.batch_decode(ids, skip_special_tokens=True)
    return captions
