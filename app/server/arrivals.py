"""The one place where a visitor comes to be: room on the disk, a place among the visitors, and a
pace for each address, because a token of one's own making costs nothing."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from app.server import janitor
from app.server.pace import Pace
from app.server.settings import MB, Settings
from dpd_core.errors import ProjectError

_LEAST_FILES = 20_000
"""Files that can still be made, below which no new work is taken; on a small disk a fiftieth."""


class Arrivals:
    """The door of one installation.

    Args:
        settings: Says whether strangers are served, and the numbers.
    """

    def __init__(self, settings: Settings):
        self.settings = settings
        self._pace = Pace(settings.visitors_per_hour / 3600.0, settings.visitors_per_hour)

    def admit(self, address: str) -> None:
        """Before the folder of a new visitor is made.

        Args:
            address: Where the request came from; see :func:`app.server.pace.network`.

        Raises:
            ProjectError: the disk is nearly full, too many came from there, or all places are
                taken.
        """
        check_room(self.settings)
        if not self.settings.hosted:
            return
        wait = self._pace.take(address)
        if wait:
            raise ProjectError(
                "too many new visitors came from your address.",
                fix=f"Try again in {wait / 60 + 1:.0f} minutes.",
            )
        if janitor.is_full(self.settings) and not janitor.sweep(self.settings, places=1):
            raise ProjectError(
                "this server has no place for another visitor now.", fix="Come back later."
            )


def free_bytes(settings: Settings) -> int:
    """Free bytes of the disk that holds the state."""
    return shutil.disk_usage(_place(settings)).free


def few_files(settings: Settings) -> bool:
    """Whether the disk that holds the state can hold hardly any file more (its inodes are used
    up), however many bytes are free; never where the system does not count them."""
    if not hasattr(os, "statvfs"):
        return False
    disk = os.statvfs(_place(settings))
    return disk.f_files > 0 and disk.f_favail < min(_LEAST_FILES, disk.f_files // 50)


def _place(settings: Settings) -> Path:
    place = settings.home
    while not place.exists():
        place = place.parent
    return place


def check_room(settings: Settings) -> None:
    """Before anything that takes disk space is begun.

    Raises:
        ProjectError: less than ``min_free`` is left, or hardly a file can be made.
    """
    if few_files(settings):
        raise ProjectError(
            "the server's disk can hold hardly any file more (its inodes are used up).",
            fix="Come back later." if settings.hosted else "Delete folders of many small files.",
        )
    free = free_bytes(settings)
    if free < settings.min_free:
        raise ProjectError(
            f"the server's disk is nearly full: {free / MB:.0f} MB are free.",
            fix="Come back later."
            if settings.hosted
            else f"Free some space; new work begins with {settings.min_free / MB:.0f} MB.",
        )
