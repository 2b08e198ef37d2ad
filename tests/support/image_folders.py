"""Small image folders and archives, and the dataset stage run on them."""

from __future__ import annotations

import io
import tarfile
import zipfile
from pathlib import Path

import numpy as np
from PIL import Image

from dpd_core.config import DatasetConfig
from dpd_core.dataset.index import DatasetIndex, load_index
from dpd_core.dataset.stage import run
from dpd_core.project import Project


def picture(number: int, size: int = 8) -> bytes:
    """A PNG that differs from that of any other number."""
    noise = np.random.default_rng(number).integers(0, 256, (size, size, 3), dtype=np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(noise).save(buffer, "PNG")
    return buffer.getvalue()


def fill(root: Path, counts: dict[str, int], *, start: int = 0) -> Path:
    """``root/<class>/<k>.png``, all different."""
    number = start
    for name, count in counts.items():
        (root / name).mkdir(parents=True, exist_ok=True)
        for index in range(count):
            (root / name / f"{index:02d}.png").write_bytes(picture(number))
            number += 1
    return root


def prepare(project: Project, folder: Path | str, **settings: object) -> DatasetIndex:
    """Run the stage and load its index."""
    run(project, DatasetConfig(data=str(folder), **settings))
    return load_index(project)


def reasons(index: DatasetIndex) -> dict[str, str]:
    return {entry.file: entry.reason for entry in index.refused}


def zip_of(path: Path, members: dict[str, bytes]) -> Path:
    with zipfile.ZipFile(path, "w") as file:
        for name, content in members.items():
            file.writestr(name, content)
    return path


def tar_of(path: Path, members: dict[str, bytes], mode: str = "w") -> Path:
    with tarfile.open(path, mode) as file:
        for name, content in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            file.addfile(info, io.BytesIO(content))
    return path


GOOD = {
    f"set/{name}/{k}.png": picture(10 * i + k)
    for i, name in enumerate(("forest", "river"))
    for k in range(3)
}
