"""A project whose images are not clustered yet, with an encoder that takes no time."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from dpd_core.config import DatasetConfig
from dpd_core.dataset import stage as dataset
from dpd_core.project import Project
from tests.support.curated_project import PoolingEncoder
from tests.support.finished_stage import finish


@pytest.fixture
def unclustered(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Project:
    """Two classes of twelve noisy images, a third of them for testing."""
    rng = np.random.default_rng(0)
    for name in ("forest", "river"):
        (tmp_path / "images" / name).mkdir(parents=True)
        for number in range(12):
            pixels = rng.integers(0, 256, (8, 8, 3)) // 3 + 50 * (number % 3)
            image = Image.fromarray(pixels.astype(np.uint8))
            image.save(tmp_path / "images" / name / f"{name}{number:02d}.png")
    monkeypatch.setattr("dpd_core.models.latents.backbone_identity", lambda config: "pooling")
    monkeypatch.setattr("dpd_core.models.latents.load_backbone", lambda project: PoolingEncoder())
    project = Project.create(tmp_path / "project")
    config = DatasetConfig(data=str(tmp_path / "images"), test_fraction=0.34)
    finish(project, "dataset", config, dataset.run(project, config))
    return project
