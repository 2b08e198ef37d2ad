"""The reports of the stage ``evaluate``: what they hold, and their only reader and writer.

Light to import: the app and the export read reports and compute nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError

from dpd_core import storage
from dpd_core.errors import ProjectError
from dpd_core.project import Project

ORDINARY_SHARE = 0.05
"""Share of new images above the limit that 95 % of real ones stay below, by definition."""
SIGNIFICANT = 0.05
"""Differences with a smaller p-value are called clear."""
_FIX = "Run the stage 'evaluate' again, or delete the report."


@dataclass(frozen=True)
class Accuracy:
    """What students of one training set score on the real test split, in [0, 1].

    Attributes:
        mean: Over the students.
        std: Sample standard deviation; ``None`` for one student, or where nothing is drawn.
        runs: One value a student.
        images: Size of the training set.
        per_class: By class name.
        p_value: Of the difference from the distilled set by Welch's t-test; ``None`` where there
            are too few students, and for the set itself.
    """

    mean: float
    std: float | None
    runs: list[float]
    images: int
    per_class: dict[str, float]
    p_value: float | None = None


@dataclass(frozen=True)
class Confusion:
    """Counts over all students of the distilled set; rows are the true classes."""

    classes: list[str]
    matrix: list[list[int]]


@dataclass(frozen=True)
class Protocol:
    """How it was measured; reports with other protocols are not to be compared.

    Attributes:
        student: Name of the student network.
        size: Side of the images students see, in pixels.
        steps, batch_size, augmentation: Of their training.
        seed: The project's.
        seeds: Of the students.
        train_images, test_images: Sizes of the real splits.
        features: The feature network of the distances and the pretrained student.
        device: Where it was computed.
    """

    student: str
    size: int
    steps: int
    batch_size: int
    augmentation: str
    seed: int
    seeds: list[int]
    train_images: int
    test_images: int
    features: str
    device: str


@dataclass(frozen=True)
class Distance:
    """A distance between two samples of features.

    Attributes:
        value: The estimate; smaller is closer.
        std: Its deviation over random subsets, where the estimator has one.
        note: What limits the estimate; empty if nothing does.
    """

    value: float
    std: float | None = None
    note: str = ""


@dataclass(frozen=True)
class Measured:
    """One set against the real test split.

    Attributes:
        images: Size of the set.
        fid, kid: Distances of the pretrained features.
        coverage: Mean cosine of a test image to the nearest image of its class.
        coverage_per_class: By class name.
        grain: Fine energy relative to the real images; 1 is a photograph's own.
    """

    images: int
    fid: Distance
    kid: Distance
    coverage: float
    coverage_per_class: dict[str, float]
    grain: float


@dataclass(frozen=True)
class Distribution:
    """How much the sets look like the real test split.

    Attributes:
        reference_images: Size of the test split.
        sets: By name: the distilled set, then the baselines.
    """

    reference_images: int
    sets: dict[str, Measured]


@dataclass(frozen=True)
class Similarity:
    """One kind of similarity to the nearest real training image.

    Attributes:
        ours: Mean of the distilled images.
        real: Mean of real test images.
        limit: What 95 % of real test images stay below.
        share: Share of the distilled images above it; 0.05 is what new images have.
        p_value: Probability that as many of so many new images are above it by chance.
    """

    ours: float
    real: float
    limit: float
    share: float
    p_value: float


@dataclass(frozen=True)
class Attack:
    """Guessing from the set which real images were in the training split.

    Attributes:
        features, layout: Area under the curve of guessing by that similarity to the nearest image
            of the set; 0.5 tells nothing, 1 everything.
        members, others: Numbers of training and of test images.
    """

    features: float
    layout: float
    members: int
    others: int


@dataclass(frozen=True)
class Pair:
    """A distilled image and the real training image that it resembles most.

    Attributes:
        class_name, slot: The distilled image.
        features, layout, ssim: Its similarities.
        image_id: The nearest training image, by whichever of features and layout is farther above
            (or less far below) its limit.
        near: Whether it is above the limit of features or of layout.
    """

    class_name: str
    slot: int
    features: float
    layout: float
    ssim: float
    image_id: str
    near: bool


@dataclass(frozen=True)
class Privacy:
    """How near the distilled images come to training images, beside real test images.

    Attributes:
        images: Number of distilled images.
        real_images: Number of real test images beside them.
        features, layout, ssim: See :mod:`dpd_core.students.copies`.
        attack: What the set gives away.
        nearest: A pair an image, the nearest first.
    """

    images: int
    real_images: int
    features: Similarity
    layout: Similarity
    ssim: Similarity
    attack: Attack
    nearest: list[Pair]

    @property
    def share(self) -> float:
        """The larger of the shares of images nearer than real ones, by features and by layout."""
        return max(self.features.share, self.layout.share)

    @property
    def copied(self) -> bool:
        """Whether more images are nearer than real ones than chance explains."""
        return min(self.features.p_value, self.layout.p_value) < SIGNIFICANT

    @property
    def sentence(self) -> str:
        """The figure and what it means, the same wherever a set is spoken of."""
        verdict = "more than" if self.copied else "no more than"
        return (
            f"{self.features.share:.0%} of the images by what they show, {self.layout.share:.0%} "
            "by their layout, are nearer to a real training image than 95 % of real test images "
            f"are: {verdict} chance explains (of new images it is {ORDINARY_SHARE:.0%})."
        )


@dataclass(frozen=True)
class Alignment:
    """How images fit the sentence that names their class, by a CLIP.

    Attributes:
        images: How many.
        class_score: CLIP score with the sentence of the own class, 0 to 100.
        zero_shot: Share of the images that are nearest to the sentence of their own class.
    """

    images: int
    class_score: float
    zero_shot: float


@dataclass(frozen=True)
class TextImage:
    """How the distilled images fit texts, beside real test images.

    Attributes:
        network: Hub id of the CLIP, or its folder's name.
        caption_score: CLIP score of the distilled images with their captions, 0 to 100.
        ours, real: The distilled set, and the real test split.
    """

    network: str
    caption_score: float
    ours: Alignment
    real: Alignment

    @property
    def sentence(self) -> str:
        """The figures, the same wherever they are told."""
        return (
            f"Without training {self.network} names the class of {self.ours.zero_shot:.0%} of the "
            f"images, of real test images {self.real.zero_shot:.0%}. CLIP score with the class's "
            f"name {self.ours.class_score:.1f}, of real ones {self.real.class_score:.1f}; with the "
            f"captions {self.caption_score:.1f}."
        )


@dataclass(frozen=True)
class Report:
    """All that was measured of a distilled set.

    Attributes:
        set: Its name.
        manifest: Digest of its manifest, which tells later whether it is still the same.
        strategy: What it was made with, if that is known.
        ipc: Images per class.
        protocol: How it was measured.
        accuracy: By name: the distilled set, then the baselines.
        accuracy_pretrained: The same of the pretrained student.
        accuracy_soft: The same of students on a teacher's probabilities, if asked for.
        confusion: Of the distilled set's students.
        distribution, privacy, text_image: ``None`` where it was not asked for.
        notes: What a reader has to know, one sentence each.
        seconds: What it took.
    """

    set: str
    manifest: str
    strategy: str | None
    ipc: int
    protocol: Protocol
    accuracy: dict[str, Accuracy]
    accuracy_pretrained: dict[str, Accuracy]
    confusion: Confusion
    accuracy_soft: dict[str, Accuracy] | None = None
    distribution: Distribution | None = None
    privacy: Privacy | None = None
    text_image: TextImage | None = None
    notes: list[str] = field(default_factory=list)
    seconds: float = 0.0

    def to_dict(self) -> dict[str, Any]:
        """As plain JSON-able values."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Report:
        """From plain values.

        Raises:
            ValueError: they are not those of a report.
        """
        report = _ADAPTER.validate_python(values)
        if report.set not in report.accuracy or set(report.accuracy) != {
            *report.accuracy_pretrained
        }:
            raise ValueError("its sets do not fit each other")
        return report


