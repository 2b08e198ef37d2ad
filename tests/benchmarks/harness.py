"""What all benchmarks share: interleaved timing, child processes with their peak memory, the
table and the JSON record."""

from __future__ import annotations

import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, NamedTuple

ROOT = Path(__file__).parents[2]
DATA = ROOT.parent / "shared" / "data"
"""UCMerced_LandUse and EuroSAT_RGB; not part of the project."""


@dataclass(frozen=True)
class Options:
    """What the command line gives every benchmark.

    Attributes:
        size: ``toy``, ``small`` or ``full``; each benchmark has numbers of its own for them.
        repeats: Times that both sides are run.
        data: Folder with the scene images.
        theirs: Folder with the tools compared with that are not installed.
    """

    size: str
    repeats: int
    data: Path
    theirs: Path


class Cost(NamedTuple):
    """Seconds of wall clock, and of processor time over all threads.

    The second hardly changes when the machine has other work; the first is what people wait.
    """

    wall: float
    cpu: float


@dataclass(frozen=True)
class Row:
    """One line of the table.

    Attributes:
        work: What is done.
        ours, theirs: Seconds, or images a second where ``unit`` says so; ``None``: not measured.
        ratio: How many times better ours is by wall clock, the median over the repeats.
        cpu_ratio: Likewise by processor time.
        goal: What it should be, as text.
        sizes: Numbers of what is worked on.
        unit: Unit of both sides.
        note: Whatever a reader must know to believe it.
    """

    work: str
    ours: float
    theirs: float | None
    ratio: float | None
    cpu_ratio: float | None
    goal: str
    sizes: str
    unit: str = "s"
    note: str = ""


@dataclass(frozen=True)
class Child:
    """A finished process: what it took, its largest resident memory in MB, its output."""

    cost: Cost
    peak_mb: int
    output: str

    @property
    def answer(self) -> Any:
        """Its last line of standard output, as JSON."""
        return json.loads(self.output.strip().splitlines()[-1])


def interleaved(
    ours: Callable[[], Cost], theirs: Callable[[], Cost], repeats: int
) -> tuple[float, float, float, float]:
    """Run both sides in turn, so that whatever else the machine does meets both.

    Args:
        ours, theirs: Each does its work and returns what it took.

    Returns:
        Medians of our and their seconds of wall clock, and of the ratios theirs / ours by wall
        clock and by processor time.
    """
    pairs = [(ours(), theirs()) for _ in range(repeats)]
    return (
        statistics.median(a.wall for a, _ in pairs),
        statistics.median(b.wall for _, b in pairs),
        statistics.median(b.wall / a.wall for a, b in pairs),
        statistics.median(b.cpu / a.cpu for a, b in pairs),
    )


def timed(work: Callable[[], Any]) -> Cost:
    """What some work in this process takes."""
    wall, cpu = time.perf_counter(), time.process_time()
    work()
    return Cost(time.perf_counter() - wall, time.process_time() - cpu)


def child(words: Sequence[str | Path], **environment: str) -> Child:
    """Run a Python process from the repository's root and wait for it.

    Raises:
        RuntimeError: it failed; the message ends with what it said.
    """
    with tempfile.TemporaryFile("w+") as output, tempfile.TemporaryFile("w+") as errors:
        started = time.perf_counter()
        process = subprocess.Popen(
            [sys.executable, *map(str, words)],
            cwd=ROOT,
            stdout=output,
            stderr=errors,
            env={**os.environ, **environment},
        )
        _, status, usage = os.wait4(process.pid, 0)
        seconds = time.perf_counter() - started
        process.returncode = os.waitstatus_to_exitcode(status)
        output.seek(0)
        errors.seek(0)
        if process.returncode:
            raise RuntimeError(f"{words} failed: {errors.read()[-3000:]}")
        unit = 2**20 if sys.platform == "darwin" else 2**10
        cost = Cost(seconds, usage.ru_utime + usage.ru_stime)
        return Child(cost, round(usage.ru_maxrss / unit), output.read())


@contextmanager
def scratch() -> Iterator[Path]:
    """A folder that is gone afterwards."""
    with tempfile.TemporaryDirectory(prefix="dpd-benchmark-") as name:
        yield Path(name)


def machine() -> dict[str, Any]:
    """What the numbers depend on."""
    import torch

    cpu = platform.processor() or platform.machine()
    info = Path("/proc/cpuinfo")
    if info.exists():
        names = [
            line.split(":")[1].strip()
            for line in info.read_text().splitlines()
            if line.startswith("model name")
        ]
        cpu = names[0] if names else cpu
    return {
        "processor": cpu,
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "instructions": torch.backends.cpu.get_cpu_capability(),
        "torch": torch.__version__,
        "python": platform.python_version(),
        "load": round(os.getloadavg()[0], 2),
    }


def table(rows: Sequence[Row], threads: int) -> str:
    """The rows as Markdown."""
    lines = [
        "| work | sizes | threads | ours | theirs | ratio | by processor time | goal | note |",
        "| --- | --- | ---: | ---: | ---: | ---: | ---: | --- | --- |",
    ]
    for row in rows:
        theirs = "" if row.theirs is None else f"{row.theirs:.3g} {row.unit}"
        ratio, cpu = (
            "" if value is None else f"{value:.3g}×" for value in (row.ratio, row.cpu_ratio)
        )
        lines.append(
            f"| {row.work} | {row.sizes} | {threads} | {row.ours:.3g} {row.unit} | "
            f"{theirs} | {ratio} | {cpu} | {row.goal} | {row.note} |"
        )
    return "\n".join(lines)


def record(name: str, options: Options, rows: Sequence[Row], found: dict[str, Any]) -> str:
    """Everything about one run, as JSON."""
    content = {
        "benchmark": name,
        "size": options.size,
        "repeats": options.repeats,
        "machine": found,
        "rows": [asdict(row) for row in rows],
        "when": time.strftime("%Y-%m-%dT%H:%M:%S"),
    }
    return json.dumps(content, indent=1, ensure_ascii=False)
