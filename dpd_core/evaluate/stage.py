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
from accelerate import PartialState
from safetensors import SafetensorError
from safetensors.torch import load_model, save_model

from dpd_core import storage
from dpd_core.config import EvaluateConfig
from dpd_core.errors import ProjectError
from dpd_core.evaluate import metrics
from dpd_core.evaluate.measures import distribution, privacy, subject_features
from dpd_core.evaluate.report import Accuracy, Confusion, Protocol, Report, save_report
from dpd_core.evaluate.subjects import Comparison, Subject, load_comparison
from dpd_core.evaluate.text_image import text_image
from dpd_core.events import Emit, Log, Meter, Metric, ignore
from dpd_core.project import Project
from dpd_core.seeding import derive_seed
from dpd_core.students import pretrained
from dpd_core.students import training as students

STAGE = "evaluate"
TEACHER = "convnet"
"""The teacher's network where the student is the pretrained one, which is no network to train."""


def run(project: Project, config: EvaluateConfig, emit: Emit = ignore) -> dict[str, Any]:
    """The evaluate stage: writes ``reports/<set>.json``. Several processes (torchrun) share the
    students; the first of them measures the rest and writes the report.

    Raises:
        StageMissing: no data set, no distilled set, or no clusters for the medoids.
        DatasetError: a class has no test image, or the set does not fit the data set.
        ConfigError: unknown baseline.
    """
    started = time.monotonic()
    comparison = load_comparison(project, config, emit)
    manifest = comparison.distilled.digest
    meter = _meter(comparison, emit)
    processes = PartialState(cpu=comparison.hardware.device.type == "cpu")
    if processes.num_processes > 1:
        emit(Log(STAGE, f"{processes.num_processes} processes share the work"))
        _divide(comparison, meter, processes)
        if not processes.is_main_process:
            return {"set": comparison.distilled.name}
    fixed = {
        subject.name: _pretrained_results(comparison, subject) for subject in comparison.subjects
    }
    for name, results in fixed.items():
        emit(Metric(STAGE, 0, {f"accuracy_pretrained/{name}": results[0]["accuracy"]}))
    hard = fixed
    if config.student != pretrained.NAME:
        hard = _results(comparison, meter, emit, "accuracy")
    soft = None
    if config.soft_labels:
        teacher = teacher_network(comparison, meter)
        soft = _results(comparison, meter, emit, "accuracy_soft", teacher)
    report = Report(
        set=comparison.distilled.name,
        manifest=manifest,
        strategy=comparison.distilled.manifest.strategy,
        ipc=comparison.distilled.ipc,
        protocol=_protocol(comparison),
        accuracy=_accuracies(comparison, hard),
        accuracy_pretrained=_accuracies(comparison, fixed),
        accuracy_soft=None if soft is None else _accuracies(comparison, soft),
        confusion=Confusion(
            comparison.classes, _summed_confusion(hard[comparison.distilled.name]).tolist()
        ),
        distribution=distribution(comparison) if config.distribution else None,
        privacy=privacy(comparison, meter, emit) if config.distribution else None,
        text_image=text_image(comparison, emit),
        notes=_notes(comparison),
        seconds=round(time.monotonic() - started, 1),
    )
    path = save_report(project, report)
    for note in report.notes:
        emit(Log(STAGE, note))
    return _summary(report, project.relative(path))


def _meter(comparison: Comparison, emit: Emit) -> Meter:
    """Counts student steps and, after them, images compared."""
    config, steps = comparison.config, comparison.config.student_steps
    kinds = [False] * (config.student != pretrained.NAME) + [True] * config.soft_labels
    parts = [
        _part(comparison, subject, repeat, soft=soft)
        for subject in comparison.subjects
        for repeat in range(config.seeds)
        for soft in kinds
    ]
    if config.soft_labels:
        parts.append(_teacher_path(comparison))
    total, done = len(parts) * steps, sum(path.exists() for path in parts) * steps
    if config.distribution:
        total += len(comparison.subjects[0].variant(0)) + len(comparison.control)
    return Meter(emit, STAGE, total, done=done, message="training students")