_ADAPTER = TypeAdapter(Report)


def report_path(project: Project, set_name: str) -> Path:
    """Where the report of a distilled set lies."""
    return project.path("reports", f"{storage.safe_name(set_name)}.json")


def load_report(project: Project, set_name: str) -> Report | None:
    """The report of a distilled set, ``None`` if it has not been evaluated.

    Raises:
        ProjectError: the file is damaged, or of another version.
    """
    path = report_path(project, set_name)
    return read_report(path) if path.exists() else None


def read_report(path: Path) -> Report:
    """The report in a file.

    Raises:
        ProjectError: the file is damaged, or of another version.
    """
    try:
        return Report.from_dict(storage.read_record(path, {}, fix=_FIX))
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(map(str, first["loc"]))
        message = f"not a report of this version ({place}: {first['msg']})."
    except ValueError as error:
        message = f"not a report of this version ({error})."
    raise ProjectError(message, where=path, fix=_FIX)


def reported_sets(project: Project) -> list[str]:
    """Names of the sets that have a report, the one written last first."""
    paths = sorted(
        storage.whole(project.path("reports"), "*.json"), key=lambda path: -path.stat().st_mtime
    )
    return [read_report(path).set for path in paths]


def save_report(project: Project, report: Report) -> Path:
    """Write a report; returns its file."""
    path = report_path(project, report.set)
    storage.write_json(path, report.to_dict())
    return path
