"""The decoder tuned to a data set: sharper, the same after a stop, used where it should be."""

from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from dpd_core.config import ProjectConfig, SynthesizeConfig, resolve
from dpd_core.errors import JobStopped, ModelError
from dpd_core.export.contents import set_adapter
from dpd_core.hardware import choose_hardware
from dpd_core.models import weights as adapter_weights
from dpd_core.models.autoencoder import psnr_per_image
from dpd_core.models.backbone import Backbone, Posterior
from dpd_core.pipeline import jobs
from dpd_core.pipeline.verify import verify
from dpd_core.project import Project
from dpd_core.synthesize.resolved import resolved
from dpd_core.synthesize.sampler import sampling_backbone
from dpd_core.synthesize.sets import DistilledSet
from dpd_core.train.adapters import find_adapter
from dpd_core.train.decoder import DecoderTuner, perceptual_distance
from tests.support.models import save_model

CPU = choose_hardware(ProjectConfig(device="cpu", dtype="float32"))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_model(tmp_path_factory.mktemp("tiny"))


def stripes(count: int = 6, side: int = 32) -> np.ndarray:
    """Images that differ in colour and in the width of their stripes."""
    rows = np.arange(side)
    images = np.zeros((count, side, side, 3), np.uint8)
    for number in range(count):
        images[number, rows % (number + 2) == 0] = (200, 30 * number, 60)
    return images


def tuner(folder: Path, steps: int) -> DecoderTuner:
    backbone = Backbone.load(str(folder), hardware=CPU, image_size=32)
    images = stripes()
    return DecoderTuner(backbone, backbone.encode_images(images), images, steps=steps, seed=3)


def test_images_come_back_sharper_and_latents_stay(folder: Path, tmp_path: Path) -> None:
    tuning = tuner(folder, steps=60)
    before = psnr_per_image(tuning.backbone.vae, tuning.images).mean()
    tuning.fit(tmp_path / "checkpoint", checkpoint_steps=1000)
    assert psnr_per_image(tuning.backbone.vae, tuning.images).mean() > before + 2
    assert torch.equal(tuning.backbone.encode_images(tuning.images).mean, tuning.posterior.mean)
    assert not any(value.requires_grad for value in tuning.backbone.vae.parameters())


def test_each_side_moves_towards_its_own_end(folder: Path) -> None:
    tuning = tuner(folder, steps=30)
    real, latents = tuning._draw(0)
    for number in range(30):
        tuning.step(number)
    with torch.no_grad():
        fake = tuning._decode(latents)
        assert tuning.discriminator(real).mean() > tuning.discriminator(fake).mean()
        old = tuner(folder, steps=1)._decode(latents)
        now, before = (perceptual_distance(tuning.network, images, real) for images in (fake, old))
        assert now < before
        assert perceptual_distance(tuning.network, real, real) == 0


def test_a_stopped_and_resumed_tuning_is_the_uninterrupted_one(
    folder: Path, tmp_path: Path
) -> None:
    whole = tuner(folder, steps=7)
    whole.fit(tmp_path / "none", checkpoint_steps=2)

    def stop(done: int, loss: float) -> None:
        if done == 3:
            raise JobStopped("stopped")

    with pytest.raises(JobStopped):
        tuner(folder, steps=7).fit(tmp_path / "part", checkpoint_steps=2, on_step=stop)
    counted: list[int] = []
    resumed = tuner(folder, steps=7)
    resumed.fit(
        tmp_path / "part", checkpoint_steps=2, on_step=lambda done, loss: counted.append(done)
    )
    assert counted == [4, 5, 6, 7]
    for name, value in whole.state.items():
        assert torch.equal(value, resumed.state[name]), name


