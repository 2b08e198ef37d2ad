"""What the tab of the stage ``export`` asks of the core."""

from __future__ import annotations

import datetime
import os
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from app.server.limits import HUB_ID
from dpd_core import storage
from dpd_core.config import ExportConfig
from dpd_core.errors import ConfigError, DPDError
from dpd_core.export.manifest import ExportManifest, read_export
from dpd_core.export.plan import ExportPlan, plan_export
from dpd_core.export.push import TOKEN_VARIABLES
from dpd_core.project import Project
from dpd_core.synthesize.sets import is_finished, read_manifest, set_folder

LICENCES = (
    ("Other: see the card", "other"),
    ("Unknown", "unknown"),
    ("CC0 1.0: public domain", "cc0-1.0"),
    ("CC BY 4.0: name the source", "cc-by-4.0"),
    ("CC BY-SA 4.0: name the source, share alike", "cc-by-sa-4.0"),
    ("CC BY-NC 4.0: name the source, no commercial use", "cc-by-nc-4.0"),
    ("CC BY-NC-SA 4.0: no commercial use, share alike", "cc-by-nc-sa-4.0"),
    ("MIT", "mit"),
    ("Apache 2.0", "apache-2.0"),
    ("CDLA Permissive 2.0", "cdla-permissive-2.0"),
    ("ODC Attribution", "odc-by"),
    ("ODbL: open database licence", "odbl"),
)
"""(label, Hub licence id)."""

_LONGEST_TOKEN = 1000


@dataclass(frozen=True)
class Exported:
    """A finished export.

    Attributes:
        set_name: Name of the distilled set.
        archive: The zip.
        size: Its bytes.
        images: Number of images, ``None`` if the folder beside the zip is gone.
        licence: Licence it was given, likewise.
        finished: When, for a person.
        outdated: Whether the set has been changed since.
    """

    set_name: str
    archive: Path
    size: int
    images: int | None
    licence: str | None
    finished: str
    outdated: bool


class OAuthToken(Protocol):
    """What Gradio hands over for a visitor who is signed in at the Hub."""

    token: str
    expires_at: float


def plan(project: Project, config: ExportConfig) -> ExportPlan:
    """What the export would hold; errors as in :func:`dpd_core.export.plan.plan_export`."""
    return plan_export(project, config)


def config_of(
    set_name: str | None,
    title: str | None,
    licence: str | None,
    parquet: bool,
    adapter: bool,
    soft_labels: bool,
    text_files: bool = False,
) -> ExportConfig:
    """The settings of an export as chosen on the page.

    Raises:
        ConfigError: not a licence id of the list.
    """
    if (licence or "other") not in [value for _, value in LICENCES]:
        raise ConfigError(
            f"got the licence {licence!r}.", where="export.licence", fix="Choose one of the list."
        )
    return ExportConfig(
        set_name=set_name or "latest",
        title=" ".join((title or "").split()),
        licence=licence or "other",
        parquet=bool(parquet),
        adapter=bool(adapter),
        soft_labels=bool(soft_labels),
        text_files=bool(text_files),
    )


def exports(project: Project) -> list[Exported]:
    """The finished exports in the project, newest first."""
    archives = [path for path in storage.whole(project.path("export"), "*.zip") if path.is_file()]
    found = [_exported(project, path) for path in archives]
    return sorted(found, key=lambda export: -export.archive.stat().st_mtime)


def checked_repository(text: str | None) -> str:
    """The Hub data set id to push to.

    Raises:
        ConfigError: not of the form ``owner/name``.
    """
    name = (text or "").strip()
    if not HUB_ID.fullmatch(name) or ".." in name or len(name) > 96:
        raise ConfigError(
            f"got {name!r} as a data set id.",
            where="export.push",
            fix="Write it as owner/name, like my-name/tiny-landuse.",
        )
    return name


def checked_token(text: str | None) -> str | None:
    """The token as typed; ``None`` where the environment has one and none was typed.

    The token is never quoted in an error.

    Raises:
        ConfigError: there is none, or it cannot be one.
    """
    token = (text or "").strip()
    if not token:
        if any(os.environ.get(name) for name in TOKEN_VARIABLES):
            return None
        raise ConfigError(
            "there is no Hub token.",
            where="export.push",
            fix="Make one that may write at huggingface.co/settings/tokens and paste it here.",
        )
    if len(token) > _LONGEST_TOKEN or not (token.isascii() and token.isprintable()) or " " in token:
        raise ConfigError(
            "that is no Hub token.",
            where="export.push",
            fix="Paste it as it was shown to you; it begins with hf_.",
        )
    return token


def can_sign_in() -> bool:
    """Whether visitors can sign in with the Hub: on a Space with its keys alone. Elsewhere Gradio
    plays a sign-in that hands out the token of the server's owner, and without the secret anybody
    could sign the cookie."""
    needed = ("SPACE_ID", "OAUTH_CLIENT_ID", "OAUTH_CLIENT_SECRET")
    return os.environ.get("SYSTEM") == "spaces" and all(map(os.environ.get, needed))


def signed_in_token(oauth: OAuthToken | None) -> str:
    """The token of a visitor who has signed in.

    Raises:
        ConfigError: nobody has, or the sign-in has run out.
    """
    if oauth is None or not oauth.token:
        raise ConfigError(
            "you are not signed in.",
            where="export.push",
            fix="Press “Sign in with Hugging Face” first.",
        )
    if oauth.expires_at <= time.time():
        raise ConfigError(
            "your sign-in has run out.", where="export.push", fix="Sign out and in again."
        )
    return oauth.token


def pushed_to(project: Project) -> str | None:
    """The data set id that the last export was pushed to."""
    record = project.record("export")
    name = record["result"].get("pushed") if record else None
    return name if isinstance(name, str) and HUB_ID.fullmatch(name) else None


def _exported(project: Project, archive: Path) -> Exported:
    status = archive.stat()
    when = datetime.datetime.fromtimestamp(status.st_mtime, datetime.UTC)
    try:
        manifest = read_export(archive.with_suffix(""))
    except DPDError:
        manifest = None
    return Exported(
        manifest.set_name if manifest else archive.stem,
        archive,
        status.st_size,
        len(manifest.distilled.slots) if manifest else None,
        manifest.licence if manifest else None,
        when.strftime("%Y-%m-%d %H:%M UTC"),
        manifest is not None and _changed(project, manifest),
    )


def _changed(project: Project, exported: ExportManifest) -> bool:
    """Whether the set is there and not what was exported."""
    root = set_folder(project, exported.set_name)
    return is_finished(root) and read_manifest(root).slots != exported.distilled.slots
