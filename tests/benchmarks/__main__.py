"""``python -m tests.benchmarks NAME [--size small]``: measure one row of the speed table."""

from __future__ import annotations

import argparse
import importlib
import sys
from pathlib import Path

from tests.benchmarks.harness import DATA, Options, machine, record, table

BENCHMARKS = {
    "projection": "the UMAP map in a cold process, against umap-learn as is",
    "startup": "--help, and app.py to a usable page",
    "synthesis": "images a second, against the published loop and a diffusers pipeline",
    "lora": "LoRA training, against the diffusers example script",
    "lora_full_size": "the same at Stable-Diffusion-1.5 size, random weights",
    "consistency": "what the consistency loss adds to a training step",
    "growth": "encoding, clustering and map of more and more images",
    "processes": "synthesis and training on two processes, against one",
}


def main() -> int:
    """Entry point; returns the exit status."""
    notes = "\n".join(f"  {name:14} {text}" for name, text in BENCHMARKS.items())
    parser = argparse.ArgumentParser(
        prog="python -m tests.benchmarks",
        description=__doc__,
        epilog=f"benchmarks:\n{notes}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("name", choices=BENCHMARKS, metavar="NAME")
    parser.add_argument("--size", choices=("toy", "small", "full"), default="small")
    parser.add_argument("--repeats", type=int, default=3, help="times both sides are run")
    parser.add_argument(
        "--data", type=Path, default=DATA, help="folder with UCMerced_LandUse and EuroSAT_RGB"
    )
    parser.add_argument(
        "--theirs",
        type=Path,
        default=Path("../theirs"),
        help="folder with tools that are not installed",
    )
    parser.add_argument("--json", type=Path, help="also write the record to this file")
    given = parser.parse_args()
    options = Options(given.size, given.repeats, given.data, given.theirs.resolve())
    found = machine()
    rows = importlib.import_module(f"tests.benchmarks.{given.name}").run(options)
    print(
        f"{found['processor']}, {found['cores']} cores, {found['instructions']}, torch "
        f"{found['torch']}, load {found['load']} at the start\n"
    )
    print(table(rows, found["threads"]))
    if given.json:
        given.json.parent.mkdir(parents=True, exist_ok=True)
        given.json.write_text(record(given.name, options, rows, found) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
