"""CLIP scores and zero-shot accuracy, with a tiny CLIP made from a config."""

from pathlib import Path

import numpy as np
import pytest
import torch
import transformers
from PIL import Image

from dpd_core.config import EvaluateConfig
from dpd_core.errors import ModelError
from dpd_core.evaluate import stage, text_image
from dpd_core.evaluate.report import load_report
from dpd_core.students.features import features_by
from tests.support.distilled_project import make_project
from tests.support.models import byte_tokenizer


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("clip")
    torch.manual_seed(0)
    tokenizer = byte_tokenizer()
    small = {"num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}
    ends = {"bos_token_id": tokenizer.bos_token_id, "eos_token_id": tokenizer.eos_token_id}
    settings = transformers.CLIPConfig(
        text_config={"hidden_size": 8, "vocab_size": len(tokenizer), **small, **ends},
        vision_config={"hidden_size": 16, "image_size": 28, "patch_size": 14, **small},
        projection_dim=12,
    )
    transformers.CLIPModel(settings).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    transformers.CLIPImageProcessor(
        size={"shortest_edge": 28}, crop_size={"height": 28, "width": 28}
    ).save_pretrained(folder)
    return folder


def test_the_score_is_the_models_own_similarity(clip: Path) -> None:
    """CLIPModel's logits are its scale times the cosines."""
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 256, (3, 40, 40, 3), dtype=np.uint8)
    texts = ["a river", "boats and quays " * 30, "a forest"]
    model = transformers.CLIPModel.from_pretrained(clip)
    tokens = transformers.AutoTokenizer.from_pretrained(clip)(
        texts, padding=True, truncation=True, max_length=77, return_tensors="pt"
    )
    seen = transformers.AutoImageProcessor.from_pretrained(clip, use_fast=False)(
        images=[Image.fromarray(image) for image in pixels], return_tensors="pt"
    )
    with torch.no_grad():
        logits = model(**tokens, **seen).logits_per_image / model.logit_scale.exp()
    images = features_by(str(clip), pixels)
    words = text_image.text_features(str(clip), texts, device="cpu")
    expected = 100 * logits.diagonal().clamp(min=0).mean()
    assert text_image.clip_score(images, words) == pytest.approx(float(expected), abs=1e-3)
    labels = np.array([2, 0, 1])
    found = text_image.alignment(images, labels, words)
    assert found.zero_shot == pytest.approx(
        float((logits.argmax(1) == torch.tensor(labels)).float().mean())
    )
    assert found.images == 3


def test_zero_shot_takes_the_nearest_sentence() -> None:
    prompts = np.eye(3, dtype=np.float32)
    images = np.array([[2, 0, 0], [0, 1, 1.5], [0, 0, -1]], dtype=np.float32)
    found = text_image.alignment(images, np.array([0, 1, 2]), prompts)
    assert found.zero_shot == pytest.approx(1 / 3)
    cosine = 1 / np.hypot(1, 1.5)
    assert found.class_score == pytest.approx(100 * (1 + cosine + 0) / 3), "below zero is zero"


def test_the_report_has_the_set_and_real_images_beside(clip: Path, tmp_path: Path) -> None:
    project = make_project(tmp_path / "project")
    config = EvaluateConfig(
        student="pretrained", seeds=1, baselines=(), distribution=False, clip=str(clip)
    )
    summary = stage.run(project, config)
    report = load_report(project, "dpd-1")
    assert report is not None and report.text_image is not None
    found = report.text_image
    assert (found.ours.images, found.real.images) == (6, 12)
    assert summary["clip"] == {
        "caption_score": found.caption_score,
        "zero_shot": found.ours.zero_shot,
        "zero_shot_real": found.real.zero_shot,
    }
    assert 0 <= found.ours.zero_shot <= 1 and 0 <= found.caption_score <= 100
    assert found.network == clip.name and str(clip.parent) not in str(report.to_dict())
    assert f"{found.ours.zero_shot:.0%}" in found.sentence
    stage.run(project, config.replace(clip=""))
    report = load_report(project, "dpd-1")
    assert report is not None and report.text_image is None


def test_a_model_that_is_no_clip_is_named(tmp_path: Path) -> None:
    settings = transformers.Dinov2Config(
        hidden_size=16, num_hidden_layers=1, num_attention_heads=2, image_size=28, patch_size=14
    )
    transformers.Dinov2Model(settings).save_pretrained(tmp_path)
    transformers.CLIPImageProcessor().save_pretrained(tmp_path)
    with pytest.raises(ModelError, match="not a CLIP") as error:
        text_image.text_features(str(tmp_path), ["a river"], device="cpu")
    assert "transformers format" in str(error.value.fix)
