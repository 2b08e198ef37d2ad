"""What has changed on disk since the page last looked: cheap enough to ask every second."""

from __future__ import annotations

from pathlib import Path

from app.server.jobs import JobQueue
from dpd_core import storage
from dpd_core.pipeline.stages import TABLE
from dpd_core.project import Project


def revisions(project: Project) -> dict[str, str]:
    """A token by stage, which changes with the stage's files, with any stage before it, and
    with the project."""
    tokens, seen = {}, [str(project.root), stamp(project.manifest_path)]
    for stage, declared in TABLE.items():
        for name in declared.watched:
            paths = sorted(project.root.glob(name)) if "*" in name else [project.root / name]
            seen += [stamp(path) for path in paths]
        tokens[stage] = storage.digest(seen)
    return tokens


def pulse(project: Project, queue: JobQueue) -> str:
    """A token that changes with every sign of life of the project's current job."""
    job = queue.current(project)
    if job is None:
        return storage.digest(str(project.root))
    listed = queue.planned_ids(project)
    return storage.digest(job.id, job.status, job.position, job.job.heartbeat, listed)


def stamp(path: Path) -> str:
    """Time and size of a file or folder; ``-`` if it is not there."""
    try:
        status = path.stat()
    except OSError:
        return "-"
    return f"{status.st_mtime_ns}.{status.st_size}"
