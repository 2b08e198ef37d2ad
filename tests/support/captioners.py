"""Captioners of each family built from a config with random weights, as folders."""

import json
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors
from transformers import (
    BlipConfig,
    BlipForConditionalGeneration,
    PreTrainedTokenizerFast,
    Qwen2_5_VLConfig,
    Qwen2_5_VLForConditionalGeneration,
    Qwen2VLConfig,
    Qwen2VLForConditionalGeneration,
    SmolVLMConfig,
    SmolVLMForConditionalGeneration,
)

WORDS = [
    "a",
    "an",
    "the",
    "of",
    "with",
    "and",
    "on",
    "two",
    "four",
    "white",
    "green",
    "brown",
    "grey",
    "dense",
    "small",
    "large",
    "airplane",
    "harbor",
    "forest",
    "boats",
    "trees",
    "houses",
    "runway",
    "water",
    "roofs",
    "road",
    "grass",
    "sand",
    "satellite",
    "image",
]
TILE = 32
"""Side of SmolVLM's tiles in px: 4 × 4 patches of 8 px, merged 2 × 2 to 4 tokens."""


def save_blip(folder: Path, *, seed: int = 0) -> Path:
    """A BLIP captioner that says random words of :data:`WORDS`."""
    torch.manual_seed(seed)
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[DEC]", *WORDS]
    tokenizer = Tokenizer(models.WordLevel({word: k for k, word in enumerate(words)}, "[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token="[PAD]",
        unk_token="[UNK]",
        cls_token="[CLS]",
        sep_token="[SEP]",
        bos_token="[DEC]",
        eos_token="[SEP]",
    ).save_pretrained(folder)
    config = BlipConfig(
        vision_config={
            "hidden_size": 16,
            "intermediate_size": 32,
            "num_hidden_layers": 1,
            "num_attention_heads": 2,
            "image_size": 32,
            "patch_size": 8,
            "initializer_range": 0.02,
        },
        text_config={
            "vocab_size": len(words),
            "hidden_size": 16,
            "encoder_hidden_size": 16,
            "intermediate_size": 32,
            "num_hidden_layers": 2,
            "num_attention_heads": 2,
            "max_position_embeddings": 64,
            "bos_token_id": 4,
            "pad_token_id": 0,
            "eos_token_id": 3,
            "sep_token_id": 3,
        },
        projection_dim=16,
    )
    _save(BlipForConditionalGeneration(config), folder)
    _write(
        folder / "preprocessor_config.json",
        {
            "image_processor_type": "BlipImageProcessor",
            "size": {"height": 32, "width": 32},
        },
    )
    return folder


def save_smolvlm(folder: Path) -> Path:
    """A SmolVLM chat model that answers with random bytes."""
    torch.manual_seed(0)
    marks = [
        "<|im_start|>",
        "<end_of_utterance>",
        "<image>",
        "<fake_token_around_image>",
        "<global-img>",
        *(f"<row_{r}_col_{c}>" for r in range(1, 5) for c in range(1, 5)),
    ]
    tokenizer = _byte_tokenizer(folder, marks, end="<end_of_utterance>")
    ids = tokenizer.convert_tokens_to_ids
    config = SmolVLMConfig(
        vision_config={
            "hidden_size": 16,
            "intermediate_size": 32,
            "num_hidden_layers": 1,
            "num_attention_heads": 2,
            "image_size": TILE,
            "patch_size": 8,
        },
        text_config={
            "model_type": "llama",
            "vocab_size": len(tokenizer),
            **_language(),
            "pad_token_id": ids("<end_of_utterance>"),
            "bos_token_id": ids("<|im_start|>"),
            "eos_token_id": ids("<end_of_utterance>"),
        },
        image_token_id=ids("<image>"),
        scale_factor=2,
    )
    _save(SmolVLMForConditionalGeneration(config), folder)
    _write(
        folder / "preprocessor_config.json",
        {
            "image_processor_type": "SmolVLMImageProcessor",
            "size": {"longest_edge": 2 * TILE},
            "max_image_size": {"longest_edge": TILE},
            "do_image_splitting": True,
        },
    )
    return folder


def save_qwen(folder: Path, *, version: str = "2") -> Path:
    """A Qwen2-VL (or ``"2.5"``) chat model that answers with random bytes."""
    torch.manual_seed(0)
    marks = [
        "<|im_start|>",
        "<|im_end|>",
        "<|vision_start|>",
        "<|vision_end|>",
        "<|image_pad|>",
        "<|video_pad|>",
        "<|endoftext|>",
    ]
    tokenizer = _byte_tokenizer(folder, marks, end="<|im_end|>")
    ids = tokenizer.convert_tokens_to_ids
    tokens = {
        "image_token_id": ids("<|image_pad|>"),
        "video_token_id": ids("<|video_pad|>"),
        "vision_start_token_id": ids("<|vision_start|>"),
        "vision_end_token_id": ids("<|vision_end|>"),
    }
    text = {
        **_language(),
        "vocab_size": len(tokenizer),
        "pad_token_id": ids("<|endoftext|>"),
        "bos_token_id": ids("<|im_start|>"),
        "eos_token_id": ids("<|im_end|>"),
        "rope_parameters": {
            "rope_type": "default",
            "mrope_section": [2, 1, 1],
            "rope_theta": 10000.0,
        },
    }
    vision = {
        "depth": 1,
        "num_heads": 2,
        "patch_size": 4,
        "spatial_merge_size": 2,
        "temporal_patch_size": 2,
    }
    model: Any
    if version == "2":
        vision |= {"embed_dim": 16, "hidden_size": 16}
        model = Qwen2VLForConditionalGeneration(
            Qwen2VLConfig(text_config=text, vision_config=vision, **tokens)
        )
    else:
        vision |= {
            "hidden_size": 16,
            "out_hidden_size": 16,
            "intermediate_size": 32,
            "fullatt_block_indexes": [0],
            "window_size": 16,
        }
        model = Qwen2_5_VLForConditionalGeneration(
            Qwen2_5_VLConfig(text_config=text, vision_config=vision, **tokens)
        )
    # As in the published models, whose own settings sample and punish repeats.
    model.generation_config.do_sample, model.generation_config.temperature = True, 0.7
    model.generation_config.repetition_penalty = 1.3
    _save(model, folder)
    _write(
        folder / "preprocessor_config.json",
        {
            "image_processor_type": "Qwen2VLImageProcessor",
            "patch_size": 4,
            "merge_size": 2,
            "temporal_patch_size": 2,
            "min_pixels": 64,
            "max_pixels": 100_000_000,
        },
    )
    return folder


def _language() -> dict[str, Any]:
    return {
        "hidden_size": 16,
        "intermediate_size": 32,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "num_key_value_heads": 2,
        "max_position_embeddings": 4096,
    }


def _byte_tokenizer(folder: Path, marks: list[str], *, end: str) -> PreTrainedTokenizerFast:
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {letter: number for number, letter in enumerate(letters)}
    tokenizer = Tokenizer(models.BPE(vocabulary, []))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    made = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, eos_token=end, pad_token=end, extra_special_tokens=marks
    )
    made.save_pretrained(folder)
    return made


def _save(model: Any, folder: Path) -> None:
    # Larger than the usual first weights, so that the words depend on the image.
    with torch.no_grad():
        for weight in model.parameters():
            if weight.dim() > 1:
                weight.mul_(10)
    model.save_pretrained(folder)


def _write(path: Path, value: Any) -> None:
    path.write_text(json.dumps(value), encoding="utf-8")
