"""Cleaning up after visitors: a thread that removes projects nobody has used for long."""

from __future__ import annotations

import functools
import logging
import secrets
import shutil
import threading
import time
from collections.abc import Callable
from pathlib import Path

from app.server.limits import folder_size
from app.server.settings import Settings
from app.server.workspaces import SEEN, Workspace
from dpd_core import storage
from dpd_core.errors import ProjectError

log = logging.getLogger(__name__)

SWEEP_SECONDS = 60.0
_IDLE_SECONDS = 3600.0
"""A visitor unused for less is never removed to make place for others."""


def start(settings: Settings, *more: Callable[[], object]) -> threading.Thread:
    """Sweep now and then in the background.

    Args:
        more: Called at the same time.
    """

    def work() -> None:
        while True:
            tasks = [functools.partial(empty_trash, settings), *more]
            if settings.hosted:
                tasks += [functools.partial(sweep, settings)]
                tasks += [functools.partial(stop_the_greedy, settings)]
            for task in tasks:
                try:
                    task()
                except Exception:
                    log.exception("clean-up failed; it is tried again later")
            time.sleep(SWEEP_SECONDS)

    thread = threading.Thread(target=work, name="janitor", daemon=True)
    thread.start()
    return thread


def sweep(settings: Settings, *, now: float | None = None) -> list[str]:
    """Remove the projects of visitors who have not been here for ``keep_days``, and of those who
    were here longest ago where there are more than ``max_visitors``; never where a run is waiting
    or at work.

    Returns:
        The removed visitors' tokens.
    """
    now = time.time() if now is None else now
    root = settings.home / "visitors"
    if not root.is_dir():
        return []
    for left in root.glob(".deleted-*"):
        shutil.rmtree(left, ignore_errors=True)
    busy = _busy(settings.home / "queue")
    idle = {
        path: now - _last_use(path)
        for path in root.iterdir()
        if path.is_dir() and path.name not in busy
    }
    doomed = {path for path, age in idle.items() if age > settings.keep_days * 86_400}
    surplus = sum(1 for path in root.iterdir() if path.is_dir()) - len(doomed)
    surplus -= settings.max_visitors
    for path, age in sorted(idle.items(), key=lambda item: -item[1]):
        if surplus > 0 and path not in doomed and age > _IDLE_SECONDS:
            doomed.add(path)
            surplus -= 1
    for path in doomed:
        aside = root / f".deleted-{secrets.token_hex(8)}"
        path.replace(aside)  # in one step, so that no half project is ever seen
        shutil.rmtree(aside, ignore_errors=True)
    if doomed:
        log.info("removed the projects of %d visitors", len(doomed))
    return sorted(path.name for path in doomed)


def stop_the_greedy(settings: Settings) -> list[str]:
    """Stop runs of visitors whose projects have outgrown the quota by half meanwhile.

    Returns:
        The ids of the stopped jobs.
    """
    stopped = []
    for path in (settings.home / "queue").glob("*.json"):
        try:
            entry = storage.read_json(path)
        except ProjectError:  # it has just ended
            continue
        root = Path(entry["project"])
        folder = root / "jobs" / entry["job"]
        if folder.is_dir() and folder_size(root.parent) > 1.5 * settings.quota:
            storage.write_bytes(folder / "stop", b"")
            stopped.append(entry["job"])
    return stopped


def empty_trash(settings: Settings) -> int:
    """Remove projects for good that were deleted a week ago; returns how many."""
    root = settings.home / "visitors"
    roots = [path for path in root.glob("*") if path.is_dir()] if settings.hosted else []
    return sum(Workspace(path).empty_trash() for path in [settings.home / "projects", *roots])


def is_full(settings: Settings) -> bool:
    """Whether there is no place for another visitor."""
    root = settings.home / "visitors"
    if not root.is_dir():
        return False
    return sum(1 for path in root.iterdir() if path.is_dir()) >= settings.max_visitors


def _busy(queue: Path) -> set[str]:
    """Visitors with a run that is waiting or at work."""
    busy = set()
    for path in queue.glob("*.json"):
        try:
            busy.add(Path(storage.read_json(path)["project"]).parent.name)
        except ProjectError:  # it has just ended
            continue
    return busy


def _last_use(workspace: Path) -> float:
    mark = workspace / SEEN
    try:
        return (mark if mark.exists() else workspace).stat().st_mtime
    except OSError:
        return time.time()