def _divide(comparison: Comparison, meter: Meter, processes: PartialState) -> None:
    """Train this process's share of the students, and wait for the others' to be there."""
    config = comparison.config
    teachers: list[students.Student | None] = [None] * (config.student != pretrained.NAME)
    if config.soft_labels:
        with processes.main_process_first():
            teachers.append(teacher_network(comparison, meter))
    tasks = [
        (subject, repeat, teacher)
        for teacher in teachers
        for subject in comparison.subjects
        for repeat in range(config.seeds)
    ]
    paths = [_part(comparison, subject, repeat, soft=t is not None) for subject, repeat, t in tasks]
    there = [path.exists() for path in paths]
    # By the place among all: what is missing may look otherwise to a process that comes later.
    mine = range(processes.process_index, len(tasks), processes.num_processes)
    for place in mine:
        subject, repeat, teacher = tasks[place]
        _student_result(comparison, subject, repeat, meter, teacher)
    processes.wait_for_everyone()
    others = sum(not known for place, known in enumerate(there) if place not in mine)
    meter.advance(others * config.student_steps, "training students")


def _part(comparison: Comparison, subject: Subject, repeat: int, *, soft: bool = False) -> Path:
    teacher = ["soft", _teacher_path(comparison).stem] if soft else []
    key = comparison.key(
        "student",
        comparison.config.student_steps,
        subject.variant(repeat).digest,
        comparison.test.digest,
        _student_seed(comparison, repeat),
        *teacher,
    )
    return comparison.project.path("reports", "parts", f"{key}.json")


def _results(
    comparison: Comparison,
    meter: Meter,
    emit: Emit,
    measure: str,
    teacher: students.Student | None = None,
) -> dict[str, list[dict[str, Any]]]:
    """The students of every set by its name; with a teacher, on its probabilities of each image
    instead of its class."""
    results: dict[str, list[dict[str, Any]]] = {subject.name: [] for subject in comparison.subjects}
    for subject in comparison.subjects:
        for repeat in range(comparison.config.seeds):
            result = _student_result(comparison, subject, repeat, meter, teacher)
            results[subject.name].append(result)
            emit(Metric(STAGE, repeat, {f"{measure}/{subject.name}": result["accuracy"]}))
    return results


def _student_seed(comparison: Comparison, repeat: int) -> int:
    # The same for all sets: what differs between them is then the images alone.
    return derive_seed(comparison.project.config.seed, "student", repeat)


def _student_result(
    comparison: Comparison,
    subject: Subject,
    repeat: int,
    meter: Meter,
    teacher: students.Student | None,
) -> dict[str, Any]:
    """Train and test one student, or find it done; with a teacher, on its soft labels."""
    path = _part(comparison, subject, repeat, soft=teacher is not None)
    if path.exists():
        return storage.read_json(path, fix="Delete it and run the evaluate stage again.")
    started = time.monotonic()
    images = subject.variant(repeat)
    probabilities = None
    if teacher is not None:
        probabilities = students.predict_proba(teacher, images.pixels, hardware=comparison.hardware)
    if comparison.config.student == pretrained.NAME:
        targets = images.labels if probabilities is None else probabilities
        head = pretrained.fit(
            subject_features(comparison, images), targets, len(comparison.classes)
        )
        predicted = head.predict(subject_features(comparison, comparison.test))
    else:
        model = students.train_student(
            images.pixels,
            images.labels,
            len(comparison.classes),
            student=comparison.config.student,
            steps=comparison.config.student_steps,
            batch_size=comparison.config.student_batch,
            seed=_student_seed(comparison, repeat),
            hardware=comparison.hardware,
            on_step=_counter(meter, f"student of {subject.name}, seed {repeat + 1}"),
            probabilities=probabilities,
        )
        predicted = students.predict(model, comparison.test.pixels, hardware=comparison.hardware)
    result = {
        **_scored(comparison, predicted),
        "set": subject.name,
        "repeat": repeat,
        "images": len(images),
        "seconds": round(time.monotonic() - started, 1),
    }
    storage.write_json(path, result)
    return result


