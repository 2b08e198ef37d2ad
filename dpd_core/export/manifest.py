"""The manifest of an export: where each image comes from, and the digest of each file."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field, StrictStr, TypeAdapter, ValidationError

from dpd_core import __version__, storage
from dpd_core.errors import ProjectError
from dpd_core.export.contents import files_below, without_path
from dpd_core.synthesize.records import Manifest
from dpd_core.synthesize.sets import DistilledSet

FORMAT = "dpd-studio-export"
_FIX = "Run the stage 'export' again."


@dataclass(frozen=True)
class ExportManifest:
    """What an export says of itself.

    Attributes:
        set_name, title, licence: As its card says.
        files: SHA-256 by path, of all files but this one.
        distilled: The set, without local paths.
        report: Its evaluation; ``None`` without one.
        version: Of the program that made it.
        format: Tells an export from other folders.
    """

    set_name: Annotated[StrictStr, Field(alias="set")]
    title: StrictStr
    licence: StrictStr
    files: dict[StrictStr, StrictStr]
    distilled: Manifest
    report: dict[str, Any] | None
    version: StrictStr = __version__
    format: StrictStr = FORMAT


_ADAPTER = TypeAdapter(ExportManifest)


def is_export(folder: Path) -> bool:
    """Whether a folder is an earlier export, and may be replaced by another.

    Raises:
        ProjectError: it has a manifest that cannot be read.
    """
    path = folder / "manifest.json"
    if not path.is_file():
        return False
    content = storage.read_json(path, fix="Delete the export's folder.")
    return isinstance(content, dict) and content.get("format") == FORMAT


def read_export(folder: Path) -> ExportManifest:
    """The manifest of an export.

    Raises:
        ProjectError: it is missing or damaged.
    """
    path = folder / "manifest.json"
    content = storage.read_json(path, fix=_FIX)
    try:
        return _ADAPTER.validate_python(content)
    except ValidationError as error:
        first = error.errors(include_url=False, include_context=False, include_input=False)[0]
        where = ".".join(map(str, first["loc"]))
        raise ProjectError(
            f"the file is damaged ({where}: {first['msg']}).", where=path, fix=_FIX
        ) from None


def write_export(
    folder: Path,
    distilled: DistilledSet,
    *,
    title: str,
    licence: str,
    report: Mapping[str, Any] | None,
) -> None:
    """Write the manifest of a folder that holds everything else."""
    manifest = ExportManifest(
        set_name=distilled.name,
        title=title,
        licence=licence,
        files={
            path.relative_to(folder).as_posix(): storage.file_digest(path)
            for path in files_below(folder)
        },
        distilled=replace(distilled.manifest, model=without_path(distilled.manifest.model)),
        report=None if report is None else dict(report),
    )
    content = _ADAPTER.dump_python(manifest, mode="json", by_alias=True)
    storage.write_json(folder / "manifest.json", content)
