"""Malformed files of a project: from a careless editor, a torn disk, or somebody hostile."""

from __future__ import annotations

import json
import pickle
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file

from dpd_core import STAGES, storage
from dpd_core.captions import bulk, edits
from dpd_core.captions.current import captions_digest, current_captions, training_captions
from dpd_core.captions.tables import import_captions
from dpd_core.config import CaptionsConfig, ExportConfig
from dpd_core.dataset import stage as dataset
from dpd_core.evaluate.report import load_report
from dpd_core.export import stage as export
from dpd_core.models import weights as adapter_weights
from dpd_core.models.families.stable_diffusion import StableDiffusion
from dpd_core.pipeline import jobs
from dpd_core.pipeline.staleness import is_current
from dpd_core.pipeline.verify import verify
from dpd_core.project import Project
from dpd_core.prototypes.files import (
    list_prototypes,
    load_clustering,
    load_members,
    read_prototypes,
)
from dpd_core.prototypes.overrides import read_overrides
from dpd_core.synthesize.sets import DistilledSet, list_sets, read_recipe
from dpd_core.train import adapters
from dpd_core.train.classifier import LatentClassifier, load_classifier, read_classifier
from tests.robustness.cases import Case
from tests.robustness.mutations import spoilt_bytes, spoilt_json
from tests.support.distilled_project import complete_set, make_project
from tests.support.evaluation_report import make_report
from tests.support.finished_stage import finish
from tests.support.job_list import list_jobs

Reader = Callable[[Project], Any]


def template(root: Path) -> Path:
    """A small project with every kind of file; returns its folder."""
    project = make_project(root, adapter=True)
    edits.edit(project, "forest", 0, "trees")
    for prototype in list_prototypes(project):
        edits.edit(project, *prototype.slot, f"{prototype.class_name} here")
    dataset.rename_class(project, "forest", "wood")
    storage.write_json(
        project.path("prototypes", "overrides.json"),
        {"excluded": ["forest/00.png"], "chosen": {"river": {"0": "river/01.png"}}},
    )
    classifier = LatentClassifier(sorted(["forest", "river", "desert"]), 4)
    folder = project.path("classifier", "key")
    folder.mkdir(parents=True)
    save_file(classifier.state_dict(), folder / "classifier.safetensors")
    storage.write_json(
        folder / "classifier.json", {"key": "key", "classes": classifier.classes, "channels": 4}
    )
    storage.write_json(folder.parent / "current.json", {"key": "key"})
    complete_set(project)
    jobs.run_stage(project, "export", ExportConfig(parquet=False))
    finish(project, "captions", CaptionsConfig(), {"digest": captions_digest(project)})
    return project.root


def _everything(project: Project) -> None:
    project = Project.open(project.root)
    _ = project.config, project.name
    for stage in STAGES:
        is_current(project, stage)
        if project.record(stage):
            project.result(stage)
    verify(project)
    DistilledSet.load(project)
    adapters.list_adapters(project)
    command = export.run(project, ExportConfig(parquet=False, adapter=False))
    assert command["images"]


def _index(project: Project) -> None:
    index = dataset.load_index(project)
    for record in index.images[:2]:
        dataset.thumbnail(project, record)
    dataset.pixels(project, index.select("train")[:4], 8)
    verify(project)


def _sets(project: Project) -> None:
    for name in list_sets(project):
        read_recipe(DistilledSet.load(project, name).root)
    export.run(project, ExportConfig(parquet=False, adapter=False))
    verify(project)


def _prototypes(project: Project) -> None:
    list_prototypes(project)
    load_members(project)
    load_clustering(project)
    current_captions(project)
    training_captions(project)


def _adapters(project: Project) -> None:
    adapters.list_adapters(project)
    adapters.find_adapter(project, "lora-1")
    verify(project)


def _log(project: Project) -> None:
    current_captions(project)
    edits.history(project, "forest", 0)
    bulk.find_replace(project, "trees", "wood")
    edits.edit(project, "forest", 0, "other trees")


def _jobs(project: Project) -> None:
    for job in list_jobs(project):
        _ = job.status, job.config, job.events()


def _report(project: Project) -> None:
    load_report(project, "dpd-1")
    export.run(project, ExportConfig(parquet=False, adapter=False))


FILES: dict[str, tuple[str, Reader, int]] = {
    "project.json": ("project file", _everything, 160),
    "dataset/index.json": ("index of images", _index, 110),
    "dataset/names.json": ("class names", _index, 30),
    "prototypes/prototypes.json": ("prototypes of a project", _prototypes, 80),
    "prototypes/clusters.json": ("clusters", _prototypes, 60),
    "prototypes/overrides.json": ("choices by hand", read_overrides, 60),
    "captions/log.jsonl": ("caption log", _log, 90),
    "distilled/dpd-1/manifest.json": ("manifest of a set", _sets, 160),
    "distilled/dpd-1/recipe.json": ("recipe of a set", _sets, 40),
    "adapters/lora-1/adapter.json": ("record of an adapter", _adapters, 50),
    "classifier/key/classifier.json": ("record of a classifier", load_classifier, 50),
    "classifier/current.json": ("current classifier", load_classifier, 30),
    "export/dpd-1/manifest.json": ("manifest of an export", _sets, 50),
    "reports/dpd-1.json": ("report", _report, 60),
    "jobs/*/state.json": ("state of a job", _jobs, 40),
    "jobs/*/config.json": ("settings of a job", _jobs, 30),
}
"""Kind, what reads the file, and how many versions of it are tried, by file."""

