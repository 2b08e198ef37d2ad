"""A small clustered project for tests of decisions by hand, with an encoder that takes no time."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from dpd_core.config import DatasetConfig, PrototypesConfig
from dpd_core.dataset import stage as dataset
from dpd_core.events import Event
from dpd_core.models.backbone import Posterior
from dpd_core.pipeline.staleness import inputs_now
from dpd_core.project import Project
from dpd_core.prototypes import stage as prototypes
from dpd_core.prototypes.files import load_clustering
from tests.support.finished_stage import finish


class PoolingEncoder:
    """Latents are 4 × 4 mean colours."""

    fingerprint, image_size = "pooling", 8

    def encode_images(self, pixels: Tensor) -> Posterior:
        images = pixels.permute(0, 3, 1, 2).float() / 127.5 - 1
        mean = torch.nn.functional.avg_pool2d(images, 2)
        return Posterior(mean, torch.full_like(mean, 0.01))


def clustered_project(root: Path, monkeypatch: pytest.MonkeyPatch) -> Project:
    """Two classes of eighteen noisy images of three colours, a third for testing, clustered."""
    rng = np.random.default_rng(0)
    for name in ("forest", "river"):
        (root / "images" / name).mkdir(parents=True)
        for number in range(18):
            pixels = rng.integers(0, 256, (8, 8, 3)) // 3
            pixels[..., number % 3] += 150
            image = Image.fromarray(pixels.astype(np.uint8))
            image.save(root / "images" / name / f"{name}{number:02d}.png")
    monkeypatch.setattr("dpd_core.models.latents.backbone_identity", lambda config: "pooling")
    monkeypatch.setattr("dpd_core.models.latents.load_backbone", lambda project: PoolingEncoder())
    project = Project.create(root / "project")
    config = DatasetConfig(data=str(root / "images"), test_fraction=0.34)
    finish(project, "dataset", config, dataset.run(project, config))
    cluster(project)
    return project


def cluster(project: Project, **settings: Any) -> list[Event]:
    """Run the stage and put it on record, as a job does."""
    config = PrototypesConfig(**{"ipc": 3, "pool": 4, "project_map": False, **settings})
    inputs, events = inputs_now(project, "prototypes"), []
    result = prototypes.run(project, config, events.append)
    project.finish("prototypes", config, result, inputs=inputs)
    return events


def members_beside(project: Project, class_name: str, cluster_id: int) -> list[str]:
    """Members of a cluster that are not its prototype."""
    clustering = load_clustering(project)
    return [
        i
        for i, member in clustering.members.items()
        if (member.class_name, member.cluster_id) == (class_name, cluster_id)
        and i != clustering.prototypes[class_name][cluster_id].id
    ]
