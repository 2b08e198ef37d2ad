"""Every family does the same through the same functions, and as diffusers' own pipeline does it."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import diffusers
import pytest
import torch
from safetensors.torch import load_file

from dpd_core.config import ProjectConfig
from dpd_core.errors import ModelError
from dpd_core.hardware import choose_hardware
from dpd_core.models import predictions
from dpd_core.models import weights as adapter_weights
from dpd_core.models.backbone import Backbone, image_side
from dpd_core.models.families.registry import FAMILIES, family_of
from dpd_core.models.files import parts_digest
from dpd_core.models.predictions import Level
from dpd_core.models.sampling import ModeGuidance, PrototypeGuidance, sample
from dpd_core.train import adapters
from tests.support.models import TINY_3, save_model, save_model_3, save_model_xl
from tests.support.trainers import QUICK, trainer

CPU = choose_hardware(ProjectConfig(device="cpu", dtype="float32"))
TEXT = "A satellite image of a harbor"
LONG = "boats and quays " * 20


def without_t5(folder: Path) -> Path:
    return save_model_3(folder, {name: size for name, size in TINY_3.items() if name != "t5"})


SAVED: dict[str, Callable[[Path], Path]] = {
    "StableDiffusion": save_model,
    "StableDiffusionXL": save_model_xl,
    "StableDiffusion3": save_model_3,
    "StableDiffusion3 without T5": without_t5,
}


@pytest.fixture(scope="module", params=SAVED)
def folder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return SAVED[request.param](tmp_path_factory.mktemp("model") / request.param)


@pytest.fixture(scope="module")
def backbone(folder: Path) -> Backbone:
    return Backbone.load(str(folder), hardware=CPU, image_size=32)


@pytest.fixture(scope="module")
def pipeline(folder: Path) -> diffusers.DiffusionPipeline:
    return loaded(folder)


def loaded(folder: Path) -> diffusers.DiffusionPipeline:
    """The family's own pipeline."""
    absent = {name: None for name in family_of(folder).optional if not (folder / name).is_dir()}
    return diffusers.DiffusionPipeline.from_pretrained(folder, **absent)


def sampled(backbone: Backbone, seed: int = 3, **options: object) -> torch.Tensor:
    prompts = backbone.encode_prompts([TEXT, LONG])
    embeddings = prompts.batch([0, 1])
    given = {"steps": 6, "cfg": 2.0, "scheduler": "ddim", **options}
    return sample(
        backbone,
        noise=torch.randn(2, *backbone.latent_shape, generator=torch.Generator().manual_seed(seed)),
        embeddings=embeddings,
        unconditional=prompts.unconditional(embeddings),
        **given,  # type: ignore[arg-type]
    )


def test_each_family_has_a_name_of_its_own_and_knows_its_models(folder: Path) -> None:
    assert family_of(folder).__name__ == folder.name.split()[0]
    assert len({family.name for family in FAMILIES}) == len(FAMILIES)


def test_a_model_of_another_family_is_refused_by_name(tmp_path: Path) -> None:
    (tmp_path / "transformer").mkdir()
    settings = {"_class_name": "FluxTransformer2DModel", "joint_attention_dim": 4096}
    (tmp_path / "transformer" / "config.json").write_text(json.dumps(settings))
    with pytest.raises(ModelError, match="FluxTransformer2DModel") as caught:
        Backbone.load(str(tmp_path), hardware=CPU)
    assert all(family.name in str(caught.value.fix) for family in FAMILIES)


def test_a_missing_part_is_named(folder: Path, tmp_path: Path) -> None:
    copy = shutil.copytree(folder, tmp_path / "copy")
    shutil.rmtree(copy / "text_encoder")
    with pytest.raises(ModelError, match="not a usable") as caught:
        Backbone.load(str(copy), hardware=CPU)
    assert "text_encoder" in str(caught.value.fix)


def test_the_size_and_all_parts_are_known_without_loading(folder: Path, tmp_path: Path) -> None:
    assert image_side(ProjectConfig(model=str(folder))) == 32
    copy = shutil.copytree(folder, tmp_path / "copy")
    assert parts_digest(copy) == parts_digest(folder)
    for part in family_of(folder).folders():
        settings = copy / part / ("tokenizer_config.json" if "token" in part else "config.json")
        before = settings.read_text()
        settings.write_text(before + "\n")
        assert parts_digest(copy) != parts_digest(folder), part
        settings.write_text(before)


def test_a_prompt_is_encoded_as_by_the_pipeline(
    backbone: Backbone, pipeline: diffusers.DiffusionPipeline
) -> None:
    prompts = backbone.encode_prompts([TEXT])
    batch = prompts.batch([0])
    empty = prompts.unconditional(batch)
    if backbone.family.name.endswith("3"):
        expected = pipeline.encode_prompt(TEXT, None, None, device="cpu")
    else:
        expected = pipeline.encode_prompt(
            TEXT, device="cpu", num_images_per_prompt=1, do_classifier_free_guidance=True
        )
    found = [batch.states, empty.states, batch.pooled, empty.pooled]
    for ours, theirs in zip(found, expected, strict=False):
        assert ours is not None
        assert torch.allclose(ours, theirs, atol=1e-5)


