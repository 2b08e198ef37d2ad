"""Text-to-image models of any size built from a config with random weights, as folders."""

from pathlib import Path
from typing import Any

import torch
from diffusers import AutoencoderKL, DDIMScheduler, StableDiffusionPipeline, UNet2DConditionModel
from tokenizers.pre_tokenizers import ByteLevel
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

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


def save_model(
    folder: Path,
    sizes: dict[str, Any] = TINY,
    *,
    prediction_type: str = "epsilon",
    class_labels: int | None = None,
    dtype: torch.dtype = torch.float32,
) -> Path:
    """Write a Stable-Diffusion pipeline folder with seeded random weights and return it."""
    torch.manual_seed(0)
    count = len(sizes["vae"]["block_out_channels"])
    depth = len(sizes["unet"]["block_out_channels"])
    # The last level has no cross-attention, as in Stable Diffusion.
    down = ("CrossAttnDownBlock2D",) * (depth - 1) + ("DownBlock2D",)
    up = ("UpBlock2D",) + ("CrossAttnUpBlock2D",) * (depth - 1)
    tokenizer = byte_tokenizer()
    pipeline = StableDiffusionPipeline(
        vae=AutoencoderKL(
            down_block_types=("DownEncoderBlock2D",) * count,
            up_block_types=("UpDecoderBlock2D",) * count,
            latent_channels=4,
            scaling_factor=0.18215,
            **sizes["vae"],
        ),
        unet=UNet2DConditionModel(
            in_channels=4,
            out_channels=4,
            down_block_types=down,
            up_block_types=up,
            num_class_embeds=class_labels,
            **sizes["unet"],
        ),
        text_encoder=CLIPTextModel(
            CLIPTextConfig(
                vocab_size=len(tokenizer),
                max_position_embeddings=77,
                bos_token_id=tokenizer.bos_token_id,
                eos_token_id=tokenizer.eos_token_id,
                **sizes["text"],
            )
        ),
        tokenizer=tokenizer,
        scheduler=DDIMScheduler(
            beta_start=0.00085,
            beta_end=0.012,
            beta_schedule="scaled_linear",
            prediction_type=prediction_type,
            clip_sample=False,
            steps_offset=1,
        ),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )
    pipeline.to(dtype).save_pretrained(folder)
    return folder


def byte_tokenizer() -> CLIPTokenizer:
    """A CLIP tokenizer without merges: one token a byte."""
    letters = sorted(ByteLevel.alphabet())
    words = [*letters, *(letter + "</w>" for letter in letters), "<|startoftext|>", "<|endoftext|>"]
    vocabulary = {word: number for number, word in enumerate(words)}
    return CLIPTokenizer(vocab=vocabulary, merges=[], model_max_length=77)
