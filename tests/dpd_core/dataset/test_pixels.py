"""Pixels, thumbnails and class names of indexed images."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from dpd_core.dataset import images
from dpd_core.dataset.index import load_index, rename_class
from dpd_core.dataset.pixels import pixels, thumbnail
from dpd_core.errors import DatasetError
from dpd_core.events import Event
from dpd_core.project import Project
from tests.support.image_folders import picture, prepare


def test_pixels_are_the_images(project: Project, folder: Path) -> None:
    index = prepare(project, folder)
    array = pixels(project, index.images, 8)
    assert array.shape == (14, 8, 8, 3) and array.dtype == np.uint8
    for row, record in zip(array, index.images, strict=True):
        assert (row == np.asarray(Image.open(record.path))).all()
    assert pixels(project, index.images[::-1], 5).shape == (14, 5, 5, 3)
    assert pixels(project, [], 5).shape == (0, 5, 5, 3)


def test_large_sets_are_kept_on_disk(
    project: Project, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    index = prepare(project, folder)
    small = pixels(project, index.images, 6)
    monkeypatch.setattr("dpd_core.dataset.pixels.CACHE_FROM", 2)
    events: list[Event] = []
    array = pixels(project, index.images, 6, emit=events.append, stage="evaluate")
    assert isinstance(array, np.memmap) and (array == small).all()
    assert events[-1].stage == "evaluate" and events[-1].done == 14
    with pytest.raises(ValueError):
        array[0] = 0
    monkeypatch.setattr(images, "open_rgb", None)  # nothing is decoded again
    assert (pixels(project, index.images, 6) == small).all()


def test_pixels_of_changed_images_are_an_error(project: Project, folder: Path) -> None:
    index = prepare(project, folder)
    (folder / "forest" / "00.png").write_bytes(picture(4321))
    with pytest.raises(DatasetError, match="changed"):
        pixels(project, index.images, 8)


def test_thumbnails_are_made_once(project: Project, tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / "data" / name).mkdir(parents=True)
        for number in range(2):
            path = tmp_path / "data" / name / f"{number}.png"
            path.write_bytes(picture(ord(name) + number * 10, size=200))
    record = prepare(project, tmp_path / "data").images[0]
    path = thumbnail(project, record, 64)
    assert path.is_relative_to(project.path("dataset", "thumbnails"))
    assert Image.open(path).size == (64, 64)
    record.path.unlink()
    assert thumbnail(project, record, 64) == path
    with pytest.raises(DatasetError):
        thumbnail(project, record, 32)


def test_classes_can_be_renamed(project: Project, folder: Path) -> None:
    prepare(project, folder)
    rename_class(project, "forest", "  boreal \n forest ")
    assert load_index(project).readable("forest") == "boreal forest"
    assert prepare(project, folder).readable("forest") == "boreal forest"
    rename_class(project, "forest", "")
    assert load_index(project).readable("forest") == "forest"
    with pytest.raises(DatasetError, match="no such class"):
        rename_class(project, "moon", "moon")
    with pytest.raises(DatasetError, match="no name"):
        rename_class(project, "forest", "x" * 200)
