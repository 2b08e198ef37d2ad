"""The bundled captioner: a small BLIP that says what a 64 x 64 patch shows."""

from __future__ import annotations

import logging
import re
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, trainers
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import (
    BertTokenizer,
    BlipConfig,
    BlipForConditionalGeneration,
    BlipImageProcessor,
    BlipProcessor,
    BlipTextConfig,
    BlipVisionConfig,
)

from dpd_core.bundled import descriptions
from dpd_core.bundled.autoencoder import jittered, to_tensor
from dpd_core.bundled.crops import CropSampler
from dpd_core.bundled.folders import replace_folder, save_half_precision
from dpd_core.bundled.training_loop import LoopRecipe, Trainer
from dpd_core.bundled.vocabulary import LAND_USE_NAMES, general_phrases
from dpd_core.hardware import Hardware

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
        vocab={token: index for index, token in enumerate(learnt)}, model_max_length=96
    )


def build_captioner(tokenizer: BertTokenizer, size: CaptionerSize) -> BlipForConditionalGeneration:
    """Return an untrained BLIP whose special token ids are those of ``tokenizer``."""
    text = BlipTextConfig(
        vocab_size=len(tokenizer),
        hidden_size=size.hidden,
        encoder_hidden_size=size.hidden,
        intermediate_size=4 * size.hidden,
        projection_dim=size.hidden,
        num_hidden_layers=size.text_layers,
        num_attention_heads=size.heads,
        max_position_embeddings=96,
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
    model.generation_config.max_new_tokens = 60
    return model


def build_processor(tokenizer: BertTokenizer, size: CaptionerSize) -> BlipProcessor:
    """Return the processor that resizes to the model's side and normalises to [-1, 1]."""
    images = BlipImageProcessor(
        size={"height": size.image, "width": size.image},
        image_mean=[0.5, 0.5, 0.5],
        image_std=[0.5, 0.5, 0.5],
    )
    return BlipProcessor(images, tokenizer)


def augment(images: Tensor, generator: torch.Generator) -> Tensor:
    """Shift colours and add noise to (n, 3, h, w) in [-1, 1], little enough to keep their names.

    Nothing is moved: the captions say where things are.
    """
    images = jittered(images, generator, strength=0.04)
    device = images.device
    noise = torch.randn(images.shape, generator=generator, device=device)
    strength = torch.rand(len(images), 1, 1, 1, generator=generator, device=device)
    return images + 0.04 * strength * noise


@dataclass(frozen=True)
class Described:
    """Images with their captions.

    Attributes:
        images: uint8 (n, 3, size, size).
        labels: int64 (n,), -1 where there is no class.
        ids: Tokens of the captions, (n, length).
        learnt: Which of them are learnt, (n, length).
    """

    images: Tensor
    labels: Tensor
    ids: Tensor
    learnt: Tensor


def told(
    images: np.ndarray, labels: np.ndarray, class_names: Sequence[str], seed: int
) -> list[tuple[str, str]]:
    """For each image, uint8 (n, h, w, 3), how its caption begins and how it goes on.

    A class is told, not guessed: half of the images without one are said to be of some class from
    the general vocabulary, so that what follows is read from the image and not from the word.
    """
    rng, pairs = np.random.default_rng(seed), []
    for image, label in zip(images, labels, strict=True):
        name = class_names[label] if label >= 0 else ""
        text = descriptions.caption(image, name)
        start = descriptions.opening(name)
        shown = name or (LAND_USE_NAMES[rng.integers(len(LAND_USE_NAMES))] * (rng.random() < 0.5))
        pairs.append((descriptions.opening(shown), text[len(start) :]))
    return pairs


def describe(
    sampler: CropSampler,
    class_names: Sequence[str],
    tokenizer: BertTokenizer,
    count: int,
    *,
    seed: int,
    workers: int = 0,
) -> Described:
    """Draw ``count`` images and caption them, by ``workers`` processes or here."""
    rng = np.random.default_rng((seed, 2))
    crops = sampler.draw(count, rng)
    images = crops.images.permute(0, 2, 3, 1).cpu().numpy()
    parts = [slice(start, start + 256) for start in range(0, count, 256)]
    given = (
        [images[part] for part in parts],
        [crops.labels[part] for part in parts],
        [tuple(class_names)] * len(parts),
        [int(drawn) for drawn in rng.integers(2**62, size=len(parts))],
    )
    if workers:
        with ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as pool:
            found = list(pool.map(told, *given))
    else:
        found = list(map(told, *given))
    ids, learnt = caption_targets(
        tokenizer, [pair for part in found for pair in part], crops.labels >= 0
    )
    device = crops.images.device
    labels = torch.from_numpy(crops.labels)
    return Described(crops.images, labels.to(device), ids.to(device), learnt.to(device))


def train_captioner(
    described: Described,
    n_classes: int,
    recipe: LoopRecipe,
    folder: Path,
    hardware: Hardware,
    *,
    model: BlipForConditionalGeneration,
    tokenizer: BertTokenizer,
    stop_at: int | None = None,
) -> None:
    """Train in place; the averaged weights are what is left.

    A linear class head on the mean patch helps the vision half find the kind of scene early; it
    is thrown away afterwards.
    """
    torch.manual_seed(recipe.seed)
    model.to(hardware.device)
    head = nn.Linear(model.config.vision_config.hidden_size, n_classes).to(hardware.device)
    trainer = Trainer(
        {"blip": model, "head": head}, recipe, folder, name="captioner", hardware=hardware
    )

    def loss_of(
        rng: np.random.Generator, generator: torch.Generator, step: int
    ) -> tuple[Tensor, dict[str, Tensor]]:
        drawn = torch.from_numpy(rng.integers(len(described.images), size=recipe.batch_size))
        rows = drawn.to(hardware.device)
        ids, learnt, labels = described.ids[rows], described.learnt[rows], described.labels[rows]
        with hardware.autocast():
            images = augment(to_tensor(described.images[rows]), generator)
            seen = model.vision_model(pixel_values=images).last_hidden_state
            said = model.text_decoder(
                input_ids=ids,
                attention_mask=(ids != tokenizer.pad_token_id).long(),
                encoder_hidden_states=seen,
                labels=ids.masked_fill(~learnt, -100),
                reduction="mean",
            )
            logits = head(seen[:, 1:].mean(1))
        # Images without a class have the label -1.
        known = F.cross_entropy(logits.float(), labels, ignore_index=-1, reduction="sum")
        known = known / (labels >= 0).sum().clamp(min=1)
        loss = said.loss.float()
        return loss + CLASS_WEIGHT * known, {"caption": loss.detach(), "class": known.detach()}

    trainer.run(loss_of, stop_at=stop_at)
    trainer.averaged()


def caption_targets(
    tokenizer: BertTokenizer, pairs: Sequence[tuple[str, str]], known: np.ndarray
) -> tuple[Tensor, Tensor]:
    """Token ids (n, length) of whole captions, and which of them are to be learnt (n, length).

    Of images whose class is not known the opening is given and not learnt.
    """
    texts = [start + rest for start, rest in pairs]
    ids = tokenizer(texts, padding=True, truncation=True, return_tensors="pt").input_ids
    learnt = ids != tokenizer.pad_token_id
    for row, (start, _) in enumerate(pairs):
        if not known[row]:
            learnt[row, : len(tokenizer(start).input_ids) - 1] = False
    return ids, learnt


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
    model: Any,
    processor: Any,
    images: np.ndarray,
    class_names: Sequence[str] | None = None,
    *,
    batch_size: int = 64,
) -> list[str]:
    """One greedy caption for each image of (n, h, w, 3) uint8, told its class or not."""
    captions: list[str] = []
    for start in range(0, len(images), batch_size):
        batch = list(images[start : start + batch_size])
        pixels = processor(images=batch, return_tensors="pt").pixel_values
        if class_names is None:
            ids = _generated(model, pixels)
            captions += processor.batch_decode(ids, skip_special_tokens=True)
            continue
        for row, name in enumerate(class_names[start : start + batch_size]):
            # Openings differ in length, and nothing is padded.
            given = processor.tokenizer(descriptions.opening(name), return_tensors="pt")
            ids = _generated(model, pixels[row : row + 1], given.input_ids)
            captions += processor.batch_decode(ids, skip_special_tokens=True)
    return captions


@torch.no_grad()
def _generated(model: Any, pixels: Tensor, given: Tensor | None = None) -> Tensor:
    return model.generate(pixel_values=pixels, input_ids=given, max_new_tokens=60)
