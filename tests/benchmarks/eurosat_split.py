"""The EuroSAT folders of docs/benchmark.md: ``python -m tests.benchmarks.eurosat_split DATA OUT``.

DATA is ``EuroSAT_RGB``. OUT gets two data sets: ``measure`` with 200 images of each class to train
on and the 100 to test on that the bundled models have never seen; ``choose`` with the same 200 and,
in place of the test images, 100 others that the bundled models were trained on as well.
"""

from __future__ import annotations

import argparse
import shutil
from pathlib import Path

from dpd_core.bundled.corpus import eurosat_files

TRAIN, OTHER = 200, 100


def main() -> None:
    """Write both data sets."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", type=Path)
    parser.add_argument("out", type=Path)
    given = parser.parse_args()
    for name, (seen, unseen) in eurosat_files(given.data.resolve()).items():
        train = seen[:TRAIN]
        for kind, test in (("measure", unseen[:OTHER]), ("choose", seen[TRAIN : TRAIN + OTHER])):
            for split, files in (("train", train), ("test", test)):
                folder = given.out / kind / split / name
                folder.mkdir(parents=True, exist_ok=True)
                for file in files:
                    shutil.copyfile(file, folder / file.name)


if __name__ == "__main__":
    main()
