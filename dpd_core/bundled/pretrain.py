"""The parts that make the bundled models, each resumable, and their command line."""

from __future__ import annotations

import argparse
import logging
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from diffusers import AutoencoderKL, UNet2DConditionModel
from transformers import (
    BertTokenizer,
    BlipForConditionalGeneration,
    CLIPTextModel,
    CLIPTokenizer,
)

from dpd_core.bundled import autoencoder, captioner, descriptions, prompts, text_to_image
from dpd_core.bundled.corpus import Collection, pack_corpus, read_pack
from dpd_core.bundled.crops import CropSampler
from dpd_core.bundled.latent_pool import Drawn, LatentPool
from dpd_core.bundled.measure import measure_all
from dpd_core.bundled.model_cards import write_cards
from dpd_core.bundled.recipe import MINUTES_SHARES, STAGES, Recipe, recipe_for
from dpd_core.bundled.training_loop import CHECKPOINT_NAME
from dpd_core.config import ProjectConfig
from dpd_core.hardware import Hardware, choose_hardware
from dpd_core.storage import read_json
from dpd_core.students.features import load_network

log = logging.getLogger(__name__)

SHARES = {"eurosat": 0.6, "naip": 0.3, "banepa": 0.05, "ramp": 0.05}
"""How often the text-to-image model and the captioner see each kind of image."""


@dataclass
class Pretraining:
    """The parts in order. Each takes up its own checkpoint, and what the ones before it left.

    Attributes:
        pack: The packed corpus.
        work: Folder of checkpoints and finished parts.
        out: Folder of the finished models: ``base`` and ``captioner``.
        recipe, hardware: How and where.
        start: Folder with ``base`` and ``captioner`` whose weights are gone on with; ``None``
            begins from nothing.
        channels: Of the latents.
        compiled: Whether the UNet is compiled.
    """

    pack: Path
    work: Path
    out: Path
    recipe: Recipe
    hardware: Hardware
    start: Path | None = None
    channels: int = autoencoder.LATENT_CHANNELS
    compiled: bool = False

    @cached_property
    def collections(self) -> tuple[list[Collection], list[Collection]]:
        """Training and held-out images."""
        return read_pack(self.pack)

    @property
    def class_names(self) -> tuple[str, ...]:
        """What the labels of the images mean."""
        return self.collections[0][0].class_names

    def train_autoencoder(self) -> AutoencoderKL:
        """Train the autoencoder; the finished one lies in ``work/autoencoder/model``."""
        folder = self.work / "autoencoder"
        start = self._started(AutoencoderKL, "base", "vae")
        vae = autoencoder.build_autoencoder(self.channels) if start is None else start
        if start is not None and start.config.latent_channels < self.channels:
            vae = autoencoder.widened(start, self.channels)
        vae = autoencoder.train_autoencoder(
            self.collections[0],
            self.recipe.autoencoder,
            folder,
            self.hardware,
            vae=vae,
            start=start,
        )
        vae.save_pretrained(folder / "model")
        return vae

    def train_text_to_image(self) -> None:
        """Train UNet and text encoder and export the pipeline, also on the way."""
        vae = self._autoencoder().to(self.hardware.device)
        tokenizer, text_encoder, unet = self._text_to_image_parts(vae)
        for part in (text_encoder, unet):
            part.to(self.hardware.device)
        train, held_out = self.collections
        fresh = self.start is None
        network = load_network(self.hardware.device) if fresh and self.recipe.aligned else None
        loop = self.recipe.text_to_image
        pool = LatentPool(
            CropSampler(train, SHARES, self.hardware.device),
            self.class_names,
            vae,
            tokenizer,
            self.hardware,
            capacity=self.recipe.pool,
            fresh=self.recipe.fresh,
            every=self.recipe.every,
            seed=loop.seed,
            network=network,
            workers=self.recipe.workers,
        )

        def preview(unet: UNet2DConditionModel, text_encoder: CLIPTextModel) -> None:
            pipeline = text_to_image.assemble_pipeline(vae, unet, text_encoder, tokenizer)
            text_to_image.export_pipeline(pipeline, self.out / "base")

        text_to_image.train_text_to_image(
            pool,
            self._held_out(held_out, vae, tokenizer),
            loop,
            self.work / "text_to_image",
            self.hardware,
            unet=unet,
            text_encoder=text_encoder,
            aligned=self.recipe.aligned if fresh else 0.0,
            compiled=self.compiled,
            on_preview=preview,
        )
        pool.close()
        preview(unet, text_encoder)

    def train_captioner(self) -> None:
        """Train and export the captioner."""
        folder = self.work / "captioner"
        sampler = CropSampler(self.collections[0], SHARES, self.hardware.device)
        size = captioner.CaptionerSize()
        model = self._started(BlipForConditionalGeneration, "captioner")
        if model is not None:
            tokenizer = BertTokenizer.from_pretrained(self.start / "captioner")  # type: ignore[operator]
        else:
            texts = self._captions(self.collections[0])
            tokenizer = captioner.build_tokenizer(texts, size.vocabulary)
            model = captioner.build_captioner(tokenizer, size)
        described = captioner.describe(
            sampler,
            self.class_names,
            tokenizer,
            self.recipe.described,
            seed=self.recipe.captioner.seed,
            workers=self.recipe.workers,
        )
        captioner.train_captioner(
            described,
            len(self.class_names),
            self.recipe.captioner,
            folder,
            self.hardware,
            model=model,
            tokenizer=tokenizer,
        )
        captioner.export_captioner(model, tokenizer, self.out / "captioner", size=size)

    def _text_to_image_parts(
        self, vae: AutoencoderKL
    ) -> tuple[CLIPTokenizer, CLIPTextModel, UNet2DConditionModel]:
        channels = vae.config.latent_channels
        if self.start is not None:
            base = self.start / "base"
            unet = UNet2DConditionModel.from_pretrained(base, subfolder="unet")
            if unet.config.in_channels < channels:
                unet = text_to_image.widened(unet, channels)
            return (
                CLIPTokenizer.from_pretrained(base, subfolder="tokenizer"),
                CLIPTextModel.from_pretrained(base, subfolder="text_encoder"),
                unet,
            )
        folder, size = self.work / "tokenizer", text_to_image.TextToImageSize()
        if not (folder / "tokenizer_config.json").exists():
            texts = prompts.tokenizer_texts(self._captions(self.collections[0]), self.class_names)
            prompts.build_tokenizer(texts).save_pretrained(folder)
        tokenizer = CLIPTokenizer.from_pretrained(folder)
        torch.manual_seed(self.recipe.text_to_image.seed)
        return (
            tokenizer,
            text_to_image.build_text_encoder(tokenizer, size),
            text_to_image.build_unet(size, channels),
        )

    def _autoencoder(self) -> AutoencoderKL:
        finished = self.work / "autoencoder" / "model"
        if not (finished / "config.json").exists():
            return self.train_autoencoder()
        return AutoencoderKL.from_pretrained(finished).eval()

    def _held_out(
        self, collections: Sequence[Collection], vae: AutoencoderKL, tokenizer: CLIPTokenizer
    ) -> Drawn:
        count = self.recipe.held_out
        pool = LatentPool(
            CropSampler(collections, SHARES, self.hardware.device),
            self.class_names,
            vae,
            tokenizer,
            self.hardware,
            capacity=count,
            fresh=0,
            seed=1,
        )
        return pool.whole()

    def _captions(self, collections: Sequence[Collection], count: int = 3000) -> list[str]:
        crops = CropSampler(collections, SHARES).draw(count, np.random.default_rng(0))
        images = crops.images.permute(0, 2, 3, 1).numpy()
        return [
            descriptions.caption(image, self.class_names[label] if label >= 0 else "")
            for image, label in zip(images, crops.labels, strict=True)
        ]

    def _started(self, kind, *folders: str):  # type: ignore[no-untyped-def]
        if self.start is None:
            return None
        return kind.from_pretrained(self.start.joinpath(*folders)).eval()


