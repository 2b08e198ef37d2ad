"""What tells runs with several settings apart, in few words."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from dpd_core.settings import AUTO


def differing(settings: Sequence[Mapping[str, Any]]) -> list[str]:
    """Names of the settings that are not the same everywhere, in their order."""
    names = dict.fromkeys(name for values in settings for name in values)
    return [
        name
        for name in names
        if any(values.get(name) != settings[0].get(name) for values in settings)
    ]


def words(settings: Mapping[str, Any], names: Sequence[str]) -> str:
    """Some settings in one line: ``rank 8, learning rate 0.0001``."""
    return ", ".join(f"{name.replace('_', ' ')} {word(settings.get(name))}" for name in names)


def word(value: Any) -> str:
    """A setting's value as people write it."""
    if value is None:
        return AUTO
    if isinstance(value, bool):
        return "on" if value else "off"
    if isinstance(value, int):
        return f"{value:,}"
    if isinstance(value, float):
        return f"{value:g}"
    if isinstance(value, list | tuple):
        return ", ".join(map(str, value)) or "none"
    return str(value) or "none"
