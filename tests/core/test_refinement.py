"""Refining lowers its loss, leaves pinned images, and continues as if it had not been stopped."""

from pathlib import Path

import numpy as np
import pytest
import torch

from dpd_core.config import ProjectConfig
from dpd_core.hardware import choose_hardware
from dpd_core.matching import MOMENTS, matching_loss, matching_networks, ridge_prediction
from dpd_core.refinement import Refiner
from dpd_core.student_networks import Student

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


@pytest.fixture(scope="module")
def networks(tmp_path_factory: pytest.TempPathFactory) -> list[Student]:
    folder = tmp_path_factory.mktemp("networks")
    return matching_networks(REAL, REAL_LABELS, CLASSES, count=1, steps=16, seed=0, hardware=CPU,
                             folder=folder, key="k")  # fmt: skip


def refiner(networks: list[Student], **given: object) -> Refiner:
    values = {"rate": 0.02, "seed": 0, **given}
    return Refiner(SET, SET_LABELS, REAL, REAL_LABELS, networks, **values)  # type: ignore[arg-type]


def loss(networks: list[Student], images: np.ndarray) -> float:
    def floats(stack: np.ndarray) -> torch.Tensor:
        return torch.from_numpy(stack).permute(0, 3, 1, 2).float() / 255

    values = [matching_loss(network, floats(images), torch.from_numpy(SET_LABELS), floats(REAL),
                            torch.from_numpy(REAL_LABELS)) for network in networks]  # fmt: skip
    return float(torch.stack(values).mean())


def test_refining_lowers_the_loss(networks: list[Student], tmp_path: Path) -> None:
    refined = refiner(networks).run(30, tmp_path / "c.safetensors")
    assert refined.shape == SET.shape
    assert refined.dtype == np.uint8
    assert loss(networks, refined) < 0.8 * loss(networks, SET)


def test_the_step_size_bounds_the_change(networks: list[Student], tmp_path: Path) -> None:
    near, far = (
        np.abs(refiner(networks, rate=rate).run(5, tmp_path / f"{rate}.safetensors").astype(int)
               - SET).mean()
        for rate in (0.002, 0.02)
    )  # fmt: skip
    assert 0 < near < far < 0.02 * 255 * 6


def test_a_stopped_run_continues_to_the_same_images(
    networks: list[Student], tmp_path: Path
) -> None:
    expected = refiner(networks).run(8, tmp_path / "whole.safetensors")

    def stop(done: int, value: float) -> None:
        if done == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        refiner(networks).run(8, tmp_path / "stopped.safetensors", stop)
    continued = refiner(networks)
    seen: list[int] = []
    result = continued.run(8, tmp_path / "stopped.safetensors", lambda done, _: seen.append(done))
    assert seen == [4, 5, 6, 7, 8]
    assert np.array_equal(result, expected)


def test_fixed_images_stay(networks: list[Student], tmp_path: Path) -> None:
    fixed = np.array([True, False, False, True, False, False])
    refined = refiner(networks, fixed=fixed).run(4, tmp_path / "c.safetensors")
    assert np.array_equal(refined[fixed], SET[fixed])
    assert not np.array_equal(refined[~fixed], SET[~fixed])


def test_larger_images_are_compared_at_the_size_of_the_real_ones(
    networks: list[Student], tmp_path: Path
) -> None:
    large = SET.repeat(2, axis=1).repeat(2, axis=2)
    one = Refiner(large, SET_LABELS, REAL, REAL_LABELS, networks, rate=0.02, seed=0)
    assert one.run(2, tmp_path / "c.safetensors").shape == large.shape


def test_networks_are_found_again_and_differ_between_moments(tmp_path: Path) -> None:
    def make(on_step: object = None) -> list[Student]:
        return matching_networks(REAL, REAL_LABELS, CLASSES, count=1, steps=8, seed=0,
                                 hardware=CPU, folder=tmp_path, key="k",
                                 on_step=on_step)  # type: ignore[arg-type]  # fmt: skip

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
