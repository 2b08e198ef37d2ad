"""A project with images and prototypes, made without running the stages before the captions."""

from pathlib import Path
from typing import Any

from PIL import Image

from dpd_core import storage
from dpd_core.captions.current import current_captions
from dpd_core.config import ProjectConfig
from dpd_core.dataset.index import ClassInfo, write_index
from dpd_core.project import Project

COLORS = {"airplane": (200, 30, 30), "golfcourse": (30, 160, 40), "harbor": (20, 40, 180)}
READABLE = {"airplane": "airplane", "golfcourse": "golf course", "harbor": "harbor"}


def make_project(
    root: Path, *, classes: tuple[str, ...] = tuple(COLORS), clusters: int = 2, members: int = 3
) -> Project:
    """Every cluster ``k`` of a class has ``members`` images ``<class>/<k>-<n>.png`` at the
    distance n from its centre; its prototype is the one with n = 1."""
    project = Project.create(root, config=ProjectConfig(device="cpu", dtype="float32"))
    entries = []
    for name in classes:
        for k in range(clusters):
            for n in range(members):
                path = project.path("images", name, f"{k}-{n}.png")
                path.parent.mkdir(parents=True, exist_ok=True)
                red, green, blue = COLORS[name]
                color = (red + 5 * k, green + 7 * n, blue)
                Image.new("RGB", (32, 32), color).save(path)
                entries.append(
                    {
                        "id": f"{name}/{path.name}",
                        "class": name,
                        "split": "train",
                        "file": project.relative(path),
                        "sha256": storage.file_digest(path),
                        "width": 32,
                        "height": 32,
                    }
                )
    source = {
        "kind": "folder",
        "data": "images",
        "root": None,
        "licence": None,
        "test_root": None,
        "test_data": "",
        "bands": [],
    }
    info = {name: ClassInfo(READABLE[name], clusters * members, 0) for name in classes}
    write_index(
        project,
        source=source,
        classes=info,
        count=len(entries),
        images=lambda: sorted(entries, key=lambda entry: entry["id"]),
        refused=[],
    )
    write_prototypes(project, {name: [f"{k}-1.png" for k in range(clusters)] for name in classes})
    storage.write_json(
        project.path("prototypes", "clusters.json"),
        {
            entry["id"]: {
                "class": entry["class"],
                "cluster_id": int(entry["id"].split("/")[1][0]),
                "margin": 0.1,
                "d_intra": 0.1,
                "outlier": False,
                "outlier_score": 1.0,
                "distance": 0.1 * int(entry["id"][-5]),
            }
            for entry in entries
        },
    )
    return project


def write_prototypes(project: Project, files: dict[str, list[str]]) -> None:
    """The prototype file in which cluster k of a class has the k-th of the files."""
    storage.write_json(
        project.path("prototypes", "prototypes.json"),
        {
            name: [
                {
                    "image": f"images/{name}/{file}",
                    "caption": "",
                    "cluster_id": k,
                    "file_name": file,
                    "margin": 0.1,
                    "d_intra": 0.1,
                    "d_inter_min": 0.2,
                    "cluster_size": 3,
                    "id": f"{name}/{file}",
                }
                for k, file in enumerate(of_class)
            ]
            for name, of_class in files.items()
        },
    )


def texts(project: Project) -> dict[tuple[str, int], str]:
    """The current captions by class and number."""
    return {
        (name, k): caption.text
        for name, clusters in current_captions(project).items()
        for k, caption in clusters.items()
    }


def lines(project: Project) -> list[Any]:
    """The lines of the caption log."""
    return storage.read_json_lines(project.path("captions", "log.jsonl"))
