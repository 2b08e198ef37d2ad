"""The bundled text-to-image model: a small Stable Diffusion pipeline at 64 x 64 pixels.

A CLIP text encoder with its own byte-level vocabulary and a v-predicting UNet, trained
together on the autoencoder's cached latents with min-SNR weights.
"""

from __future__ import annotations

import copy
import json
import logging
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np
    import torch
    from diffusers import AutoencoderKL, StableDiffusionPipeline, UNet2DConditionModel
    from transformers import CLIPTextModel, CLIPTokenizer

from dpd_core.bundled.corpus import Split
from dpd_core.bundled.folders import replace_folder, save_half_precision
from dpd_core.bundled.training_loop import LoopRecipe, Trainer, bf16_autocast
from dpd_core.bundled.vocabulary import general_phrases

log = logging.getLogger(__name__)

MAX_TOKENS = 77
SNR_GAMMA = 5.0
SCHEDULE: dict[str, Any] = {
    "num_train_timesteps": 1000,
    "beta_start": 0.00085,
    "beta_end": 0.012,
    "beta_schedule": "scaled_linear",
    "prediction_type": "v_prediction",
}
# Repeats are weights: the first wording is the one the application uses.
SHORT_PROMPTS = (
    *("a satellite image of {}",) * 4,
    "an aerial photo of {}",
    "{}",
)
EMPTY_SHARE, SHORT_SHARE = 0.10, 0.40


@dataclass(frozen=True)
class TextToImageSize:
    """Width and depth of the UNet and the text encoder."""

    unet_channels: tuple[int, ...] = (64, 128, 256)
    text_hidden: int = 128
    text_layers: int = 4
    vocabulary: int = 3000


def build_tokenizer(texts: Sequence[str], vocabulary: int) -> CLIPTokenizer:
    """Train CLIP's byte-level BPE on ``texts``; any other text falls back to its bytes."""
    from tokenizers import Regex, Tokenizer, models, normalizers, pre_tokenizers, trainers
    from transformers import CLIPTokenizer

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


def build_text_encoder(tokenizer: CLIPTokenizer, size: TextToImageSize) -> CLIPTextModel:
    """Return an untrained CLIP text encoder for ``tokenizer``."""
    from transformers import CLIPTextConfig, CLIPTextModel

    return CLIPTextModel(
        CLIPTextConfig(
            vocab_size=len(tokenizer),
            hidden_size=size.text_hidden,
            intermediate_size=4 * size.text_hidden,
            num_hidden_layers=size.text_layers,
            num_attention_heads=4,
            max_position_embeddings=MAX_TOKENS,
            projection_dim=size.text_hidden,
            bos_token_id=tokenizer.bos_token_id,
            eos_token_id=tokenizer.eos_token_id,
            pad_token_id=tokenizer.pad_token_id,
        )
    )


def build_unet(size: TextToImageSize, sample_size: int = 16) -> UNet2DConditionModel:
    """Return an untrained UNet; text enters at every scale but the finest.

    Attention over the 16 x 16 positions would more than double the time of a step.
    """
    from diffusers import UNet2DConditionModel

    blocks = len(size.unet_channels)
    return UNet2DConditionModel(
        sample_size=sample_size,
        block_out_channels=size.unet_channels,
        down_block_types=("DownBlock2D", *("CrossAttnDownBlock2D",) * (blocks - 1)),
        up_block_types=(*("CrossAttnUpBlock2D",) * (blocks - 1), "UpBlock2D"),
        layers_per_block=1,
        cross_attention_dim=size.text_hidden,
        attention_head_dim=4,
    )


def tokenize(tokenizer: CLIPTokenizer, texts: Sequence[str]) -> torch.Tensor:
    """Return token ids (n, 77) int64, padded as the pipeline pads them."""
    return tokenizer(
        list(texts),
        padding="max_length",
        max_length=MAX_TOKENS,
        truncation=True,
        return_tensors="pt",
    ).input_ids


def tokenizer_texts(splits: Sequence[Split]) -> list[str]:
    """Return the texts the vocabulary is learnt from: captions, class names, general words."""
    captions = [caption for split in splits for caption in split.captions]
    names = [name for split in splits for name in split.class_names]
    return [*captions, *names, *general_phrases()]


