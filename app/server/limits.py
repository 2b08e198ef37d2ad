"""What strangers may do: no folders of the server, a quota, a pace, and an end to every run.

On one's own machine (:attr:`Settings.hosted` is false) nothing of this applies. Every check raises
a :class:`DPDError` whose text the visitor sees.
"""

from __future__ import annotations

import collections
import re
import stat
import threading
import time
from pathlib import Path

from app.server.settings import MB, Settings
from app.server.workspaces import Workspace
from dpd_core.config import ExportConfig, RunConfig
from dpd_core.errors import ConfigError, ProjectError
from dpd_core.pipeline import plan
from dpd_core.pipeline.stages import COMMANDS
from dpd_core.project import Project
from dpd_core.settings import Setting, StageConfig, settings_of

UPLOADS = "uploads"
"""Folder in a project for what its owner uploaded; the one place a hosted run may read from."""

HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")

_ALLOWED = {"project", *(name for name, command in COMMANDS.items() if not command.own_projects)}
"""What a stranger may start, and "project" for the settings that all share."""

_SIZE_SECONDS = 10.0
_BLOCK = 4096
_HOUR = 3600.0


class Limits:
    """The limits of one installation.

    Args:
        settings: Says whether strangers are served, and the numbers.
    """

    def __init__(self, settings: Settings):
        self.settings = settings
        self._starts: dict[str, collections.deque[float]] = {}
        self._sizes: dict[Path, tuple[float, int]] = {}
        self._lock = threading.Lock()

    def check_start(
        self, project: Project, stage: str, config: StageConfig, *, signed_in: bool = False
    ) -> None:
        """Before a run is put on the waiting list.

        Args:
            signed_in: Whether the run gets the visitor's own Hub token.

        Raises:
            ConfigError: a setting would read or write a folder of the server.
            ProjectError: the visitor's projects are full, or the visitor starts too many runs.
        """
        if not self.settings.hosted:
            return
        self.check_paths(project, stage, config)
        self.check_paths(project, "project", project.config)
        exported = config
        if isinstance(config, RunConfig):
            exported = plan.settings(project, config)["export"]
        if isinstance(exported, ExportConfig) and exported.push and not signed_in:
            raise ConfigError(
                "a run on this server does not push; it would use the server's own account.",
                where="export.push",
                fix="Sign in and use the button that pushes.",
            )
        self.check_quota(project.root.parent)
        self._check_pace(project.root.parent)

    def check_paths(self, project: Project, stage: str, config: StageConfig) -> None:
        """Refuse settings that are paths of the server, but for the project's own uploads.

        Raises:
            ConfigError: such a setting, or work that strangers may not start at all.
        """
        if not self.settings.hosted:
            return
        if stage not in _ALLOWED:
            raise ConfigError(
                f"{stage!r} cannot be started here.",
                fix="Run the app on a machine of your own, or use its command line there.",
            )
        if isinstance(config, RunConfig):
            for step, settings in plan.settings(project, config).items():
                self.check_paths(project, step, settings)
        for known in settings_of(type(config)).values():
            value = getattr(config, known.name)
            if known.path and value and not _harmless(project, known, value):
                raise ConfigError(
                    f"got {value!r}: folders and files of the server cannot be used.",
                    where=f"{stage}.{known.name}",
                    fix="Upload your files, or give a Hugging Face Hub id."
                    if known.hub
                    else "Leave it empty.",
                )

    def check_quota(self, workspace: Path, more: int = 0) -> None:
        """Before something is added to a visitor's projects.

        Args:
            workspace: The folder of all of them.
            more: Bytes that are to be added.

        Raises:
            ProjectError: they would be larger than the quota.
        """
        if not self.settings.hosted:
            return
        used = self._size(workspace, fresh=more > 0)
        if used + more > self.settings.quota and Workspace(workspace).empty_trash(0):
            used = self._size(workspace, fresh=True)
        if used + more > self.settings.quota:
            raise ProjectError(
                f"your projects take {used / MB:.0f} MB of {self.settings.quota / MB:.0f} MB"
                + (f", and this would add {more / MB:.0f} MB." if more else "."),
                fix="Delete a project you no longer need.",
            )

    def check_projects(self, count: int) -> None:
        """Before a project is added to ``count`` others.

        Raises:
            ProjectError: there are too many already.
        """
        if self.settings.hosted and count >= self.settings.max_projects:
            raise ProjectError(
                f"there are {count} projects already, the most for one visitor.",
                fix="Delete one you no longer need.",
            )

    def check_upload(self, sizes: list[int]) -> None:
        """Before uploaded files are taken into a project.

        Raises:
            ProjectError: too many, or too large.
        """
        settings = self.settings
        if len(sizes) > settings.max_files:
            raise ProjectError(
                f"{len(sizes)} files were uploaded; the most at once is {settings.max_files}.",
                fix="Put them into a zip.",
            )
        if sum(sizes) > settings.max_upload:
            raise ProjectError(
                f"the upload has {sum(sizes) / MB:.0f} MB; the limit is "
                f"{settings.max_upload / MB:.0f} MB.",
                fix="Upload fewer or smaller images.",
            )

    def _check_pace(self, workspace: Path) -> None:
        now = time.monotonic()
        with self._lock:
            self._starts = {
                key: starts
                for key, starts in self._starts.items()
                if starts and now - starts[-1] < _HOUR
            }
            starts = self._starts.setdefault(workspace.name, collections.deque())
            while starts and now - starts[0] > _HOUR:
                starts.popleft()
            if len(starts) >= self.settings.starts_per_hour:
                wait = (_HOUR - (now - starts[0])) / 60
                raise ProjectError(
                    f"you have started {len(starts)} runs within an hour, the most for one "
                    "visitor.",
                    fix=f"Try again in {wait:.0f} minutes.",
                )
            starts.append(now)

    def _size(self, folder: Path, *, fresh: bool) -> int:
        now = time.monotonic()
        with self._lock:
            known = self._sizes.get(folder)
            if known is not None and not fresh and now - known[0] < _SIZE_SECONDS:
                return known[1]
        size = folder_size(folder)
        with self._lock:
            self._sizes[folder] = (now, size)
        return size


def _harmless(project: Project, known: Setting, value: str) -> bool:
    """Whether this value of a setting that may be a path leads nowhere but to the project's own
    uploads."""
    if value in known.words:
        return True
    if known.path == "folder":
        uploads = project.path(UPLOADS)
        path = Path(value)
        if path.is_absolute() and path.parent == uploads and path.resolve().parent == uploads:
            return True
    # A folder goes before the Hub, so an id must not be one, seen from where runs start.
    return (
        known.hub
        and HUB_ID.fullmatch(value) is not None
        and ".." not in value
        and not (Path(__file__).resolve().parents[2] / value).exists()
    )


def folder_size(folder: Path) -> int:
    """Bytes of all files below a folder, at least a block each, because many empty ones fill a disk
    too; files that vanish meanwhile count nothing."""
    total = 0
    for path in folder.rglob("*"):
        try:
            status = path.lstat()
        except OSError:
            continue
        total += max(status.st_size, _BLOCK) if stat.S_ISREG(status.st_mode) else _BLOCK
    return total
