"""Demo images: a few hundred real ones that come with the program, copied into the project.

They are EuroSAT images that the bundled models were not trained on; where they come from stands
beside them, in ``assets/demo_images``.
"""

from __future__ import annotations

from pathlib import Path

import dpd_core
from dpd_core import storage
from dpd_core.config import DatasetConfig
from dpd_core.dataset.found import Found, Item
from dpd_core.errors import DatasetError
from dpd_core.events import Emit, Meter
from dpd_core.project import Project

FOLDER = Path(dpd_core.__file__).parents[1] / "assets" / "demo_images"

LICENCE = "mit"


def copy_images(project: Project, config: DatasetConfig, emit: Emit) -> Found:
    """Copy ``config.demo_per_class`` images of each class (of ``config.classes``, if given).

    Images that are there already are kept, so an interrupted call goes on where it was.

    Raises:
        DatasetError: a class in ``config.classes`` is not among the demo's, or the images are
            missing.
    """
    known = sorted(path.name for path in FOLDER.glob("*/"))
    if not known:
        raise DatasetError(
            "the demo images are missing.",
            where=FOLDER,
            fix="Get the repository again, with its assets folder.",
        )
    unknown = sorted(set(config.classes) - set(known))
    if unknown:
        raise DatasetError(
            f"there are no demo images of {', '.join(unknown)}.",
            where="dataset.classes",
            fix=f"Known classes: {', '.join(known)}.",
        )
    folder = project.path("dataset", "demo")
    files = [
        path
        for name in known
        if not config.classes or name in config.classes
        for path in sorted((FOLDER / name).glob("*.jpg"))[: config.demo_per_class]
    ]
    meter = Meter(emit, "dataset", len(files), message="copying demo images")
    items = []
    for source in files:
        path = folder / source.parent.name / source.name
        content = source.read_bytes()
        if not path.exists() or path.read_bytes() != content:
            storage.write_bytes(path, content)
        items.append(Item(source.parent.name, path.name, path))
        meter.advance()
    return Found(kind="demo", data="demo", root=None, items=items, licence=LICENCE, copy=folder)