REPORT = make_report(classes=("desert", "forest", "river")).to_dict()


def project_cases(root: Path) -> Iterator[Case]:
    """Every file of a project spoilt in turn; ``root`` is a project of :func:`template`."""
    storage.write_json(root / "reports" / "dpd-1.json", REPORT)
    for pattern, (kind, read, count) in FILES.items():
        path = next(root.glob(pattern))
        if path.suffix == ".jsonl":
            lines = storage.read_json_lines(path)
            versions = [
                (
                    name,
                    content.replace(b"\n", b" ")
                    + b"\n"
                    + b"".join(json.dumps(line).encode() + b"\n" for line in lines[1:]),
                )
                for name, content in spoilt_json(lines[0], count)
            ]
        else:
            versions = list(spoilt_json(json.loads(path.read_text()), count))
        for name, content in versions:
            yield Case(kind, name, _in_place(root, path, content, read))
    weights = (
        "adapters/lora-1/pytorch_lora_weights.safetensors",
        "classifier/key/classifier.safetensors",
        "prototypes/centers.safetensors",
    )
    readers: tuple[Reader, ...] = (_adapters, load_classifier, _prototypes)
    for file, read in zip(weights, readers, strict=True):
        path = root / file
        for name, content in [*spoilt_bytes(path.read_bytes(), 16), *hostile_weights()]:
            yield Case(
                "weights of a project", f"{path.name}: {name}", _in_place(root, path, content, read)
            )


def _tensors(header: Any, body: bytes = b"") -> bytes:
    """A safetensors file with this header, true or not."""
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return len(text).to_bytes(8, "little") + text + body


def hostile_weights() -> list[tuple[str, bytes]]:
    """What may be offered in place of a safetensors file."""

    def one(kind: str, shape: list[int], start: int, end: int) -> dict[str, Any]:
        return {"dtype": kind, "shape": shape, "data_offsets": [start, end]}

    header = json.dumps({"x": {"dtype": "F32", "shape": [1 << 40], "data_offsets": [0, 1 << 42]}})
    return [
        ("a pickle", pickle.dumps({"weight": [1.0]})),
        ("a torch file", _torch_file()),
        ("nothing", b""),
        ("a header of 2^60 bytes", (1 << 60).to_bytes(8, "little") + b"{}"),
        ("a tensor of 4 TiB", len(header).to_bytes(8, "little") + header.encode()),
        (
            "tensors that overlap",
            _tensors({"a": one("F32", [2], 0, 8), "b": one("F32", [2], 4, 12)}, bytes(12)),
        ),
        ("a type too wide", _tensors({"weight": one("F64", [2], 0, 8)}, bytes(8))),
        ("a type unknown", _tensors({"weight": one("X9", [2], 0, 8)}, bytes(8))),
        ("bfloat16", _tensors({"weight": one("BF16", [2], 0, 4)}, bytes(4))),
        ("float8", _tensors({"weight": one("F8_E4M3", [4], 0, 4)}, bytes(4))),
        ("an end before its start", _tensors({"weight": one("F32", [2], 8, 0)}, bytes(8))),
        ("a size that overflows", _tensors({"weight": one("F32", [1 << 32] * 2, 0, 0)})),
        ("a tensor behind a hole", _tensors({"weight": one("F32", [1], 100, 104)}, bytes(104))),
        ("a deep header", _tensors(b'{"a":' + b"[" * 100_000 + b"]" * 100_000 + b"}")),
        ("a header of 50 MB of blanks", _tensors(b"{}" + b" " * (50 << 20))),
        ("a header that is no text", _tensors(b'{"\xff":1}')),
        ("no header", (2).to_bytes(8, "little") + b"[]"),
        ("text", b"weights\n" * 10),
    ]


def _torch_file() -> bytes:
    import io

    buffer = io.BytesIO()
    torch.save({"weight": torch.ones(2)}, buffer)
    return buffer.getvalue()


def _in_place(root: Path, path: Path, content: bytes, read: Reader) -> Callable[[Path], Any]:
    """Spoil one file of the shared project, read, and put everything back."""

    def act(folder: Path) -> None:
        original = path.read_bytes()
        path.write_bytes(content)
        log = root / "captions" / "log.jsonl"
        kept = log.read_bytes()
        try:
            read(Project(root))
        finally:
            if path != log:
                log.write_bytes(kept)
            if path.parent.name == "dpd-1" and path.parent.parent.name == "export":
                shutil.rmtree(path.parent, ignore_errors=True)
                path.parent.mkdir()
            path.write_bytes(original)

    return act


