"""The full-size path: Stable-Diffusion-1.5 and 2 sizes with random weights, same functions.

Encode, two LoRA steps with the consistency loss, two guided sampling steps, decode.
"""

import gc
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from dpd_core.config import ProjectConfig, TrainConfig
from dpd_core.hardware import choose_hardware
from dpd_core.models.backbone import Backbone
from dpd_core.models.sampling import PrototypeGuidance, sample
from dpd_core.train.classifier import LatentClassifier
from dpd_core.train.trainer import Examples, Trainer
from tests.support.models import STABLE_DIFFUSION_1, STABLE_DIFFUSION_2, save_model

pytestmark = pytest.mark.slow

MODELS: dict[str, dict[str, Any]] = {
    "stable-diffusion-1.5": {"sizes": STABLE_DIFFUSION_1, "prediction_type": "epsilon"},
    "text2earth": {
        "sizes": STABLE_DIFFUSION_2,
        "prediction_type": "v_prediction",
        "class_labels": 1,
    },
}


@pytest.fixture(params=MODELS)
def folder(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Path]:
    yield save_model(tmp_path / "model", dtype=torch.float16, **MODELS[request.param])
    shutil.rmtree(tmp_path / "model")
    gc.collect()


def test_a_full_size_model_is_trained_and_sampled(folder: Path, tmp_path: Path) -> None:
    hardware = choose_hardware(ProjectConfig(device="cpu", dtype="bfloat16"))
    backbone = Backbone.load(str(folder), hardware=hardware, image_size=256)
    assert backbone.latent_shape == (4, 32, 32)
    pixels = torch.randint(0, 256, (2, 256, 256, 3), dtype=torch.uint8)
    posterior = backbone.encode_images(pixels)
    prompts = backbone.encode_prompts(["A satellite image of a harbor", "boats " * 100])
    assert prompts.embeddings[1].shape[0] > 77

    classifier = LatentClassifier(["forest", "harbor"], 4)
    examples = Examples(posterior, torch.tensor([0, 1]), [0, 1], prompts)
    config = TrainConfig(
        steps=2, batch_size=1, warmup_steps=0, consistency_max_noise=1.0, preview_steps=0
    )
    trainer = Trainer(backbone, classifier, examples, config, folder=tmp_path / "a", seed=0)
    before = {name: value.detach().clone() for name, value in trainer.parameters.items()}
    result = trainer.fit()
    assert result["consistency"] > 0
    assert any(
        not torch.equal(before[name], value) for name, value in trainer.parameters.items()
    ), "training must change the adapter"
    del trainer, backbone
    gc.collect()

    adapted = Backbone.load(str(folder), hardware=hardware, image_size=256, adapter=tmp_path / "a")
    embeddings = prompts.batch([0])
    latents = sample(
        adapted,
        noise=torch.randn(1, 4, 32, 32),
        embeddings=embeddings,
        unconditional=prompts.unconditional(embeddings),
        steps=2,
        scheduler="ddim",
        guide=PrototypeGuidance(posterior.mean[:1]),
    )
    assert torch.isfinite(latents).all()
    images = adapted.decode_latents(latents)
    assert images.shape == (1, 256, 256, 3)
