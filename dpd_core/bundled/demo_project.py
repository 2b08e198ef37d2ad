"""The finished demo project that a first visit to the app lands on.

``python -m dpd_core.bundled.demo_project --work WORKDIR --out assets/demo`` runs all seven stages
on the demo images, with the bundled models, and copies the project without what can be made again.
The command can be repeated after any end and continues.
"""

from __future__ import annotations

import argparse
import shutil
from collections.abc import Sequence
from pathlib import Path

from dpd_core import cli, storage
from dpd_core.errors import ProjectError
from dpd_core.pipeline.staleness import is_current
from dpd_core.project import Project

RECIPE = (
    "--demo",
    "--ipc",
    "4",
    "--preset",
    "quick",
    "--set",
    "train.steps=150",
    "--set",
    "train.decoder_steps=300",
    "--set",
    "train.batch_size=16",
    "--set",
    "train.rank=8",
    "--set",
    "train.checkpoint_steps=50",
    "--set",
    "train.preview_steps=50",
    "--set",
    "train.classifier_steps=300",
    "--set",
    "synthesize.steps=25",
    "--set",
    "synthesize.candidates=16",
    "--set",
    "evaluate.seeds=3",
    "--set",
    "evaluate.student_steps=300",
)
"""What is given to ``python -m dpd_core run``: a few minutes on an idle laptop."""

LEFT_OUT = ("cache", "latents", "parts", "export", ".lock", "*.lock", ".part-*", "output.txt")
"""Names that are not copied: made again when needed, or of one run."""


def pack(source: Path, out: Path) -> None:
    """Copy a finished project so that it can be opened anywhere.

    Raises:
        ProjectError: the project is not finished up to its evaluation.
    """
    project = Project.open(source)
    if not is_current(project, "evaluate"):
        raise ProjectError(
            "the project is not finished.", where=source, fix="Let the run come to its end first."
        )
    with storage.atomic_folder(out) as temporary:
        shutil.copytree(
            source, temporary, dirs_exist_ok=True, ignore=shutil.ignore_patterns(*LEFT_OUT)
        )
        manifest = storage.read_json(temporary / "project.json")
        manifest["stages"].pop("export", None)  # its files are as large as all others together
        storage.write_json(temporary / "project.json", manifest)
        for job in temporary.glob("jobs/*-export-*"):
            shutil.rmtree(job)
        for path in temporary.glob("jobs/*/config.json"):
            # The command on record names the folder it ran in, which is nobody else's.
            made = storage.read_json(path)
            made["command"] = made["command"].replace(str(project.root), out.name)
            storage.write_json(path, made)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the recipe and pack; returns the exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m dpd_core.bundled.demo_project", description="Make the demo project."
    )
    parser.add_argument("--work", type=Path, required=True, help="folder in which it is made")
    parser.add_argument("--out", type=Path, required=True, help="where the finished one goes")
    options = parser.parse_args(arguments)
    source = options.work / "demo"
    status = cli.main(["run", "--project", str(source), *RECIPE])
    if status == 0:
        pack(source, options.out)
    return status


if __name__ == "__main__":
    raise SystemExit(main())