@dataclass(frozen=True)
class PromptedLatents:
    """Scaled latents (n, 4, 16, 16) float16 with the token ids of each caption and class."""

    latents: torch.Tensor
    caption_ids: torch.Tensor
    labels: np.ndarray
    class_ids: torch.Tensor

    @classmethod
    def of(cls, split: Split, latents: torch.Tensor, tokenizer: CLIPTokenizer) -> PromptedLatents:
        """Tokenize a split; ``class_ids`` is (classes, prompts, 77)."""
        import torch

        prompts = [
            tokenize(tokenizer, [short.format(name) for short in SHORT_PROMPTS])
            for name in split.class_names
        ]
        return cls(latents, tokenize(tokenizer, split.captions), split.labels, torch.stack(prompts))

    def draw(
        self, count: int, rng: np.random.Generator, empty: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Return ``count`` latents and prompt ids: short, full or empty prompts by share."""
        import torch

        rows = rng.integers(len(self.latents), size=count)
        kinds = rng.random(count)
        wordings = rng.integers(self.class_ids.shape[1], size=count)
        ids = self.caption_ids[rows].clone()
        for index in range(count):
            if kinds[index] < EMPTY_SHARE:
                ids[index] = empty
            elif kinds[index] < EMPTY_SHARE + SHORT_SHARE:
                ids[index] = self.class_ids[self.labels[rows[index]], wordings[index]]
        return self.latents[torch.from_numpy(rows)].float(), ids


def diffusion_loss(
    unet: UNet2DConditionModel,
    text_encoder: CLIPTextModel,
    latents: torch.Tensor,
    prompt_ids: torch.Tensor,
    generator: torch.Generator,
    alphas_cumprod: torch.Tensor,
) -> torch.Tensor:
    """Return the min-SNR weighted v-prediction loss of a batch of scaled latents."""
    import torch

    count, total = len(latents), len(alphas_cumprod)
    # One timestep from each of ``count`` equal slices: less variance than free draws.
    slices = torch.arange(count) + torch.rand(count, generator=generator)
    timesteps = (slices * total / count).long().clamp(max=total - 1)
    alpha = alphas_cumprod[timesteps].sqrt()[:, None, None, None]
    sigma = (1 - alphas_cumprod[timesteps]).sqrt()[:, None, None, None]
    noise = torch.randn(latents.shape, generator=generator)
    target = alpha * noise - sigma * latents
    with bf16_autocast():
        states = text_encoder(prompt_ids).last_hidden_state
        predicted = unet(alpha * latents + sigma * noise, timesteps, states).sample
    error = (predicted.float() - target).square().mean((1, 2, 3))
    snr = alphas_cumprod[timesteps] / (1 - alphas_cumprod[timesteps])
    return (error * snr.clamp(max=SNR_GAMMA) / (snr + 1)).mean()


def train_text_to_image(
    data: Sequence[tuple[float, PromptedLatents]],
    recipe: LoopRecipe,
    folder: Path,
    *,
    tokenizer: CLIPTokenizer,
    size: TextToImageSize | None = None,
    stop_at: int | None = None,
    on_preview: Callable[[UNet2DConditionModel, CLIPTextModel, int], None] | None = None,
) -> tuple[UNet2DConditionModel, CLIPTextModel]:
    """Train UNet and text encoder on shares of each data set; return the averaged models.

    ``on_preview`` gets copies holding the averaged weights at every checkpoint.
    """
    import torch
    from diffusers import DDPMScheduler
    from diffusers.models.attention_processor import AttnProcessor

    torch.manual_seed(recipe.seed)
    size = size or TextToImageSize()
    sample_size = int(data[0][1].latents.shape[-1])
    text_encoder, unet = build_text_encoder(tokenizer, size), build_unet(size, sample_size)
    # On a CPU the backward pass of fused attention is slower than plain matrix products.
    unet.set_attn_processor(AttnProcessor())
    trainer = Trainer({"unet": unet, "text": text_encoder}, recipe, folder, name="base")
    alphas_cumprod = DDPMScheduler(**SCHEDULE).alphas_cumprod
    empty = tokenize(tokenizer, [""])[0]
    shares = [share for share, _ in data]

    def loss_of(
        rng: np.random.Generator, generator: torch.Generator, step: int
    ) -> tuple[torch.Tensor, dict[str, float]]:
        counts = rng.multinomial(recipe.part_size, shares)
        drawn = [part.draw(int(n), rng, empty) for n, (_, part) in zip(counts, data, strict=True)]
        # Timesteps rise along the batch, so its order must not tell the data sets apart.
        order = torch.from_numpy(rng.permutation(recipe.part_size))
        latents = torch.cat([latent for latent, _ in drawn])[order]
        ids = torch.cat([prompt for _, prompt in drawn])[order]
        return diffusion_loss(unet, text_encoder, latents, ids, generator, alphas_cumprod), {}

    def preview(step: int) -> None:
        if on_preview is None:
            return
        copies = copy.deepcopy({"unet": unet, "text": text_encoder})
        with torch.no_grad():
            for module_name, module in copies.items():
                for key, parameter in module.named_parameters():
                    parameter.copy_(trainer.ema[f"{module_name}.{key}"])
        on_preview(copies["unet"].eval(), copies["text"].eval(), step)

    trainer.run(loss_of, stop_at=stop_at, on_checkpoint=preview)
    trainer.load_ema()
    return unet, text_encoder


def assemble_pipeline(
    vae: AutoencoderKL,
    unet: UNet2DConditionModel,
    text_encoder: CLIPTextModel,
    tokenizer: CLIPTokenizer,
) -> StableDiffusionPipeline:
    """Return the parts as an ordinary Stable Diffusion pipeline without safety checker."""
    from diffusers import DPMSolverMultistepScheduler, StableDiffusionPipeline

    return StableDiffusionPipeline(
        vae=vae,
        unet=unet,
        text_encoder=text_encoder,
        tokenizer=tokenizer,
        scheduler=DPMSolverMultistepScheduler(**SCHEDULE, steps_offset=1),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )


def export_pipeline(pipeline: StableDiffusionPipeline, target: Path) -> None:
    """Save a half-precision copy as ``target``, replacing the folder in one rename."""
    with replace_folder(target) as fresh:
        pipeline.save_pretrained(fresh, safe_serialization=True)
        save_half_precision(fresh)
