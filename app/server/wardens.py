"""Which runs at work have to end, and how: asked first, then told, then ended."""

from __future__ import annotations

import time
from dataclasses import dataclass

from app.server import workers
from app.server.arrivals import few_files, free_bytes
from app.server.limits import folder_size
from app.server.settings import MB, Settings
from app.server.waiting_list import Entry
from dpd_core.controls import PAUSE, STOP, Job

TOLD_SECONDS = 30.0
"""A run that was asked to stop and has not done so is told to end after so long (it computes, or
waits for a server that does not answer) …"""

KILL_SECONDS = 15.0
"""… and is ended after so long again."""

SLICE = b"slice"
"""Note of the request to stop of a run that is to be started again when others had their turn."""

_SIZE_SECONDS = 10.0


@dataclass
class Wardens:
    """The limits of runs at work.

    Attributes:
        settings: The numbers.
    """

    settings: Settings

    def __post_init__(self) -> None:
        self._told: dict[str, float] = {}
        self._measured = 0.0

    def look(self, at_work: list[Entry], waiting: list[Entry]) -> None:
        """See to all runs at work; call it about twice a second."""
        self._told = {job: when for job, when in self._told.items() if job in _jobs(at_work)}
        for entry in at_work:
            self._press(entry)
        if not self.settings.hosted:
            return
        measured = time.monotonic() - self._measured >= _SIZE_SECONDS
        if measured:
            self._measured = time.monotonic()
        for entry in at_work:
            others = any(
                waiter.workspace != entry.workspace
                and (not entry.address or waiter.address != entry.address)
                for waiter in waiting
            )
            reason = self._reason(entry, waited_for=bool(waiting), measured=measured)
            if reason:
                ask_to_stop(entry, reason)
            elif (
                others
                and not entry.private
                and 0 < entry.slice_seconds < time.time() - (entry.started or 0.0)
            ):
                ask_to_stop(entry, SLICE)

    def _reason(self, entry: Entry, *, waited_for: bool, measured: bool) -> bytes:
        """Why a stranger's run has to stop; empty if it has not."""
        settings = self.settings
        if time.time() - (entry.started or 0.0) > settings.run_seconds:
            return b"it has had its time"
        paused = Job(entry.folder).asked_for(PAUSE)
        if waited_for and paused is not None and paused > settings.pause_seconds:
            return b"it was paused while others waited"
        # At every look: gigabytes are taken within seconds.
        if workers.memory(entry.pid, entry.born) > settings.run_memory:
            workers.end(entry.pid, entry.born, kill=True)
            return b"it took too much memory"
        if not measured:
            return b""
        if folder_size(entry.workspace) > 1.5 * settings.quota:
            return b"its owner's projects have outgrown the quota"
        if free_bytes(settings) < min(settings.min_free / 2, 250 * MB) or few_files(settings):
            return b"the disk is nearly full"
        return b""

    def _press(self, entry: Entry) -> None:
        """Make sure that a run that was asked to stop does so."""
        asked = Job(entry.folder).asked_for(STOP)
        if asked is None or asked < TOLD_SECONDS:
            return
        now = time.monotonic()
        told = self._told.get(entry.job)
        if told is None:
            self._told[entry.job] = now
            workers.end(entry.pid, entry.born)
        elif now - told > KILL_SECONDS:
            workers.end(entry.pid, entry.born, kill=True)


def ask_to_stop(entry: Entry, reason: bytes) -> None:
    """Ask a run to stop at its next event, unless somebody has."""
    job = Job(entry.folder)
    if entry.folder.is_dir() and not job.asked(STOP):
        job.ask(STOP, reason)


def _jobs(entries: list[Entry]) -> set[str]:
    return {entry.job for entry in entries}
