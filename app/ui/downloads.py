"""What the page says of files to download: how large they are, and what they are called."""

from __future__ import annotations

from dpd_core import storage


def size(count: int) -> str:
    """Bytes for a person: ``512 B``, ``12 KB``, ``3.4 MB``."""
    if count < 1000:
        return f"{count} B"
    for unit in ("KB", "MB", "GB"):
        value = count / 1000 ** (("KB", "MB", "GB").index(unit) + 1)
        if value < 999.5 or unit == "GB":
            return f"{value:.0f} {unit}" if value >= 10 or unit == "KB" else f"{value:.1f} {unit}"
    raise AssertionError("every size has a unit")


def archive_name(project: str, when: str, set_name: str = "") -> str:
    """What a downloaded archive is called: project, set (where there may be several) and date.

    Args:
        when: A time that begins with its date, like ``2026-01-31 12:00 UTC``.
    """
    parts = (project, set_name, when[:10])
    return storage.safe_name("-".join(filter(None, parts)).replace(" ", "-")) + ".zip"
