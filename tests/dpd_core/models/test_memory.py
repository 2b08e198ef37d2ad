"""What a training is said to take: counted from files, against networks that are there."""

import dataclasses
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from dpd_core.config import ProjectConfig
from dpd_core.errors import ModelError
from dpd_core.hardware import choose_hardware
from dpd_core.models import memory, weights
from dpd_core.models.backbone import Backbone
from dpd_core.models.families.base import Family
from tests.support.kept import FAMILIES, kept
from tests.support.models import save_model, save_model_3, save_model_xl

CPU = choose_hardware(ProjectConfig(device="cpu", dtype="float32"))
SAVED: tuple[Callable[[Path], Path], ...] = (save_model, save_model_xl, save_model_3)


def estimate(folder: Path, **settings: object) -> memory.TrainingMemory:
    given = {
        "side": 32,
        "batch": 2,
        "rank": 4,
        "targets": "attention",
        "checkpointing": False,
        "number": 4,
        **settings,
    }
    return memory.training_memory(folder, **given)  # type: ignore[arg-type]


@pytest.mark.parametrize("save", SAVED)
@pytest.mark.parametrize("targets", ["attention", "all", "whole"])
def test_what_is_trained_is_counted_from_the_files(
    save: Callable[[Path], Path], targets: str, tmp_path: Path
) -> None:
    folder = save(tmp_path)
    backbone = Backbone.load(str(folder), hardware=CPU, image_size=32)
    size = sum(value.numel() for value in backbone.denoiser.parameters())
    found = estimate(folder, targets=targets)
    if targets == "whole":
        assert found.trained * 2**30 == pytest.approx(16 * size, rel=0.01)
        return
    stored = sum(value.numel() for value in backbone.denoiser.state_dict().values())
    assert found.weights * 2**30 == pytest.approx(4 * stored, rel=0.01)
    trained = weights.add_lora(backbone.denoiser, type(backbone.family), rank=4, targets=targets)
    expected = 16 * sum(value.numel() for value in trained)
    assert found.trained * 2**30 == pytest.approx(expected, rel=0.02)


@pytest.mark.parametrize("save", SAVED)
def test_the_encoders_count_while_captions_are_encoded(
    save: Callable[[Path], Path], tmp_path: Path
) -> None:
    folder = save(tmp_path)
    backbone = Backbone.load(str(folder), hardware=CPU, image_size=32)
    resting = (backbone.vae, *backbone.family.encoders)
    size = sum(value.numel() for part in resting for value in part.parameters())
    found = estimate(folder)
    assert found.encoding * 2**30 == pytest.approx(4 * size, rel=0.01)
    short = estimate(folder, number=2)
    huge = backbone.family.parts.get("text_encoder_3")
    saved = 2 * sum(value.numel() for value in huge.parameters()) if huge is not None else 0
    assert (found.encoding - short.encoding) * 2**30 == pytest.approx(saved, rel=0.01)
    much = dataclasses.replace(found, encoding=50.0)
    assert much.total == pytest.approx(found.weights + 50 + 0.7)
    assert "while captions are encoded, the encoders 50.0" in str(much)
    assert estimate(folder, previewed=0).previews == 0 < found.previews


def test_checkpointing_and_small_batches_take_less(tmp_path: Path) -> None:
    folder = save_model(tmp_path)
    plain = estimate(folder, batch=8, side=512)
    assert estimate(folder, batch=8, side=512, checkpointing=True).kept < plain.kept / 3
    assert estimate(folder, batch=4, side=512).kept == pytest.approx(plain.kept / 2)
    assert estimate(folder, batch=8, side=256).kept == pytest.approx(plain.kept / 4)
    assert f"about {plain.total:.1f} GB" in str(plain)


def test_a_damaged_file_of_weights_is_named(tmp_path: Path) -> None:
    folder = save_model(tmp_path)
    (file,) = (folder / "unet").glob("*.safetensors")
    file.write_bytes(b"\xff" * 100)
    with pytest.raises(ModelError, match="header is too large"):
        estimate(folder)


def test_parts_that_rest_come_back_when_they_are_asked(tmp_path: Path) -> None:
    """With torch's meta device as the other one: it computes shapes."""
    backbone = Backbone.load(str(save_model_3(tmp_path)), hardware=CPU, image_size=32)
    backbone.rest()
    assert backbone.vae.device.type == "cpu", "there is no other device to rest on"
    backbone.hardware = dataclasses.replace(CPU, device=torch.device("meta"))
    latents = torch.zeros(2, *backbone.latent_shape, device="meta")
    assert backbone.decoded(latents).device.type == "meta"
    assert backbone.vae.device.type == "meta"
    assert {next(part.parameters()).device.type for part in backbone.family.encoders} == {"cpu"}


def test_large_images_go_through_the_autoencoder_in_tiles(tmp_path: Path) -> None:
    folder = str(save_model(tmp_path))
    assert Backbone.load(folder, hardware=CPU, image_size=1032).vae.use_tiling
    assert not Backbone.load(folder, hardware=CPU, image_size=1024).vae.use_tiling


@pytest.mark.slow
@pytest.mark.parametrize("family", FAMILIES)
def test_the_constants_are_those_of_full_size_networks(family: type[Family]) -> None:
    name = next(key for key in memory.KEPT if key in family.name)
    attention, everything, least = memory.KEPT[name]
    assert kept(family, 512, targets="attention") == pytest.approx(attention, rel=0.1)
    assert kept(family, 512, targets="all") == pytest.approx(everything, rel=0.15)
    assert kept(family, 512, targets="all", checkpointing=True) < least
