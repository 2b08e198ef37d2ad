"""What every source returns: labelled files, and what was refused and why."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass, field
from pathlib import Path, PurePath


@dataclass(frozen=True)
class Refusal:
    """A file that is not used: its name in the source, and the reason."""

    file: str
    reason: str


@dataclass(frozen=True)
class Item:
    """One labelled file.

    Attributes:
        class_name: Name of the class, as the source has it.
        name: Name inside the class, unique there; POSIX separators.
        path: Where the file is.
        side: ``"train"`` or ``"test"`` where the source says so.
        caption: The source's own true description.
    """

    class_name: str
    name: str
    path: Path
    side: str | None = None
    caption: str | None = None

    @property
    def id(self) -> str:
        """The image's id in the project."""
        return f"{self.class_name}/{self.name}"


@dataclass(frozen=True)
class Found:
    """The labelled files of one source.

    Attributes:
        kind: ``folder``, ``archive``, ``hub`` or ``demo``.
        data: The source as the user gave it.
        root: Absolute folder of the images, or ``None`` if they are inside the project.
        items, refused: The files.
        licence: Licence of the images, if the source says it.
        copy: Folder inside the project that holds the images, if they were copied.
        reading, text, others: How the source was understood, the same in a sentence, and what
            else it could be (``--layout`` to sentence).
    """

    kind: str
    data: str
    root: Path | None
    items: list[Item]
    refused: list[Refusal] = field(default_factory=list)
    licence: str | None = None
    copy: Path | None = None
    reading: str = ""
    text: str = ""
    others: dict[str, str] = field(default_factory=dict)


def display_name(path: PurePath) -> str:
    """The path as text; bytes that are not UTF-8 are shown as escapes."""
    return os.fsencode(path.as_posix()).decode("utf-8", "backslashreplace")


def class_name(label: str) -> str | None:
    """The label as a class name, without separators of paths and control characters, or ``None``
    if nothing is left of it."""
    name = re.sub(r"[/\\\x00-\x1f]+", "-", label).strip()
    return name if name.strip(".") else None
