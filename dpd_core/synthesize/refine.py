"""The refinement of a distilled set in its project: from the slots' images and back to them.

See :mod:`dpd_core.synthesize.refinement` for the method. A refined image is one more candidate of
its slot, marked ``"refined"``; pinned slots are seen by the others and stay as they are. It is the
chosen one if students of the refined set know more of the real training images than students of the
sampled
one: where a set is as good as it gets, moving its images only adds noise.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from dpd_core.config import SynthesizeConfig
from dpd_core.dataset.images import to_square
from dpd_core.dataset.index import load_index
from dpd_core.errors import ProjectError
from dpd_core.events import Emit, Log, Meter
from dpd_core.hardware import Hardware
from dpd_core.models.backbone import Backbone
from dpd_core.project import Project
from dpd_core.seeding import derive_seed
from dpd_core.students import training as students
from dpd_core.students.ridge import RealImages, real_images
from dpd_core.synthesize.refinement import Refiner
from dpd_core.synthesize.selection import Candidates, margin
from dpd_core.synthesize.sets import candidate_file
from dpd_core.synthesize.slot_files import finish_slot, save_candidates
from dpd_core.train.classifier import LatentClassifier

STAGE = "synthesize"
_ENCODE_BATCH = 32
JUDGES, JUDGE_BATCH = 2, 32
"""Students of each set that decide between the sampled and the refined images; they are trained for
as many steps as the set was refined."""
JUDGED = 2000
"""Real training images that they are asked about at most."""


def refine_set(
    project: Project,
    config: SynthesizeConfig,
    folder: Path,
    records: list[dict[str, Any]],
    steps: int,
    backbone: Backbone,
    classifier: LatentClassifier,
    emit: Emit,
) -> list[dict[str, Any]]:
    """Give each slot its refined candidate.

    Args:
        project: With its training images.
        config: Settings ``refine_size`` and ``refine_rate``.
        folder: The set's folder.
        records: The slots' records, all of the set, in the order of the set.
        steps: Steps of refining.
        backbone: Encodes the refined images for their score.
        classifier: Gives the score.
        emit: Gets progress.

    Returns:
        The records as they stand now; those that have a refined candidate already are untouched.

    Raises:
        ProjectError: an image of the set is missing.
    """
    if all(_is_refined(record) or record.get("pinned") for record in records):
        return records
    side = min(config.refine_size, backbone.image_size)
    real = real_images(project, load_index(project), side=side, emit=emit, stage=STAGE)
    images = np.stack([_sampled(folder, record) for record in records])
    labels = np.array([real.classes.index(record["class"]) for record in records])
    fixed = np.array([bool(record.get("pinned")) for record in records])
    refiner = Refiner(
        images,
        labels,
        real.pixels,
        real.labels,
        fixed=fixed,
        rate=config.refine_rate,
        seed=project.config.seed,
        hardware=backbone.hardware,
    )
    meter = Meter(emit, STAGE, steps, message="refining the set")
    checkpoint = folder / "refinement.safetensors"
    refined = refiner.run(steps, checkpoint, lambda done, loss: meter.advance())
    before, after = _worth([images, refined], labels, real, steps, project, backbone.hardware, emit)
    better = after > before
    emit(
        Log(
            STAGE,
            f"students of the refined set name {after:.1%} of the real training images, "
            f"those of the sampled one {before:.1%}; the "
            f"{'refined' if better else 'sampled'} images are chosen",
        )
    )
    finished = _finished(folder, records, refined, backbone, classifier, chosen=better)
    checkpoint.unlink(missing_ok=True)
    return finished


def _worth(
    sets: list[np.ndarray],
    labels: np.ndarray,
    real: RealImages,
    steps: int,
    project: Project,
    hardware: Hardware,
    emit: Emit,
) -> list[float]:
    """The share of real training images that students of each set name rightly, in [0, 1].

    Args:
        sets: uint8 (N, H, W, 3) each.
        labels: Columns of all of them, (N,).
        real: What is to be named; of many, some.
        steps: Training steps of each student.
        project: Its seed determines the students.
        hardware, emit: As elsewhere.
    """
    meter = Meter(emit, STAGE, len(sets) * JUDGES * steps, message="judging the refined set")
    side, rows = real.pixels.shape[1], np.arange(0, len(real.ids), -(-len(real.ids) // JUDGED))
    shares = []
    for images in sets:
        seen = np.stack([np.asarray(to_square(Image.fromarray(one), side)) for one in images])
        judges = [
            students.train_student(
                seen,
                labels,
                len(real.classes),
                steps=steps,
                batch_size=JUDGE_BATCH,
                seed=derive_seed(project.config.seed, "judge", number),
                hardware=hardware,
                on_step=lambda done, loss: meter.advance(),
            )
            for number in range(JUDGES)
        ]
        shares.append(
            float(
                np.mean(
                    [
                        students.accuracy(
                            judge, real.pixels[rows], real.labels[rows], hardware=hardware
                        )
                        for judge in judges
                    ]
                )
            )
        )
    return shares


def _is_refined(record: dict[str, Any]) -> bool:
    return any(candidate.get("refined") for candidate in record["candidates"])


def _sampled(folder: Path, record: dict[str, Any]) -> np.ndarray:
    """The slot's image before refinement, also if the process died after choosing the refined."""
    chosen = record["candidates"][record["chosen"]]
    if chosen.get("refined"):
        chosen = record["candidates"][chosen["refined_from"]]
    path = folder / candidate_file(record["file"], chosen["index"])
    if not path.exists():
        raise ProjectError("an image of the set is missing.", where=path, fix="Make the set again.")
    with Image.open(path) as image:
        return np.asarray(image.convert("RGB"), dtype=np.uint8)


@torch.no_grad()
def _finished(
    folder: Path,
    records: list[dict[str, Any]],
    images: np.ndarray,
    backbone: Backbone,
    classifier: LatentClassifier,
    *,
    chosen: bool,
) -> list[dict[str, Any]]:
    finished = []
    for start in range(0, len(records), _ENCODE_BATCH):
        part = images[start : start + _ENCODE_BATCH]
        latents = backbone.encode_images(part).mean
        logits = classifier(latents.to(backbone.device)).float().cpu()
        for record, image, row, latent in zip(
            records[start : start + _ENCODE_BATCH], part, logits, latents.cpu(), strict=True
        ):
            if record.get("pinned") or _is_refined(record):
                finished.append(record)
                continue
            column = classifier.classes.index(record["class"])
            score = margin(Candidates(row[None], column, latent[None], latent, latent[None][:0]))
            number = len(record["candidates"])
            candidate = {
                "index": number,
                "seed": record["candidates"][record["chosen"]]["seed"],
                "score": round(float(score), 6),
                "predicted": classifier.classes[int(row.argmax())],
                "refined": True,
                "refined_from": record["chosen"],
            }
            changed = {
                **record,
                "candidates": [*record["candidates"], candidate],
                "chosen": number if chosen else record["chosen"],
            }
            save_candidates(folder, changed, torch.from_numpy(image[None]), first=number)
            finished.append(finish_slot(folder, changed))
    return finished
