"""The evaluate stage: what a distilled set is worth, beside real images of the same number.

Students are trained on the distilled set and on each baseline, with the same recipe and the
same seeds, and tested on the real test split. The test split chooses nothing: not the images,
not a checkpoint, not a setting. The pretrained student, the distribution metrics and the nearness
to the training images follow.

Each finished (set, seed) is stored in ``reports/parts/`` under a digest of everything that
determines it, so an interrupted run goes on where it was, and reports share their baselines.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError
from safetensors.torch import load_model, save_model

from dpd_core import storage
from dpd_core.config import EvaluateConfig
from dpd_core.errors import ProjectError
from dpd_core.evaluate import metrics
from dpd_core.evaluate.measures import distribution, privacy, subject_features
from dpd_core.evaluate.report import Accuracy, Confusion, Protocol, Report, save_report
from dpd_core.evaluate.subjects import Bench, Subject, load_bench
from dpd_core.events import Emit, Log, Meter, Metric, ignore
from dpd_core.project import Project
from dpd_core.seeding import derive_seed
from dpd_core.students import pretrained
from dpd_core.students import training as students

STAGE = "evaluate"
TEACHER = "convnet"
"""The teacher's network where the student is the pretrained one, which is no network to train."""


def run(project: Project, config: EvaluateConfig, emit: Emit = ignore) -> dict[str, Any]:
    """The evaluate stage: writes ``reports/<set>.json``.

    Raises:
        StageMissing: no data set, no distilled set, or no clusters for the medoids.
        DatasetError: a class has no test image, or the set does not fit the data set.
        ConfigError: unknown baseline.
    """
    started = time.monotonic()
    bench = load_bench(project, config, emit)
    manifest = bench.distilled.digest
    meter = _meter(bench, emit)
    fixed = {one.name: _pretrained_results(bench, one) for one in bench.subjects}
    for name, results in fixed.items():
        emit(Metric(STAGE, 0, {f"accuracy_pretrained/{name}": results[0]["accuracy"]}))
    hard = fixed
    if config.student != pretrained.NAME:
        hard = _results(bench, meter, emit, "accuracy")
    soft = None
    if config.soft_labels:
        teacher = teacher_network(bench, meter)
        soft = _results(bench, meter, emit, "accuracy_soft", teacher)
    report = Report(
        set=bench.distilled.name,
        manifest=manifest,
        strategy=bench.distilled.manifest.strategy,
        ipc=bench.distilled.ipc,
        protocol=_protocol(bench),
        accuracy=_accuracies(bench, hard),
        accuracy_pretrained=_accuracies(bench, fixed),
        accuracy_soft=None if soft is None else _accuracies(bench, soft),
        confusion=Confusion(bench.classes, _summed_confusion(hard[bench.distilled.name]).tolist()),
        distribution=distribution(bench) if config.distribution else None,
        privacy=privacy(bench, meter, emit) if config.distribution else None,
        notes=_notes(bench),
        seconds=round(time.monotonic() - started, 1),
    )
    path = save_report(project, report)
    for note in report.notes:
        emit(Log(STAGE, note))
    return _summary(report, project.relative(path))


def _meter(bench: Bench, emit: Emit) -> Meter:
    """Counts student steps and, after them, images compared."""
    config, steps = bench.config, bench.config.student_steps
    kinds = [False] * (config.student != pretrained.NAME) + [True] * config.soft_labels
    parts = [
        _part(bench, subject, repeat, soft=soft)
        for subject in bench.subjects
        for repeat in range(config.seeds)
        for soft in kinds
    ]
    if config.soft_labels:
        parts.append(_teacher_path(bench))
    total, done = len(parts) * steps, sum(path.exists() for path in parts) * steps
    if config.distribution:
        total += len(bench.subjects[0].variant(0)) + len(bench.control)
    return Meter(emit, STAGE, total, done=done, message="training students")


def _part(bench: Bench, subject: Subject, repeat: int, *, soft: bool = False) -> Path:
    teacher = ["soft", _teacher_path(bench).stem] if soft else []
    key = bench.key(
        "student",
        bench.config.student_steps,
        subject.variant(repeat).digest,
        bench.test.digest,
        _student_seed(bench, repeat),
        *teacher,
    )
    return bench.project.path("reports", "parts", f"{key}.json")


def _results(
    bench: Bench,
    meter: Meter,
    emit: Emit,
    measure: str,
    teacher: students.Student | None = None,
) -> dict[str, list[dict[str, Any]]]:
    """The students of every set by its name; with a teacher, on its probabilities of each image
    instead of its class."""
    results: dict[str, list[dict[str, Any]]] = {subject.name: [] for subject in bench.subjects}
    for subject in bench.subjects:
        for repeat in range(bench.config.seeds):
            result = _student_result(bench, subject, repeat, meter, teacher)
            results[subject.name].append(result)
            emit(Metric(STAGE, repeat, {f"{measure}/{subject.name}": result["accuracy"]}))
    return results


def _student_seed(bench: Bench, repeat: int) -> int:
    # The same for all sets: what differs between them is then the images alone.
    return derive_seed(bench.project.config.seed, "student", repeat)


