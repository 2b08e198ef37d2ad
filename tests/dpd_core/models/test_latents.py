"""Latents: encoded once, found by content, whatever happened to the files in between."""

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors import safe_open
from torch import Tensor

from dpd_core.config import DatasetConfig
from dpd_core.dataset import stage as dataset
from dpd_core.errors import DatasetError, JobStopped, ModelError
from dpd_core.events import Event, Log, Progress
from dpd_core.models.backbone import Posterior
from dpd_core.models.latents import SHARD, Latents, encode_dataset, latents_for
from dpd_core.project import Project
from tests.support.finished_stage import finish


class PoolingEncoder:
    """Latents are 4 × 4 mean colours; counts what it is asked to encode."""

    image_size = 8

    def __init__(self, fingerprint: str = "pooling"):
        self.fingerprint = fingerprint
        self.encoded = 0

    def encode_images(self, pixels: Tensor) -> Posterior:
        assert pixels.dtype == torch.uint8
        assert pixels.shape[1:] == (8, 8, 3)
        self.encoded += len(pixels)
        images = pixels.permute(0, 3, 1, 2).float() / 255
        mean = torch.nn.functional.avg_pool2d(images, 2)
        return Posterior(mean, torch.full_like(mean, 0.01))


def write_images(folder: Path, count: int = 12, classes: str = "ab") -> Path:
    """Images of one colour each; no two alike."""
    for number in range(count):
        path = folder / classes[number % len(classes)] / f"{number:03d}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        colour = (number % 250, number // 250, 7 if number % 2 else 99)
        Image.new("RGB", (8, 8), colour).save(path)
    return folder


def make_project(root: Path, images: Path, **settings: object) -> Project:
    project = Project.open_or_create(root)
    config = DatasetConfig(data=str(images), **{"test_fraction": 0.0, **settings})
    finish(project, "dataset", config, dataset.run(project, config))
    return project


@pytest.fixture
def project(tmp_path: Path) -> Project:
    return make_project(tmp_path / "project", write_images(tmp_path / "images"))


def same(ours: Latents, theirs: Latents) -> bool:
    return (
        ours.ids == theirs.ids
        and torch.equal(ours.mean, theirs.mean)
        and torch.equal(ours.std, theirs.std)
        and ours.key == theirs.key
    )


def test_latents_are_those_of_the_images_in_index_order(project: Project) -> None:
    latents = encode_dataset(project, PoolingEncoder())
    index = dataset.load_index(project)
    assert latents.ids == [record.id for record in index.images]
    assert latents.mean.shape == latents.std.shape == (12, 3, 4, 4)
    assert latents.mean.dtype == latents.std.dtype == torch.float32
    for record in index.images:
        colour = np.asarray(Image.open(record.path))[0, 0] / 255
        found = latents.of(record.id)
        assert found.mean[:, 0, 0].numpy() == pytest.approx(colour, abs=1e-3)
        assert found.std.unique() == pytest.approx(0.01, abs=1e-4)
    assert latents.rows([latents.ids[4], latents.ids[0]]) == [4, 0]
    with pytest.raises(KeyError):
        latents.of("a/missing.png")


def test_a_second_run_encodes_nothing_and_returns_the_same_numbers(project: Project) -> None:
    first = encode_dataset(project, PoolingEncoder())
    again = PoolingEncoder()
    assert same(first, encode_dataset(project, again))
    assert again.encoded == 0


