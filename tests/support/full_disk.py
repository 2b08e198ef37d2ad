"""Filling a disk."""

import os
from pathlib import Path


def leave(disk: Path, free: int) -> Path:
    """Fill the disk up to some free bytes; delete the file to have room again."""
    filler = disk / "filler"
    with filler.open("wb", buffering=0) as file:
        try:
            while True:
                file.write(bytes(1 << 16))
        except OSError:
            pass
    size = filler.stat().st_size
    os.truncate(filler, max(size - free, 0))
    return filler
