"""A whole model in one file: converted without a network, or told what is missing."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from dpd_core.config import ProjectConfig
from dpd_core.errors import ModelError
from dpd_core.hardware import choose_hardware
from dpd_core.models import hub, single_file
from dpd_core.models.backbone import Backbone, image_side
from dpd_core.models.files import resolve_model
from dpd_core.models.tokens import load_prompt_tokenizer
from tests.support.models import save_model
from tests.support.original_layout import save_single_file, settings_only

CPU = choose_hardware(ProjectConfig(device="cpu", dtype="float32"))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_model(tmp_path_factory.mktemp("tiny") / "model")


@pytest.fixture(autouse=True)
def kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where converted models go."""
    monkeypatch.setattr(single_file, "HF_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache" / "dpd-studio"


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
def test_a_single_file_is_the_model(
    folder: Path, tmp_path: Path, kept: Path, dtype: torch.dtype
) -> None:
    file = save_single_file(folder, tmp_path / "dreamshaper 8.safetensors", dtype)
    settings_only(folder, tmp_path / "dreamshaper 8")
    plain = Backbone.load(str(folder), hardware=CPU, image_size=32)
    ours = Backbone.load(str(file), hardware=CPU, image_size=32)
    for name in ("unet", "vae", "text_encoder"):
        states = plain.family.parts[name].state_dict()
        expected = {k: v.to(dtype).float() for k, v in states.items()}
        found = ours.family.parts[name].state_dict()
        assert set(found) == set(expected)
        assert all(torch.equal(found[k].float(), value) for k, value in expected.items())
    tokens = [model.family.tokenizers["tokenizer"]("a river").input_ids for model in (ours, plain)]
    assert tokens[0] == tokens[1]
    levels = torch.arange(1000)
    assert torch.equal(ours.schedule.level(levels).noise, plain.schedule.level(levels).noise)
    assert image_side(ProjectConfig(model=str(file))) == image_side(
        ProjectConfig(model=str(folder))
    )
    written = {path: path.stat().st_mtime_ns for path in kept.rglob("*")}
    assert resolve_model(str(file)).parent == kept
    assert {path: path.stat().st_mtime_ns for path in kept.rglob("*")} == written, "made once"


def test_the_tokens_of_a_text_are_counted_without_converting(
    folder: Path, tmp_path: Path, kept: Path
) -> None:
    file = save_single_file(folder, tmp_path / "dream.safetensors")
    settings_only(folder, tmp_path / "dream")
    text = "boats and quays " * 20
    assert load_prompt_tokenizer(str(file)).chunks(text) == load_prompt_tokenizer(
        str(folder)
    ).chunks(text)
    assert not kept.exists()


def test_the_family_of_a_file_is_told_without_its_weights(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = save_single_file(folder, tmp_path / "dream.safetensors")
    asked: list[str] = []

    def snapshot(source: str, *patterns: object) -> Path:
        asked.append(source)
        return folder

    monkeypatch.setattr(single_file, "hub_snapshot", snapshot)
    monkeypatch.setattr(single_file, "load_file", lambda path: pytest.fail("it was read"))
    assert load_prompt_tokenizer(str(file)).room == 75
    assert asked == ["stable-diffusion-v1-5/stable-diffusion-v1-5"]


def test_without_its_settings_it_says_which_to_bring(
    folder: Path, tmp_path: Path, kept: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    hub.hub_snapshot.cache_clear()
    file = save_single_file(folder, tmp_path / "dream.safetensors")
    with pytest.raises(ModelError, match="settings .* are not on this machine") as error:
        resolve_model(str(file))
    assert "folder 'dream' beside" in str(error.value.fix) and "tokenizer/" in str(error.value.fix)
    assert not kept.exists()


def test_a_file_that_does_not_fit_its_settings(folder: Path, tmp_path: Path, kept: Path) -> None:
    file = save_single_file(folder, tmp_path / "dream.safetensors")
    weights = load_file(file)
    name = next(key for key in weights if key.endswith("middle_block.0.in_layers.2.weight"))
    save_file({**weights, name: weights[name][:4].clone()}, file)
    settings_only(folder, tmp_path / "dream")
    with pytest.raises(ModelError, match="does not fit its settings"):
        resolve_model(str(file))
    assert not list(kept.glob("*"))


@pytest.mark.parametrize(
    ("tensor", "message"),
    [
        ("model.diffusion_model.x", "only a part of a model"),
        ("conditioner.embedders.0.x", "Stable Diffusion XL"),
        ("unet.x.lora_A.weight", "an adapter"),
        ("conv_in.weight", "only a part of a model"),
    ],
)
def test_another_file_says_what_it_is(tmp_path: Path, tensor: str, message: str) -> None:
    file = tmp_path / "dreamshaper_8.safetensors"
    save_file({tensor: torch.zeros(1)}, file)
    with pytest.raises(ModelError, match=message) as error:
        resolve_model(str(file))
    assert error.value.fix


def test_a_model_for_inpainting_is_refused(folder: Path, tmp_path: Path) -> None:
    file = save_single_file(folder, tmp_path / "inpainting.safetensors")
    weights = load_file(file)
    first = "model.diffusion_model.input_blocks.0.0.weight"
    save_file({**weights, first: torch.zeros(16, 9, 3, 3)}, file)
    with pytest.raises(ModelError, match="inpainting"):
        resolve_model(str(file))


@pytest.mark.parametrize(
    "content",
    [
        b"PK\x03\x04" + bytes(100),
        (2**63).to_bytes(8, "little") + b"{}",
        (2**40).to_bytes(8, "little") + b"{}",
        (100).to_bytes(8, "little") + b"{}",
        (26).to_bytes(8, "little") + b'{"a":{"dtype":"F32","shape"',
    ],
)
def test_a_hostile_header_is_refused(tmp_path: Path, content: bytes) -> None:
    file = tmp_path / "x.safetensors"
    file.write_bytes(content)
    with pytest.raises(ModelError, match="no safetensors"):
        resolve_model(str(file))
