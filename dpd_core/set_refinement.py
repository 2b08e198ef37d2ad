"""The refinement of a distilled set in its project: from the slots' images and back to them.

See :mod:`dpd_core.refinement` for the method. A refined image is one more candidate of its slot,
marked ``"refined"``, and the chosen one; pinned slots are seen by the others and stay as they are.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from dpd_core.backbone import Backbone
from dpd_core.classifier_network import LatentClassifier
from dpd_core.config import SynthesizeConfig
from dpd_core.dataset import load_index
from dpd_core.distilled import candidate_file
from dpd_core.errors import ProjectError
from dpd_core.events import Emit, Meter
from dpd_core.matching import real_images
from dpd_core.project import Project
from dpd_core.refinement import Refiner
from dpd_core.selection import Candidates, margin
from dpd_core.slot_files import finish_slot, save_candidates

STAGE = "synthesize"
_ENCODE_BATCH = 32


def refine_set(
    project: Project, config: SynthesizeConfig, folder: Path, records: list[dict[str, Any]],
    backbone: Backbone, classifier: LatentClassifier, emit: Emit,
) -> list[dict[str, Any]]:  # fmt: skip
    """Give each slot its refined candidate.

    Args:
        project: With its training images.
        config: Settings ``refine_*``.
        folder: The set's folder.
        records: The slots' records, all of the set, in the order of the set.
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
    real = real_images(project, load_index(project), config, side=backbone.image_size,
                       hardware=backbone.hardware, emit=emit, stage=STAGE)  # fmt: skip
    images = np.stack([_sampled(folder, record) for record in records])
    labels = np.array([real.classes.index(record["class"]) for record in records])
    fixed = np.array([bool(record.get("pinned")) for record in records])
    refiner = Refiner(images, labels, real.pixels, real.labels, real.networks, fixed=fixed,
                      rate=config.refine_rate, seed=project.config.seed)  # fmt: skip
    meter = Meter(emit, STAGE, config.refine_steps, message="refining the set")
    checkpoint = folder / "refinement.safetensors"
    refined = refiner.run(config.refine_steps, checkpoint, lambda done, loss: meter.advance())
    finished = _finished(folder, records, refined, backbone, classifier)
    checkpoint.unlink(missing_ok=True)
    return finished


def _is_refined(record: dict[str, Any]) -> bool:
    return any(candidate.get("refined") for candidate in record["candidates"])


def _sampled(folder: Path, record: dict[str, Any]) -> np.ndarray:
    """The slot's image before refinement, also if the process died after choosing the refined."""
    chosen = record["candidates"][record["chosen"]]
    if chosen.get("refined"):
        chosen = record["candidates"][chosen["refined_from"]]
    path = folder / candidate_file(record["file"], chosen["index"])
    if not path.exists():
        raise ProjectError("an image of the set is missing.", where=path,
                           fix="Make the set again.")  # fmt: skip
    with Image.open(path) as image:
        return np.asarray(image.convert("RGB"), dtype=np.uint8)


@torch.no_grad()
def _finished(
    folder: Path, records: list[dict[str, Any]], images: np.ndarray, backbone: Backbone,
    classifier: LatentClassifier,
) -> list[dict[str, Any]]:  # fmt: skip
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
                "index": number, "seed": record["candidates"][record["chosen"]]["seed"],
                "score": round(float(score), 6),
                "predicted": classifier.classes[int(row.argmax())],
                "refined": True, "refined_from": record["chosen"],
            }  # fmt: skip
            changed = {**record, "candidates": [*record["candidates"], candidate],
                       "chosen": number}  # fmt: skip
            save_candidates(folder, changed, torch.from_numpy(image[None]), first=number)
            finished.append(finish_slot(folder, changed))
    return finished
