"""Two texts as runs of what stayed and what changed, for a template that escapes them."""

from __future__ import annotations

import difflib
import re
from typing import Any

_PART = re.compile(r"\w+|\s+|[^\w\s]")


def segments(before: str | None, after: str | None) -> tuple[list[dict[str, Any]], ...]:
    """The old and the new text, each as runs with ``text`` and ``changed``, word by word."""
    old, new = (_PART.findall(text or "") for text in (before, after))
    left: list[dict[str, Any]] = []
    right: list[dict[str, Any]] = []
    matcher = difflib.SequenceMatcher(None, old, new, autojunk=False)
    for kind, i1, i2, j1, j2 in matcher.get_opcodes():
        _add(left, "".join(old[i1:i2]), kind != "equal")
        _add(right, "".join(new[j1:j2]), kind != "equal")
    return left, right


def _add(runs: list[dict[str, Any]], text: str, changed: bool) -> None:
    if text:
        runs.append({"text": text, "changed": changed})