def _student_result(
    bench: Bench,
    subject: Subject,
    repeat: int,
    meter: Meter,
    teacher: students.Student | None,
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
    if bench.config.student == pretrained.NAME:
        targets = images.labels if probabilities is None else probabilities
        head = pretrained.fit(subject_features(bench, images), targets, len(bench.classes))
        predicted = head.predict(subject_features(bench, bench.test))
    else:
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
    result = {
        **_scored(bench, predicted),
        "set": subject.name,
        "repeat": repeat,
        "images": len(images),
        "seconds": round(time.monotonic() - started, 1),
    }
    storage.write_json(path, result)
    return result


def _pretrained_results(bench: Bench, subject: Subject) -> list[dict[str, Any]]:
    """The pretrained student on each choice of a set's images; nothing else of it is drawn."""
    results = []
    for images in subject.variants:
        known = subject_features(bench, images)
        head = pretrained.fit(known, images.labels, len(bench.classes))
        predicted = head.predict(subject_features(bench, bench.test))
        results.append(_scored(bench, predicted))
    return results


def _scored(bench: Bench, predicted: np.ndarray) -> dict[str, Any]:
    confusion = metrics.confusion_matrix(bench.test.labels, predicted, len(bench.classes))
    return {"accuracy": metrics.overall_accuracy(confusion), "confusion": confusion.tolist()}


def _counter(meter: Meter, message: str) -> Callable[[int, float], None]:
    return lambda step, loss: meter.advance(1, message)


def _summed_confusion(results: list[dict[str, Any]]) -> np.ndarray:
    return np.sum([result["confusion"] for result in results], axis=0)


def _accuracies(bench: Bench, results: dict[str, list[dict[str, Any]]]) -> dict[str, Accuracy]:
    found: dict[str, Accuracy] = {}
    ours = bench.subjects[0]
    for subject in bench.subjects:
        runs = [result["accuracy"] for result in results[subject.name]]
        mean, deviation = metrics.mean_std(runs)
        by_class = metrics.per_class_accuracy(_summed_confusion(results[subject.name]))
        found[subject.name] = Accuracy(
            mean,
            deviation,
            runs,
            len(subject.variant(0)),
            dict(zip(bench.classes, by_class.tolist(), strict=True)),
            None if subject is ours else metrics.welch(runs, found[ours.name].runs),
        )
    return found


def _teacher_name(bench: Bench) -> str:
    return TEACHER if bench.config.student == pretrained.NAME else bench.config.student


def _teacher_path(bench: Bench) -> Path:
    key = bench.key(
        "teacher",
        _teacher_name(bench),
        bench.config.student_steps,
        bench.train.digest,
        bench.project.config.seed,
    )
    return bench.project.path("cache", "teachers", f"{key}.safetensors")


def teacher_network(bench: Bench, meter: Meter) -> students.Student:
    """The teacher of soft labels, a student of the whole real training split, trained or found
    done; ``meter`` counts its steps."""
    path, config, n_classes = _teacher_path(bench), bench.config, len(bench.classes)
    if path.exists():
        model = students.build_student(_teacher_name(bench), n_classes)
        try:
            load_model(model, path)
        except (SafetensorError, RuntimeError) as error:
            raise ProjectError(
                f"the teacher network is damaged ({error}).",
                where=path,
                fix="Delete it and run the evaluate stage again.",
            ) from error
        return model.eval()
    model = students.train_student(
        bench.train.pixels,
        bench.train.labels,
        n_classes,
        student=_teacher_name(bench),
        steps=config.student_steps,
        batch_size=config.student_batch,
        seed=derive_seed(bench.project.config.seed, "teacher"),
        hardware=bench.hardware,
        on_step=_counter(meter, "teacher"),
    )
    with storage.atomic_path(path) as temporary:
        save_model(model.cpu(), str(temporary))
    return model


def _protocol(bench: Bench) -> Protocol:
    config, seed = bench.config, bench.project.config.seed
    return Protocol(
        student=config.student,
        size=config.student_size,
        steps=config.student_steps,
        batch_size=config.student_batch,
        augmentation="random resized crop, area 0.67 to 1; mirror images on both axes",
        seed=seed,
        seeds=[_student_seed(bench, repeat) for repeat in range(config.seeds)],
        train_images=len(bench.train),
        test_images=len(bench.test),
        features=config.features,
        device=bench.hardware.reason,
    )


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
        notes.append("FID is biased upwards for few images: compare sets of the same size only.")
    return notes


def _summary(report: Report, path: str) -> dict[str, Any]:
    summary: dict[str, Any] = {
        "set": report.set,
        "report": path,
        "accuracy": {name: entry.mean for name, entry in report.accuracy.items()},
        "accuracy_std": {name: entry.std for name, entry in report.accuracy.items()},
        "accuracy_pretrained": {
            name: entry.mean for name, entry in report.accuracy_pretrained.items()
        },
    }
    if report.distribution:
        found = report.distribution.sets[report.set]
        summary |= {"fid": found.fid.value, "kid": found.kid.value}
        summary |= {"coverage": found.coverage, "grain": found.grain}
    if report.privacy:
        summary["nearer_than_real"] = {
            "features": report.privacy.features.share,
            "layout": report.privacy.layout.share,
        }
        summary["attack"] = report.privacy.attack.features
    return summary