def test_a_long_prompt_matters_to_its_end(backbone: Backbone) -> None:
    prompts = backbone.encode_prompts([LONG, LONG + "harbor", "sea"])
    window = prompts.padding.shape[0]
    assert prompts.embeddings[0].shape[0] >= 4 * window
    states = prompts.batch([0, 1, 2]).states
    assert not torch.allclose(states[0], states[1], atol=1e-3)
    assert torch.equal(states[2, window : 2 * window], prompts.padding)
    alone = backbone.encode_prompts(["sea"])
    assert torch.allclose(alone.embeddings[0], prompts.embeddings[2], atol=1e-5)
    if prompts.pooled is not None and alone.pooled is not None:
        assert torch.allclose(alone.pooled[0], prompts.pooled[2], atol=1e-5)


def test_images_are_encoded_and_decoded_as_by_the_pipeline(
    backbone: Backbone, pipeline: diffusers.DiffusionPipeline
) -> None:
    pixels = torch.randint(0, 256, (2, 32, 32, 3), dtype=torch.uint8)
    posterior = backbone.encode_images(pixels)
    config = pipeline.vae.config
    shift = getattr(config, "shift_factor", None) or 0.0
    normalised = pixels.permute(0, 3, 1, 2).float() / 127.5 - 1
    with torch.no_grad():
        mean = (pipeline.vae.encode(normalised).latent_dist.mean - shift) * config.scaling_factor
        decoded = pipeline.vae.decode(mean / config.scaling_factor + shift).sample
    assert torch.allclose(posterior.mean, mean, atol=1e-5)
    expected = ((decoded + 1) * 127.5).round().clamp(0, 255).permute(0, 2, 3, 1)
    assert torch.equal(backbone.decode_latents(mean).float(), expected)


def test_a_plain_run_is_the_pipelines(
    backbone: Backbone, pipeline: diffusers.DiffusionPipeline
) -> None:
    """The same noise, text and solver: the same latents."""
    noise = torch.randn(1, *backbone.latent_shape, generator=torch.Generator().manual_seed(6))
    flow = backbone.schedule.prediction_type == "flow_prediction"
    if not flow:
        pipeline.scheduler = backbone.schedule.solver("ddim", 6, CPU.device)
    expected = pipeline(
        TEXT,
        height=32,
        width=32,
        latents=noise.clone(),
        num_inference_steps=6,
        guidance_scale=3.0,
        output_type="latent",
    ).images
    prompts = backbone.encode_prompts([TEXT])
    embeddings = prompts.batch([0])
    ours = sample(
        backbone,
        noise=noise,
        embeddings=embeddings,
        unconditional=prompts.unconditional(embeddings),
        steps=6,
        scheduler="ddim",
        cfg=3.0,
    )
    assert torch.allclose(ours, expected, atol=1e-4)


def test_targets_and_clean_latents_belong_together(backbone: Backbone) -> None:
    schedule = backbone.schedule
    clean, noise = torch.randn(2, 4, *backbone.latent_shape)
    timesteps = torch.tensor([1, 300, 600, 998])
    noisy = schedule.add_noise(clean, noise, timesteps)
    target = schedule.target(clean, noise, timesteps)
    found = schedule.predict_clean(target, noisy, timesteps)
    assert torch.allclose(found, clean, atol=2e-3)


@pytest.mark.parametrize("scheduler", ["ddim", "dpm++", "unipc"])
def test_guidance_brings_every_family_nearer_to_the_prototype(
    backbone: Backbone, scheduler: str
) -> None:
    prototype = torch.randn(2, *backbone.latent_shape, generator=torch.Generator().manual_seed(4))
    plain = sampled(backbone, scheduler=scheduler)
    for guide in (PrototypeGuidance(prototype, 2.0), ModeGuidance(prototype, 0.5)):
        guided = sampled(backbone, scheduler=scheduler, guide=guide)
        assert torch.isfinite(guided).all()
        before = (plain - prototype).flatten(1).norm(dim=1)
        assert ((guided - prototype).flatten(1).norm(dim=1) < before).all()


@pytest.mark.parametrize("scheduler", ["ddim", "dpm++", "unipc"])
def test_a_partial_start_stays_near_its_origin(backbone: Backbone, scheduler: str) -> None:
    origin = torch.randn(2, *backbone.latent_shape, generator=torch.Generator().manual_seed(5))
    distances = [
        (sampled(backbone, scheduler=scheduler, origin=origin, strength=strength, cfg=1.0) - origin)
        .flatten(1)
        .norm(dim=1)
        for strength in (0.17, 0.9)
    ]
    assert (distances[0] < distances[1]).all()


