"""The dataset card of an exported set: YAML front matter and Markdown, as the Hub reads it.

Pure functions of plain values. Everything that came from a user (names, captions, licences) is
escaped for the place where it lands.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from huggingface_hub import DatasetCardData

from dpd_core.evaluate.report import Report

FEATURES = {
    "label": "class",
    "caption": "text the image was made from",
    "prototype_id": "real training image that guided it",
    "slot": "number of the image in its class",
    "seed": "seed of the sampling",
    "score": "score by which it was chosen among its candidates",
    "strategy": "distillation strategy",
}
"""Columns beside the image, and what they mean."""

ORIGIN_FEATURES = {
    "prototype_taken": "when the prototype was taken (ISO 8601), where its file says it",
    "prototype_crs": "coordinate system of the prototype's georeference",
    "prototype_transform": "its georeference: a b c d e f, where x = a column + b row + c and "
    "y = d column + e row + f, for the prototype's whole file",
}
"""Columns that an export has besides where a prototype's file says when or where it was taken."""

_SIZES = ((1_000, "n<1K"), (10_000, "1K<n<10K"), (100_000, "10K<n<100K"), (10**6, "100K<n<1M"))


@dataclass(frozen=True)
class CardFacts:
    """What a card says.

    Attributes:
        title: Title of the data set.
        licence: Licence of the exported data, as a Hub licence id.
        classes: (class name, readable name, number of images), sorted by class name.
        source: Where the real images came from, without local paths.
        source_licence: Their licence, ``None`` if unknown.
        provenance: (what, value) pairs: model, adapter, strategy, seed and so on.
        settings: Settings of the synthesize stage.
        commands: Shell commands that made it, in order.
        report: The evaluation report, ``None`` if the set was not evaluated.
        examples: (class name, caption) of a few images.
        parquet, soft_labels, text_files: Whether the folder holds them.
        columns: Columns beside the image, and what they mean.
        adapter: The line of Python that loads the adapter in the folder; empty if there is none.
    """

    title: str
    licence: str
    classes: Sequence[tuple[str, str, int]]
    source: str
    source_licence: str | None
    provenance: Sequence[tuple[str, Any]]
    settings: Mapping[str, Any]
    commands: Sequence[str]
    report: Report | None = None
    examples: Sequence[tuple[str, str]] = field(default=())
    parquet: bool = False
    adapter: str = ""
    soft_labels: bool = False
    text_files: bool = False
    columns: Mapping[str, str] = field(default_factory=lambda: FEATURES)


def dataset_card(facts: CardFacts) -> str:
    """The whole README.md."""
    parts = [
        f"---\n{_front_matter(facts)}\n---\n",
        f"# {escape(facts.title)}\n",
        _introduction(facts),
        _loading(facts),
        _columns(facts),
        _provenance(facts),
        _numbers(facts.report),
        _privacy(facts.report),
        _limits(facts),
    ]
    return "\n".join(part for part in parts if part)


def escape(text: Any) -> str:
    """Plain text for one line of Markdown, also inside a table: nothing in it is markup."""
    line = re.sub(r"[\x00-\x1f\x7f\u2028\u2029\s]+", " ", str(text)).strip()
    line = line.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    # Addresses would become links by themselves.
    line = line.replace("://", "&#58;//").replace("@", "&#64;")
    line = re.sub(r"(?i)\bwww\.", lambda found: found[0][:-1] + "&#46;", line)
    line = re.sub(r"([\\`*_\[\]|~$])", r"\\\1", line)
    # Signs that begin a heading, a list or a rule do so only at the beginning.
    return re.sub(r"^(\d*)([#+\-=.)])", r"\1\\\2", line)


def code_block(text: str, language: str = "") -> str:
    """A fenced block whose fence is longer than any inside."""
    longest = max((len(run) for run in re.findall(r"`+", text)), default=0)
    fence = "`" * max(3, longest + 1)
    return f"{fence}{language}\n{text}\n{fence}\n"


def _front_matter(facts: CardFacts) -> str:
    total = sum(count for _, _, count in facts.classes)
    size = next((name for limit, name in _SIZES if total < limit), "n>1M")
    kinds = {"slot": "int64", "seed": "int64", "score": "float64"}
    names = {str(place): name for place, (name, _, _) in enumerate(facts.classes)}
    features: list[dict[str, Any]] = [{"name": "image", "dtype": "image"}]
    for column in facts.columns:
        dtype: Any = kinds.get(column, "string")
        if column == "label":
            dtype = {"class_label": {"names": names}}
        features.append({"name": column, "dtype": dtype})
    # The Hub takes the most common ending for the kind of data; captions beside the images are as
    # many as these.
    paths: Any = ["train/**/*.png", "train/metadata.jsonl"] if facts.text_files else "train/**"
    extra: dict[str, Any] = {"license_name": "see-card"} if facts.licence == "other" else {}
    data = DatasetCardData(
        license=facts.licence,
        pretty_name=facts.title,
        task_categories=["image-classification", "text-to-image"],
        size_categories=[size],
        annotations_creators=["machine-generated"],
        language=["en"],
        tags=["dataset-distillation", "remote-sensing", "synthetic", "dpd-studio"],
        configs=[
            {
                "config_name": "default",
                "data_files": [{"split": "train", "path": paths}],
                # Here, not under dataset_info: only so do image folders get class labels.
                "features": features,
            }
        ],
        **extra,
    )
    return data.to_yaml()


