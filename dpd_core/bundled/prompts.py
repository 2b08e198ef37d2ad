"""The words that images are trained with, and the vocabulary that spells them."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence

import numpy as np
from tokenizers import Regex, Tokenizer, models, normalizers, pre_tokenizers, trainers
from torch import Tensor
from transformers import CLIPTokenizer

from dpd_core.bundled import descriptions
from dpd_core.bundled.vocabulary import general_phrases

MAX_TOKENS = 77
VOCABULARY = 3000
# Repeats are weights: the first wording is the one the application uses.
SHORT_PROMPTS = (*("a satellite image of {}",) * 4, "an aerial photo of {}", "{}")
EMPTY_SHARE, SHORT_SHARE, METRES_SHARE = 0.10, 0.35, 0.5


def build_tokenizer(texts: Sequence[str], vocabulary: int = VOCABULARY) -> CLIPTokenizer:
    """Train CLIP's byte-level BPE on ``texts``; any other text falls back to its bytes."""
    blank = CLIPTokenizer()
    start, end = "<|startoftext|>", "<|endoftext|>"
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    # The trainer must see words exactly as the finished tokenizer will split them.
    splitter = blank.backend_tokenizer.pre_tokenizer
    normalizer = normalizers.Sequence(
        [normalizers.NFC(), normalizers.Replace(Regex(r"\s+"), " "), normalizers.Lowercase()]
    )
    spoken = Counter(word for text in texts for word in text.split())
    words: Counter[str] = Counter()
    for word, count in spoken.items():
        for piece, _ in splitter.pre_tokenize_str(normalizer.normalize_str(word)):
            words[piece] += count
    model = Tokenizer(models.BPE(end_of_word_suffix="</w>"))
    model.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary - len(alphabet) - 2,
        initial_alphabet=alphabet,
        end_of_word_suffix="</w>",
        show_progress=False,
    )
    # Square roots keep frequent words first without starving the general vocabulary.
    corpus = (" ".join([word] * max(2, round(count**0.5))) for word, count in words.items())
    model.train_from_iterator(corpus, trainer)
    merges = [
        tuple(merge) if not isinstance(merge, str) else tuple(merge.split(" "))
        for merge in json.loads(model.to_str())["model"]["merges"]
    ]
    tokens = [*alphabet, *(f"{byte}</w>" for byte in alphabet)]
    known = set(tokens)
    for left, right in merges:
        if left + right not in known:
            known.add(left + right)
            tokens.append(left + right)
    tokens += [start, end]
    return CLIPTokenizer(
        vocab={token: index for index, token in enumerate(tokens)},
        merges=merges,
        model_max_length=MAX_TOKENS,
    )


def tokenize(tokenizer: CLIPTokenizer, texts: Sequence[str]) -> Tensor:
    """Token ids (n, 77) int64, padded as the pipeline pads them."""
    return tokenizer(
        list(texts),
        padding="max_length",
        max_length=MAX_TOKENS,
        truncation=True,
        return_tensors="pt",
    ).input_ids


def tokenizer_texts(captions: Sequence[str], class_names: Sequence[str]) -> list[str]:
    """The texts that the vocabulary is learnt from: captions, class names, general words."""
    grounds = [ground(metres) for metres in (0.3, 0.6, 1.2, 2.4, 10.0)]
    return [*captions, *class_names, *grounds, *general_phrases()]


def ground(metres: float) -> str:
    """Words for the ground that a pixel covers."""
    return f"{metres:g} m a pixel"


def training_prompt(
    image: np.ndarray, class_name: str, metres: float, rng: np.random.Generator
) -> str:
    """What is said of a training image, uint8 (h, w, 3): nothing, its class, or what is measured in
    it, and in half of the cases the ground that a pixel covers."""
    kind = rng.random()
    if kind < EMPTY_SHARE:
        return ""
    if kind >= EMPTY_SHARE + SHORT_SHARE:
        text = descriptions.caption(image, class_name, rng)
    elif class_name:
        text = SHORT_PROMPTS[rng.integers(len(SHORT_PROMPTS))].format(class_name)
    else:
        text = descriptions.opening("")
    return f"{text}, {ground(metres)}" if rng.random() < METRES_SHARE else text