def _pretrained_results(comparison: Comparison, subject: Subject) -> list[dict[str, Any]]:
    """The pretrained student on each choice of a set's images; nothing else of it is drawn."""
    results = []
    for images in subject.variants:
        known = subject_features(comparison, images)
        head = pretrained.fit(known, images.labels, len(comparison.classes))
        predicted = head.predict(subject_features(comparison, comparison.test))
        results.append(_scored(comparison, predicted))
    return results


def _scored(comparison: Comparison, predicted: np.ndarray) -> dict[str, Any]:
    confusion = metrics.confusion_matrix(comparison.test.labels, predicted, len(comparison.classes))
    return {"accuracy": metrics.overall_accuracy(confusion), "confusion": confusion.tolist()}


def _counter(meter: Meter, message: str) -> Callable[[int, float], None]:
    return lambda step, loss: meter.advance(1, message)


def _summed_confusion(results: list[dict[str, Any]]) -> np.ndarray:
    return np.sum([result["confusion"] for result in results], axis=0)


def _accuracies(
    comparison: Comparison, results: dict[str, list[dict[str, Any]]]
) -> dict[str, Accuracy]:
    found: dict[str, Accuracy] = {}
    ours = comparison.subjects[0]
    for subject in comparison.subjects:
        runs = [result["accuracy"] for result in results[subject.name]]
        mean, deviation = metrics.mean_std(runs)
        by_class = metrics.per_class_accuracy(_summed_confusion(results[subject.name]))
        found[subject.name] = Accuracy(
            mean,
            deviation,
            runs,
            len(subject.variant(0)),
            dict(zip(comparison.classes, by_class.tolist(), strict=True)),
            None if subject is ours else metrics.welch(runs, found[ours.name].runs),
        )
    return found


def _teacher_name(comparison: Comparison) -> str:
    return TEACHER if comparison.config.student == pretrained.NAME else comparison.config.student


def _teacher_path(comparison: Comparison) -> Path:
    key = comparison.key(
        "teacher",
        _teacher_name(comparison),
        comparison.config.student_steps,
        comparison.train.digest,
        comparison.project.config.seed,
    )
    return comparison.project.path("cache", "teachers", f"{key}.safetensors")


def teacher_network(comparison: Comparison, meter: Meter) -> students.Student:
    """The teacher of soft labels, a student of the whole real training split, trained or found
    done; ``meter`` counts its steps."""
    path, config, n_classes = _teacher_path(comparison), comparison.config, len(comparison.classes)
    if path.exists():
        model = students.build_student(_teacher_name(comparison), n_classes)
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
        comparison.train.pixels,
        comparison.train.labels,
        n_classes,
        student=_teacher_name(comparison),
        steps=config.student_steps,
        batch_size=config.student_batch,
        seed=derive_seed(comparison.project.config.seed, "teacher"),
        hardware=comparison.hardware,
        on_step=_counter(meter, "teacher"),
    )
    with storage.atomic_path(path) as temporary:
        save_model(model.cpu(), str(temporary))
    return model


def _protocol(comparison: Comparison) -> Protocol:
    config, seed = comparison.config, comparison.project.config.seed
    return Protocol(
        student=config.student,
        size=config.student_size,
        steps=config.student_steps,
        batch_size=config.student_batch,
        augmentation="random resized crop, area 0.67 to 1; mirror images on both axes",
        seed=seed,
        seeds=[_student_seed(comparison, repeat) for repeat in range(config.seeds)],
        train_images=len(comparison.train),
        test_images=len(comparison.test),
        features=config.features,
        device=comparison.hardware.reason,
    )


def _notes(comparison: Comparison) -> list[str]:
    notes, subjects = [], comparison.subjects
    if comparison.config.seeds == 1:
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
    if comparison.config.soft_labels:
        notes.append(
            "accuracy_soft: students of a teacher that has seen all real training images; "
            "not to be compared with hard labels."
        )
    if comparison.config.distribution:
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
    if report.text_image:
        summary["clip"] = {
            "caption_score": report.text_image.caption_score,
            "zero_shot": report.text_image.ours.zero_shot,
            "zero_shot_real": report.text_image.real.zero_shot,
        }
    return summary
