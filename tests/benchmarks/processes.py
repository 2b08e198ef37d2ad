"""Two processes under torchrun on CPU: the same images as one, and divided work.

A small project of demo images is made up to ``captions``; then training and synthesis run on one
and on two processes in copies of it. Both cases have one thread a process.
"""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
from PIL import Image

from tests.benchmarks.harness import Options, Row, child, scratch

SIZES = {"toy": (2, 4), "small": (8, 10), "full": (40, 25)}
"""Training steps and sampling steps."""
CLASSES = "forest,highway,pasture,river"


def run(options: Options) -> list[Row]:
    """Two rows; ours is two processes, theirs one."""
    train, steps = SIZES[options.size]
    with scratch() as folder:
        child(
            [
                "-m",
                "dpd_core",
                "dataset",
                "--project",
                folder / "p",
                "--demo",
                "--classes",
                CLASSES,
                "--demo-per-class",
                "12",
                "--quiet",
                "--device",
                "cpu",
            ]
        )
        child(
            [
                "-m",
                "dpd_core",
                "prototypes",
                "--project",
                folder / "p",
                "--ipc",
                "2",
                "--no-project-map",
                "--quiet",
            ]
        )
        child(
            [
                "-m",
                "dpd_core",
                "captions",
                "--project",
                folder / "p",
                "--mode",
                "template",
                "--quiet",
            ]
        )
        training = [
            "train",
            "--steps",
            str(train),
            "--batch-size",
            "16",
            "--classifier-steps",
            "2",
            "--preview-steps",
            "0",
        ]
        sampling = ["synthesize", "--strategy", "dpd", "--steps", str(steps), "--set-name", "set"]
        both = {}
        for processes in (1, 2):
            root = folder / str(processes)
            shutil.copytree(folder / "p", root)
            both[processes] = [_launch(root, processes, words) for words in (training, sampling)]
        # The same adapter on both sides: what two processes sum up differs in the last digit.
        shutil.rmtree(folder / "2" / "adapters")
        shutil.rmtree(folder / "2" / "distilled")
        shutil.copytree(folder / "1" / "adapters", folder / "2" / "adapters")
        again = _launch(folder / "2", 2, sampling)
        same, largest = _compare(folder / "1" / "distilled", folder / "2" / "distilled")
    sizes = f"{len(CLASSES.split(','))} classes, 2 a class"
    alone, shared = both[1], both[2]
    return [
        Row(
            "training on two processes",
            shared[0],
            alone[0],
            alone[0] / shared[0],
            None,
            "work divided",
            f"{sizes}, {train} steps of 16",
            note="whole command, imports included",
        ),
        Row(
            "synthesis on two processes",
            again,
            alone[1],
            alone[1] / again,
            None,
            "same images",
            f"{sizes}, {steps} steps",
            note=f"{same} images equal, largest difference {largest} of 255",
        ),
    ]


def _launch(root: Path, processes: int, words: list[str]) -> float:
    """Seconds of a stage on so many processes."""
    launcher = ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node", str(processes)]
    return child(
        [*launcher, "-m", "dpd_core", *words, "--project", root, "--quiet"], OMP_NUM_THREADS="1"
    ).cost.wall


def _compare(first: Path, second: Path) -> tuple[str, int]:
    """How many images of two sets are equal, and by how much they differ at most."""
    files = sorted(
        path.relative_to(first)
        for path in first.rglob("*.png")
        if "slots" not in path.parts and path.name != "contact_sheet.png"
    )
    differences = [_difference(first / file, second / file) for file in files]
    return f"{differences.count(0)} of {len(files)}", max(differences)


def _difference(first: Path, second: Path) -> int:
    ours, theirs = (np.asarray(Image.open(path), dtype=int) for path in (first, second))
    return int(np.abs(ours - theirs).max())
