"""The shipped models load through plain diffusers and transformers and do what they claim."""

import json
from pathlib import Path

import numpy as np
import pytest

from dpd_core.bundled.corpus import HELD_OUT_SEED, describe_patch, eurosat_caption
from dpd_core.bundled.measure import named_class
from dpd_core.bundled.scenes import SCENE_CLASSES, render_scene

ASSETS = Path(__file__).resolve().parents[3] / "assets"
MODELS = [ASSETS / "base", ASSETS / "captioner"]


def held_out(per_class: int) -> tuple[np.ndarray, list[str]]:
    """Scenes from seeds no model was trained on: (n, 64, 64, 3) uint8 and their classes."""
    # Past the seeds used for the published numbers.
    seeds = range(HELD_OUT_SEED + 500, HELD_OUT_SEED + 500 + per_class)
    scenes = [render_scene(name, seed=seed) for name in SCENE_CLASSES for seed in seeds]
    return np.stack([np.asarray(s.image) for s in scenes]), [s.class_name for s in scenes]


@pytest.fixture(scope="module")
def pipeline():
    from diffusers import StableDiffusionPipeline

    return StableDiffusionPipeline.from_pretrained(ASSETS / "base")


def test_models_are_small_and_safe_to_load():
    files = [path for model in MODELS for path in model.rglob("*") if path.is_file()]
    assert sum(path.stat().st_size for path in files) < 60e6
    assert not [path for path in files if path.suffix in {".bin", ".pt", ".pkl", ".ckpt"}]


def test_models_carry_card_and_numbers():
    for model in MODELS:
        metrics = json.loads((model / "metrics.json").read_text(encoding="utf-8"))
        assert metrics
        card = (model / "README.md").read_text(encoding="utf-8")
        assert card.startswith("---\nlicense:")
        assert all(str(value) in card for value in metrics.values())


def test_pipeline_parts_fit_together(pipeline):
    import torch

    assert pipeline.unet.dtype == pipeline.text_encoder.dtype == pipeline.vae.dtype
    assert pipeline.unet.dtype == torch.float32
    assert pipeline.scheduler.config.prediction_type == "v_prediction"
    assert pipeline.unet.config.cross_attention_dim == pipeline.text_encoder.config.hidden_size
    assert pipeline.tokenizer.model_max_length == 77
    assert pipeline.safety_checker is None


def test_pipeline_draws_an_image_of_its_size(pipeline):
    import torch

    pipeline.set_progress_bar_config(disable=True)
    draw = [
        pipeline(
            "a satellite image of a harbor",
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


def test_autoencoder_reconstructs_held_out_scenes(pipeline):
    from dpd_core.bundled.vae import encode
    from dpd_core.models.autoencoder import psnr_per_image

    images, _ = held_out(1)
    assert psnr_per_image(pipeline.vae, images).mean() >= 26
    scaled = encode(pipeline.vae, images) * pipeline.vae.config.scaling_factor
    assert 0.7 < float(scaled.std()) < 1.4


def test_captioner_names_held_out_scenes():
    from transformers import AutoProcessor, BlipForConditionalGeneration

    from dpd_core.bundled.captioner import caption_images

    model = BlipForConditionalGeneration.from_pretrained(ASSETS / "captioner").eval()
    processor = AutoProcessor.from_pretrained(ASSETS / "captioner")
    images, names = held_out(2)
    captions = caption_images(model, processor, images)
    assert all(caption.startswith("a satellite image of ") for caption in captions)
    right = [named_class(c, SCENE_CLASSES) == n for c, n in zip(captions, names, strict=True)]
    assert np.mean(right) >= 0.8


def test_named_class_takes_first_then_longest():
    classes = ("river", "forest", "residential", "residential area")
    assert named_class("a satellite image of a river through forest", classes) == "river"
    assert named_class("A residential area beside a river", classes) == "residential area"
    assert named_class("a beach", classes) is None


def test_patch_phrases_follow_the_pixels():
    stripes = np.zeros((64, 64, 3), dtype=np.uint8)
    stripes[:, ::8] = stripes[:, 1::8] = stripes[:, 2::8] = (200, 200, 200)
    assert "lines running north to south" in describe_patch(stripes)
    assert "lines running east to west" in describe_patch(stripes.transpose(1, 0, 2))
    plain = np.full((64, 64, 3), (45, 68, 62), dtype=np.uint8)
    caption = eurosat_caption("forest", plain)
    assert caption == (
        "a satellite image of forest, mostly dark green, dark, with a smooth texture"
    )


def test_diagonal_lines_are_named_by_where_they_lead():
    row, column = np.mgrid[:64, :64]
    falling = np.where((row - column) % 12 < 6, 200, 0).astype(np.uint8)[..., None].repeat(3, 2)
    assert "lines running northwest to southeast" in describe_patch(falling)
    assert "lines running northeast to southwest" in describe_patch(falling[:, ::-1])


def test_training_resumes_to_the_same_weights(tmp_path):
    import torch

    from dpd_core.bundled.training_loop import LoopRecipe
    from dpd_core.bundled.vae import build_vae, train_vae

    images = [np.random.default_rng(0).integers(0, 256, (8, 16, 16, 3), dtype=np.uint8)]
    recipe = LoopRecipe(steps=4, batch_size=4, learning_rate=1e-3, warmup=2)

    def toy():
        torch.manual_seed(1)
        return build_vae((16, 16), sample_size=16)

    whole = train_vae(images, recipe, tmp_path / "whole", vae=toy())
    train_vae(images, recipe, tmp_path / "halves", vae=toy(), stop_at=2)
    resumed = train_vae(images, recipe, tmp_path / "halves", vae=toy())
    for (name, expected), (_, found) in zip(
        whole.state_dict().items(), resumed.state_dict().items(), strict=True
    ):
        assert torch.equal(expected, found), name


def test_importing_the_pretraining_command_is_cheap():
    import subprocess
    import sys

    code = (
        "import sys, dpd_core.bundled.pretrain;"
        "sys.exit(any(m in sys.modules for m in ('torch', 'diffusers', 'transformers')))"
    )
    assert subprocess.run([sys.executable, "-c", code], cwd=ASSETS.parent).returncode == 0