def _introduction(facts: CardFacts) -> str:
    total = sum(count for _, _, count in facts.classes)
    lines = [
        f"{total} synthetic images of {len(facts.classes)} classes, distilled from a labelled "
        "collection of real scenes: every image is generated, none is a photograph. Made with "
        "DPD Studio (discriminative prototype-guided diffusion, arXiv 2601.15829).\n",
        "| class | in words | images |",
        "| --- | --- | ---: |",
    ]
    lines += [
        f"| {escape(name)} | {escape(readable)} | {count} |"
        for name, readable, count in facts.classes
    ]
    return "\n".join(lines) + "\n"


def _loading(facts: CardFacts) -> str:
    code = [
        "from datasets import load_dataset",
        'images = load_dataset("imagefolder", data_dir="PATH_TO_THIS_FOLDER", split="train")',
    ]
    if facts.parquet:
        code.append(
            'same = load_dataset("parquet", data_dir="PATH_TO_THIS_FOLDER/parquet", split="train")'
        )
    text = "## Use\n\n" + code_block("\n".join(code), "python")
    if facts.text_files:
        text += "\nEach caption also lies in a `.txt` file beside its image.\n"
    if facts.soft_labels:
        text += (
            "\n`soft_labels.json` holds a teacher's probabilities of each image. The teacher "
            "has seen all real training images: report what is trained on them apart.\n"
        )
    if facts.adapter:
        text += (
            "\nThe adapter that made the images lies in `adapter/`, in the diffusers "
            f"format: `{facts.adapter}`.\n"
        )
    return text


def _columns(facts: CardFacts) -> str:
    lines = ["## Columns\n", "| column | meaning |", "| --- | --- |"]
    lines += [f"| `{name}` | {meaning} |" for name, meaning in facts.columns.items()]
    if facts.examples:
        lines += ["\nSome captions:\n"]
        lines += [f"- {escape(name)}: {escape(caption)}" for name, caption in facts.examples]
    return "\n".join(lines) + "\n"


def _provenance(facts: CardFacts) -> str:
    rows = [
        ("source images", facts.source),
        ("their licence", facts.source_licence or "unknown"),
        *facts.provenance,
    ]
    lines = ["## How it was made\n", "| | |", "| --- | --- |"]
    lines += [f"| {escape(what)} | {escape(value)} |" for what, value in rows]
    text = "\n".join(lines) + "\n\nSettings of the synthesis:\n\n"
    text += code_block(json.dumps(facts.settings, ensure_ascii=False, indent=1), "json")
    if facts.commands:
        text += "\nCommands, as they are on the project's record:\n\n"
        text += code_block("\n".join(facts.commands), "sh")
    return (
        text + "\n`manifest.json` names the prototype, caption, candidates and seeds of each "
        "image.\n"
    )


def _numbers(report: Report | None) -> str:
    if report is None:
        return "## Numbers\n\nThis set has not been evaluated.\n"
    protocol = report.protocol
    lines = [
        "## Numbers\n",
        f"Students ({escape(protocol.student)}, {protocol.size} px, {protocol.steps} "
        f"steps of {protocol.batch_size} images, hard labels) trained on each set and tested "
        f"on {protocol.test_images} real test images: overall accuracy, mean ± sample "
        f"standard deviation over {len(protocol.seeds)} seeds. Beside it the pretrained student: "
        f"ridge regression on pretrained features ({escape(protocol.features)}).\n",
        "| trained on | images | accuracy % | pretrained % |",
        "| --- | ---: | ---: | ---: |",
    ]
    for name, entry in report.accuracy.items():
        shown = f"{100 * entry.mean:.1f}"
        if entry.std is not None:
            shown += f" ± {100 * entry.std:.1f}"
        other = f"{100 * report.accuracy_pretrained[name].mean:.1f}"
        lines.append(f"| {_kind(report, name)} | {entry.images} | {shown} | {other} |")
    if report.distribution is not None:
        lines += [
            "",
            "| set | FID | KID | intra-class coverage | grain |",
            "| --- | ---: | ---: | ---: | ---: |",
        ]
        for name, found in report.distribution.sets.items():
            values = (found.fid.value, found.kid.value, found.coverage, found.grain)
            cells = " | ".join(f"{value:.4g}" for value in values)
            lines.append(f"| {_kind(report, name)} | {cells} |")
    if report.text_image is not None:
        lines += ["", escape(report.text_image.sentence)]
    lines += ["", *(f"- {escape(note)}" for note in report.notes)]
    return "\n".join(lines) + "\n"


def _kind(report: Report, name: str) -> str:
    return "this set" if name == report.set else f"{escape(name)} (real images)"


def _privacy(report: Report | None) -> str:
    if report is None or report.privacy is None:
        return ""
    found = report.privacy
    lines = [
        "## Nearness to the training images\n",
        f"Similarity of each image, in all eight orientations, to its nearest real training image, "
        f"beside the same figure of {found.real_images} real test images. {found.sentence}\n",
        "| similarity | this set | real images | nearer than 95 % of real images |",
        "| --- | ---: | ---: | ---: |",
    ]
    kinds = {
        "pretrained features of the blurred image": found.features,
        "layout at 16 × 16 pixels": found.layout,
        "structural similarity": found.ssim,
    }
    for name, kind in kinds.items():
        lines.append(f"| {name} | {kind.ours:.2f} | {kind.real:.2f} | {kind.share:.0%} |")
    lines += [
        "",
        "Guessing from this set which real images were in the training split: area under the curve "
        f"{found.attack.features:.2f} by features, {found.attack.layout:.2f} by layout (0.5 is "
        "chance).",
    ]
    return "\n".join(lines) + "\n"


def _limits(facts: CardFacts) -> str:
    return (
        "## Limits\n\nThe images are made by a model and can show things that do not exist. "
        "They are meant for training classifiers, not for mapping or measuring. The licences of "
        "the source images and of the generating model may bind this set as well.\n"
    )
