"""Cleaning up after visitors: a thread that removes projects nobody has used for long."""

from __future__ import annotations

import contextlib
import functools
import itertools
import logging
import os
import secrets
import shutil
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from app.server.settings import DOWNLOADS, TEMPORARY, Settings
from app.server.waiting_list import WaitingList
from app.server.workspaces import SEEN, Workspace

log = logging.getLogger(__name__)

SWEEP_SECONDS = 60.0
_SWEEP_EVERY = 10
"""Visitors are looked through with every so manieth sweep."""

_FEW = 3
_TEMPORARY_SECONDS = 3 * 3600.0
_JUMP_SECONDS = 600.0
_IDLE_SECONDS = 3600.0
"""A visitor unused for less is never removed to make place for others."""


def start(settings: Settings, *more: Callable[[], object]) -> threading.Thread:
    """Sweep now and then in the background.

    Args:
        more: Called at the same time.
    """

    def work() -> None:
        for turn in itertools.count(1):
            tasks: list[Callable[[], object]] = [
                functools.partial(empty_trash, settings),
                functools.partial(empty_temporary, settings),
                *more,
            ]
            if settings.hosted and turn % _SWEEP_EVERY == 0:
                tasks += [functools.partial(sweep, settings)]
            for task in tasks:
                try:
                    task()
                except Exception:
                    log.exception("clean-up failed; it is tried again later")
            time.sleep(SWEEP_SECONDS)

    thread = threading.Thread(target=work, name="janitor", daemon=True)
    thread.start()
    return thread


def sweep(settings: Settings, *, places: int = 0, now: float | None = None) -> list[str]:
    """Remove the projects of visitors who have not been here for ``keep_days``, and of those who
    were here longest ago where there are more than ``max_visitors``; never where a run is waiting
    or at work, and never more than a twentieth of all at once.

    Args:
        settings: The numbers.
        places: How many new visitors there should be place for.
        now: The time, in seconds since 1970.

    Returns:
        Names of the removed folders.
    """
    root = settings.home / "visitors"
    if not root.is_dir():
        return []
    for left in root.glob(".deleted-*"):
        shutil.rmtree(left, ignore_errors=True)
    visitors = [path for path in root.iterdir() if path.is_dir()]
    if now is None:
        _heed_the_clock(visitors)
        now = time.time()
    busy = _busy(settings.home / "queue")
    idle = {path: now - _last_use(path) for path in visitors if path.name not in busy}
    by_age = sorted(idle, key=lambda path: -idle[path])
    doomed = [path for path in by_age if idle[path] > settings.keep_days * 86_400]
    surplus = len(visitors) - len(doomed) - settings.max_visitors + places
    rest = [path for path in by_age if path not in doomed and idle[path] > _IDLE_SECONDS]
    doomed += rest[: max(surplus, 0)]
    most = max(_FEW, len(visitors) // 20)
    if len(doomed) > most:
        log.warning("%d visitors are to be removed; %d are now", len(doomed), most)
    for path in doomed[:most]:
        aside = root / f".deleted-{secrets.token_hex(8)}"
        path.replace(aside)  # in one step, so that no half project is ever seen
        shutil.rmtree(aside, ignore_errors=True)
    if doomed:
        log.info("removed the projects of %d visitors", len(doomed[:most]))
    return sorted(path.name for path in doomed[:most])


class _Clock:
    """Tells when the clock of the day was set, by the one that only runs."""

    def __init__(self) -> None:
        self._wall, self._running = time.time(), time.monotonic()
        self._lock = threading.Lock()

    def jump(self) -> float:
        """Seconds by which it was set forward since the last question."""
        with self._lock:
            wall, running = time.time(), time.monotonic()
            jumped = (wall - self._wall) - (running - self._running)
            self._wall, self._running = wall, running
        return jumped


_clock = _Clock()


def _heed_the_clock(visitors: Sequence[Path]) -> None:
    """Let everybody's last visit be as long ago as it was before the clock was set."""
    jumped = _clock.jump()
    if abs(jumped) < _JUMP_SECONDS:
        return
    log.warning("the clock was set by %.0f s; nobody is the older for it", jumped)
    for path in visitors:
        with contextlib.suppress(OSError):
            mark = path / SEEN
            if not mark.exists():
                mark.touch()
            else:
                seen = mark.stat().st_mtime
                os.utime(mark, (seen + jumped, seen + jumped))


def empty_trash(settings: Settings) -> int:
    """Remove projects for good that were deleted a week ago; returns how many."""
    root = settings.home / "visitors"
    roots = [path for path in root.glob("*") if path.is_dir()] if settings.hosted else []
    return sum(Workspace(path).empty_trash() for path in [settings.home / "projects", *roots])


def empty_temporary(settings: Settings, *, now: float | None = None) -> int:
    """Remove uploads that nobody took within a few hours, and captions written for a download;
    returns how many files."""
    now = time.time() if now is None else now
    folders = [settings.home / TEMPORARY, *Path(tempfile.gettempdir()).glob(f"{DOWNLOADS}*")]
    removed = 0
    for folder in folders:
        for path in sorted(folder.rglob("*"), reverse=True):
            with contextlib.suppress(OSError):
                if now - path.lstat().st_mtime <= _TEMPORARY_SECONDS:
                    continue
                if path.is_dir() and not path.is_symlink():
                    path.rmdir()  # if it is empty
                else:
                    path.unlink()
                    removed += 1
        if folder.name != TEMPORARY:
            with contextlib.suppress(OSError):
                if now - folder.lstat().st_mtime > _TEMPORARY_SECONDS:
                    folder.rmdir()
    return removed


def is_full(settings: Settings) -> bool:
    """Whether there is no place for another visitor."""
    root = settings.home / "visitors"
    if not root.is_dir():
        return False
    return sum(1 for path in root.iterdir() if path.is_dir()) >= settings.max_visitors


def _busy(queue: Path) -> set[str]:
    """Folders of visitors with a run that is waiting or at work."""
    return {entry.workspace.name for entry in WaitingList(queue).entries()}


def _last_use(workspace: Path) -> float:
    mark = workspace / SEEN
    try:
        return (mark if mark.exists() else workspace).stat().st_mtime
    except OSError:
        return time.time()
