"""What the tab Dataset does: where the images come from."""

from __future__ import annotations

from pathlib import Path

from app.server.limits import UPLOADS
from app.server.uploads import uploaded
from dpd_core.dataset.hub import PRESETS
from dpd_core.errors import DatasetError
from dpd_core.project import Project

SOURCES = {
    "demo": "Demo images",
    "upload": "Upload",
    "hub": "Hugging Face Hub",
    "folder": "Folder on this computer",
}
"""Where images may come from, and how the page calls it."""


def sources(*, hosted: bool) -> dict[str, str]:
    """The sources that a visitor may choose; strangers have no folder on this computer."""
    return {key: label for key, label in SOURCES.items() if not (hosted and key == "folder")}


def choose(project: Project, source: str, *, folder: str, hub: str) -> dict[str, object]:
    """The settings ``data`` and ``demo`` for a choice of source.

    Raises:
        DatasetError: the choice is not complete.
    """
    if source == "demo":
        return {"demo": True, "data": ""}
    if source == "upload":
        return {"demo": False, "data": str(_upload(project))}
    data = (hub if source == "hub" else folder).strip()
    if not data:
        what = "no data set was chosen" if source == "hub" else "no folder was given"
        raise DatasetError(
            f"{what}.", where="the source of the images", fix="Fill in the field below the choice."
        )
    return {"demo": False, "data": data}


def source_of(project: Project, data: str, *, demo: bool) -> tuple[str, str, str]:
    """The choice that settings mean: source, folder and Hub id."""
    if demo:
        return "demo", "", ""
    if not data:
        return ("upload" if uploaded(project) else "demo"), "", ""
    if Path(data).parent.name == UPLOADS and uploaded(project):
        return "upload", "", ""
    if data.lower() in PRESETS or (data.count("/") == 1 and not Path(data).is_absolute()):
        return "hub", "", data
    return "folder", data, ""


def _upload(project: Project) -> Path:
    files = uploaded(project)
    if not files:
        raise DatasetError(
            "nothing has been uploaded yet.",
            where="the source of the images",
            fix="Upload a zip, a tar or images first.",
        )
    return files[0]
