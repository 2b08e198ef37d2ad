"""How well images fit texts, by a CLIP model: scores and zero-shot accuracy of a distilled set,
with real test images beside.

Captions are cut to the model's window, as CLIP's own preprocessing does; images go through the
model's image processor from 224 px. Nothing is trained, and the test split chooses nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from transformers import AutoTokenizer

from dpd_core.captions.text import template_caption
from dpd_core.dataset.index import load_index
from dpd_core.errors import ModelError, first_line
from dpd_core.evaluate.report import Alignment, TextImage
from dpd_core.evaluate.subjects import Comparison, LabelledImages, distilled_images, split_images
from dpd_core.events import Emit, Log
from dpd_core.students.features import cached_features, hub_model

SIDE = 224
"""Pixels a side that images have before the model's own preprocessing."""
SENTENCE = "A satellite image of {class}"
"""What zero-shot classification asks for."""
_AT_ONCE = 64


def text_image(comparison: Comparison, emit: Emit) -> TextImage | None:
    """Measure the distilled set and the real test split, if the settings name a CLIP.

    Raises:
        ModelError: it cannot be loaded, or is no CLIP.
    """
    source = comparison.config.clip
    if not source:
        return None
    project, classes = comparison.project, comparison.classes
    index, device = load_index(project), comparison.hardware.device
    emit(Log("evaluate", f"comparing images with texts by {source}"))
    sentences = [template_caption(SENTENCE, index.readable(name)) for name in classes]
    prompts = text_features(source, sentences, device=device)
    cache = project.path("cache", "features")

    def features(images: LabelledImages) -> np.ndarray:
        return cached_features(images.pixels, cache, network=source, device=device)

    ours = distilled_images(comparison.distilled, classes, SIDE)
    captions = {record.file: record.caption for record in comparison.distilled.slots}
    texts = text_features(source, [captions[name] for name in ours.sources], device=device)
    real = split_images(project, index, "test", SIDE, emit)
    known = features(ours)
    return TextImage(
        network=source if not Path(source).exists() else Path(source).name,
        caption_score=clip_score(known, texts),
        ours=alignment(known, ours.labels, prompts),
        real=alignment(features(real), real.labels, prompts),
    )


def alignment(images: np.ndarray, labels: np.ndarray, prompts: np.ndarray) -> Alignment:
    """Score with the own class's sentence, and zero-shot accuracy.

    Args:
        images: Image embeddings (N, D).
        labels: Class numbers (N,).
        prompts: Text embedding of each class's sentence (K, D).
    """
    cosines = _unit(images) @ _unit(prompts).T
    return Alignment(
        images=len(images),
        class_score=clip_score(images, prompts[labels]),
        zero_shot=float((cosines.argmax(axis=1) == labels).mean()),
    )


def clip_score(images: np.ndarray, texts: np.ndarray) -> float:
    """CLIP score (Hessel et al., 2021, scaled to 100 as in torchmetrics): the mean of
    100 · max(cos(image, text), 0).

    Args:
        images, texts: Embeddings (N, D), row by row of one pair.
    """
    cosines = (_unit(images) * _unit(texts)).sum(axis=1)
    return float(100 * np.maximum(cosines, 0).mean())


@torch.no_grad()
def text_features(source: str, texts: Sequence[str], *, device: torch.device | str) -> np.ndarray:
    """Text embeddings of a CLIP, float32 (N, D); what is longer than its window is cut.

    Args:
        source: Hub id or folder in the transformers format.
        texts: The texts.
        device: Where it is computed.

    Raises:
        ModelError: it cannot be loaded, or is no CLIP.
    """
    model, _ = hub_model(source, str(device))
    if getattr(model.config, "model_type", "") != "clip":
        raise ModelError(
            "not a CLIP model with image and text encoder.",
            where=source,
            fix="Give a CLIP in the transformers format, such as openai/clip-vit-base-patch32.",
        )
    try:
        tokenizer = AutoTokenizer.from_pretrained(source, trust_remote_code=False)
        found = []
        for start in range(0, len(texts), _AT_ONCE):
            inputs = tokenizer(
                list(texts[start : start + _AT_ONCE]),
                padding=True,
                truncation=True,
                max_length=model.config.text_config.max_position_embeddings,
                return_tensors="pt",
            ).to(device)
            output = model.get_text_features(
                input_ids=inputs.input_ids, attention_mask=inputs.attention_mask
            )
            vectors = output if isinstance(output, Tensor) else output.pooler_output
            found.append(vectors.float().cpu().numpy())
    except (OSError, ValueError, KeyError, TypeError, AttributeError, IndexError) as error:
        raise ModelError(
            f"its texts cannot be encoded ({first_line(error)}).",
            where=source,
            fix="It needs a tokenizer beside the weights: get the model again.",
        ) from error
    return np.concatenate(found)


def _unit(vectors: np.ndarray) -> np.ndarray:
    return vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12)
