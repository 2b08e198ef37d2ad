"""No message to a stranger says where the server keeps things.

Errors of the core name the file concerned by its path, which helps whoever owns the machine. On a
server for strangers :func:`hidden` leaves the part that is the visitor's own.
"""

from __future__ import annotations

import re
import sys
import tempfile
from pathlib import Path

from app.server.settings import Settings

_ROOT = Path(__file__).resolve().parents[2]

_homes: set[str] = set()


def hide(settings: Settings) -> None:
    """From now on, hide the folders of an installation, if it serves strangers."""
    if settings.hosted:
        _homes.update({str(settings.home), str(settings.home.resolve())})


def hidden(text: str) -> str:
    """The text with the server's own folders taken out of it: ``…/visitors/<folder>/mine/x.json``
    becomes ``mine/x.json``, any other file of the server ``…/x.json``."""
    if not _homes or not ("/" in text or "\\" in text):
        return text
    for home in sorted(_homes, key=len, reverse=True):
        text = re.sub(
            re.escape(home) + r"[/\\](?:visitors[/\\][0-9a-f]{32}[/\\]?|projects[/\\])?",
            "",
            text,
        )
        text = text.replace(home, "…")
    for place in (_ROOT, Path(sys.prefix), Path(tempfile.gettempdir()), Path.home()):
        if len(place.parts) > 1:
            text = text.replace(str(place), "…")
    return text
