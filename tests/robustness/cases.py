"""A malformed input and what became of it."""

from __future__ import annotations

import os
import time
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from dpd_core.errors import DPDError

MAX_SECONDS = 30.0
"""Longest computing time that one input may take."""


@dataclass(frozen=True)
class Case:
    """One malformed input.

    Attributes:
        kind: What it is an example of.
        name: What is wrong with it.
        act: Feeds it to the program, in a folder of its own. Returns how many files the program
            listed as refused with their reasons; raises what the program raises.
        inside: Folder below that one in which the program may write.
    """

    kind: str
    name: str
    act: Callable[[Path], Any]
    inside: str = "project"


@dataclass
class Outcomes:
    """Counts by kind, and what was wrong.

    Attributes:
        refused: A :class:`DPDError` with file, fault and remedy.
        listed: The program went on, and listed the files with the reasons.
        accepted: Still usable, or harmless.
        faults: Anything else: another exception, no remedy, files written elsewhere, too slow.
    """

    refused: Counter[str] = field(default_factory=Counter)
    listed: Counter[str] = field(default_factory=Counter)
    accepted: Counter[str] = field(default_factory=Counter)
    faults: list[str] = field(default_factory=list)
    messages: dict[str, str] = field(default_factory=dict)

    @property
    def total(self) -> int:
        """Number of inputs."""
        return sum(counter.total() for counter in (self.refused, self.listed, self.accepted))

    def take(self, case: Case, folder: Path) -> None:
        """Run one case in ``folder`` and note what became of it."""
        before = _outside(folder, case.inside)
        started = time.process_time()
        where = f"{case.kind}: {case.name}"
        try:
            listed = case.act(folder)
        except DPDError as error:
            self.refused[case.kind] += 1
            self.messages.setdefault(case.kind, str(error))
            if not (error.what and error.where and error.fix):
                self.faults.append(f"{where}: no file or no remedy: {error}")
        except Exception as error:  # noqa: BLE001 - that is what is looked for
            self.accepted[case.kind] += 1
            self.faults.append(f"{where}: {type(error).__name__}: {str(error)[:200]}")
        else:
            (self.listed if listed else self.accepted)[case.kind] += 1
        if time.process_time() - started > MAX_SECONDS:
            self.faults.append(f"{where}: took {time.process_time() - started:.0f} s")
        if _outside(folder, case.inside) != before:
            self.faults.append(f"{where}: wrote outside the project")


def run(cases: Iterable[Case], folder: Path) -> Outcomes:
    """Run all cases, each in a folder of its own below ``folder``."""
    outcomes = Outcomes()
    for number, case in enumerate(cases):
        own = folder / f"{number:05d}"
        own.mkdir()
        outcomes.take(case, own)
    return outcomes


def _outside(folder: Path, inside: str) -> set[tuple[str, int, int]]:
    """Everything beside the project, and beside the folder."""
    found = {(str(path), 0, 0) for path in folder.parent.glob("*") if path.is_file()}
    for here, folders, files in os.walk(folder):
        if Path(here) == folder and inside in folders:
            folders.remove(inside)
        for name in files:
            status = (Path(here) / name).lstat()
            if not name.startswith("input"):
                found.add((f"{here}/{name}", status.st_size, status.st_mtime_ns))
    return found
