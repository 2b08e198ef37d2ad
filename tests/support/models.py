"""Text-to-image models of any size built from a config with random weights, as folders."""

from pathlib import Path
from typing import Any

import torch
from diffusers import (
    AutoencoderKL,
    DDIMScheduler,
    FlowMatchEulerDiscreteScheduler,
    SD3Transformer2DModel,
    StableDiffusion3Pipeline,
    StableDiffusionPipeline,
    StableDiffusionXLPipeline,
    UNet2DConditionModel,
)
from tokenizers import Tokenizer
from tokenizers.models import Unigram
from tokenizers.pre_tokenizers import ByteLevel
from tokenizers.processors import TemplateProcessing
from transformers import (
    CLIPTextConfig,
    CLIPTextModel,
    CLIPTextModelWithProjection,
    CLIPTokenizer,
    PreTrainedTokenizerFast,
    T5Config,
    T5EncoderModel,
)

_NOISE: dict[str, Any] = {
    "beta_start": 0.00085,
    "beta_end": 0.012,
    "beta_schedule": "scaled_linear",
    "clip_sample": False,
    "steps_offset": 1,
}

TINY: dict[str, Any] = {
    "vae": {"block_out_channels": (8, 8, 8), "norm_num_groups": 4, "layers_per_block": 1},
    "unet": {
        "block_out_channels": (16, 32),
        "layers_per_block": 1,
        "cross_attention_dim": 32,
        "attention_head_dim": 8,
        "norm_num_groups": 8,
        "sample_size": 8,
    },
    "text": {
        "hidden_size": 32,
        "intermediate_size": 64,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
    },
}

STABLE_DIFFUSION_1: dict[str, Any] = {
    "vae": {"block_out_channels": (128, 256, 512, 512), "layers_per_block": 2},
    "unet": {
        "block_out_channels": (320, 640, 1280, 1280),
        "layers_per_block": 2,
        "cross_attention_dim": 768,
        "attention_head_dim": 8,
        "sample_size": 64,
    },
    "text": {
        "hidden_size": 768,
        "intermediate_size": 3072,
        "num_hidden_layers": 12,
        "num_attention_heads": 12,
    },
}

STABLE_DIFFUSION_2: dict[str, Any] = {
    "vae": STABLE_DIFFUSION_1["vae"],
    "unet": {
        "block_out_channels": (320, 640, 1280, 1280),
        "layers_per_block": 2,
        "cross_attention_dim": 1024,
        "attention_head_dim": (5, 10, 20, 20),
        "use_linear_projection": True,
        "sample_size": 96,
    },
    "text": {
        "hidden_size": 1024,
        "intermediate_size": 4096,
        "num_hidden_layers": 23,
        "num_attention_heads": 16,
        "hidden_act": "gelu",
    },
}


TINY_XL: dict[str, Any] = {
    "vae": TINY["vae"],
    "unet": {
        **TINY["unet"],
        "cross_attention_dim": 64,
        "transformer_layers_per_block": (1, 2),
        "addition_embed_type": "text_time",
        "addition_time_embed_dim": 8,
        "projection_class_embeddings_input_dim": 6 * 8 + 32,
        "use_linear_projection": True,
    },
    "text": TINY["text"],
    "text_2": {**TINY["text"], "projection_dim": 32},
}

STABLE_DIFFUSION_XL: dict[str, Any] = {
    "vae": STABLE_DIFFUSION_1["vae"],
    "unet": {
        "block_out_channels": (320, 640, 1280),
        "layers_per_block": 2,
        "cross_attention_dim": 2048,
        "attention_head_dim": (5, 10, 20),
        "transformer_layers_per_block": (1, 2, 10),
        "addition_embed_type": "text_time",
        "addition_time_embed_dim": 256,
        "projection_class_embeddings_input_dim": 2816,
        "use_linear_projection": True,
        "sample_size": 128,
    },
    "text": STABLE_DIFFUSION_1["text"],
    "text_2": {
        "hidden_size": 1280,
        "intermediate_size": 5120,
        "num_hidden_layers": 32,
        "num_attention_heads": 20,
        "projection_dim": 1280,
        "hidden_act": "gelu",
    },
}

