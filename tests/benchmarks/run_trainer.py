"""Trains by our trainer on images of a folder and prints when each step ended, and what encoding
the images took: ``python -m tests.benchmarks.run_trainer FOLDER JSON``.

FOLDER has images and ``metadata.jsonl`` (``file_name``, ``text``), as the diffusers example wants
them. JSON holds ``model``, ``image_size`` and the train settings.
"""

from __future__ import annotations

import json
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch

from dpd_core.config import ProjectConfig, TrainConfig
from dpd_core.dataset.images import open_rgb, to_square
from dpd_core.hardware import choose_hardware
from dpd_core.models.backbone import Backbone, Posterior
from dpd_core.train.classifier import LatentClassifier
from dpd_core.train.trainer import Examples, Trainer


def make_trainer(folder: Path, settings: dict[str, Any], work: Path) -> tuple[Trainer, float]:
    """A trainer on the images of the folder, and the seconds that encoding them took."""
    given = dict(settings)
    project = ProjectConfig(dtype="float32", device="cpu")
    backbone = Backbone.load(
        given.pop("model"), hardware=choose_hardware(project), image_size=given.pop("image_size")
    )
    lines = [json.loads(line) for line in (folder / "metadata.jsonl").read_text().splitlines()]
    started = time.perf_counter()
    parts = []
    for start in range(0, len(lines), 16):
        squares = [
            to_square(open_rgb(folder / line["file_name"]), backbone.image_size)
            for line in lines[start : start + 16]
        ]
        parts.append(backbone.encode_images(np.stack([np.asarray(image) for image in squares])))
    texts = sorted({line["text"] for line in lines})
    captions = [texts.index(line["text"]) for line in lines]
    prompts = backbone.encode_prompts(texts)
    seconds = time.perf_counter() - started
    posterior = Posterior(
        torch.cat([part.mean for part in parts]), torch.cat([part.std for part in parts])
    )
    # As many classes as texts: each image's text names its class.
    classifier = LatentClassifier(texts, backbone.latent_shape[0])
    examples = Examples(posterior, torch.tensor(captions), captions, prompts)
    config = TrainConfig(preview_steps=0, **given)
    return Trainer(backbone, classifier, examples, config, folder=work, seed=0), seconds


def main() -> None:
    """The last line: ``{"encoding": seconds, "ends": [[wall, cpu], …]}``."""
    settings = json.loads(sys.argv[2])
    with tempfile.TemporaryDirectory() as work:
        trainer, encoding = make_trainer(Path(sys.argv[1]), settings, Path(work))
        ends = []
        for number in range(trainer.config.steps):
            trainer.step(number)
            ends.append((time.perf_counter(), time.process_time()))
    print(json.dumps({"encoding": encoding, "ends": ends}))


if __name__ == "__main__":
    main()
