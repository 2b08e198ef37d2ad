"""The page's own files, ``assets/app``: styles, parts of its head, scripts of its components."""

from __future__ import annotations

from pathlib import Path

ASSETS = Path(__file__).resolve().parents[2] / "assets" / "app"
"""The folder with them."""


def script(name: str) -> str:
    """The text of a component's script, for ``js_on_load``."""
    return (ASSETS / name).read_text(encoding="utf-8")