TINY_3: dict[str, Any] = {
    "vae": TINY["vae"],
    "transformer": {
        "sample_size": 8,
        "in_channels": 16,
        "out_channels": 16,
        "num_layers": 2,
        "attention_head_dim": 8,
        "num_attention_heads": 2,
        "caption_projection_dim": 16,
        "joint_attention_dim": 80,
        "pooled_projection_dim": 64,
        "pos_embed_max_size": 16,
        "qk_norm": "rms_norm",
    },
    "text": {**TINY["text"], "projection_dim": 32},
    "text_2": {**TINY["text"], "projection_dim": 32},
    "t5": {"d_model": 80, "d_kv": 8, "d_ff": 32, "num_layers": 1, "num_heads": 2},
}

STABLE_DIFFUSION_35_MEDIUM: dict[str, Any] = {
    "vae": STABLE_DIFFUSION_1["vae"],
    "transformer": {
        "sample_size": 128,
        "in_channels": 16,
        "out_channels": 16,
        "num_layers": 24,
        "attention_head_dim": 64,
        "num_attention_heads": 24,
        "caption_projection_dim": 1536,
        "joint_attention_dim": 4096,
        "pooled_projection_dim": 2048,
        "pos_embed_max_size": 384,
        "qk_norm": "rms_norm",
        "dual_attention_layers": tuple(range(13)),
    },
    "text": {**STABLE_DIFFUSION_1["text"], "projection_dim": 768},
    "text_2": STABLE_DIFFUSION_XL["text_2"],
}


def save_model(
    folder: Path,
    sizes: dict[str, Any] = TINY,
    *,
    prediction_type: str = "epsilon",
    class_labels: int | None = None,
    dtype: torch.dtype = torch.float32,
) -> Path:
    """Write a Stable-Diffusion pipeline folder with seeded random weights and return it."""
    pipeline = build_model(sizes, prediction_type=prediction_type, class_labels=class_labels)
    pipeline.to(dtype).save_pretrained(folder)
    return folder


def build_model(
    sizes: dict[str, Any], *, prediction_type: str = "epsilon", class_labels: int | None = None
) -> StableDiffusionPipeline:
    """The pipeline that :func:`save_model` writes."""
    torch.manual_seed(0)
    depth = len(sizes["unet"]["block_out_channels"])
    tokenizer = byte_tokenizer()
    return StableDiffusionPipeline(
        vae=_vae(sizes["vae"]),
        unet=UNet2DConditionModel(
            in_channels=4,
            out_channels=4,
            num_class_embeds=class_labels,
            **unet_blocks(depth, attention_first=True),
            **sizes["unet"],
        ),
        text_encoder=CLIPTextModel(_text_config(tokenizer, sizes["text"])),
        tokenizer=tokenizer,
        scheduler=DDIMScheduler(prediction_type=prediction_type, **_NOISE),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )


def save_model_xl(
    folder: Path, sizes: dict[str, Any] = TINY_XL, *, dtype: torch.dtype = torch.float32
) -> Path:
    """Write a Stable-Diffusion-XL pipeline folder with seeded random weights and return it."""
    build_model_xl(sizes).to(dtype).save_pretrained(folder)
    return folder


def build_model_xl(sizes: dict[str, Any]) -> StableDiffusionXLPipeline:
    """The pipeline that :func:`save_model_xl` writes."""
    torch.manual_seed(0)
    depth = len(sizes["unet"]["block_out_channels"])
    tokenizer = byte_tokenizer()
    return StableDiffusionXLPipeline(
        vae=_vae(sizes["vae"]),
        unet=UNet2DConditionModel(
            in_channels=4,
            out_channels=4,
            **unet_blocks(depth, attention_first=False),
            **sizes["unet"],
        ),
        text_encoder=CLIPTextModel(_text_config(tokenizer, sizes["text"])),
        text_encoder_2=CLIPTextModelWithProjection(_text_config(tokenizer, sizes["text_2"])),
        tokenizer=tokenizer,
        tokenizer_2=byte_tokenizer(pad="!</w>"),
        scheduler=DDIMScheduler(**_NOISE),
    )


