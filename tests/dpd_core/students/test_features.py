"""The pretrained feature network: weights, shapes, and that features tell things apart."""

import hashlib
import re

import numpy as np
import pytest
import torch
import transformers

from dpd_core.errors import ModelError
from dpd_core.students import features as module
from dpd_core.students.features import WIDTH, features, load_network, resized


def patterns(seed: int) -> np.ndarray:
    """Stripes, checks and blobs of random colours, four of each: uint8 (12, 64, 64, 3)."""
    rng = np.random.default_rng(seed)
    row, column = np.mgrid[:64, :64]
    found = []
    for kind in range(3):
        for _ in range(4):
            size = rng.integers(6, 12)
            mask = [
                (row // size) % 2,
                (row // size + column // size) % 2,
                np.hypot(row - 32, column - 32) < 2 * size,
            ][kind]
            dark, light = rng.integers(0, 90, 3), rng.integers(150, 255, 3)
            found.append(np.where(mask[..., None] > 0, light, dark))
    return np.stack(found).astype(np.uint8)


def test_the_weights_are_those_that_the_card_names():
    card = (module.WEIGHTS.parent / "README.md").read_text(encoding="utf-8")
    digest = hashlib.sha256(module.WEIGHTS.read_bytes()).hexdigest()
    assert digest in re.findall(r"[0-9a-f]{64}", card)


def test_features_have_one_row_an_image_whatever_the_batch():
    images = patterns(0)
    whole, parts = features(images), features(images, batch_size=5)
    assert whole.shape == (12, WIDTH)
    assert whole.dtype == np.float32
    assert whole.min() >= 0
    np.testing.assert_allclose(whole, parts, atol=1e-4)
    assert features(images[:0]).shape == (0, WIDTH)


def test_features_tell_kinds_of_pattern_apart_where_pixels_do_not():
    first, second = features(patterns(1)), features(patterns(2))
    first, second = (x / np.linalg.norm(x, axis=1, keepdims=True) for x in (first, second))
    kinds = np.repeat(range(3), 4)
    nearest = (second @ first.T).argmax(1)
    assert (kinds[nearest] == kinds).mean() >= 0.9


def test_maps_halve_from_stage_to_stage_and_pass_gradients():
    images = torch.zeros(1, 3, 100, 100, requires_grad=True)
    maps = load_network().maps(images)
    assert [tuple(stage.shape[1:]) for stage in maps] == [
        (16, 50, 50),
        (24, 25, 25),
        (40, 13, 13),
        (80, 7, 7),
        (112, 7, 7),
        (192, 4, 4),
        (320, 4, 4),
    ]
    assert len(load_network().maps(images, stages=2)) == 2
    maps[-1].square().mean().backward()
    assert float(images.grad.abs().sum()) > 0


def test_images_are_resized_only_where_needed():
    images = torch.rand(2, 3, 128, 128)
    assert resized(images) is images
    assert resized(images, 64).shape == (2, 3, 64, 64)


def test_missing_weights_are_said_to_be_missing(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "WEIGHTS", tmp_path / "model.safetensors")
    module._loaded.cache_clear()
    with pytest.raises(ModelError, match="feature network cannot be read"):
        load_network()
    monkeypatch.undo()
    module._loaded.cache_clear()


@pytest.mark.parametrize("kind", ["dinov2", "clip"])
def test_features_by_takes_a_vision_model_of_transformers(tmp_path, kind):
    if kind == "dinov2":
        settings = transformers.Dinov2Config(
            hidden_size=16, num_hidden_layers=1, num_attention_heads=2, image_size=28, patch_size=14
        )
        model, width = transformers.Dinov2Model(settings), 16
    else:
        settings = transformers.CLIPConfig(
            text_config={"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2},
            vision_config={
                "hidden_size": 16,
                "num_hidden_layers": 1,
                "num_attention_heads": 2,
                "image_size": 28,
                "patch_size": 14,
            },
            projection_dim=12,
        )
        model, width = transformers.CLIPModel(settings), 12
    model.save_pretrained(tmp_path)
    processor = transformers.CLIPImageProcessor(
        size={"shortest_edge": 28}, crop_size={"height": 28, "width": 28}
    )
    processor.save_pretrained(tmp_path)
    found = module.features_by(str(tmp_path), patterns(0), batch_size=5)
    assert found.shape == (12, width)
    assert np.isfinite(found).all()
    assert len(np.unique(found.round(4), axis=0)) == 12
    alone = module.features_by(str(tmp_path), patterns(0)[3:4])
    np.testing.assert_allclose(alone[0], found[3], atol=1e-4)


def test_features_by_names_a_model_that_is_none(tmp_path):
    (tmp_path / "config.json").write_text("{}", encoding="utf-8")
    with pytest.raises(ModelError, match="cannot be loaded") as caught:
        module.features_by(str(tmp_path), patterns(0))
    assert "bundled" in str(caught.value.fix)
