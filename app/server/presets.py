"""Presets that a visitor has saved: settings of a stage by name, for all of the visitor's projects.

They are one file beside the projects, whose only reader and writer is this module.
"""

from __future__ import annotations

from typing import Any

from dpd_core import storage
from dpd_core.config import CONFIGS
from dpd_core.errors import ConfigError
from dpd_core.project import Project
from dpd_core.settings import StageConfig

FILE = "presets.json"
MOST = 40
"""Most presets of a stage."""
LONGEST = 60
"""Most characters of a name."""

_FIX = "Delete the file; the presets in it are lost."


def names(project: Project, stage: str) -> list[str]:
    """Names of the saved presets of a stage, in alphabetical order."""
    return sorted(_read(project).get(stage, {}), key=str.casefold)


def load(project: Project, stage: str, name: Any) -> StageConfig:
    """A saved preset.

    Raises:
        ConfigError: there is none of that name, or it has a setting that is not allowed (any more).
    """
    found = _read(project).get(stage, {}).get(name) if isinstance(name, str) else None
    if found is None:
        raise ConfigError("there is no such preset.", fix="Choose another one.")
    return CONFIGS[stage].from_dict(found)


def save(project: Project, stage: str, name: Any, config: StageConfig) -> str:
    """Save settings under a name, in place of what it stood for; returns the name.

    Raises:
        ConfigError: an unusable name, or there are too many presets.
    """
    name = " ".join(str(name or "").split())
    if not name or len(name) > LONGEST or not name.isprintable():
        raise ConfigError(
            "a preset needs a name.", where="the name", fix=f"Write 1 to {LONGEST} characters."
        )
    content = _read(project)
    of_stage = content.setdefault(stage, {})
    if name not in of_stage and len(of_stage) >= MOST:
        raise ConfigError(f"there are {MOST} presets already.", fix="Delete one of them first.")
    of_stage[name] = config.lasting().to_dict()
    _write(project, content)
    return name


def delete(project: Project, stage: str, name: Any) -> None:
    """Forget a preset; one that is not there is no error."""
    content = _read(project)
    if isinstance(name, str) and content.get(stage, {}).pop(name, None) is not None:
        _write(project, content)


def _read(project: Project) -> dict[str, dict[str, Any]]:
    path = project.root.parent / FILE
    if not path.exists():
        return {}
    content = storage.read_json(path, fix=_FIX)
    if not isinstance(content, dict):
        raise ConfigError("the file of presets is damaged.", where=path, fix=_FIX)
    return {
        str(stage): {str(name): kept for name, kept in found.items() if isinstance(kept, dict)}
        for stage, found in content.items()
        if isinstance(found, dict)
    }


def _write(project: Project, content: dict[str, dict[str, Any]]) -> None:
    storage.write_json(project.root.parent / FILE, content)
