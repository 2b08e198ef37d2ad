"""The recipe of the bundled models on toy data: packed, cropped, trained, resumed."""

import itertools
from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers import AutoencoderKL
from PIL import Image
from transformers import BertTokenizer, CLIPTokenizer

from dpd_core.bundled import (
    autoencoder,
    captioner,
    corpus,
    pieces,
    prompts,
    text_to_image,
    training_loop,
)
from dpd_core.bundled.corpus import EUROSAT, Collection, Kind, pack_corpus, place_of, read_pack
from dpd_core.bundled.crops import CropSampler, oriented
from dpd_core.bundled.latent_pool import LatentPool
from dpd_core.bundled.measure import named_class, ridge_classes
from dpd_core.bundled.pretrain import Pretraining
from dpd_core.bundled.recipe import Recipe
from dpd_core.bundled.training_loop import LoopRecipe, Trainer, learning_rate_at
from dpd_core.hardware import Hardware
from dpd_core.models.files import BUNDLED

CPU = Hardware(torch.device("cpu"), torch.float32, "asked for")
NAIP = corpus.AERIAL[0]


def noise(count: int, side: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (count, side, side, 3), dtype=np.uint8)


def collection(kind: Kind, count: int, classes: int = 0) -> Collection:
    labels = np.arange(count) % classes if classes else np.full(count, -1)
    return Collection(kind, noise(count, kind.side), labels, ("forest", "river")[:classes])


@pytest.fixture
def sources(tmp_path: Path) -> tuple[Path, Path]:
    eurosat, aerial = tmp_path / "eurosat", tmp_path / "aerial"
    for name, count in (("Forest", 104), ("SeaLake", 103)):
        (eurosat / name).mkdir(parents=True)
        for number, image in enumerate(noise(count, 64, seed=count)):
            Image.fromarray(image).save(eurosat / name / f"{number}.png")
    (aerial / "naip").mkdir(parents=True)
    for number, image in enumerate(noise(40, 256)):
        Image.fromarray(image).save(
            aerial / "naip" / f"chico_20{16 + number % 2}_{number // 2}.png"
        )
    return eurosat, aerial


def test_a_pack_holds_every_image_once_and_no_place_twice(sources, tmp_path):
    pack_corpus(*sources, tmp_path / "pack.safetensors")
    train, held_out = read_pack(tmp_path / "pack.safetensors")
    assert held_out[0].kind is EUROSAT
    assert (len(train[0]), len(held_out[0])) == (7, 200)
    assert train[0].class_names == ("forest", "sea or lake")
    assert sum(len(part) for part in (train[1], held_out[1])) == 40
    assert all(len(part) % 2 == 0 for part in (train[1], held_out[1]))  # both years of a place
    assert train[1].images.shape[1:] == (256, 256, 3)
    assert set(train[1].labels) == {-1}
    mean = np.abs(train[0].images.astype(float).mean((1, 2, 3)) - 127.5)
    assert mean.max() < 10


def test_a_place_is_the_same_in_every_year():
    assert place_of("long_beach_2016_7") == place_of("long_beach_2020_7")
    assert place_of("long_beach_2016_7") != place_of("long_beach_2016_8")
    assert place_of("ramp2_OAM-619229-523267-20") == place_of("ramp2_OAM-619228-523264-20")


def test_crops_come_at_one_size_with_the_ground_they_show():
    sampler = CropSampler(
        [collection(EUROSAT, 6, 2), collection(NAIP, 3)], {"eurosat": 1, "naip": 3}
    )
    crops = sampler.draw(80, np.random.default_rng(0))
    assert crops.images.shape == (80, 3, 64, 64)
    assert crops.images.dtype == torch.uint8
    assert set(crops.metres) == {10.0, 0.6, 1.2, 2.4}
    assert ((crops.labels >= 0) == (crops.metres == 10.0)).all()
    again = sampler.draw(80, np.random.default_rng(0))
    assert torch.equal(crops.images, again.images)


def test_the_eight_ways_are_eight():
    image = torch.arange(9.0).view(1, 1, 3, 3).expand(8, 1, 3, 3)
    ways = oriented(image, np.arange(8))
    assert torch.equal(ways[0], image[0])
    assert len({tuple(way.flatten().tolist()) for way in ways}) == 8


def test_the_learning_rate_rises_stays_and_falls():
    recipe = LoopRecipe(steps=100, learning_rate=1.0, warmup=10, decay=0.5)
    rates = [learning_rate_at(step, recipe.progress(step, 0), recipe) for step in range(100)]
    assert rates[0] == pytest.approx(0.1)
    assert rates[20] == rates[40] == 1.0
    assert rates[75] == pytest.approx(0.5)
    assert rates[99] == pytest.approx(0.02)


