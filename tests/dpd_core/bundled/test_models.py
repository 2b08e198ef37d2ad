"""The shipped models load through plain diffusers and transformers and do what they claim."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers import StableDiffusionPipeline
from PIL import Image
from transformers import AutoProcessor, BlipForConditionalGeneration

from dpd_core.bundled.autoencoder import encode, psnr, reconstructed
from dpd_core.bundled.captioner import caption_images
from dpd_core.dataset.demo import FOLDER

ASSETS = Path(__file__).resolve().parents[3] / "assets"
MODELS = [ASSETS / "base", ASSETS / "captioner"]


def held_out(per_class: int) -> tuple[np.ndarray, list[str]]:
    """Demo images, which no model was trained on: (n, 64, 64, 3) uint8 and their classes."""
    files = [
        path
        for folder in sorted(FOLDER.glob("*/"))
        for path in sorted(folder.glob("*.jpg"))[:per_class]
    ]
    return np.stack([np.asarray(Image.open(path)) for path in files]), [
        path.parent.name for path in files
    ]


@pytest.fixture(scope="module")
def pipeline():
    return StableDiffusionPipeline.from_pretrained(ASSETS / "base")


def test_models_are_small_and_safe_to_load():
    files = [path for model in MODELS for path in model.rglob("*") if path.is_file()]
    assert sum(path.stat().st_size for path in files) < 48e6
    assert not [path for path in files if path.suffix in {".bin", ".pt", ".pkl", ".ckpt"}]


def test_models_carry_card_and_numbers():
    for model in MODELS:
        metrics = json.loads((model / "metrics.json").read_text(encoding="utf-8"))
        assert metrics
        card = (model / "README.md").read_text(encoding="utf-8")
        assert card.startswith("---\nlicense:")
        assert all(str(value) in card for value in metrics.values())


def test_pipeline_parts_fit_together(pipeline):
    assert pipeline.unet.dtype == pipeline.text_encoder.dtype == pipeline.vae.dtype
    assert pipeline.unet.dtype == torch.float32
    assert pipeline.scheduler.config.prediction_type == "v_prediction"
    assert pipeline.unet.config.cross_attention_dim == pipeline.text_encoder.config.hidden_size
    assert pipeline.unet.config.in_channels == pipeline.vae.config.latent_channels
    assert pipeline.tokenizer.model_max_length == 77
    assert pipeline.safety_checker is None


def test_pipeline_draws_an_image_of_its_size(pipeline):
    pipeline.set_progress_bar_config(disable=True)
    draw = [
        pipeline(
            "a satellite image of a river",
            num_inference_steps=2,
            generator=torch.Generator().manual_seed(7),
        ).images[0]
        for _ in range(2)
    ]
    assert draw[0].size == (64, 64)
    assert np.array_equal(np.asarray(draw[0]), np.asarray(draw[1]))


@pytest.mark.parametrize(
    "text", ["a satellite image of a quarry", "größe 測試 🌲 ñandú", "x9#§ km² — ½", "ქართული"]
)
def test_tokenizer_spells_any_text(pipeline, text):
    tokenizer = pipeline.tokenizer
    ids = tokenizer(text).input_ids
    assert ids[0] == tokenizer.bos_token_id
    assert ids[-1] == tokenizer.eos_token_id
    # The end token doubles as the unknown token: it may stand at the end only.
    assert tokenizer.unk_token_id not in ids[:-1]
    spoken = tokenizer.decode(ids, skip_special_tokens=True)
    assert spoken.replace(" ", "") == text.lower().replace(" ", "")


def test_autoencoder_reconstructs_images_it_has_not_seen(pipeline):
    images, _ = held_out(2)
    assert psnr(images, reconstructed(pipeline.vae, images)).mean() >= 32
    scaled = encode(pipeline.vae, images) * pipeline.vae.config.scaling_factor
    assert 0.5 < float(scaled.std()) < 1.6


def test_captioner_goes_on_from_the_class_it_is_told():
    model = BlipForConditionalGeneration.from_pretrained(ASSETS / "captioner").eval()
    processor = AutoProcessor.from_pretrained(ASSETS / "captioner")
    images, names = held_out(1)
    captions = caption_images(model, processor, images, names)
    assert all(
        text.startswith(f"a satellite image of {name}")
        for text, name in zip(captions, names, strict=True)
    )
    assert np.mean([len(text.split(",")) for text in captions]) >= 2
    assert len(set(captions)) == len(captions)
    alone = caption_images(model, processor, images)
    assert all(text.startswith("a satellite image") for text in alone)
