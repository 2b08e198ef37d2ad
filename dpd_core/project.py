"""The project folder: what was decided, which stages are finished, and from what.

``project.json`` holds the settings shared by all stages and one record for each finished
stage: its settings, its result and an id that changes with either or with anything upstream.
Whether a finished stage is still up to date is asked of :mod:`dpd_core.pipeline.staleness`.
"""

from __future__ import annotations

import contextlib
import datetime
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from dpd_core import STAGES, storage
from dpd_core.config import ProjectConfig
from dpd_core.errors import ProjectError, StageMissing
from dpd_core.settings import StageConfig

SCHEMA = 1

_ABOUT_THE_RUN = ("changed",)
"""Parts of a result that tell what a run had to do, not what came out: they differ between an
interrupted and an uninterrupted run, so an id must not depend on them."""


class Project:
    """One project folder. Create it with :meth:`create`, :meth:`open` or both in one.

    Nothing is cached: every question is answered from the disk, so the browser, the command
    line and a worker process see the same thing.
    """

    def __init__(self, root: Path):
        self.root = root

    @classmethod
    def create(cls, root: str | Path, *, config: ProjectConfig | None = None) -> Project:
        """Make a new project folder.

        Raises:
            ProjectError: there is a project already, or the folder cannot be written.
        """
        project = cls(Path(root).expanduser().resolve())
        if project.manifest_path.exists():
            raise ProjectError(
                "there is a project here already.",
                where=project.root,
                fix="Open it, or choose another folder.",
            )
        manifest = {
            "schema": SCHEMA,
            "created": _now(),
            "settings": (config or ProjectConfig()).to_dict(),
            "stages": {},
        }
        storage.write_json(project.manifest_path, manifest)
        return project

    @classmethod
    def open(cls, root: str | Path) -> Project:
        """Open a project folder.

        Raises:
            ProjectError: no project there, a damaged one, or one of a newer version.
        """
        project = cls(Path(root).expanduser().resolve())
        if not project.manifest_path.exists():
            raise ProjectError(
                "there is no project in this folder.",
                where=project.root,
                fix="Start one with `python -m dpd_core dataset --project DIR --data FOLDER`.",
            )
        project.manifest()
        return project

    @classmethod
    def open_or_create(cls, root: str | Path, *, config: ProjectConfig | None = None) -> Project:
        """Open the project at ``root``, or make it with ``config``."""
        if (Path(root).expanduser() / "project.json").exists():
            return cls.open(root)
        return cls.create(root, config=config)

    @property
    def manifest_path(self) -> Path:
        """Path of ``project.json``."""
        return self.root / "project.json"

    @property
    def name(self) -> str:
        """The folder's name."""
        return self.root.name

    @property
    def config(self) -> ProjectConfig:
        """The settings shared by all stages."""
        return ProjectConfig.from_dict(self.manifest()["settings"])

    def configure(self, config: ProjectConfig) -> None:
        """Change the shared settings. Finished stages stay, but are no longer current."""
        self._update(lambda manifest: manifest.update(settings=config.to_dict()))

    def path(self, *parts: str) -> Path:
        """A path inside the project.

        Raises:
            ProjectError: the parts lead out of the project folder.
        """
        path = self.root.joinpath(*parts)
        try:
            inside = path.resolve().is_relative_to(self.root)
        except (OSError, ValueError) as error:  # a name too long, a NUL, half a surrogate pair
            raise ProjectError(
                f"this cannot be a file name ({error}).",
                where=repr(parts),
                fix="Run the stage that names it again.",
            ) from error
        if not inside:
            raise ProjectError(
                "the path leads out of the project.",
                where=path,
                fix="Run the stage that names it again.",
            )
        return path

    def relative(self, path: Path) -> str:
        """The path inside the project as a POSIX string, as kept in project files."""
        return path.resolve().relative_to(self.root).as_posix()

    def manifest(self) -> dict[str, Any]:
        """What ``project.json`` holds, in one reading: ``settings``, and ``stages`` with the
        record of each finished stage (see :meth:`record`).

        Raises:
            ProjectError: the file is missing, damaged, or of another version.
        """
        fix = "Restore project.json from a copy, or start a new project."
        manifest = storage.read_json(self.manifest_path, fix=fix)
        if not isinstance(manifest, dict) or not isinstance(manifest.get("stages"), dict):
            raise ProjectError("not a project file.", where=self.manifest_path, fix=fix)
        if manifest.get("schema") != SCHEMA:
            raise ProjectError(
                f"the project has schema {manifest.get('schema')!r}; this version reads {SCHEMA}.",
                where=self.manifest_path,
                fix="Open it with the version that made it.",
            )
        records = manifest["stages"]
        if (
            set(records) - set(STAGES)
            or not isinstance(manifest.get("settings"), dict)
            or not all(_is_record(record) for record in records.values())
        ):
            raise ProjectError("not a project file.", where=self.manifest_path, fix=fix)
        return manifest

    def record(self, stage: str) -> dict[str, Any] | None:
        """The record of a finished stage (``id``, ``settings``, ``inputs``, ``result``,
        ``finished``), or ``None``."""
        return self.manifest()["stages"].get(stage)

    def result(self, stage: str) -> dict[str, Any]:
        """The result of a finished stage.

        Raises:
            StageMissing: the stage has not finished yet.
        """
        record = self.record(stage)
        if record is None:
            raise StageMissing(
                f"the stage '{stage}' has not been run yet.",
                where=self.root,
                fix=f"Run `python -m dpd_core {stage} --project {self.root}` first.",
            )
        return record["result"]

    def finish(
        self,
        stage: str,
        config: StageConfig,
        result: dict[str, Any],
        *,
        inputs: dict[str, Any],
        files: dict[str, str] | None = None,
    ) -> str:
        """Put a finished stage on record and return its id.

        Args:
            stage: Stage name.
            config: Its settings.
            result: What it returned.
            inputs: What :func:`dpd_core.pipeline.staleness.inputs_now` said when it started.
            files: SHA-256 of the files it left, by path, for :mod:`dpd_core.pipeline.verify`.
        """
        entry: dict[str, Any] = {
            "id": "",
            "settings": config.to_dict(),
            "inputs": inputs,
            "project_settings": self.config.to_dict(),
            "result": result,
            "finished": _now(),
            "files": files or {},
        }
        entry["id"] = record_id(stage, entry)
        self._update(lambda manifest: manifest["stages"].update({stage: entry}))
        return entry["id"]

    @contextlib.contextmanager
    def lock(self, timeout: float = 0.0) -> Iterator[None]:
        """Hold the project for writing; the lock goes with the process, also by ``kill -9``.

        Raises:
            ProjectError: another process holds it for longer than ``timeout`` seconds.
        """
        with storage.writable(self.root):
            lock = FileLock(self.root / ".lock")
            try:
                with lock.acquire(timeout=timeout):
                    yield
            except Timeout:
                raise ProjectError(
                    "another process is working on this project.",
                    where=self.root,
                    fix="Wait until it has finished, or stop it.",
                ) from None

    def _update(self, change: Any) -> None:
        manifest = self.manifest()
        change(manifest)
        storage.write_json(self.manifest_path, manifest)


def record_id(stage: str, record: dict[str, Any]) -> str:
    """The id that a stage's record has to have."""
    result = {name: value for name, value in record["result"].items() if name not in _ABOUT_THE_RUN}
    return storage.digest(
        stage, record["project_settings"], record["settings"], record["inputs"], result
    )


def _is_record(value: Any) -> bool:
    """Whether this is a stage's record as :meth:`Project.finish` writes it."""
    return (
        isinstance(value, dict)
        and isinstance(value.get("id"), str)
        and all(
            isinstance(value.get(name), dict)
            for name in ("settings", "inputs", "project_settings", "result", "files")
        )
        and isinstance(value["inputs"].get("by_hand"), dict)
    )


def _now() -> str:
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