def tiny() -> AutoencoderKL:
    torch.manual_seed(1)
    return autoencoder.build_autoencoder(4, (16, 16), side=16)


def test_more_latent_channels_change_no_image_at_first():
    start = tiny().eval()
    wider = autoencoder.widened(start, 6).eval()
    images = noise(4, 16)
    assert (
        np.abs(
            autoencoder.reconstructed(start, images).astype(int)
            - autoencoder.reconstructed(wider, images)
        ).max()
        <= 1
    )
    latents = autoencoder.encode(wider, images)
    assert torch.allclose(latents[:, :4], autoencoder.encode(start, images), atol=1e-4)
    assert float(latents[:, 4:].std()) > 0


def test_latents_get_one_deviation_and_images_stay():
    vae, images = tiny().eval(), noise(16, 16)
    before, latents = autoencoder.reconstructed(vae, images), autoencoder.encode(vae, images)
    autoencoder.standardise(vae, images, kept=1)
    after = autoencoder.encode(vae, images)
    assert torch.allclose(after[:, :1], latents[:, :1], atol=1e-4)
    assert torch.allclose(after[:, 1:].std((0, 2, 3)), torch.ones(3), atol=1e-3)
    assert torch.allclose(after[:, 1:].mean((0, 2, 3)), torch.zeros(3), atol=1e-3)
    assert np.abs(before.astype(int) - autoencoder.reconstructed(vae, images)).max() <= 1


@pytest.mark.parametrize("start", [None, tiny().eval()], ids=["from nothing", "going on"])
def test_training_resumes_to_the_same_weights(tmp_path, start):
    small = Kind("eurosat", "", 16, 10.0, ("JPEG", 90))
    recipe = LoopRecipe(steps=4, batch_size=4, learning_rate=1e-3, warmup=2)

    def train(folder, vae, stop_at=None):
        return autoencoder.train_autoencoder(
            [collection(small, 8)], recipe, folder, CPU, vae=vae, start=start, stop_at=stop_at
        )

    whole = train(tmp_path / "whole", tiny())
    train(tmp_path / "halves", tiny(), stop_at=2)
    resumed = train(tmp_path / "halves", tiny())
    for (name, expected), (_, found) in zip(
        whole.state_dict().items(), resumed.state_dict().items(), strict=True
    ):
        assert torch.equal(expected, found), name


def test_a_machine_that_slept_meanwhile_has_not_trained(tmp_path, monkeypatch):
    clock = itertools.count(0.0, 100_000.0)
    monkeypatch.setattr(training_loop.time, "monotonic", lambda: next(clock))
    layer = torch.nn.Linear(2, 2)
    recipe = LoopRecipe(minutes=9.0)
    trainer = Trainer({"layer": layer}, recipe, tmp_path, name="toy", hardware=CPU)
    trainer.run(lambda rng, generator, step: (layer(torch.ones(1, 2)).sum(), {}))
    assert trainer.step == 5


def test_a_wider_unet_says_the_same_of_the_channels_it_had():
    size = text_to_image.TextToImageSize(unet_channels=(32, 32), text_hidden=16)
    start = text_to_image.build_unet(size, channels=4, sample_size=8).eval()
    wider = text_to_image.widened(start, 8).eval()
    noisy, words = torch.randn(2, 8, 8, 8), torch.randn(2, 5, 16)
    with torch.no_grad():
        said = start(noisy[:, :4], 10, words).sample
        both = wider(noisy, 10, words).sample
    assert torch.allclose(both[:, :4], said, atol=1e-5)
    assert not both[:, 4:].any()


def test_the_pool_gives_latents_with_prompts_and_renews_itself():
    tokenizer = CLIPTokenizer.from_pretrained(BUNDLED / "tokenizer")
    vae = AutoencoderKL.from_pretrained(BUNDLED / "vae").eval()
    sampler = CropSampler([collection(EUROSAT, 6, 2)], {"eurosat": 1})

    def pool(workers=0):
        return LatentPool(
            sampler,
            ("forest", "river"),
            vae,
            tokenizer,
            CPU,
            capacity=12,
            fresh=4,
            seed=0,
            workers=workers,
        )

    small = pool()
    before = small.whole().latents.clone()
    drawn = small.draw(20, np.random.default_rng(0))
    assert drawn.latents.shape == (20, vae.config.latent_channels, 16, 16)
    assert drawn.ids.shape == (20, 77)
    small.draw(1, np.random.default_rng(1))  # puts the four in that the first draw asked for
    changed = (small.whole().latents != before).flatten(1).any(1)
    assert changed.tolist() == [True] * 4 + [False] * 8
    texts = tokenizer.batch_decode(small.whole().ids, skip_special_tokens=True)
    assert any("satellite image" in text for text in texts)


