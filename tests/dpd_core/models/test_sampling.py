"""The sampling loop: stock solvers, guidance that works, nothing patched."""

import pytest
import torch
from diffusers import StableDiffusionPipeline

from dpd_core.config import ProjectConfig
from dpd_core.hardware import choose_hardware
from dpd_core.models.backbone import Backbone
from dpd_core.models.sampling import PrototypeGuidance, sample
from tests.support.models import save_model

CPU = choose_hardware(ProjectConfig(device="cpu", dtype="float32"))


@pytest.fixture(scope="module", params=["epsilon", "v_prediction", "sample"])
def backbone(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Backbone:
    folder = save_model(tmp_path_factory.mktemp("model"), prediction_type=request.param)
    return Backbone.load(str(folder), hardware=CPU, image_size=32)


def run(backbone: Backbone, **options: object) -> torch.Tensor:
    prompts = backbone.encode_prompts(["a river", "a forest"])
    embeddings = prompts.batch([0, 1])
    noise = torch.randn(2, *backbone.latent_shape, generator=torch.Generator().manual_seed(3))
    return sample(
        backbone,
        noise=noise,
        embeddings=embeddings,
        unconditional=prompts.unconditional(embeddings),
        **{"steps": 8, **options},
    )


@pytest.mark.parametrize("scheduler", ["ddim", "dpm++", "unipc"])
def test_guidance_brings_the_sample_nearer_to_its_prototype(
    backbone: Backbone, scheduler: str
) -> None:
    prototype = torch.randn(2, *backbone.latent_shape, generator=torch.Generator().manual_seed(4))
    plain = run(backbone, scheduler=scheduler, cfg=2.0)
    guided = run(
        backbone, scheduler=scheduler, cfg=2.0, guide=PrototypeGuidance(prototype, scale=2.0)
    )
    assert torch.isfinite(plain).all()
    assert torch.isfinite(guided).all()
    far, near = ((latent - prototype).flatten(1).norm(dim=1) for latent in (plain, guided))
    if backbone.schedule.prediction_type == "sample":
        # An untrained network that names the clean latent itself need not heed what it is given.
        assert not torch.equal(near, far)
    else:
        assert (near < far).all()


def test_guidance_of_no_strength_changes_nothing(backbone: Backbone) -> None:
    prototype = torch.zeros(2, *backbone.latent_shape)
    guide = PrototypeGuidance(prototype, scale=0.0)
    assert torch.equal(run(backbone, guide=guide), run(backbone))


def test_a_partial_start_stays_near_its_origin(backbone: Backbone) -> None:
    if backbone.schedule.prediction_type == "sample":
        pytest.skip("an untrained network that names the clean latent does not heed its origin")
    origin = torch.randn(2, *backbone.latent_shape, generator=torch.Generator().manual_seed(5))
    for scheduler in ("ddim", "dpm++", "unipc"):
        near = run(backbone, origin=origin, strength=0.15, scheduler=scheduler, cfg=1.0)
        far = run(backbone, origin=origin, strength=0.9, scheduler=scheduler, cfg=1.0)
        assert (near - origin).norm() < (far - origin).norm()


def test_without_guidance_it_is_the_plain_pipeline(tmp_path) -> None:
    """Same noise, solver and prompt: the same image as diffusers' own pipeline makes."""
    folder = save_model(tmp_path)
    backbone = Backbone.load(str(folder), hardware=CPU, image_size=32)
    pipeline = StableDiffusionPipeline.from_pretrained(folder)
    pipeline.set_progress_bar_config(disable=True)
    pipeline.scheduler = backbone.schedule.solver("ddim", 6, CPU.device)
    noise = torch.randn(1, *backbone.latent_shape, generator=torch.Generator().manual_seed(6))
    expected = pipeline(
        "a harbor",
        latents=noise.clone(),
        num_inference_steps=6,
        guidance_scale=3.0,
        height=32,
        width=32,
        output_type="latent",
    ).images
    prompts = backbone.encode_prompts(["a harbor"])
    embeddings = prompts.batch([0])
    ours = sample(
        backbone,
        noise=noise,
        embeddings=embeddings,
        steps=6,
        cfg=3.0,
        unconditional=prompts.unconditional(embeddings),
    )
    assert torch.allclose(ours, expected, atol=1e-3)
