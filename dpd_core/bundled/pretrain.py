"""The stages that make the bundled models, each resumable, and their command line."""

from __future__ import annotations

import argparse
import logging
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from diffusers import AutoencoderKL
    from transformers import CLIPTokenizer

from dpd_core.bundled.corpus import Split, build_corpus, load_split
from dpd_core.bundled.model_cards import write_cards
from dpd_core.bundled.recipe import PretrainRecipe
from dpd_core.bundled.training_loop import CHECKPOINT_NAME

log = logging.getLogger(__name__)

STAGES = ("vae", "base", "captioner", "measure")
TRAIN_SPLITS = ("scenes-train", "eurosat-train")
# Before this many steps samples are mush and not worth showing.
PREVIEW_FROM = 400


def train_vae_stage(work: Path, recipe: PretrainRecipe) -> AutoencoderKL:
    """Train the autoencoder and store it, with its latent scale, as ``work/vae/model``."""
    from diffusers import AutoencoderKL

    from dpd_core.bundled.vae import measure_scale, train_vae

    finished = work / "vae" / "model"
    if (finished / "config.json").exists():
        return AutoencoderKL.from_pretrained(finished).eval()
    splits = [load_split(work, name) for name in TRAIN_SPLITS]
    vae = train_vae([split.images for split in splits], recipe.vae, work / "vae")
    import numpy as np

    sample = np.concatenate([split.images[:: len(split) // 1000] for split in splits])
    vae.register_to_config(scaling_factor=round(measure_scale(vae, sample), 5))
    vae.save_pretrained(finished)
    return vae


def _tokenizer(work: Path, splits: Sequence[Split]) -> CLIPTokenizer:
    from transformers import CLIPTokenizer

    from dpd_core.bundled.text_to_image import TextToImageSize, build_tokenizer, tokenizer_texts

    folder = work / "base" / "tokenizer"
    if not (folder / "tokenizer_config.json").exists():
        texts = tokenizer_texts(splits)
        build_tokenizer(texts, TextToImageSize().vocabulary).save_pretrained(folder)
    return CLIPTokenizer.from_pretrained(folder)


def _latents(work: Path, name: str, vae: AutoencoderKL, split: Split) -> Any:
    """Return the scaled latents (n, 4, 16, 16) float16 of a split, cached on disk."""
    import numpy as np
    import torch

    from dpd_core.bundled.vae import encode

    path = work / "latents" / f"{name}.npy"
    if not path.exists():
        log.info("encoding %s", name)
        latents = (encode(vae, split.images) * vae.config.scaling_factor).half()
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = path.with_name(path.stem + ".part.npy")
        np.save(temporary, latents.numpy())
        temporary.replace(path)
    return torch.from_numpy(np.load(path))


def train_base_stage(work: Path, out: Path, recipe: PretrainRecipe) -> None:
    """Train UNet and text encoder and export the pipeline; previews on the way."""
    from dpd_core.bundled.text_to_image import (
        PromptedLatents,
        assemble_pipeline,
        export_pipeline,
        train_text_to_image,
    )

    vae = train_vae_stage(work, recipe)
    splits = [load_split(work, name) for name in TRAIN_SPLITS]
    tokenizer = _tokenizer(work, splits)
    data = [
        (share, PromptedLatents.of(split, _latents(work, name, vae, split), tokenizer))
        for share, name, split in zip(
            (recipe.scene_share, 1 - recipe.scene_share), TRAIN_SPLITS, splits, strict=True
        )
    ]

    def preview(unet: Any, text_encoder: Any, step: int) -> None:
        if step >= PREVIEW_FROM:
            export_pipeline(assemble_pipeline(vae, unet, text_encoder, tokenizer), out / "base")

    unet, text_encoder = train_text_to_image(
        data, recipe.base, work / "base", tokenizer=tokenizer, on_preview=preview
    )
    export_pipeline(assemble_pipeline(vae, unet, text_encoder, tokenizer), out / "base")


def train_captioner_stage(work: Path, out: Path, recipe: PretrainRecipe) -> None:
    """Train and export the captioner; previews on the way."""
    from transformers import BertTokenizer

    from dpd_core.bundled.captioner import (
        CaptionerSize,
        build_tokenizer,
        export_captioner,
        train_captioner,
    )

    splits = [load_split(work, name) for name in TRAIN_SPLITS]
    folder = work / "captioner" / "tokenizer"
    if not (folder / "tokenizer_config.json").exists():
        texts = [caption for split in splits for caption in split.captions]
        build_tokenizer(texts, CaptionerSize().vocabulary).save_pretrained(folder)
    tokenizer = BertTokenizer.from_pretrained(folder)
    shares = (recipe.scene_share, 1 - recipe.scene_share)
    model = train_captioner(
        list(zip(shares, splits, strict=True)),
        recipe.captioner,
        work / "captioner",
        tokenizer=tokenizer,
        on_preview=lambda model, step: export_captioner(model, tokenizer, out / "captioner"),
    )
    export_captioner(model, tokenizer, out / "captioner")


def run(
    eurosat: Path,
    work: Path,
    out: Path,
    *,
    only: str | None = None,
    recipe: PretrainRecipe | None = None,
) -> None:
    """Run all stages in order, or one of them; each continues where it stopped."""
    from dpd_core.bundled.measure import measure_all

    recipe = recipe or PretrainRecipe()
    build_corpus(work, eurosat, recipe.corpus)
    wanted = STAGES if only is None else (only,)
    if "vae" in wanted:
        train_vae_stage(work, recipe)
    if "base" in wanted:
        train_base_stage(work, out, recipe)
    if "captioner" in wanted:
        train_captioner_stage(work, out, recipe)
    if "measure" in wanted:
        results = measure_all(work, out)
        write_cards(out, results, recipe)
        log.info("measured: %s", results)


def main(arguments: Sequence[str] | None = None) -> int:
    """Read the command line and run; progress goes to stderr."""
    parser = argparse.ArgumentParser(
        prog="python -m dpd_core.bundled",
        description="Pretrain the bundled models. Every stage resumes where it was stopped.",
    )
    parser.add_argument(
        "--eurosat", type=Path, required=True, help="EuroSAT RGB: a folder of class folders"
    )
    parser.add_argument(
        "--work",
        type=Path,
        required=True,
        help=f"working folder for the corpus and {CHECKPOINT_NAME} files (about 2 GB)",
    )
    parser.add_argument("--out", type=Path, required=True, help="where the models are written")
    parser.add_argument("--only", choices=STAGES, help="run one stage instead of all")
    options = parser.parse_args(arguments)
    logging.basicConfig(
        level=logging.INFO, stream=sys.stderr, format="%(asctime)s %(message)s", datefmt="%H:%M:%S"
    )
    run(options.eurosat, options.work, options.out, only=options.only)
    return 0
