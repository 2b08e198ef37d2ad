"""What the page says: errors in its own words, with the button that helps, without paths."""

from __future__ import annotations

import html
import re
from pathlib import Path, PurePath
from typing import Any

import gradio as gr

from app.server import paths
from dpd_core.errors import DPDError, StageMissing

BUTTONS = {
    "dataset": ("Dataset", "Read the images"),
    "prototypes": ("Prototypes", "Re-cluster"),
    "captions": ("Captions", "Write captions"),
    "train": ("Train", "Start training"),
    "synthesize": ("Synthesize", "Make distilled set"),
    "evaluate": ("Evaluate", "Evaluate"),
    "export": ("Export", "Export"),
}
"""Tab and button that run a stage."""

_NAMES = "|".join(BUTTONS)
_RUN = re.compile(
    rf"Run (?:`python -m dpd_core ({_NAMES})[^`]*`|the stage '({_NAMES})'|the ({_NAMES}) stage)"
)
"""How the core, which knows no page, says that a stage is to be run."""


def in_words(error: DPDError) -> str:
    """The error in the words of the page: a stage is a button, a file has a name and no path."""
    where = error.where or ""
    if Path(where).is_absolute():
        where = PurePath(where).name if PurePath(where).suffix else ""
    what = error.what if where else error.what[:1].upper() + error.what[1:]
    text = f"{where}: {what}" if where else what
    if error.fix:
        text += f" {_RUN.sub(_press, error.fix)}"
    return paths.hidden(text)


def of_job(text: str) -> str:
    """What a job has noted down of its error, in the words of the page."""
    return paths.hidden(_RUN.sub(_press, text))


def needed(error: DPDError) -> str | None:
    """The stage that has to be run first, if that is what is wrong."""
    found = _RUN.search(error.fix or "") if isinstance(error, StageMissing) else None
    return next(filter(None, found.groups()), None) if found else None


def escaped(error: DPDError) -> str:
    """The error for a message on the page, which takes it for HTML; it may quote a visitor. The
    link goes to the tab that helps (``assets/app/head.html`` listens)."""
    text = html.escape(in_words(error), quote=False)
    stage = needed(error)
    return f"{text} <a href='#' data-go='{stage}'>Go there</a>" if stage else text


def message(error: DPDError) -> gr.Error:
    """The error as a message on the page."""
    return gr.Error(escaped(error), print_exception=False, duration=15)


def notice(text: str, **options: Any) -> None:
    """A message on the page; it may quote names that a visitor chose."""
    gr.Info(html.escape(paths.hidden(text), quote=False), **options)


def unexpected() -> gr.Error:
    """What a visitor is told of a fault of ours."""
    return gr.Error(
        "This did not work, through a fault of the program. The server's log says more.",
        print_exception=False,
        duration=15,
    )


def _press(found: re.Match[str]) -> str:
    tab, button = BUTTONS[next(filter(None, found.groups()))]
    return f"Press “{button}” in the tab {tab}"
