"""Measured quality of the bundled models, on images that none of them was trained on."""

from __future__ import annotations

import logging
import re
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from diffusers import StableDiffusionPipeline
from PIL import Image
from transformers import AutoProcessor, BlipForConditionalGeneration

from dpd_core.bundled import descriptions
from dpd_core.bundled.autoencoder import psnr, reconstructed
from dpd_core.bundled.captioner import caption_images
from dpd_core.bundled.corpus import EUROSAT, IMAGE_SIZE, Collection
from dpd_core.bundled.crops import CropSampler
from dpd_core.evaluate.metrics import fid
from dpd_core.hardware import Hardware
from dpd_core.students.features import features
from dpd_core.students.training import predict, train_student

log = logging.getLogger(__name__)

SAMPLING_STEPS = 20
GUIDANCE_SCALES = (1.0, 2.0, 4.0)
STUDENT_IMAGES, STUDENT_TESTS, STUDENT_STEPS = 10, 20, 600
JUDGE_IMAGES = 200
RIDGE = 0.1

Metrics = dict[str, float]


def named_class(caption: str, class_names: Sequence[str]) -> str | None:
    """The class that a caption names: the first to appear, the longest where two start."""
    found = []
    for name in class_names:
        match = re.search(rf"\b{re.escape(name)}", caption.lower())
        if match:
            found.append((match.start(), -len(name), name))
    return min(found)[2] if found else None


def ridge_classes(
    known: np.ndarray, labels: np.ndarray, asked: np.ndarray, n_classes: int
) -> np.ndarray:
    """Classes (m,) of features ``asked`` (m, d), by ridge regression on features ``known`` (n, d)
    of length one: the pretrained student, in closed form."""
    known, asked = (x / np.linalg.norm(x, axis=1, keepdims=True) for x in (known, asked))
    centre = known.mean(0)
    known, asked = known - centre, asked - centre
    wanted = np.eye(n_classes)[labels]
    wanted = wanted - wanted.mean(0)
    kernel = known @ known.T
    damped = kernel + RIDGE * np.trace(kernel) / len(kernel) * np.eye(len(kernel))
    return (asked @ known.T @ np.linalg.solve(damped, wanted)).argmax(1)


def read_classes(
    folder: Path, per_class: int, seed: int
) -> tuple[np.ndarray, np.ndarray, list[str]]:
    """Images of class folders, reduced to 64 px: uint8 (n, 64, 64, 3), labels and names."""
    names = sorted(path.name for path in folder.iterdir() if path.is_dir())
    images, labels = [], []
    rng = np.random.default_rng(seed)
    for label, name in enumerate(names):
        files = sorted((folder / name).iterdir())
        for place in rng.permutation(len(files))[:per_class]:
            with Image.open(files[place]) as opened:
                image = opened.convert("RGB")
            side = (IMAGE_SIZE, IMAGE_SIZE)
            images.append(np.asarray(image.resize(side, Image.Resampling.LANCZOS)))
            labels.append(label)
    return np.stack(images), np.array(labels), names


def measure_autoencoder(
    vae: Any, held_out: Sequence[Collection], unseen: Path | None, hardware: Hardware
) -> Metrics:
    """PSNR in dB on each kind of held-out images and on ``unseen``, and what students of ten images
    a class of ``unseen`` lose when they see the reconstructions instead."""
    metrics: Metrics = {}
    rng = np.random.default_rng(0)
    for part in held_out:
        crops = CropSampler([part], {part.kind.name: 1.0}).draw(400, rng, turned=False)
        images = crops.images.permute(0, 2, 3, 1).numpy()
        values = psnr(images, reconstructed(vae, images))
        metrics[f"{part.kind.name}_psnr_db"] = round(float(values.mean()), 2)
    if unseen is not None:
        metrics |= _measure_students(vae, unseen, hardware)
    return metrics


def _measure_students(vae: Any, unseen: Path, hardware: Hardware) -> Metrics:
    images, labels, names = read_classes(unseen, STUDENT_IMAGES + STUDENT_TESTS, seed=0)
    place = np.arange(len(labels)) % (STUDENT_IMAGES + STUDENT_TESTS)
    shown, asked = images[place < STUDENT_IMAGES], images[place >= STUDENT_IMAGES]
    y, truth = labels[place < STUDENT_IMAGES], labels[place >= STUDENT_IMAGES]
    again = reconstructed(vae, shown)
    values = psnr(shown, again)
    metrics = {
        "unseen_psnr_db": round(float(values.mean()), 2),
        "unseen_psnr_db_5th_percentile": round(float(np.percentile(values, 5)), 2),
    }
    wanted = features(asked, device=hardware.device)
    for kind, set_ in (("real", shown), ("reconstructed", again)):
        known = features(set_, device=hardware.device)
        right = ridge_classes(known, y, wanted, len(names)) == truth
        metrics[f"unseen_pretrained_student_{kind}"] = round(float(right.mean()), 4)
        scores = []
        for seed in range(2):
            student = train_student(
                set_,
                y,
                len(names),
                steps=STUDENT_STEPS,
                batch_size=64,
                seed=seed,
                hardware=hardware,
            )
            scores.append((predict(student, asked, hardware=hardware) == truth).mean())
        metrics[f"unseen_student_from_scratch_{kind}"] = round(float(np.mean(scores)), 4)
    return metrics