def test_the_decoder_is_kept_under_the_names_of_the_vae(folder: Path, tmp_path: Path) -> None:
    from diffusers import AutoencoderKL

    tuning = tuner(folder, steps=2)
    tuning.fit(tmp_path / "none", checkpoint_steps=5)
    path = tmp_path / adapter_weights.DECODER
    adapter_weights.save_decoder(tuning.backbone.vae, path)
    latents = tuning.posterior.mean[:2]
    expected = tuning.backbone.decode_latents(latents)
    again = Backbone.load(str(folder), hardware=CPU, image_size=32)
    assert not torch.equal(again.decode_latents(latents), expected)
    adapter_weights.load_decoder(again.vae, path)
    assert torch.equal(again.decode_latents(latents), expected)
    plain = AutoencoderKL.from_pretrained(folder, subfolder="vae")
    assert not plain.load_state_dict(load_file(path), strict=False).unexpected_keys
    assert torch.equal(plain.decoder.conv_in.weight, tuning.backbone.vae.decoder.conv_in.weight)


@pytest.mark.parametrize("content", [None, b"not safetensors", "another"])
def test_a_broken_decoder_is_named(folder: Path, tmp_path: Path, content: object) -> None:
    path = tmp_path / adapter_weights.DECODER
    if content == "another":
        save_file({"decoder.conv_in.weight": torch.zeros(2)}, path)
    elif isinstance(content, bytes):
        path.write_bytes(content)
    vae = Backbone.load(str(folder), hardware=CPU, image_size=32).vae
    with pytest.raises(ModelError, match="decoder") as caught:
        adapter_weights.load_decoder(vae, path)
    assert caught.value.where == str(path) and "--decoder model" in str(caught.value.fix)


def test_a_stage_tunes_it_and_strategies_use_it(folder: Path, tmp_path: Path) -> None:
    project = Project.create(
        tmp_path / "project", config=ProjectConfig(model=str(folder), image_size=32, device="cpu")
    )
    for stage, settings in {
        "dataset": {"demo": True, "classes": ("forest", "highway"), "demo_per_class": 10},
        "prototypes": {"ipc": 2, "project_map": False},
        "captions": {"mode": "template"},
        "train": {
            "steps": 2,
            "batch_size": 2,
            "decoder_steps": 3,
            "classifier_steps": 1,
            "preview_steps": 0,
        },
        "synthesize": {"strategy": "d4m", "decoder": "tuned", "steps": 3, "candidates": 1},
    }.items():
        jobs.run_stage(project, stage, resolve(stage, **settings))
    adapter = find_adapter(project)
    weights = load_file(adapter.folder / adapter_weights.DECODER)
    assert set(adapter.digests) == {path.name for path in adapter.files}
    assert adapter_weights.DECODER in adapter.digests
    assert not list(adapter.folder.glob("*checkpoint*"))

    def is_tuned(strategy: str, decoder: str | None) -> bool:
        how = resolved(SynthesizeConfig(strategy=strategy, decoder=decoder))
        made = sampling_backbone(project, adapter, how)
        return torch.equal(made.vae.decoder.conv_in.weight, weights["decoder.conv_in.weight"])

    assert is_tuned("dpd+", None) and is_tuned("dpd", "tuned")
    assert not is_tuned("dpd", None) and not is_tuned("dpd+", "model")
    with pytest.raises(ModelError, match="no tuned decoder"):
        sampling_backbone(project, None, resolved(SynthesizeConfig(decoder="tuned")))
    exported = set_adapter(project, DistilledSet.load(project))
    assert exported is not None and adapter_weights.DECODER in exported.loading
    assert verify(project).ok
    (adapter.folder / adapter_weights.DECODER).write_bytes(b"spoilt")
    assert [
        difference
        for difference in verify(project).differences
        if adapter_weights.DECODER in str(difference)
    ]


def test_the_posterior_is_what_is_decoded(folder: Path) -> None:
    tuning = tuner(folder, steps=1)
    sure = Posterior(tuning.posterior.mean, torch.zeros_like(tuning.posterior.std))
    tuning.posterior = sure
    real, latents = tuning._draw(5)
    again, _ = tuning._draw(5)
    assert torch.equal(real, again)
    distance = (latents[:, None] - sure.mean[None]).flatten(2).norm(dim=2).min(1).values
    assert distance.max() == 0
