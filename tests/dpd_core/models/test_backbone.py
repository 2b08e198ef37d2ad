"""The model interface, on small models with random weights."""

import json
import shutil
from pathlib import Path

import pytest
import torch
from diffusers import StableDiffusionPipeline, UNet2DConditionModel
from safetensors.torch import load_file, save_file

from dpd_core.config import ProjectConfig
from dpd_core.errors import ModelError
from dpd_core.hardware import choose_hardware
from dpd_core.models import weights as adapter_weights
from dpd_core.models.backbone import Backbone, backbone_identity, image_side, model_identity
from dpd_core.models.families.stable_diffusion import StableDiffusion
from dpd_core.models.files import resolve_model
from dpd_core.models.tokens import PromptTokenizer
from tests.support.models import byte_tokenizer, save_model

CPU = choose_hardware(ProjectConfig(device="cpu", dtype="float32"))
PREDICTIONS = ("epsilon", "v_prediction", "sample")


@pytest.fixture(scope="module", params=PREDICTIONS)
def backbone(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Backbone:
    folder = tmp_path_factory.mktemp(request.param)
    return Backbone.load(
        str(save_model(folder, prediction_type=request.param)), hardware=CPU, image_size=32
    )


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_model(tmp_path_factory.mktemp("tiny"))


def test_latents_have_the_announced_shape_and_decode_to_pixels(backbone: Backbone) -> None:
    pixels = torch.randint(0, 256, (3, 32, 32, 3), dtype=torch.uint8)
    posterior = backbone.encode_images(pixels)
    assert posterior.mean.shape == (3, *backbone.latent_shape)
    assert (posterior.std > 0).all()
    decoded = backbone.decode_latents(posterior.mean)
    assert decoded.shape == pixels.shape
    assert decoded.dtype == torch.uint8


def test_the_target_of_training_predicts_the_clean_latent(backbone: Backbone) -> None:
    clean, noise = torch.randn(2, 4, *backbone.latent_shape)
    timesteps = torch.tensor([0, 300, 600, 998])
    noisy = backbone.schedule.add_noise(clean, noise, timesteps)
    target = backbone.schedule.target(clean, noise, timesteps)
    recovered = backbone.schedule.predict_clean(target, noisy, timesteps)
    assert torch.allclose(recovered, clean, atol=2e-3)


def test_a_short_prompt_is_encoded_as_by_the_pipeline(folder: Path) -> None:
    backbone = Backbone.load(str(folder), hardware=CPU, image_size=32)
    pipeline = StableDiffusionPipeline.from_pretrained(folder)
    text = "A satellite image of an airport"
    expected, empty = pipeline.encode_prompt(text, "cpu", 1, True)
    prompts = backbone.encode_prompts([text])
    assert torch.allclose(prompts.embeddings[0], expected[0], atol=1e-5)
    assert torch.allclose(prompts.empty, empty[0], atol=1e-5)


def test_a_long_prompt_is_encoded_in_windows_not_cut(folder: Path) -> None:
    backbone = Backbone.load(str(folder), hardware=CPU, image_size=32)
    text = "boats " * 60
    chunks = PromptTokenizer(byte_tokenizer(), 77).chunks(text)
    whole = byte_tokenizer()(text, add_special_tokens=False).input_ids
    assert [token for chunk in chunks for token in chunk] == whole
    assert len(chunks) > 1
    prompts = backbone.encode_prompts([text, text + "harbor", "sea"])
    assert prompts.embeddings[0].shape[0] == 77 * len(chunks)
    batch = prompts.batch([0, 1, 2])
    assert not torch.allclose(batch.states[0], batch.states[1], atol=1e-3), (
        "the end of the text must matter"
    )
    assert torch.equal(batch.states[2, 77:154], prompts.empty)


def test_class_labels_are_supplied_where_the_model_wants_them(tmp_path: Path) -> None:
    backbone = Backbone.load(str(save_model(tmp_path, class_labels=3)), hardware=CPU, image_size=32)
    prompts = backbone.encode_prompts(["river"]).batch([0])
    output = backbone.predict(torch.randn(1, *backbone.latent_shape), torch.tensor([5]), prompts)
    assert output.shape == (1, *backbone.latent_shape)


def test_the_identity_is_known_without_loading_and_depends_on_size(folder: Path) -> None:
    config = ProjectConfig(model=str(folder), image_size=32)
    backbone = Backbone.load(str(folder), hardware=CPU, image_size=32)
    assert backbone.fingerprint == backbone_identity(config)
    assert backbone_identity(config.replace(image_size=16)) != backbone.fingerprint
    assert len(model_identity(config)) == 16


@pytest.mark.parametrize(("targets", "alpha"), [("attention", 2), ("all", 2), ("all", 6)])
def test_an_adapter_works_here_and_in_a_plain_pipeline(
    folder: Path, tmp_path: Path, targets: str, alpha: int
) -> None:
    backbone = Backbone.load(str(folder), hardware=CPU, image_size=32)
    parameters = adapter_weights.add_lora(
        backbone.denoiser, StableDiffusion, rank=2, targets=targets
    )
    backbone.denoiser.peft_config["default"].lora_alpha = alpha
    for layer in backbone.denoiser.modules():
        if "default" in getattr(layer, "scaling", {}):
            layer.scaling["default"] = alpha / 2
    torch.manual_seed(1)
    with torch.no_grad():
        for parameter in parameters:
            parameter.add_(0.1 * torch.randn_like(parameter))
    adapter_weights.save(backbone.denoiser, tmp_path, StableDiffusion)
    noisy, step = torch.randn(1, *backbone.latent_shape), torch.tensor([400])
    text = backbone.encode_prompts(["river"]).batch([0])
    with torch.no_grad():
        expected = backbone.predict(noisy, step, text)
        plain = Backbone.load(str(folder), hardware=CPU, image_size=32)
        assert not torch.allclose(plain.predict(noisy, step, text), expected, atol=1e-3)
        merged = Backbone.load(str(folder), hardware=CPU, image_size=32, adapter=tmp_path)
        assert torch.allclose(merged.predict(noisy, step, text), expected, atol=1e-4)
        pipeline = StableDiffusionPipeline.from_pretrained(folder)
        pipeline.load_lora_weights(tmp_path)
        output = pipeline.unet(noisy, step, encoder_hidden_states=text.states).sample
        other = StableDiffusionPipeline.from_pretrained(folder)
        other.load_lora_weights(tmp_path, weight_name=adapter_weights.KOHYA)
        by_kohya = other.unet(noisy, step, encoder_hidden_states=text.states).sample
    assert torch.allclose(output, expected, atol=1e-4)
    assert torch.allclose(by_kohya, expected, atol=1e-4), "alpha is in the tensors"
    layers = load_file(tmp_path / adapter_weights.KOHYA)
    assert {float(v) for k, v in layers.items() if k.endswith(".alpha")} == {float(alpha)}


def test_weights_of_half_precision_alone_are_found(folder: Path, tmp_path: Path) -> None:
    half = shutil.copytree(folder, tmp_path / "half")
    for part, name in (
        ("unet", "diffusion_pytorch_model"),
        ("vae", "diffusion_pytorch_model"),
        ("text_encoder", "model"),
    ):
        file = half / part / f"{name}.safetensors"
        file.rename(file.with_name(f"{name}.fp16.safetensors"))
    whole = Backbone.load(str(folder), hardware=CPU, image_size=32)
    found = Backbone.load(str(half), hardware=CPU, image_size=32)
    for a, b in zip(whole.denoiser.parameters(), found.denoiser.parameters(), strict=True):
        assert torch.equal(a, b)


@pytest.mark.parametrize("size", [None, [8, 8], [8, 4]])
def test_a_model_that_does_not_say_its_size(folder: Path, tmp_path: Path, size: object) -> None:
    copy = shutil.copytree(folder, tmp_path / "copy")
    settings = json.loads((copy / "unet" / "config.json").read_text())
    (copy / "unet" / "config.json").write_text(json.dumps({**settings, "sample_size": size}))
    config = ProjectConfig(model=str(copy))
    if size == [8, 8]:
        factor = image_side(ProjectConfig(model=str(folder))) // settings["sample_size"]
        assert image_side(config) == 8 * factor
    else:
        with pytest.raises(ModelError, match="size of its images") as error:
            image_side(config)
        assert "--image-size" in str(error.value.fix)
    assert image_side(ProjectConfig(model=str(copy), image_size=32)) == 32


def test_a_whole_unet_works_here_and_in_plain_diffusers(folder: Path, tmp_path: Path) -> None:
    trained = Backbone.load(str(folder), hardware=CPU, image_size=32)
    torch.manual_seed(1)
    with torch.no_grad():
        for parameter in adapter_weights.unfreeze(trained.denoiser):
            parameter.add_(0.1 * torch.randn_like(parameter))
    files = adapter_weights.save(trained.denoiser, tmp_path, StableDiffusion)
    assert sorted(files) == sorted(adapter_weights.files(tmp_path)) == sorted(tmp_path.iterdir())
    assert str(folder) not in (tmp_path / "config.json").read_text()
    noisy, step = torch.randn(1, *trained.latent_shape), torch.tensor([400])
    text = trained.encode_prompts(["river"]).batch([0])
    with torch.no_grad():
        expected = trained.predict(noisy, step, text)
        merged = Backbone.load(str(folder), hardware=CPU, image_size=32, adapter=tmp_path)
        assert torch.equal(merged.predict(noisy, step, text), expected)
        unet = UNet2DConditionModel.from_pretrained(tmp_path)
        assert torch.equal(unet(noisy, step, encoder_hidden_states=text.states).sample, expected)


@pytest.mark.parametrize(
    ("content", "message"),
    [(b"not safetensors", "not a readable adapter"), (None, "not a readable adapter")],
)
def test_a_broken_adapter_is_named(
    folder: Path, tmp_path: Path, content: bytes | None, message: str
) -> None:
    file = tmp_path / "pytorch_lora_weights.safetensors"
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(ModelError, match=message) as caught:
        Backbone.load(str(folder), hardware=CPU, image_size=32, adapter=file)
    assert caught.value.where == str(file)


def test_an_adapter_for_another_model_is_refused(folder: Path, tmp_path: Path) -> None:

    name = "unet.mid_block.attentions.0.transformer_blocks.0.attn1.to_q"
    save_file(
        {f"{name}.lora_A.weight": torch.zeros(2, 7), f"{name}.lora_B.weight": torch.zeros(7, 2)},
        tmp_path / "pytorch_lora_weights.safetensors",
    )
    with pytest.raises(ModelError, match="does not fit"):
        Backbone.load(str(folder), hardware=CPU, image_size=32, adapter=tmp_path)


def test_missing_models_and_sizes_say_what_to_do(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="no such folder"):
        resolve_model(str(tmp_path / "nowhere"))
    with pytest.raises(ModelError, match="not a usable"):
        Backbone.load(str(tmp_path), hardware=CPU)
    with pytest.raises(ModelError, match="multiple of 8"):
        Backbone.load(str(folder), hardware=CPU, image_size=33)


def test_each_of_several_processes_has_a_gpu_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    config = ProjectConfig(device="cuda", dtype="bfloat16")
    assert choose_hardware(config).device == torch.device("cuda")
    monkeypatch.setenv("LOCAL_RANK", "1")
    assert choose_hardware(config).device == torch.device("cuda:1")
    assert choose_hardware(config.replace(device="cpu")).device == torch.device("cpu")
