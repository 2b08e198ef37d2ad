"""A visitor's projects: folders below the application's home."""

from __future__ import annotations

import contextlib
import hashlib
import re
import secrets
import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from filelock import FileLock

from app.server.settings import Settings
from dpd_core import storage
from dpd_core.errors import ProjectError
from dpd_core.project import Project

DEMO_FOLDER = Path(__file__).resolve().parents[2] / "assets" / "demo"
DEMO = "demo"
LOCAL_VISITOR = "local"
SEEN = ".seen"
"""File in a workspace whose time says when it was last used."""

TRASH = ".trash"
"""Folder in a workspace of the projects deleted last, as ``<seconds since 1970>-<random>/<name>``.
"""

TRASH_SECONDS = 7 * 86_400.0

_VISITOR = re.compile(r"[0-9a-f]{32}")
_NAME_LIMIT = 60
_TOUCH_SECONDS = 300.0


def folder_name(visitor: str) -> str:
    """Name of a visitor's folder: a digest of the token, because paths get into messages, logs and
    records, and the token opens everything."""
    return hashlib.sha256(f"dpd-studio visitor {visitor}".encode()).hexdigest()[:32]


@dataclass(frozen=True)
class Workspace:
    """The projects of one visitor; on a laptop all browsers are the same visitor.

    Attributes:
        root: Folder of the projects; it may not be there yet.
        admit: Asked before the folder is made, i.e. before a visitor comes to be; raises where
            there is no place for another one.
    """

    root: Path
    admit: Callable[[], None] | None = field(default=None, compare=False)

    @classmethod
    def of(
        cls, settings: Settings, visitor: str, admit: Callable[[], None] | None = None
    ) -> Workspace:
        """The workspace of a visitor. Nothing is made on disk.

        Raises:
            ProjectError: not a visitor's token (it comes from the browser and is not trusted).
        """
        if not settings.hosted:
            return cls(settings.home / "projects")
        if not _VISITOR.fullmatch(visitor):
            raise ProjectError("this page has lost its visitor token.", fix="Reload the page.")
        workspace = cls(settings.home / "visitors" / folder_name(visitor), admit)
        workspace.touch()
        return workspace

    def touch(self) -> None:
        """Note that it is in use, so that it is not cleaned up."""
        mark = self.root / SEEN
        with contextlib.suppress(OSError):
            try:
                age = time.time() - mark.stat().st_mtime
            except FileNotFoundError:
                age = _TOUCH_SECONDS + 1
            if not 0 <= age <= _TOUCH_SECONDS and self.root.is_dir():
                mark.touch()

    def names(self) -> list[str]:
        """Names of the projects, in alphabetical order. What is half copied or deleted lies in
        folders whose names begin with a dot, and is none."""
        if not self.root.is_dir():
            return []
        found = self.root.glob("*/project.json")
        return sorted(path.parent.name for path in found if path.parent.name[0] != ".")

    def latest(self) -> str | None:
        """Name of the project that was changed last, or ``None`` without any."""

        def changed(name: str) -> int:
            try:
                return (self.root / name / "project.json").stat().st_mtime_ns
            except OSError:
                return 0

        return max(self.names(), key=changed, default=None)

    def open(self, name: str) -> Project:
        """Open a project by name.

        Raises:
            ProjectError: there is none of that name, or it is damaged.
        """
        if name not in self.names():
            raise ProjectError(f"there is no project {name!r}.", fix="Choose another one.")
        return Project.open(self.root / name)

    def create(self, name: str) -> Project:
        """Start an empty project.

        Raises:
            ProjectError: an unusable name, or one that is taken.
        """
        target = self._free(name)
        self._enter()
        return Project.create(target)

    def duplicate(self, name: str, new: str) -> Project:
        """Copy a project with everything in it, but for its jobs.

        Raises:
            ProjectError: no such project, an unusable name, or one that is taken.
        """
        source, target = self.open(name), self._free(new)
        with storage.atomic_folder(target) as temporary:
            shutil.copytree(
                source.root,
                temporary,
                dirs_exist_ok=True,
                ignore=shutil.ignore_patterns("jobs", ".lock", ".part-*"),
            )
        return Project.open(target)

    def rename(self, name: str, new: str) -> Project:
        """Rename a project nothing is running in.

        Raises:
            ProjectError: no such project, an unusable or taken name, or work is going on.
        """
        source, target = self.open(name), self._free(new)
        with source.lock(), storage.writable(target):
            source.root.replace(target)
        return Project.open(target)

    def delete(self, name: str) -> None:
        """Put a project nothing is running in into the trash; :meth:`undelete` brings it back.

        Raises:
            ProjectError: no such project, or work is going on.
        """
        project = self.open(name)
        place = self.root / TRASH / f"{int(time.time())}-{secrets.token_hex(4)}"
        with project.lock(), storage.writable(place):
            place.mkdir(parents=True)
            project.root.replace(place / project.name)

    def deleted(self) -> list[Path]:
        """The projects in the trash, the one deleted last first."""
        found = [path for path in (self.root / TRASH).glob("*/*") if path.is_dir()]
        return sorted(found, key=lambda path: _deletion_time(path.parent), reverse=True)

    def undelete(self) -> Project:
        """Bring the project back that was deleted last, under a name that is free.

        Raises:
            ProjectError: the trash is empty.
        """
        found = self.deleted()
        if not found:
            raise ProjectError(
                "there is no deleted project any more.", fix="They are kept for a week."
            )
        taken = {name.casefold() for name in self.names()}
        name, number = found[0].name, 1
        while name.casefold() in taken:
            number += 1
            name = f"{found[0].name} {number}"
        with storage.writable(self.root):
            found[0].replace(self.root / name)
            with contextlib.suppress(OSError):
                found[0].parent.rmdir()
        return Project.open(self.root / name)

    def empty_trash(self, older_than: float = TRASH_SECONDS, *, now: float | None = None) -> int:
        """Remove deleted projects for good.

        Args:
            older_than: Seconds since they were deleted.
            now: The time, in seconds since 1970.

        Returns:
            How many were removed.
        """
        now = time.time() if now is None else now
        doomed = [
            path
            for path in (self.root / TRASH).glob("*")
            if older_than <= 0 or now - _deletion_time(path) > older_than
        ]
        for path in doomed:
            shutil.rmtree(path, ignore_errors=True)
        return len(doomed)

    def ensure_demo(self) -> str:
        """The name of the finished demo project, put in place if there is none yet.

        Where the installation has no finished demo, an empty project is made instead.
        """
        self._enter()
        with FileLock(self.root / ".demo.lock"):  # two tabs may open at once
            target = self.root / DEMO
            if DEMO in self.names():
                return DEMO
            if (DEMO_FOLDER / "project.json").exists():
                with storage.atomic_folder(target) as temporary:
                    shutil.copytree(DEMO_FOLDER, temporary, dirs_exist_ok=True)
            else:
                Project.create(target)
        return DEMO

    def _enter(self) -> None:
        """Make the folder, where the visitor is new and there is a place for another one."""
        if self.root.is_dir():
            return
        if self.admit is not None:
            self.admit()
        with storage.writable(self.root):
            self.root.mkdir(parents=True, exist_ok=True)
            (self.root / SEEN).touch()

    def _free(self, name: str) -> Path:
        name = " ".join(name.split())
        if not name or len(name) > _NAME_LIMIT or storage.safe_name(name) != name:
            raise ProjectError(
                f"got {name!r} as a project name.",
                fix=f"Use up to {_NAME_LIMIT} letters, digits, spaces, '-' or '_'.",
            )
        if name.casefold() in (taken.casefold() for taken in self.names()):
            raise ProjectError(f"there is a project {name!r} already.", fix="Choose another name.")
        return self.root / name


def _deletion_time(place: Path) -> float:
    """When what lies in a folder of the trash was deleted, in seconds since 1970."""
    try:
        return float(place.name.split("-")[0])
    except ValueError:
        return 0.0


def new_visitor() -> str:
    """An unguessable visitor token."""
    return secrets.token_hex(16)
