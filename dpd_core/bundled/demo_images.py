"""Where ``assets/demo_images`` comes from: held-out EuroSAT images, as they are in the source.

``python -m dpd_core.bundled.demo_images EUROSAT_RGB`` writes them again.
"""

from __future__ import annotations

import argparse
import shutil
from collections.abc import Sequence
from pathlib import Path

from dpd_core.bundled.corpus import eurosat_files
from dpd_core.dataset.class_names import readable_name
from dpd_core.dataset.demo import FOLDER

PER_CLASS = 80


def main(arguments: Sequence[str] | None = None) -> int:
    """Read the command line and copy; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m dpd_core.bundled.demo_images")
    parser.add_argument("eurosat", type=Path, help="EuroSAT RGB: a folder of class folders")
    parser.add_argument("--out", type=Path, default=FOLDER, help="where the images go")
    options = parser.parse_args(arguments)
    for name, (_, held_out) in eurosat_files(options.eurosat).items():
        folder = options.out / readable_name(name)
        folder.mkdir(parents=True, exist_ok=True)
        for path in held_out[:PER_CLASS]:
            shutil.copyfile(path, folder / path.name)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
