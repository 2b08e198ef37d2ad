"""A visitor's projects: folders below the application's home."""

from __future__ import annotations

import contextlib
import re
import secrets
import shutil
import time
from dataclasses import dataclass
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

_VISITOR = re.compile(r"[0-9a-f]{32}")
_NAME_LIMIT = 60
_TOUCH_SECONDS = 300.0


@dataclass(frozen=True)
class Workspace:
    """The projects of one visitor; on a laptop all browsers are the same visitor."""

    root: Path

    @classmethod
    def of(cls, settings: Settings, visitor: str) -> Workspace:
        """The workspace of a visitor.

        Raises:
            ProjectError: not a visitor's token (it comes from the browser and is not trusted).
        """
        if not settings.hosted:
            return cls(settings.home / "projects")
        if not _VISITOR.fullmatch(visitor):
            raise ProjectError("this page has lost its visitor token.", fix="Reload the page.")
        workspace = cls(settings.home / "visitors" / visitor)
        workspace.touch()
        return workspace

    def touch(self) -> None:
        """Note that it is in use, so that it is not cleaned up."""
        mark = self.root / SEEN
        with contextlib.suppress(OSError):
            if time.time() - mark.stat().st_mtime > _TOUCH_SECONDS:
                mark.touch()

    def names(self) -> list[str]:
        """Names of the projects, in alphabetical order."""
        if not self.root.is_dir():
            return []
        return sorted(path.parent.name for path in self.root.glob("*/project.json"))

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
        return Project.create(self._free(name))

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
        """Delete a project nothing is running in, with everything in it.

        Raises:
            ProjectError: no such project, or work is going on.
        """
        project = self.open(name)
        with project.lock():
            doomed = self.root / f".deleted-{secrets.token_hex(4)}"
            project.root.replace(doomed)
        shutil.rmtree(doomed)

    def ensure_demo(self) -> str:
        """The name of the finished demo project, put in place if there is none yet.

        Where the installation has no finished demo, an empty project is made instead.
        """
        self.root.mkdir(parents=True, exist_ok=True)
        (self.root / SEEN).touch()
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


def new_visitor() -> str:
    """An unguessable visitor token."""
    return secrets.token_hex(16)
