"""One family of errors: every message says what went wrong, where, and the way out.

Anything a user can cause is raised as a :class:`DPDError`; the command line and the app
show its text as it is. Any other exception is a bug in this project.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any


class DPDError(Exception):
    """Something a user can understand and mend.

    Args:
        what: What went wrong, one sentence.
        where: The file, field or class concerned, if there is one.
        fix: What to do about it.
    """

    def __init__(self, what: str, *, where: str | Path | None = None, fix: str | None = None):
        self.what = what
        self.where = str(where) if where is not None else None
        self.fix = fix
        super().__init__(str(self))

    def __str__(self) -> str:
        text = f"{self.where}: {self.what}" if self.where else self.what
        return f"{text} {self.fix}" if self.fix else text

    def __reduce__(self) -> tuple[Any, ...]:
        # Exceptions with keyword-only arguments do not survive a process boundary by default.
        return (_rebuild, (type(self), self.what, self.where, self.fix))


def _rebuild(kind: type[DPDError], what: str, where: str | None, fix: str | None) -> DPDError:
    return kind(what, where=where, fix=fix)


class ConfigError(DPDError):
    """A setting is out of its limits or unknown."""


class DatasetError(DPDError):
    """The image collection cannot be used as it is."""


class ImageRefused(DPDError):
    """One image cannot be decoded safely; the collection goes on without it."""


class ProjectError(DPDError):
    """The project folder is missing, damaged, of another version, or in use."""


class StageMissing(DPDError):
    """A stage needs the result of an earlier one that is not there yet."""


class ModelError(DPDError):
    """A model, adapter or tokenizer cannot be loaded or does not fit."""


class CaptionError(DPDError):
    """A caption, its log or a caption file is not acceptable."""


class CaptionConflict(CaptionError):
    """A caption has been changed since the writer saw it; nothing was written."""


class JobStopped(DPDError):
    """The work was asked to stop; what it had finished is kept and can be resumed."""


def first_line(error: Exception) -> str:
    """The first line of a library's message, which often says enough."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