def save_model_3(
    folder: Path, sizes: dict[str, Any] = TINY_3, *, dtype: torch.dtype = torch.float32
) -> Path:
    """Write a Stable-Diffusion-3 pipeline folder with seeded random weights and return it; with
    T5 if the sizes have ``"t5"``."""
    build_model_3(sizes).to(dtype).save_pretrained(folder)
    return folder


def build_model_3(sizes: dict[str, Any]) -> StableDiffusion3Pipeline:
    """The pipeline that :func:`save_model_3` writes."""
    torch.manual_seed(0)
    tokenizer = byte_tokenizer()
    words = t5_tokenizer() if "t5" in sizes else None
    vae = {"latent_channels": 16, "scaling_factor": 1.5305, "shift_factor": 0.0609}
    return StableDiffusion3Pipeline(
        transformer=SD3Transformer2DModel(patch_size=2, **sizes["transformer"]),
        vae=_vae({**sizes["vae"], **vae, "use_quant_conv": False, "use_post_quant_conv": False}),
        text_encoder=CLIPTextModelWithProjection(_text_config(tokenizer, sizes["text"])),
        text_encoder_2=CLIPTextModelWithProjection(_text_config(tokenizer, sizes["text_2"])),
        text_encoder_3=T5EncoderModel(T5Config(vocab_size=len(words), **sizes["t5"]))
        if words
        else None,
        tokenizer=tokenizer,
        tokenizer_2=byte_tokenizer(pad="!</w>"),
        tokenizer_3=words,
        scheduler=FlowMatchEulerDiscreteScheduler(shift=3.0),
    )


def unet_blocks(depth: int, *, attention_first: bool) -> dict[str, Any]:
    """Types of a UNet's levels: all have cross-attention but the last one (Stable Diffusion 1 and
    2) or the first one (XL)."""
    down = ["CrossAttnDownBlock2D"] * (depth - 1)
    up = ["CrossAttnUpBlock2D"] * (depth - 1)
    if attention_first:
        return {
            "down_block_types": (*down, "DownBlock2D"),
            "up_block_types": ("UpBlock2D", *up),
        }
    return {"down_block_types": ("DownBlock2D", *down), "up_block_types": (*up, "UpBlock2D")}


def _vae(sizes: dict[str, Any]) -> AutoencoderKL:
    count = len(sizes["block_out_channels"])
    return AutoencoderKL(
        down_block_types=("DownEncoderBlock2D",) * count,
        up_block_types=("UpDecoderBlock2D",) * count,
        **{"latent_channels": 4, "scaling_factor": 0.18215, **sizes},
    )


def _text_config(tokenizer: CLIPTokenizer, sizes: dict[str, Any]) -> CLIPTextConfig:
    return CLIPTextConfig(
        vocab_size=len(tokenizer),
        max_position_embeddings=77,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        **sizes,
    )


def t5_tokenizer() -> PreTrainedTokenizerFast:
    """A T5 tokenizer of one token a byte."""
    vocabulary = [("<pad>", 0.0), ("</s>", 0.0), ("<unk>", 0.0)]
    vocabulary += [(letter, -1.0) for letter in sorted(ByteLevel.alphabet())]
    model = Tokenizer(Unigram(vocabulary, unk_id=2))
    model.pre_tokenizer = ByteLevel(add_prefix_space=False)
    model.post_processor = TemplateProcessing(single="$A </s>", special_tokens=[("</s>", 1)])
    return PreTrainedTokenizerFast(
        tokenizer_object=model, pad_token="<pad>", eos_token="</s>", unk_token="<unk>"
    )


def byte_tokenizer(pad: str = "<|endoftext|>") -> CLIPTokenizer:
    """A CLIP tokenizer without merges: one token a byte."""
    letters = sorted(ByteLevel.alphabet())
    words = [*letters, *(letter + "</w>" for letter in letters), "<|startoftext|>", "<|endoftext|>"]
    vocabulary = {word: number for number, word in enumerate(words)}
    return CLIPTokenizer(vocab=vocabulary, merges=[], pad_token=pad, model_max_length=77)
