"""What people ask of a stage while it runs.

A request is an empty file in the job's folder (``sample_now``), put there by the command line, the
app or by hand. The stage takes it at a moment that suits it, which removes the file: one request
is answered once, also if the stage was not ready for it yet when it was made. ``stop`` and
``pause`` are heeded by :func:`dpd_core.pipeline.jobs.run_stage` itself.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from contextvars import ContextVar
from pathlib import Path

SAMPLE_NOW = "sample_now"
"""Make preview images after the current training step."""

_folder: ContextVar[Path | None] = ContextVar("job folder", default=None)


@contextlib.contextmanager
def listening(folder: Path) -> Iterator[None]:
    """Take requests from this folder while the block runs."""
    token = _folder.set(folder)
    try:
        yield
    finally:
        _folder.reset(token)


def take(name: str) -> bool:
    """Whether this has been asked for since it was last taken. Without a job nothing is."""
    folder = _folder.get()
    if folder is None:
        return False
    try:
        (folder / name).unlink()
    except FileNotFoundError:
        return False
    return True