def test_prompts_are_empty_short_or_measured():
    rng = np.random.default_rng(0)
    image = noise(1, 64)[0]
    said = [prompts.training_prompt(image, "forest", 10.0, rng) for _ in range(300)]
    assert 0.05 < np.mean([text == "" for text in said]) < 0.16
    assert 0.4 < np.mean(["mostly" in text or "texture" in text for text in said]) < 0.7
    assert 0.3 < np.mean(["10 m a pixel" in text for text in said]) < 0.6
    bare = [prompts.training_prompt(image, "", 0.6, rng) for _ in range(20)]
    assert not any("image of" in text for text in bare)


def test_pieces_come_together_again(tmp_path):
    content = bytes(range(250)) * 3
    (tmp_path / "a" / "deep").mkdir(parents=True)
    (tmp_path / "a" / "deep" / "model.safetensors").write_bytes(content)
    (tmp_path / "a" / "empty.txt").write_bytes(b"")
    (tmp_path / "a" / "deep" / "checkpoint.safetensors").write_bytes(content)
    pieces.split_folder(tmp_path / "a", tmp_path / "b", size=100)
    assert max(path.stat().st_size for path in (tmp_path / "b").rglob("*.0*")) == 100
    pieces.join_folder(tmp_path / "b", tmp_path / "c")
    assert (tmp_path / "c" / "deep" / "model.safetensors").read_bytes() == content
    assert (tmp_path / "c" / "empty.txt").read_bytes() == b""
    assert not (tmp_path / "c" / "deep" / "checkpoint.safetensors").exists()


def test_captions_of_images_without_a_class_are_learnt_without_their_opening():
    tokenizer = BertTokenizer.from_pretrained(BUNDLED.parent / "captioner")
    parts = [collection(EUROSAT, 6, 2), collection(NAIP, 2)]
    sampler = CropSampler(parts, {"eurosat": 1, "naip": 1})
    described = captioner.describe(sampler, ("forest", "river"), tokenizer, 20, seed=0)
    texts = tokenizer.batch_decode(described.ids, skip_special_tokens=True)
    for label, text, ids, learnt in zip(
        described.labels.tolist(), texts, described.ids, described.learnt, strict=True
    ):
        said = tokenizer.decode(ids[learnt], skip_special_tokens=True)
        assert text.startswith("a satellite image")
        assert "satellite" in said if label >= 0 else "satellite" not in said
        assert text.endswith(said) and len(said.split(",")) > 1
    assert len({text.split(",")[0] for text in texts}) > 3


def test_named_class_takes_first_then_longest():
    classes = ("river", "forest", "residential", "residential area")
    assert named_class("a satellite image of a river through forest", classes) == "river"
    assert named_class("A residential area beside a river", classes) == "residential area"
    assert named_class("a beach", classes) is None


def test_ridge_regression_finds_the_nearer_kind():
    rng = np.random.default_rng(0)
    centres = rng.normal(size=(3, 20))
    labels = np.arange(30) % 3
    known, asked = (centres[labels] + 0.3 * rng.normal(size=(30, 20)) for _ in range(2))
    assert (ridge_classes(known, labels, asked, 3) == labels).all()


@pytest.mark.slow
@pytest.mark.parametrize("start", [None, BUNDLED.parent], ids=["from nothing", "going on"])
def test_all_parts_train_and_make_models_that_load(sources, tmp_path, start):
    pack_corpus(*sources, tmp_path / "pack.safetensors")
    loop = LoopRecipe(steps=2, batch_size=4, warmup=1, checkpoint_seconds=0.0, log_every=1)
    recipe = Recipe(
        loop, loop, loop, pool=32, fresh=4, held_out=8, workers=1 if start is None else 0
    )
    made = Pretraining(
        tmp_path / "pack.safetensors", tmp_path / "work", tmp_path / "out", recipe, CPU, start=start
    )
    made.train_autoencoder()
    made.train_text_to_image()
    made.train_captioner()
    losses = (tmp_path / "work" / "text_to_image" / "held_out_loss.json").read_text()
    assert losses.count(".") >= 2
    pipeline = text_to_image.StableDiffusionPipeline.from_pretrained(tmp_path / "out" / "base")
    assert pipeline.vae.config.latent_channels == pipeline.unet.config.in_channels == 8
    assert (tmp_path / "out" / "captioner" / "model.safetensors").exists()