@pytest.mark.parametrize("targets", ["attention", "all"])
def test_lora_trains_and_loads_here_and_in_the_pipeline(
    folder: Path, tmp_path: Path, targets: str
) -> None:
    training = trainer(folder, tmp_path, QUICK.replace(targets=targets, learning_rate=0.05))
    final = training.fit()
    assert final["consistency"] > 0
    merged = Backbone.load(str(folder), hardware=CPU, image_size=32, adapter=tmp_path)
    plain = Backbone.load(str(folder), hardware=CPU, image_size=32)
    noisy, step = torch.randn(1, *plain.latent_shape), torch.tensor([400])
    text = plain.encode_prompts([TEXT]).batch([0])
    family = merged.family
    files = [adapter_weights.LORA]
    # The reader in diffusers of kohya's names does not know XL's add_embedding.
    if family.kohya and (targets == "attention" or not hasattr(plain.denoiser, "add_embedding")):
        files.append(adapter_weights.KOHYA)
    with torch.no_grad():
        expected = merged.predict(noisy, step, text)
        assert not torch.allclose(plain.predict(noisy, step, text), expected, atol=1e-4)
        for name in files:
            pipeline = loaded(folder)
            pipeline.load_lora_weights(tmp_path, weight_name=name)
            denoiser = getattr(pipeline, family.part)
            output = family.denoise(denoiser, noisy, step, text, 32)
            assert torch.allclose(output, expected, atol=1e-4), name
    assert (tmp_path / adapter_weights.KOHYA).exists() is family.kohya
    layers = {name.split(".")[0] for name in load_file(tmp_path / adapter_weights.LORA)}
    assert layers == {family.part}


def test_a_whole_denoiser_is_trained_and_says_how_it_is_loaded(
    folder: Path, tmp_path: Path
) -> None:
    trainer(folder, tmp_path, QUICK.replace(targets="whole")).fit()
    merged = Backbone.load(str(folder), hardware=CPU, image_size=32, adapter=tmp_path)
    kind = getattr(diffusers, adapter_weights.denoiser_class(tmp_path))
    assert isinstance(merged.denoiser, kind)
    line = adapters.Adapter("a", tmp_path, "", {}, {}).loading
    assert line == f'pipeline.{merged.family.part} = {kind.__name__}.from_pretrained("adapter")'


def test_an_adapter_of_another_family_is_refused(tmp_path: Path) -> None:
    trainer(save_model(tmp_path / "one"), tmp_path / "adapter", QUICK).fit()
    other = save_model_3(tmp_path / "other")
    with pytest.raises(ModelError, match="does not fit"):
        Backbone.load(str(other), hardware=CPU, image_size=32, adapter=tmp_path / "adapter")


def test_flow_draws_middle_levels_more_often_and_all_alike_without_gamma() -> None:
    from dpd_core.models.schedules import FlowSchedule

    schedule = FlowSchedule({"shift": 1.0})
    many = schedule.draw(20000, torch.Generator().manual_seed(0), gamma=5.0) / 1000
    alike = schedule.draw(20000, torch.Generator().manual_seed(0), gamma=0.0) / 1000
    middle = ((many > 0.25) & (many < 0.75)).float().mean()
    # P(|N(0,1)| < ln 3) = 0.728.
    assert middle == pytest.approx(0.728, abs=0.01)
    assert ((alike > 0.25) & (alike < 0.75)).float().mean() == pytest.approx(0.5, abs=0.015)
    shifted = FlowSchedule({"shift": 3.0}).draw(20000, torch.Generator().manual_seed(0), gamma=0.0)
    assert (shifted / 1000).median() == pytest.approx(0.75, abs=0.01)


def test_the_pull_is_the_same_in_both_coordinates() -> None:
    """z_t of flow matching is z_t of diffusion times √(α² + σ²), and so is the pull."""
    from dpd_core.models import guidance
    from dpd_core.models.schedules import FlowSchedule

    flow = FlowSchedule({}).level(torch.tensor(400.0))
    norm = torch.as_tensor(flow.norm)
    diffusion = Level(flow.signal / norm, flow.noise / norm)
    z_t, clean, prototype = torch.randn(3, 2, 4, 8, 8, generator=torch.Generator().manual_seed(1))
    ours = guidance.prototype_pull(norm * z_t, clean, prototype, level=flow, scale=2.0)
    theirs = guidance.prototype_pull(z_t, clean, prototype, level=diffusion, scale=2.0)
    assert torch.allclose(ours, norm * theirs, atol=1e-5)
    shift = guidance.mode_noise(clean, prototype, level=flow, scale=0.1)
    same = guidance.mode_noise(clean, prototype, level=diffusion, scale=0.1)
    assert torch.allclose(shift, same, atol=1e-6)
    output = predictions.target("flow_prediction", clean, z_t, flow)
    noisy = flow.signal * clean + flow.noise * z_t
    moved = predictions.shift_noise("flow_prediction", output, shift, flow)
    found = predictions.clean_latent("flow_prediction", moved, noisy, flow)
    expected = (noisy - flow.noise * (z_t + shift)) / flow.signal
    assert torch.allclose(found, expected, atol=1e-5)
