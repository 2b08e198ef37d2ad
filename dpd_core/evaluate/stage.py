"""The evaluate stage: what a distilled set is worth, beside real images of the same number.

Students are trained on the distilled set and on each baseline, with the same recipe and the
same seeds, and tested on the real test split. The test split chooses nothing: not the images,
not a checkpoint, not a setting. Distribution metrics and the privacy figure follow.

Each finished (set, seed) is stored in ``reports/parts/`` under a digest of everything that
determines it, so an interrupted run goes on where it was, and reports share their baselines.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from dpd_core import storage
from dpd_core.config import EvaluateConfig
from dpd_core.errors import ProjectError
from dpd_core.evaluate import metrics
from dpd_core.evaluate.report import report_path
from dpd_core.evaluate.subjects import Bench, LabelledImages, Subject, load_bench
from dpd_core.events import Emit, Log, Meter, Metric, ignore
from dpd_core.project import Project
from dpd_core.seeding import derive_seed
from dpd_core.students import training as students

STAGE = "evaluate"
Item = TypeVar("Item")


def run(project: Project, config: EvaluateConfig, emit: Emit = ignore) -> dict[str, Any]:
    """The evaluate stage: writes ``reports/<set>.json``.

    Raises:
        StageMissing: no data set, no distilled set, or no clusters for the medoids.
        DatasetError: a class has no test image, or the set does not fit the data set.
        ConfigError: unknown baseline.
    """
    started = time.monotonic()
    bench = load_bench(project, config, emit)
    manifest = storage.file_digest(bench.distilled.root / "manifest.json")
    jobs = [(subject, repeat) for subject in bench.subjects for repeat in range(config.seeds)]
    meter = _meter(bench, jobs, emit)
    results: dict[str, list[dict[str, Any]]] = {subject.name: [] for subject in bench.subjects}
    for subject, repeat in jobs:
        result = _student_result(bench, subject, repeat, meter)
        results[subject.name].append(result)
        emit(Metric(STAGE, repeat, {f"accuracy/{subject.name}": result["accuracy"]}))
    soft = _soft_results(bench, meter, emit) if config.soft_labels else None
    report: dict[str, Any] = {
        "set": bench.distilled.name,
        # Tells later whether the set is still the one that was measured.
        "manifest": manifest,
        "strategy": bench.distilled.manifest.get("strategy"),
        "ipc": bench.distilled.ipc,
        "protocol": _protocol(bench),
        "accuracy": {
            subject.name: _accuracy(bench, subject, results[subject.name])
            for subject in bench.subjects
        },
        "accuracy_soft": None,
        "confusion": {
            "classes": bench.classes,
            "matrix": _summed_confusion(results[bench.distilled.name]).tolist(),
        },
        "distribution": None,
        "privacy": None,
    }
    if soft is not None:
        report["accuracy_soft"] = {
            subject.name: _accuracy(bench, subject, soft[subject.name])
            for subject in bench.subjects
        }
    if config.distribution:
        report["distribution"] = _distribution(bench, meter)
        report["privacy"] = _privacy(bench, meter)
    report["notes"] = _notes(bench)
    report["seconds"] = round(time.monotonic() - started, 1)
    path = report_path(project, bench.distilled.name)
    storage.write_json(path, report)
    for note in report["notes"]:
        emit(Log(STAGE, note))
    return _summary(report, project.relative(path))


def _meter(bench: Bench, jobs: list[tuple[Subject, int]], emit: Emit) -> Meter:
    """Counts student steps and, after them, images compared."""
    config = bench.config
    kinds = (False, True) if config.soft_labels else (False,)
    total = len(jobs) * len(kinds) * config.student_steps
    done = sum(_part(bench, *job, soft=soft).exists() for job in jobs for soft in kinds)
    done *= config.student_steps
    if config.distribution or config.soft_labels:
        total += config.feature_steps
        done += config.feature_steps if _feature_path(bench).exists() else 0
    if config.distribution:
        total += len(bench.subjects[0].variant(0)) + len(bench.control)
    return Meter(emit, STAGE, total, done=done, message="training students")


def _part(bench: Bench, subject: Subject, repeat: int, *, soft: bool = False) -> Path:
    teacher = ["soft", _feature_path(bench).stem] if soft else []
    key = bench.key(
        "student",
        bench.config.student_steps,
        subject.variant(repeat).digest,
        bench.test.digest,
        _student_seed(bench, repeat),
        *teacher,
    )
    return bench.project.path("reports", "parts", f"{key}.json")


def _soft_results(bench: Bench, meter: Meter, emit: Emit) -> dict[str, list[dict[str, Any]]]:
    """The same students on a teacher's probabilities of each image instead of its class.

    The teacher is the network of the feature space, which has seen the real training split.
    """
    teacher = feature_network(bench, meter)
    results: dict[str, list[dict[str, Any]]] = {}
    for subject in bench.subjects:
        results[subject.name] = []
        for repeat in range(bench.config.seeds):
            result = _student_result(bench, subject, repeat, meter, teacher=teacher)
            results[subject.name].append(result)
            emit(Metric(STAGE, repeat, {f"accuracy_soft/{subject.name}": result["accuracy"]}))
    return results


def _student_seed(bench: Bench, repeat: int) -> int:
    # The same for all sets: what differs between them is then the images alone.
    return derive_seed(bench.project.config.seed, "student", repeat)


def _student_result(
    bench: Bench,
    subject: Subject,
    repeat: int,
    meter: Meter,
    teacher: students.Student | None = None,
) -> dict[str, Any]:
    """Train and test one student, or find it done; with a teacher, on its soft labels."""
    path = _part(bench, subject, repeat, soft=teacher is not None)
    if path.exists():
        return storage.read_json(path, fix="Delete it and run the evaluate stage again.")
    started = time.monotonic()
    images = subject.variant(repeat)
    probabilities = None
    if teacher is not None:
        probabilities = students.predict_proba(teacher, images.pixels, hardware=bench.hardware)
    model = students.train_student(
        images.pixels,
        images.labels,
        len(bench.classes),
        student=bench.config.student,
        steps=bench.config.student_steps,
        batch_size=bench.config.student_batch,
        seed=_student_seed(bench, repeat),
        hardware=bench.hardware,
        on_step=_counter(meter, f"student of {subject.name}, seed {repeat + 1}"),
        probabilities=probabilities,
    )
    predicted = students.predict(model, bench.test.pixels, hardware=bench.hardware)
    confusion = metrics.confusion_matrix(bench.test.labels, predicted, len(bench.classes))
    result = {
        "set": subject.name,
        "repeat": repeat,
        "images": len(images),
        "accuracy": metrics.overall_accuracy(confusion),
        "confusion": confusion.tolist(),
        "seconds": round(time.monotonic() - started, 1),
    }
    storage.write_json(path, result)
    return result


def _counter(meter: Meter, message: str) -> Callable[[int, float], None]:
    return lambda step, loss: meter.advance(1, message)


def _summed_confusion(results: list[dict[str, Any]]) -> np.ndarray:
    return np.sum([result["confusion"] for result in results], axis=0)


def _accuracy(bench: Bench, subject: Subject, results: list[dict[str, Any]]) -> dict[str, Any]:
    runs = [result["accuracy"] for result in results]
    mean, deviation = metrics.mean_std(runs)
    by_class = metrics.per_class_accuracy(_summed_confusion(results))
    return {
        "mean": mean,
        "std": deviation,
        "runs": runs,
        "images": len(subject.variant(0)),
        "per_class": dict(zip(bench.classes, by_class.tolist(), strict=True)),
    }


def _feature_path(bench: Bench) -> Path:
    key = bench.key(
        "features", bench.config.feature_steps, bench.train.digest, bench.project.config.seed
    )
    return bench.project.path("cache", "features", f"{key}.safetensors")


def feature_network(bench: Bench, meter: Meter) -> students.Student:
    """The network of the feature space, a student of the whole real training split, trained or
    found done; ``meter`` counts its steps."""
    from safetensors import SafetensorError
    from safetensors.torch import load_model, save_model

    path, config, n_classes = _feature_path(bench), bench.config, len(bench.classes)
    if path.exists():
        model = students.build_student(config.student, n_classes)
        try:
            load_model(model, path)
        except (SafetensorError, RuntimeError) as error:
            raise ProjectError(
                f"the feature network is damaged ({error}).",
                where=path,
                fix="Delete it and run the evaluate stage again.",
            ) from error
        return model.eval()
    model = students.train_feature_network(
        bench.train.pixels,
        bench.train.labels,
        n_classes,
        student=config.student,
        steps=config.feature_steps,
        batch_size=config.student_batch,
        seed=bench.project.config.seed,
        hardware=bench.hardware,
        on_step=_counter(meter, "feature network"),
    )
    with storage.atomic_path(path) as temporary:
        save_model(model.cpu(), str(temporary))
    return model


def _distribution(bench: Bench, meter: Meter) -> dict[str, Any]:
    """FID, KID and coverage of each set against the real test split, in one feature space."""
    network = feature_network(bench, meter)
    real = students.features(network, bench.test.pixels, hardware=bench.hardware)
    seed = derive_seed(bench.project.config.seed, "kid")

    def measure(images: LabelledImages) -> dict[str, Any]:
        found = students.features(network, images.pixels, hardware=bench.hardware)
        coverage, by_class = metrics.intra_class_coverage(
            real, bench.test.labels, found, images.labels
        )
        return {
            "images": len(images),
            "fid": metrics.fid(real, found).to_dict(),
            "kid": metrics.kid(real, found, seed=seed).to_dict(),
            "coverage": {
                "value": coverage,
                "per_class": {bench.classes[k]: v for k, v in by_class.items()},
            },
        }

    measured = {}
    for subject in bench.subjects:
        variants = [measure(images) for images in subject.variants]
        measured[subject.name] = _mean_of(variants)
    predicted = students.predict(network, bench.test.pixels, hardware=bench.hardware)
    confusion = metrics.confusion_matrix(bench.test.labels, predicted, len(bench.classes))
    by_class = metrics.per_class_accuracy(confusion).tolist()
    return {
        "reference": "test",
        "reference_images": len(bench.test),
        "network": {
            "student": bench.config.student,
            "steps": bench.config.feature_steps,
            "trained_on": len(bench.train),
            "accuracy": metrics.overall_accuracy(confusion),
            "per_class": dict(zip(bench.classes, by_class, strict=True)),
        },
        "sets": measured,
    }


def _mean_of(records: list[Any]) -> Any:
    """Records of one shape made one: numbers averaged, texts and ``None`` kept."""
    first = records[0]
    if isinstance(first, dict):
        return {key: _mean_of([record[key] for record in records]) for key in first}
    if isinstance(first, float):
        return float(np.mean(records))
    return first


def _privacy(bench: Bench, meter: Meter) -> dict[str, Any]:
    """How near distilled images come to training images, and how near real test images do."""

    def nearest(queries: LabelledImages) -> metrics.NearestImages:
        found = metrics.nn_ssim(
            queries.pixels,
            queries.labels,
            bench.train.pixels,
            bench.train.labels,
            device=bench.hardware.device,
        )
        return metrics.collect_nearest(_counted(found, meter))

    images = bench.subjects[0].variant(0)
    ours, real = nearest(images), nearest(bench.control)
    limit = float(np.quantile(real.highest, 0.95))
    root = bench.distilled.root
    slots = {slot.path.relative_to(root).as_posix(): slot for slot in bench.distilled.slots}
    records = [
        {
            "class": slots[source].class_name,
            "slot": slots[source].slot,
            "image_id": bench.train.sources[ours.nearest[row]],
            "ssim": float(ours.highest[row]),
            "top5": float(ours.top_mean[row]),
        }
        for row, source in enumerate(images.sources)
    ]
    return {
        "nn_ssim": _similarity(ours),
        "real_to_real": _similarity(real),
        "real_to_real_p95": limit,
        "share_above_p95": float((ours.highest > limit).mean()),
        "nearest": sorted(records, key=lambda record: -record["ssim"]),
    }


def _counted(items: Iterator[Item], meter: Meter) -> Iterator[Item]:
    for item in items:
        yield item
        meter.advance(1, "comparing with the training images")


def _similarity(found: metrics.NearestImages) -> dict[str, float | int]:
    return {
        "mean": float(found.top_mean.mean()),
        "mean_highest": float(found.highest.mean()),
        "max": float(found.highest.max()),
        "images": len(found.highest),
    }


def _protocol(bench: Bench) -> dict[str, Any]:
    config, seed = bench.config, bench.project.config.seed
    return {
        "student": config.student,
        "size": config.student_size,
        "steps": config.student_steps,
        "batch_size": config.student_batch,
        "augmentation": "random resized crop, area 0.67 to 1; mirror images on both axes",
        "seed": seed,
        "seeds": [_student_seed(bench, repeat) for repeat in range(config.seeds)],
        "train_images": len(bench.train),
        "test_images": len(bench.test),
        "device": bench.hardware.reason,
        "std": "sample standard deviation over the seeds",
    }


def _notes(bench: Bench) -> list[str]:
    notes, subjects = [], bench.subjects
    if bench.config.seeds == 1:
        notes.append("One seed: there is no standard deviation; differences may be chance.")
    ours = len(subjects[0].variant(0))
    for subject in subjects[1:]:
        count = len(subject.variant(0))
        if count < ours:
            notes.append(
                f"{subject.name} has {count} images, the distilled set {ours}: a class has no more."
            )
        if count > ours:
            notes.append(
                f"{subject.name} has {count} images, the distilled set {ours}: "
                "it shows what all the data would bring."
            )
    if bench.config.soft_labels:
        notes.append(
            "accuracy_soft: students of a teacher that has seen all real training images; "
            "not to be compared with hard labels."
        )
    if bench.config.distribution:
        notes.append(
            "FID, KID and coverage are measured against the real test split, which "
            "neither the feature network nor any of the sets has seen."
        )
        notes.append("FID is biased upwards for few images: compare sets of the same size only.")
        notes.append(
            "real_to_real is the same similarity for real test images against the "
            "training images: what is ordinary for images that copy nothing."
        )
    return notes


def _summary(report: dict[str, Any], path: str) -> dict[str, Any]:
    name = report["set"]
    summary = {
        "set": name,
        "report": path,
        "accuracy": {key: entry["mean"] for key, entry in report["accuracy"].items()},
        "accuracy_std": {key: entry["std"] for key, entry in report["accuracy"].items()},
    }
    if report["distribution"]:
        measured = report["distribution"]["sets"][name]
        for metric in ("fid", "kid", "coverage"):
            summary[metric] = measured[metric]["value"]
        summary["nn_ssim"] = report["privacy"]["nn_ssim"]["mean"]
        summary["real_to_real"] = report["privacy"]["real_to_real"]["mean"]
    return summary
