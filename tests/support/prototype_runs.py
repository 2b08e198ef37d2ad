"""Settings for a quick run of the prototypes stage, and what it left."""

import json
from pathlib import Path
from typing import Any

from dpd_core.config import PrototypesConfig
from dpd_core.project import Project
from dpd_core.prototypes import stage as prototypes


def config(**settings: Any) -> PrototypesConfig:
    return PrototypesConfig(**{"ipc": 3, "pool": 4, "project_map": False, **settings})


def contents(project: Project) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in project.path("prototypes").iterdir()}


def published(project: Project) -> dict[str, list[dict[str, Any]]]:
    return json.loads(project.path("prototypes", "prototypes.json").read_text())


def write_overrides(project: Project, content: Any) -> Path:
    path = project.path("prototypes", "overrides.json")
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps(content))
    return path


def published_ids(project: Project) -> list[str]:
    prototypes.run(project, config())
    return [entry["id"] for entries in published(project).values() for entry in entries]
