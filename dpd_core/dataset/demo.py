"""Demo scenes: drawn into the project, so that it works without any data."""

from __future__ import annotations

import io
from pathlib import Path

from dpd_core import storage
from dpd_core.config import DatasetConfig
from dpd_core.dataset.found import Found, Item
from dpd_core.errors import DatasetError
from dpd_core.events import Emit, Meter
from dpd_core.project import Project
from dpd_core.seeding import derive_seed

FIRST_SEED = 2_000_000
"""Scenes with lower seeds are reserved: for pretraining the bundled models, and for testing
them from 1,000,000 on. A demo must show scenes that the models have never seen."""

DEFAULT_SIZE = 64


def write_scenes(project: Project, config: DatasetConfig, emit: Emit) -> Found:
    """Draw ``config.demo_per_class`` scenes of each class (of ``config.classes``, if given).

    Scenes that are there already are kept, so an interrupted call goes on where it was.

    Raises:
        DatasetError: a class in ``config.classes`` is not among the scenes.
    """
    from dpd_core.bundled.scenes import SCENE_CLASSES

    unknown = sorted(set(config.classes) - set(SCENE_CLASSES))
    if unknown:
        raise DatasetError(
            f"there are no demo scenes of {', '.join(unknown)}.",
            where="dataset.classes",
            fix=f"Known classes: {', '.join(SCENE_CLASSES)}.",
        )
    size = project.config.image_size or DEFAULT_SIZE
    folder = project.path("dataset", "demo")
    classes = [name for name in SCENE_CLASSES if not config.classes or name in config.classes]
    meter = Meter(emit, "dataset", len(classes) * config.demo_per_class, message="drawing scenes")
    items = []
    for class_name in classes:
        for number in range(config.demo_per_class):
            path = folder / class_name / f"scene-{number:03d}.png"
            seed = FIRST_SEED + derive_seed(project.config.seed, "demo", class_name, number)
            caption = _write_scene(path, class_name, seed, size)
            items.append(Item(class_name, path.name, path, caption=caption))
            meter.advance()
    return Found(kind="demo", data="demo", root=None, items=items, licence="cc0-1.0", copy=folder)


def _write_scene(path: Path, class_name: str, seed: int, size: int) -> str:
    """Draw the scene unless the file holds it; the caption, also kept in the file."""
    from PIL.PngImagePlugin import PngInfo

    from dpd_core.bundled.scenes import render_scene

    label = f"{class_name} {seed} {size}"
    caption = _read_caption(path, label)
    if caption is not None:
        return caption
    scene = render_scene(class_name, seed=seed, size=size)
    notes = PngInfo()
    notes.add_itxt("Scene", label)
    notes.add_itxt("Description", scene.caption)
    buffer = io.BytesIO()
    scene.image.convert("RGB").save(buffer, "PNG", pnginfo=notes)
    storage.write_bytes(path, buffer.getvalue())
    return scene.caption


def _read_caption(path: Path, label: str) -> str | None:
    """The caption in the file, if it is whole and of this very scene."""
    from PIL import Image

    try:
        with Image.open(path, formats=("PNG",)) as image:
            notes = getattr(image, "text", {})
            image.load()
    except (OSError, SyntaxError, ValueError):
        return None
    return notes.get("Description") if notes.get("Scene") == label else None