def main(arguments: Sequence[str] | None = None) -> int:
    """Read the command line and run; progress goes to stderr."""
    options = _parser().parse_args(arguments)
    logging.basicConfig(
        level=logging.INFO, stream=sys.stderr, format="%(asctime)s %(message)s", datefmt="%H:%M:%S"
    )
    pack = options.pack or options.work / "pack.safetensors"
    if not pack.exists():
        if options.eurosat is None:
            raise SystemExit(f"There is no {pack}. Give --eurosat (and --aerial), or --pack.")
        pack_corpus(options.eurosat, options.aerial, pack)
    if options.only == "pack":
        return 0
    shares = MINUTES_SHARES if options.only is None else dict.fromkeys(MINUTES_SHARES, 1.0)
    minutes = {name: share * options.minutes for name, share in shares.items()}
    hardware = choose_hardware(ProjectConfig(device=options.device))
    log.info("%s", hardware.reason)
    made = Pretraining(
        pack,
        options.work,
        options.out,
        recipe_for(hardware, minutes),
        hardware,
        start=options.start,
        channels=options.channels,
        compiled=options.compile,
    )
    wanted = STAGES if options.only is None else (options.only,)
    if "autoencoder" in wanted:
        made.train_autoencoder()
    if "text-to-image" in wanted:
        made.train_text_to_image()
    if "captioner" in wanted:
        made.train_captioner()
    if "measure" in wanted:
        results = measure_all(made.collections, options.out, hardware, unseen=options.unseen)
        write_cards(options.out, results, _trained(options.work))
    return 0


def _trained(work: Path) -> dict[str, dict[str, object]]:
    """What the checkpoints say of how long each part was trained."""
    return {
        path.parent.name: read_json(path)
        for path in work.glob("*/state.json")
        if (path.parent / CHECKPOINT_NAME).exists()
    }


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m dpd_core.bundled",
        description="Pretrain the bundled models. Every part goes on where it was stopped.",
    )
    parser.add_argument("--work", type=Path, required=True, help="folder of packs and checkpoints")
    parser.add_argument("--out", type=Path, required=True, help="where the models are written")
    parser.add_argument("--eurosat", type=Path, help="EuroSAT RGB: a folder of class folders")
    parser.add_argument("--aerial", type=Path, help="aerial photographs without classes")
    parser.add_argument("--pack", type=Path, help="the packed corpus (default: in the work folder)")
    parser.add_argument("--start", type=Path, help="folder of models to go on with (assets)")
    parser.add_argument("--unseen", type=Path, help="folder of class folders that only measures")
    parser.add_argument("--device", default="auto", choices=("auto", "cpu", "cuda"))
    parser.add_argument("--minutes", type=float, default=60.0, help="of training, in all")
    parser.add_argument("--channels", type=int, default=autoencoder.LATENT_CHANNELS)
    parser.add_argument("--compile", action="store_true", help="compile the UNet")
    parser.add_argument("--only", choices=("pack", *STAGES), help="one part instead of all")
    return parser