def outside_cases(root: Path) -> Iterator[Case]:
    """Files that people bring: prototypes, captions, adapters, classifiers."""
    project = Project(root)
    index = dataset.load_index(project)
    published = json.loads((root / "prototypes" / "prototypes.json").read_text())

    def prototypes(content: bytes) -> Callable[[Path], Any]:
        def act(folder: Path) -> None:
            path = folder / "input.json"
            path.write_bytes(content)
            read_prototypes(path, index)

        return act

    def taken_over(content: bytes, ending: str) -> Callable[[Path], Any]:
        def act(folder: Path) -> None:
            path = folder / f"input{ending}"
            path.write_bytes(content)
            import_captions(project, path, apply=False)

        return act

    for name, content in spoilt_json(published, 130, seed=1):
        yield Case("prototype file", name, prototypes(content))
    captioned = {k: [{**entry, "caption": "words"} for entry in v] for k, v in published.items()}
    for name, content in spoilt_json(captioned, 90, seed=2):
        yield Case("caption file, JSON", name, taken_over(content, ".json"))
    table = "class,cluster_id,prototype,caption\n" + "".join(
        f"{name},{entry['cluster_id']},{entry['id']},words\n"
        for name, entries in published.items()
        for entry in entries
    )
    for name, content in spoilt_bytes(table.encode(), 50, seed=3):
        yield Case("caption file, CSV", name, taken_over(content, ".csv"))
    for ending in (".txt", ".pkl", ".json.exe", "", ".parquet"):
        yield Case("caption file, CSV", f"ending {ending!r}", taken_over(b"x", ending))
    yield from _adapter_cases()
    for name, content in hostile_weights():
        yield Case("classifier from elsewhere", name, _classifier(content))


def _classifier(content: bytes) -> Callable[[Path], Any]:
    def act(folder: Path) -> None:
        path = folder / "project"
        path.mkdir()
        (path / "classifier.safetensors").write_bytes(content)
        storage.write_json(path / "classifier.json", {"classes": ["a", "b"], "channels": 4})
        read_classifier(path)

    return act


def _adapter_cases() -> Iterator[Case]:
    """Adapters for another model, for none, damaged and hostile, merged into a small UNet."""
    from diffusers import UNet2DConditionModel

    def unet(width: int = 8) -> UNet2DConditionModel:
        return UNet2DConditionModel(
            sample_size=8,
            block_out_channels=(width, 2 * width),
            layers_per_block=1,
            down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"),
            norm_num_groups=4,
            up_block_types=("UpBlock2D", "CrossAttnUpBlock2D"),
            cross_attention_dim=8,
            attention_head_dim=4,
        )

    def merged(content: bytes) -> Callable[[Path], Any]:
        def act(folder: Path) -> None:
            path = folder / "input.safetensors"
            path.write_bytes(content)
            adapter_weights.merge(unet(), path, StableDiffusion)

        return act

    good, wide = _lora(unet(8)), _lora(unet(16))
    yield Case("adapter", "of another model", merged(wide))
    yield Case("adapter", "whole, of another model", merged(_saved(unet(16))))
    for name, content in spoilt_bytes(_saved(unet(8)), 20, seed=5):
        yield Case("adapter", f"whole, {name}", merged(content))
    for name, content in [*hostile_weights(), *spoilt_bytes(good, 60, seed=4)]:
        yield Case("adapter", name, merged(content))
    names = (
        "unet.down_blocks.0.x.lora_A.weight",
        "text_encoder.x.lora_A.weight",
        "unet.conv_in.lora_A.weight",
        "unet.__class__.lora_A.weight",
        "unet.",
        "unet.down_blocks.9.attentions.0.proj_in.lora_A.weight",
    )
    for name in names:
        for shape in ((4, 8), (0,), (1, 1, 1, 1, 1), (4, 4, 3, 3)):
            yield Case("adapter", f"{name} of shape {shape}", merged(_weights({name: shape})))
    for text in (
        "{",
        "[]",
        "null",
        '{"unet.r": -1}',
        '{"unet.r": "x"}',
        '{"unet.target_modules": "(a+)+$"}',
        '{"unet.lora_alpha": null}',
        '{"unet.nothing": 1}',
        '{"unet.rank_pattern": {"x": 1000000000}}',
    ):
        yield Case("adapter", f"metadata {text}", merged(_with_metadata(good, text)))


def _lora(unet: Any) -> bytes:
    adapter_weights.add_lora(unet, StableDiffusion, rank=2, targets="attention")
    return _saved(unet)


def _saved(unet: Any) -> bytes:
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        return adapter_weights.save(unet, Path(folder), StableDiffusion)[-1].read_bytes()


def _weights(shapes: dict[str, tuple[int, ...]]) -> bytes:
    from safetensors.torch import save

    return save({name: torch.ones(shape) for name, shape in shapes.items()})


def _with_metadata(content: bytes, text: str) -> bytes:
    from safetensors.torch import load, save

    return save(load(content), metadata={"format": "pt", "lora_adapter_metadata": text})


__all__ = ["outside_cases", "project_cases", "template"]
