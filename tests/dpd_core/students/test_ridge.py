"""Ridge regression on features: what a set teaches, as a number."""

from pathlib import Path

import numpy as np
import pytest
import torch

from dpd_core.config import ProjectConfig
from dpd_core.hardware import choose_hardware
from dpd_core.students.networks import Student
from dpd_core.students.ridge import (
    MOMENTS,
    RIDGE,
    matching_networks,
    one_hot,
    ridge_space,
)

CPU = choose_hardware(ProjectConfig(device="cpu", dtype="float32"))
CLASSES, SIDE = 3, 16


def test_networks_are_found_again_and_differ_between_moments(tmp_path: Path) -> None:
    images = np.random.default_rng(0).integers(0, 256, (96, SIDE, SIDE, 3), dtype=np.uint8)

    def make(on_step: object = None) -> list[Student]:
        return matching_networks(
            images,
            np.arange(96) % CLASSES,
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


def test_loss_is_that_of_ridge_regression_fitted_to_the_rows() -> None:
    draws = torch.Generator().manual_seed(0)
    pool, real = torch.randn(12, 8, generator=draws), torch.randn(50, 8, generator=draws)
    labels, truth = (one_hot(torch.arange(n) % CLASSES, CLASSES) for n in (12, 50))
    rows = torch.tensor([1, 4, 6, 11])
    support = pool[rows].double()
    damping = RIDGE * support.square().sum(1).mean() * torch.eye(8)
    weights = torch.linalg.solve(support.T @ support + damping, support.T @ labels[rows].double())
    wanted = 0.5 * (real.double() @ weights - truth).square().sum(1).mean()
    assert ridge_space(pool, real, truth).loss(labels, rows) == pytest.approx(float(wanted), 1e-4)


def test_loss_is_small_for_the_points_that_it_was_told_of() -> None:
    points = torch.randn(6, 32, generator=torch.Generator().manual_seed(0))
    labels = one_hot(torch.arange(6) % CLASSES, CLASSES)
    space = ridge_space(points, points, labels)
    everything = space.loss(labels, torch.arange(6))
    assert everything < 0.01 < space.loss(labels, torch.arange(3))
