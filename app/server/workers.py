"""The processes that compute: started with what they need to know, watched, and ended."""

from __future__ import annotations

import contextlib
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import psutil

ROOT = Path(__file__).resolve().parents[2]
_NICENESS = 10
_OOM_SCORE = "800"
_SAME_SECONDS = 2.0


def start(
    arguments: Sequence[str],
    environment: Mapping[str, str],
    output: Path,
    *,
    nice: bool,
    largest_file: int = 0,
) -> tuple[subprocess.Popen[bytes], float]:
    """Start ``python -m dpd_core`` with these arguments.

    Args:
        output: File for what it prints.
        nice: Whether the server itself goes before it: for the processor, and where the machine's
            memory is used up.
        largest_file: Most bytes of a file that it may write, where the system can tell it so (on
            Linux); 0: any.

    Returns:
        The process, and when it began, in seconds since 1970.
    """
    with output.open("wb") as file:
        child = subprocess.Popen(
            [sys.executable, "-m", "dpd_core", *arguments, "--quiet", "--json"],
            cwd=ROOT,
            env=dict(environment),
            stdin=subprocess.DEVNULL,
            stdout=file,
            stderr=file,
            start_new_session=True,  # it outlives the server
        )
    born = 0.0
    with contextlib.suppress(psutil.Error):
        process = psutil.Process(child.pid)
        born = process.create_time()
        if nice:
            process.nice(psutil.BELOW_NORMAL_PRIORITY_CLASS if psutil.WINDOWS else _NICENESS)
            _goes_first(child.pid)
        if largest_file and hasattr(psutil, "RLIMIT_FSIZE"):
            process.rlimit(psutil.RLIMIT_FSIZE, (largest_file, largest_file))
    return child, born


def _goes_first(pid: int) -> None:
    """Tell Linux to end this process before others when the machine's memory is used up."""
    with contextlib.suppress(OSError):
        Path(f"/proc/{pid}/oom_score_adj").write_text(_OOM_SCORE)


def find(pid: int, born: float) -> psutil.Process | None:
    """The process, unless it has ended; a later one of the same number is another."""
    try:
        process = psutil.Process(pid)
        if process.status() == psutil.STATUS_ZOMBIE:
            return None
        return process if abs(process.create_time() - born) < _SAME_SECONDS else None
    except (psutil.Error, OverflowError, ValueError):
        return None


def end(pid: int, born: float, *, kill: bool = False) -> None:
    """Tell a process and all that it started to end, or end them."""
    process = find(pid, born)
    if process is None:
        return
    with contextlib.suppress(psutil.Error):
        for member in [*process.children(recursive=True), process] if kill else [process]:
            with contextlib.suppress(psutil.Error):
                member.kill() if kill else member.terminate()


def memory(pid: int, born: float) -> int:
    """Bytes of memory that a process and all that it started hold."""
    process = find(pid, born)
    if process is None:
        return 0
    total = 0
    with contextlib.suppress(psutil.Error):
        for member in [process, *process.children(recursive=True)]:
            with contextlib.suppress(psutil.Error):
                total += member.memory_info().rss
    return total
