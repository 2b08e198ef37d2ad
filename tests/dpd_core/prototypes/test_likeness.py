"""How alike images are: near-duplicates and the most similar ones, by pretrained features."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from dpd_core.config import DatasetConfig
from dpd_core.dataset import stage as dataset
from dpd_core.dataset.index import load_index
from dpd_core.errors import ProjectError
from dpd_core.project import Project
from dpd_core.prototypes import likeness
from dpd_core.prototypes.likeness import nearest_others, write_likeness
from dpd_core.prototypes.likeness_file import read_likeness


@pytest.fixture
def project(tmp_path: Path) -> Project:
    """Stripes of four kinds, three images each, of which two hardly differ."""
    for kind in range(4):
        folder = tmp_path / "images" / f"kind{kind}"
        folder.mkdir(parents=True)
        for number in range(3):
            rows = np.arange(64)[:, None] * (kind + 1) * (1.7 if number == 2 else 1.0)
            wave = 127 + 100 * np.sin(rows / 5 + np.arange(64)[None] * kind / 9)
            pixels = np.stack([wave, np.full_like(wave, 60 * kind), wave[::-1]], 2)
            pixels[0, 0] = 40 * number  # no exact copies
            Image.fromarray(pixels.astype(np.uint8)).save(folder / f"{number}.png")
    project = Project.create(tmp_path / "project")
    dataset.run(project, DatasetConfig(data=str(tmp_path / "images"), test_fraction=0.34))
    return project


def test_near_duplicates_find_each_other_and_a_search_begins_with_them(project: Project) -> None:
    index = load_index(project)
    assert read_likeness(project, index) is None
    write_likeness(project, index)
    found = read_likeness(project, index)
    assert found is not None
    row_of = {record.id: row for row, record in enumerate(index.images)}
    for kind in range(4):
        first, second = (row_of[f"kind{kind}/{number}.png"] for number in (0, 1))
        assert found.nearest[first] == second
        assert found.nearest[second] == first
        assert found.alike[first] > 0.99
        rows, cosines = found.similar(first, 5)
        assert rows[:2] == [first, second]
        assert cosines == sorted(cosines, reverse=True)
        assert cosines[0] == 1


def test_it_is_made_once_and_again_for_other_images(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    index = load_index(project)
    write_likeness(project, index)
    with monkeypatch.context() as patch:
        patch.setattr("dpd_core.prototypes.likeness.features", lambda *_: pytest.fail("again"))
        write_likeness(project, index)
    dataset.run(
        project,
        DatasetConfig(data=str(project.root.parent / "images"), classes=("kind0", "kind1")),
    )
    fewer = load_index(project)
    assert read_likeness(project, fewer) is None, "that of other images is none"
    write_likeness(project, fewer)
    assert len(read_likeness(project, fewer).vectors) == 6


def test_axes_from_a_sample_place_the_others_too(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(likeness, "FITTED", 8)
    monkeypatch.setattr(likeness, "_BATCH", 3)
    index = load_index(project)
    write_likeness(project, index)
    found = read_likeness(project, index)
    assert np.allclose(np.linalg.norm(found.vectors.astype(float), axis=1), 1, atol=1e-2)
    assert float(np.sort(found.alike)[-4:].min()) > 0.98


def test_a_damaged_file_is_named_with_the_way_out(project: Project) -> None:
    project.path("prototypes").mkdir(exist_ok=True)
    project.path("prototypes", "likeness.safetensors").write_bytes(b"nothing of the kind")
    with pytest.raises(ProjectError, match="damaged") as caught:
        read_likeness(project, load_index(project))
    assert "Delete it" in str(caught.value.fix)


def test_nearest_is_never_oneself(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(likeness, "_ROWS", 4)
    vectors = np.random.default_rng(0).normal(size=(11, 5)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    nearest, alike = nearest_others(vectors)
    cosines = vectors @ vectors.T
    np.fill_diagonal(cosines, -2)
    assert np.array_equal(nearest, cosines.argmax(1))
    assert np.allclose(alike, cosines.max(1))
