"""A teacher's class probabilities of a distilled set, exported beside it as a file of their own.

Soft labels carry what a network learnt from *all* real training images, so what is measured with
them is not to be compared with hard labels; therefore they are no column of the data set.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from dpd_core.config import EvaluateConfig
from dpd_core.evaluate.stage import teacher_network
from dpd_core.evaluate.subjects import load_comparison
from dpd_core.events import Emit, Meter
from dpd_core.project import Project
from dpd_core.students import training as students

_DECIMALS = 5


def soft_labels(
    project: Project, set_name: str, files: Mapping[str, str], emit: Emit, stage: str
) -> dict[str, Any]:
    """What goes into ``soft_labels.json``.

    The teacher is that of the last evaluation's settings (or of the default ones), a student of the
    whole real training split; it is trained here if it is not there.

    Args:
        project: With its real images.
        set_name: The distilled set.
        files: Exported path by the image's path in the set.
        emit, stage: Progress.

    Returns:
        ``classes``, ``teacher`` (network, steps, accuracy on the real test split) and
        ``probabilities`` by exported path, in the order of ``classes``.

    Raises:
        DatasetError: a class has no test image, or the set does not fit the data set.
    """
    record = project.record("evaluate")
    config = EvaluateConfig.from_dict(record["settings"]) if record else EvaluateConfig()
    comparison = load_comparison(project, config.replace(set_name=set_name, baselines=()), emit)
    meter = Meter(emit, stage, config.student_steps, message="training the teacher")
    teacher = teacher_network(comparison, meter)
    images = comparison.subjects[0].variant(0)
    found = students.predict_proba(teacher, images.pixels, hardware=comparison.hardware)
    accuracy = students.accuracy(
        teacher, comparison.test.pixels, comparison.test.labels, hardware=comparison.hardware
    )
    return {
        "classes": comparison.classes,
        "teacher": {
            "network": config.student,
            "steps": config.student_steps,
            "trained_on": "all real training images",
            "images": len(comparison.train),
            "test_accuracy": round(accuracy, 4),
        },
        "probabilities": {
            files[source]: [round(float(value), _DECIMALS) for value in row]
            for source, row in zip(images.sources, found, strict=True)
        },
    }
