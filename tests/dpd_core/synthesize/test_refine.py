"""Refining makes a set worth more, leaves pinned images, and continues as if never stopped."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from dpd_core.synthesize.refine import Refiner
from PIL import Image

from dpd_core.config import ProjectConfig
from dpd_core.dataset import demo
from dpd_core.errors import ModelError
from dpd_core.hardware import choose_hardware
from dpd_core.students.networks import Student
from dpd_core.students.ridge import MOMENTS, matching_networks, ridge_prediction

CPU = choose_hardware(ProjectConfig(device="cpu", dtype="float32"))
CLASSES, SIDE = 3, 16


def scenes(count: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Noise with stripes, whose distance tells the class."""
    draw = np.random.default_rng(seed)
    labels = np.arange(count) % CLASSES
    images = draw.integers(60, 160, (count, SIDE, SIDE, 3))
    for image, label in zip(images, labels, strict=True):
        image[:, :: 2 + label] += 70
    return images.astype(np.uint8), labels


REAL, REAL_LABELS = scenes(96, 0)
# A set that teaches nothing yet: noise without stripes.
SET = np.random.default_rng(1).integers(0, 256, (6, SIDE, SIDE, 3), dtype=np.uint8)
SET_LABELS = np.arange(6) % CLASSES


def refiner(images: np.ndarray = SET, **given: Any) -> Refiner:
    values = {"rate": 0.02, "seed": 0, "hardware": CPU, **given}
    return Refiner(images, SET_LABELS, REAL, REAL_LABELS, **values)


def photographs(per_class: int, first: int) -> tuple[np.ndarray, np.ndarray]:
    names = ("forest", "river", "industrial area")
    files = [
        path
        for name in names
        for path in sorted((demo.FOLDER / name).glob("*.jpg"))[first : first + per_class]
    ]
    images = [np.asarray(Image.open(path).reduce(2)) for path in files]
    return np.stack(images), np.repeat(np.arange(len(names)), per_class)


def test_refining_lowers_the_loss(tmp_path: Path) -> None:
    real, images = photographs(24, 0), photographs(4, 30)

    def losses(rate: float) -> list[float]:
        seen: list[float] = []
        refined = Refiner(*images, *real, rate=rate, seed=0, hardware=CPU).run(
            36, tmp_path / f"{rate}.safetensors", lambda done, loss: seen.append(loss)
        )
        assert refined.shape == images[0].shape
        assert refined.dtype == np.uint8
        return seen

    # The networks learn meanwhile, so the loss of a set that stays as it is changes, too.
    moved, still = losses(0.01), losses(0.0)
    assert moved[0] == still[0]
    assert np.mean(moved[-15:]) < 0.9 * np.mean(still[-15:])


def test_the_step_size_bounds_the_change(tmp_path: Path) -> None:
    near, far = (
        np.abs(refiner(rate=rate).run(5, tmp_path / f"{rate}.safetensors").astype(int) - SET).mean()
        for rate in (0.002, 0.02)
    )
    assert 0 < near < far < 0.02 * 255 * 6


def test_a_stopped_run_continues_to_the_same_images(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # So that networks make place for new ones before and after the stop.
    monkeypatch.setattr("dpd_core.synthesize.refine.LAST_AGE", 8)
    expected = refiner().run(14, tmp_path / "whole.safetensors")

    def stop(done: int, value: float) -> None:
        if done == 7:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        refiner().run(14, tmp_path / "stopped.safetensors", stop)
    seen: list[int] = []
    result = refiner().run(14, tmp_path / "stopped.safetensors", lambda done, _: seen.append(done))
    assert seen == list(range(8, 15))
    assert np.array_equal(result, expected)


def test_a_damaged_checkpoint_is_named(tmp_path: Path) -> None:
    path = tmp_path / "c.safetensors"
    path.write_bytes(b"not tensors")
    with pytest.raises(ModelError, match="damaged") as caught:
        refiner().run(1, path)
    assert str(path) in str(caught.value)


def test_fixed_images_stay(tmp_path: Path) -> None:
    fixed = np.array([True, False, False, True, False, False])
    refined = refiner(fixed=fixed).run(4, tmp_path / "c.safetensors")
    assert np.array_equal(refined[fixed], SET[fixed])
    assert not np.array_equal(refined[~fixed], SET[~fixed])


def test_larger_images_are_compared_at_the_size_of_the_real_ones(tmp_path: Path) -> None:
    large = SET.repeat(2, axis=1).repeat(2, axis=2)
    assert refiner(large).run(2, tmp_path / "c.safetensors").shape == large.shape


def test_of_a_large_set_each_step_moves_a_part(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("dpd_core.synthesize.refine.SET_BATCH", 4)
    once = refiner().run(1, tmp_path / "once.safetensors")
    assert sum(not np.array_equal(new, old) for new, old in zip(once, SET, strict=True)) == 4
    often = refiner().run(6, tmp_path / "often.safetensors")
    assert all(not np.array_equal(new, old) for new, old in zip(often, SET, strict=True))


def test_networks_are_found_again_and_differ_between_moments(tmp_path: Path) -> None:
    def make(on_step: object = None) -> list[Student]:
        return matching_networks(
            REAL,
            REAL_LABELS,
            CLASSES,
            count=1,
            steps=8,
            seed=0,
            hardware=CPU,
            folder=tmp_path,
            key="k",
            on_step=on_step,
        )  # type: ignore[arg-type]

    first, steps = make(), []
    again = make(lambda: steps.append(1))
    assert not steps
    assert len(first) == len(MOMENTS)
    heads = [network.head.weight for network in first]
    assert all(torch.equal(a, b.head.weight) for a, b in zip(heads, again, strict=True))
    assert not torch.equal(heads[0], heads[-1])


def test_ridge_regression_says_of_its_own_points_what_it_was_told() -> None:
    support = torch.randn(4, 32, generator=torch.Generator().manual_seed(0))
    labels = torch.eye(4)
    predicted = ridge_prediction(support, labels, support)
    assert torch.equal(predicted.argmax(1), labels.argmax(1))
    assert (predicted - labels).abs().max() < 0.1