def sample_classes(
    pipeline: StableDiffusionPipeline,
    class_names: Sequence[str],
    *,
    per_class: int,
    guidance: float,
    seed: int,
) -> np.ndarray:
    """Images (classes * per_class, 64, 64, 3) uint8 of "a satellite image of …"."""
    pipeline.set_progress_bar_config(disable=True)
    images = []
    for index, name in enumerate(class_names):
        for start in range(0, per_class, 64):
            result = pipeline(
                f"a satellite image of {name}",
                num_images_per_prompt=min(64, per_class - start),
                num_inference_steps=SAMPLING_STEPS,
                guidance_scale=guidance,
                generator=torch.Generator().manual_seed(1000 * seed + 64 * index + start),
                output_type="np",
            )
            images.append((result.images * 255).round().astype(np.uint8))
    return np.concatenate(images)


def measure_text_to_image(
    pipeline: StableDiffusionPipeline,
    train: Collection,
    held_out: Collection,
    hardware: Hardware,
    *,
    per_class: int,
    seed: int = 0,
) -> Metrics:
    """What samples of the EuroSAT classes are worth, by pretrained features.

    How often a judge (ridge regression on 200 real images a class) names the class; FID in units of
    what two halves of real images have; the share nearer to a training image than 95 % of held-out
    images are.
    """
    names = train.class_names
    rng = np.random.default_rng(seed)
    rows = np.concatenate(
        [
            rng.permutation(np.flatnonzero(train.labels == label))[
                : max(JUDGE_IMAGES, 2 * per_class)
            ]
            for label in range(len(names))
        ]
    )
    known, labels = features(train.images[rows], device=hardware.device), train.labels[rows]
    real = features(held_out.images, device=hardware.device)
    right = ridge_classes(known, labels, real, len(names)) == held_out.labels
    metrics: Metrics = {
        "images_per_class": per_class,
        "judge_on_real_images": round(float(right.mean()), 4),
    }
    place = _places_within(labels)
    first, second = known[place < per_class], known[(place >= per_class) & (place < 2 * per_class)]
    unit = fid(first, second).value
    limit = np.percentile(_nearest(real, known), 95)
    wanted = np.repeat(np.arange(len(names)), per_class)
    for scale in GUIDANCE_SCALES:
        images = sample_classes(pipeline, names, per_class=per_class, guidance=scale, seed=seed)
        made = features(images, device=hardware.device)
        right = ridge_classes(known, labels, made, len(names)) == wanted
        metrics[f"class_named_guidance_{scale:g}"] = round(float(right.mean()), 4)
        far = fid(first, made).value / unit
        metrics[f"fid_guidance_{scale:g}_in_units_of_real"] = round(far, 2)
        near = float((_nearest(made, known) > limit).mean())
        metrics[f"nearer_than_95_percent_of_real_guidance_{scale:g}"] = round(near, 4)
        by_class = right.reshape(-1, per_class).mean(1)
        log.info("guidance %g: %s", scale, dict(zip(names, by_class.round(2), strict=True)))
    return metrics


def measure_captioner(model: Any, processor: Any, held_out: Collection) -> Metrics:
    """Of captions of held-out images told their class: how often they name it, how many say the
    same as another of their class, and the share of statements that a measurement confirms."""
    names = [held_out.class_names[label] for label in held_out.labels]
    captions = caption_images(model, processor, held_out.images, names)
    right = [
        named_class(text, held_out.class_names) == name
        for text, name in zip(captions, names, strict=True)
    ]
    repeated = sum(count - 1 for count in Counter(captions).values())
    checked = np.array(
        [
            descriptions.confirmed(text, image, name)
            for text, image, name in zip(captions, held_out.images, names, strict=True)
        ]
    )
    return {
        "class_named": round(float(np.mean(right)), 4),
        "duplicates": round(repeated / len(captions), 4),
        "statements_a_caption": round(float(checked[:, 1].mean()), 2),
        "statements_confirmed": round(float(checked[:, 0].sum() / max(checked[:, 1].sum(), 1)), 4),
    }


def measure_all(
    collections: tuple[list[Collection], list[Collection]],
    assets: Path,
    hardware: Hardware,
    *,
    unseen: Path | None,
    per_class: int = 0,
) -> dict[str, dict[str, float]]:
    """Load the finished models as anyone would and return the numbers of each."""
    train, held_out = (
        next(part for part in parts if part.kind is EUROSAT) for parts in collections
    )
    results: dict[str, dict[str, float]] = {}
    if (assets / "base").exists():
        pipeline = StableDiffusionPipeline.from_pretrained(assets / "base").to(hardware.device)
        many = per_class or (100 if hardware.device.type == "cuda" else 30)
        results["base"] = {
            **measure_autoencoder(pipeline.vae, collections[1], unseen, hardware),
            **measure_text_to_image(pipeline, train, held_out, hardware, per_class=many),
        }
    if (assets / "captioner").exists():
        model = BlipForConditionalGeneration.from_pretrained(assets / "captioner").eval()
        processor = AutoProcessor.from_pretrained(assets / "captioner")
        results["captioner"] = measure_captioner(model, processor, held_out)
    for name, metrics in results.items():
        for key, value in metrics.items():
            log.info("%s: %s %s", name, key.replace("_", " "), value)
    return results


def _places_within(labels: np.ndarray) -> np.ndarray:
    """For each label, how many equal ones stand before it."""
    places, seen = np.empty(len(labels), int), Counter[int]()
    for row, label in enumerate(labels):
        places[row] = seen[int(label)]
        seen[int(label)] += 1
    return places


def _nearest(asked: np.ndarray, known: np.ndarray) -> np.ndarray:
    """Cosine of centred features to the nearest known ones, (n,)."""
    centre = known.mean(0)
    asked, known = (
        (x - centre) / np.linalg.norm(x - centre, axis=1, keepdims=True) for x in (asked, known)
    )
    return (asked @ known.T).max(1)
