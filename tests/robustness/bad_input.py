"""Feeds the program more than a thousand malformed inputs and counts what becomes of them.

    python -m tests.robustness.bad_input

Each input must be refused with an error that names file, fault and remedy, or be listed with its
reason while the rest goes on, or turn out to be usable. Nothing may be written outside the
project, none may take long, and memory stays bounded.
"""

from __future__ import annotations

import argparse
import logging
import os
import resource
import sys
import tempfile
import time
import warnings
from pathlib import Path

os.environ.setdefault("HF_HUB_OFFLINE", "1")

from tests.robustness.bad_files import archive_cases, folder_cases, run_images
from tests.robustness.bad_projects import outside_cases, project_cases, template
from tests.robustness.cases import Outcomes, run


def run_all(folder: Path) -> Outcomes:
    """Every input; ``folder`` is scratch space."""
    for name in ("images", "archives", "folders", "project", "outside", "template"):
        (folder / name).mkdir()
    root = template(folder / "template")
    parts = [
        run_images(folder / "images"),
        run(archive_cases(), folder / "archives"),
        run(folder_cases(), folder / "folders"),
        run(project_cases(root), folder / "project"),
        run(outside_cases(root), folder / "outside"),
    ]
    whole = Outcomes()
    for part in parts:
        whole.refused += part.refused
        whole.listed += part.listed
        whole.accepted += part.accepted
        whole.faults += part.faults
        whole.messages.update(part.messages)
    return whole


def table(outcomes: Outcomes) -> str:
    """Counts by kind, as a Markdown table."""
    kinds = sorted({*outcomes.refused, *outcomes.listed, *outcomes.accepted})
    lines = [
        "| kind | inputs | refused | listed with a reason | usable or harmless |",
        "| --- | ---: | ---: | ---: | ---: |",
    ]
    for kind in kinds:
        counts = [outcomes.refused[kind], outcomes.listed[kind], outcomes.accepted[kind]]
        lines.append(f"| {kind} | {sum(counts)} | " + " | ".join(map(str, counts)) + " |")
    counts = [sum(c.values()) for c in (outcomes.refused, outcomes.listed, outcomes.accepted)]
    lines.append(f"| all | {sum(counts)} | " + " | ".join(map(str, counts)) + " |")
    return "\n".join(lines)


def main(arguments: list[str] | None = None) -> int:
    """Print the table; 1 if there were faults."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--messages", action="store_true", help="Also print one message a kind.")
    options = parser.parse_args(arguments)
    warnings.simplefilter("ignore")
    logging.disable(logging.ERROR)  # diffusers tells the console what our errors tell as well
    started = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="dpd-bad-input-") as folder:
        outcomes = run_all(Path(folder))
    print(table(outcomes))
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**10
    print(
        f"\n{outcomes.total} inputs, {len(outcomes.faults)} faults, peak memory {peak:.0f} MB, "
        f"{time.monotonic() - started:.0f} s"
    )
    if options.messages:
        for kind, message in sorted(outcomes.messages.items()):
            print(f"- {kind}: {message[:300]}")
    for fault in outcomes.faults[:50]:
        print(f"- fault: {fault}")
    return 1 if outcomes.faults else 0


if __name__ == "__main__":
    sys.exit(main())