def test_the_model_is_loaded_on_a_miss_only(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    loads = []

    def load(project: Project) -> PoolingEncoder:
        loads.append(project)
        return PoolingEncoder()

    monkeypatch.setattr("dpd_core.models.latents.backbone_identity", lambda config: "pooling")
    monkeypatch.setattr("dpd_core.models.latents.load_backbone", load)
    first = latents_for(project, ("train",))
    assert len(loads) == 1
    assert same(first, latents_for(project, ("train",)))
    assert len(loads) == 1


def test_another_model_does_not_get_these_latents(project: Project) -> None:
    first = encode_dataset(project, PoolingEncoder())
    other = PoolingEncoder("other")
    assert encode_dataset(project, other).key != first.key
    assert other.encoded == 12
    back = PoolingEncoder()
    assert same(first, encode_dataset(project, back))
    assert back.encoded == 0


def test_a_split_is_selected_and_an_empty_one_is_an_error(tmp_path: Path) -> None:
    images = write_images(tmp_path / "images")
    project = make_project(tmp_path / "project", images, test_fraction=0.5)
    encoder = PoolingEncoder()
    train = encode_dataset(project, encoder)
    test = encode_dataset(project, encoder, splits=("test",))
    assert len(train.ids) == len(test.ids) == 6
    assert not set(train.ids) & set(test.ids)
    both = encode_dataset(project, encoder, splits=("train", "test"))
    assert both.ids == sorted(train.ids + test.ids)
    assert encoder.encoded == 12
    assert torch.equal(both.mean[both.rows(test.ids)], test.mean)

    whole = make_project(tmp_path / "whole", images)
    with pytest.raises(DatasetError, match="no images in the split test"):
        encode_dataset(whole, encoder, splits=("test",))


def test_only_images_never_seen_are_encoded_by_any_project(tmp_path: Path) -> None:
    images = write_images(tmp_path / "images")
    first = make_project(tmp_path / "first", images)
    encode_dataset(first, PoolingEncoder())

    write_images(images, count=15)
    shutil.move(images / "a", images / "renamed")
    second = make_project(tmp_path / "second", images)
    shutil.copytree(first.path("latents"), second.path("latents"))
    encoder = PoolingEncoder()
    latents = encode_dataset(second, encoder)
    assert encoder.encoded == 3
    fresh = make_project(tmp_path / "fresh", images)
    assert same(latents, encode_dataset(fresh, PoolingEncoder()))


def test_copies_of_an_image_are_encoded_once(tmp_path: Path) -> None:
    images = write_images(tmp_path / "images")
    shutil.copy(images / "a" / "000.png", images / "a" / "copy.png")
    encoder = PoolingEncoder()
    latents = encode_dataset(make_project(tmp_path / "project", images), encoder)
    assert len(latents.ids) == 13
    assert encoder.encoded == 12
    assert torch.equal(latents.of("a/000.png").mean, latents.of("a/copy.png").mean)


def test_an_interrupted_run_continues_at_the_shard(tmp_path: Path) -> None:
    images = write_images(tmp_path / "images", count=SHARD + 20)
    project = make_project(tmp_path / "project", images)

    def stop(event: Event) -> None:
        if isinstance(event, Progress) and event.done > SHARD:
            raise JobStopped("asked to stop")

    with pytest.raises(JobStopped):
        encode_dataset(project, PoolingEncoder(), emit=stop)
    encoder, events = PoolingEncoder(), []
    resumed = encode_dataset(project, encoder, emit=events.append)
    assert encoder.encoded == 20
    progress = [event for event in events if isinstance(event, Progress)]
    assert (progress[0].done, progress[-1].done, progress[-1].total) == (
        SHARD,
        SHARD + 20,
        SHARD + 20,
    )
    whole = make_project(tmp_path / "whole", images)
    assert same(resumed, encode_dataset(whole, PoolingEncoder()))


@pytest.mark.parametrize("damage", ["truncated", "empty", "flipped", "foreign"])
def test_a_damaged_shard_is_reported_and_encoded_again(project: Project, damage: str) -> None:
    first = encode_dataset(project, PoolingEncoder())
    (shard,) = project.path("latents").glob("*.safetensors")
    data = bytearray(shard.read_bytes())
    data[-50] ^= 0xFF
    shard.write_bytes(
        {
            "truncated": data[: len(data) // 2],
            "empty": b"",
            "flipped": data,
            "foreign": b"not a safetensors file at all",
        }[damage]
    )
    encoder, events = PoolingEncoder(), []
    assert same(first, encode_dataset(project, encoder, emit=events.append))
    assert encoder.encoded == 12
    warnings = [event for event in events if isinstance(event, Log) and event.level == "warning"]
    assert len(warnings) == 1
    assert shard.name in warnings[0].message

    third = PoolingEncoder()
    assert same(first, encode_dataset(project, third))
    assert third.encoded == 0


def test_a_changed_image_is_refused_by_name(project: Project) -> None:
    record = dataset.load_index(project).images[3]
    Image.new("RGB", (8, 8), (1, 2, 3)).save(record.path)
    with pytest.raises(DatasetError, match=record.path.name):
        encode_dataset(project, PoolingEncoder())


def test_latents_that_are_not_numbers_are_refused_by_name(project: Project) -> None:
    class Broken(PoolingEncoder):
        def encode_images(self, pixels: Tensor) -> Posterior:
            posterior = super().encode_images(pixels)
            posterior.mean[5] = 1e6
            return posterior

    ids = [record.id for record in dataset.load_index(project).images]
    with pytest.raises(ModelError, match=ids[5]):
        encode_dataset(project, Broken())
    assert not list(project.path("latents").glob("*"))


def test_shards_are_half_the_size_and_name_no_place(project: Project) -> None:
    encode_dataset(project, PoolingEncoder())
    (path,) = project.path("latents").glob("*.safetensors")
    with safe_open(path, framework="pt") as file:
        assert file.get_tensor("mean").dtype == torch.float16
        assert str(project.root.parent) not in str(file.metadata())
