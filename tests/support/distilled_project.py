"""A small project as it is after synthesize, made in a moment and without any model."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from safetensors.torch import save_file

from dpd_core import storage
from dpd_core.config import DatasetConfig, ProjectConfig, SynthesizeConfig
from dpd_core.dataset import stage as dataset
from dpd_core.project import Project
from dpd_core.prototypes.files import Prototype, Slot, write_prototypes
from dpd_core.seeding import derive_seed
from dpd_core.synthesize.contact_sheet import write_contact_sheet
from dpd_core.synthesize.records import Candidate, Manifest, PlannedSlot, Recipe, SlotRecord
from dpd_core.synthesize.sets import (
    DistilledSet,
    claim,
    put_in_place,
    read_manifest,
    save_candidates,
    slot_file,
    write_manifest,
)
from tests.support.finished_stage import finish

CLASSES = {"forest": (40, 120, 50), "river": (40, 80, 190), "desert": (210, 180, 120)}
"""Class name and its colour."""


def make_project(
    root: Path,
    *,
    classes: dict[str, tuple[int, int, int]] | None = None,
    train: int = 6,
    test: int = 4,
    ipc: int = 2,
    size: int = 16,
    set_name: str = "dpd-1",
    adapter: bool = False,
) -> Project:
    """A project with real images of one colour a class, clusters and a distilled set.

    Each image is its class's colour with noise. The clusters of a class are its first half and
    its second half of images, the first of each lying nearest the centre.
    """
    classes = CLASSES if classes is None else classes
    for name, colour in classes.items():
        for split, count in (("train", train), ("test", test)):
            for number in range(count):
                path = root / "source" / split / name / f"{number:02d}.png"
                save_scene(path, colour, size)
    config = ProjectConfig(device="cpu", dtype="float32")
    project = Project.create(root / "project", config=config)
    settings = DatasetConfig(data=str(root / "source"))
    finish(project, "dataset", settings, dataset.run(project, settings))
    _write_clusters(project, ipc)
    if adapter:
        folder = project.path("adapters", "lora-1")
        folder.mkdir(parents=True)
        save_file({"weight": torch.ones(2)}, folder / "pytorch_lora_weights.safetensors")
        storage.write_json(folder / "adapter.json", {"id": "lora-1", "finished": "2026-01-01"})
    _write_set(project, classes, ipc, size, set_name, "lora-1" if adapter else None)
    finish(project, "synthesize", SynthesizeConfig(), {"set": set_name})
    return project


def complete_set(project: Project, set_name: str = "dpd-1") -> None:
    """Add what the stage leaves beside a set's images: recipe, candidates, digests, slot records
    and the contact sheet.

    A candidate that was not chosen is some other picture of its class.
    """
    root = project.path("distilled", set_name)
    manifest = read_manifest(root)
    recipe = Recipe(
        model=manifest.model_identity,
        adapter=manifest.adapter,
        classifier="key",
        latents="key",
        seed=manifest.seed,
        strategy={},
        settings=manifest.settings,
        slots=tuple(PlannedSlot(*r.slot, r.prototype_id, r.caption) for r in manifest.slots),
    )
    claim(root, set_name, recipe)
    slots = []
    for record in manifest.slots:
        other = project.root.parent / "source/train" / record.class_name / "05.png"
        images = [
            np.asarray(Image.open(root / record.file if candidate is record.image else other))
            for candidate in record.candidates
        ]
        slots.append(save_candidates(root, record, np.stack(images)))
        put_in_place(root, slots[-1])
    write_manifest(root, replace(manifest, recipe=recipe.identity, slots=tuple(slots)))
    write_contact_sheet(DistilledSet.load(project, set_name), dataset.load_index(project))


def save_scene(path: Path, colour: tuple[int, int, int], size: int) -> None:
    """Write an image of one colour with noise, which is the same for the same path."""
    path.parent.mkdir(parents=True, exist_ok=True)
    draws = np.random.default_rng(derive_seed(*path.parts[-3:]))
    noisy = np.array(colour) + draws.normal(0, 12, (size, size, 3))
    Image.fromarray(noisy.clip(0, 255).astype(np.uint8)).save(path)


def _write_clusters(project: Project, ipc: int) -> None:
    index = dataset.load_index(project)
    members, prototypes, centers = {}, {}, {}
    for name in index.classes:
        ids = [record.id for record in index.select("train", name)]
        groups = np.array_split(np.array(ids), ipc)
        prototypes[name] = [
            Prototype(
                id=str(group[0]),
                class_name=name,
                cluster_id=k,
                image=str(group[0]),
                file_name=Path(str(group[0])).name,
                margin=0.5,
                d_intra=0.1,
                d_inter_min=0.6,
                cluster_size=len(group),
            )
            for k, group in enumerate(groups)
        ]
        for k, group in enumerate(groups):
            for rank, image in enumerate(group):
                members[str(image)] = {
                    "class": name,
                    "cluster_id": k,
                    "margin": 0.5,
                    "d_intra": 0.1 * rank,
                    "distance": 0.1 * rank,
                    "outlier": False,
                    "outlier_score": 1.0,
                }
        centers[name] = torch.zeros(ipc, 4)
    folder = project.path("prototypes")
    folder.mkdir()
    write_prototypes(folder / "prototypes.json", prototypes)
    storage.write_json(folder / "clusters.json", members)
    save_file(centers, folder / "centers.safetensors")


def _write_set(
    project: Project,
    classes: dict[str, Any],
    ipc: int,
    size: int,
    name: str,
    adapter: str | None,
) -> None:
    root = project.path("distilled", storage.safe_name(name))
    slots = []
    for class_name, colour in sorted(classes.items()):
        for slot in range(ipc):
            file = slot_file(Slot(class_name, slot))
            save_scene(root / file, colour, size)
            slots.append(
                SlotRecord(
                    class_name=class_name,
                    number=slot,
                    file=file,
                    size=size,
                    prototype_id=f"{class_name}/{slot:02d}.png",
                    caption=f"A satellite image of {class_name}, number {slot}",
                    caption_version=1,
                    candidates=(
                        Candidate(0, 11, -1.0, class_name),
                        Candidate(1, 2**62 + slot, 1.5, class_name),
                    ),
                    chosen=1,
                )
            )
    manifest = Manifest(
        name=name,
        strategy="dpd+",
        recipe="none",
        model="bundled",
        model_identity="none",
        adapter=adapter,
        image_size=size,
        seed=0,
        settings=SynthesizeConfig(steps=25).to_dict(),
        slots=tuple(slots),
    )
    write_manifest(root, manifest)
