"""Training on a borrowed machine: one command there, whose results can be carried back in pieces.

There, with the packed corpus beside the program and nothing else::

    python -m dpd_core.bundled.pieces --pack pack.safetensors --minutes 7 --work build --out "$OUT"

``--minutes`` are of training; reading, measuring and writing take some three more. The same command
with more minutes goes on from the checkpoints in ``--work``, if that folder is still there. Here,
to put the models together again from where the pieces were fetched to::

    python -m dpd_core.bundled.pieces --join FETCHED --out FOLDER

What the run prints goes into ``log.txt``, as far as it came; what is finished then comes out in any
case.
"""

from __future__ import annotations

import argparse
import logging
from collections.abc import Sequence
from pathlib import Path

import torch

from dpd_core.bundled import pretrain

PIECE = 15_000_000
"""Bytes of a piece."""

LEFT = ("checkpoint.safetensors", "best.safetensors", "pack.safetensors")
"""Files that stay there: optimiser states, and what was brought."""


def split_folder(folder: Path, out: Path, size: int = PIECE) -> None:
    """Write every file of ``folder`` into ``out``, in its folders, as ``NAME.000`` and so on."""
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        if path.name in LEFT:
            continue
        target = out / path.relative_to(folder)
        target.parent.mkdir(parents=True, exist_ok=True)
        content = path.read_bytes()
        for number, start in enumerate(range(0, max(len(content), 1), size)):
            piece = target.with_name(f"{target.name}.{number:03d}")
            piece.write_bytes(content[start : start + size])


def join_folder(folder: Path, out: Path) -> None:
    """Put together what :func:`split_folder` wrote."""
    for first in sorted(folder.rglob("*.000")):
        target = out / first.relative_to(folder).with_suffix("")
        target.parent.mkdir(parents=True, exist_ok=True)
        # Numbers have three digits, so that names sort as numbers do.
        pieces = sorted(first.parent.glob(f"{first.stem}.[0-9][0-9][0-9]"))
        target.write_bytes(b"".join(piece.read_bytes() for piece in pieces))


def train(pack: Path, work: Path, minutes: float, out: Path, more: Sequence[str] = ()) -> None:
    """Train; the models and the log come out in pieces, the optimisers' states stay in ``work``."""
    log = logging.FileHandler(out / "log.txt")
    log.setFormatter(logging.Formatter("%(asctime)s %(message)s", "%H:%M:%S"))
    logging.getLogger().addHandler(log)
    logging.getLogger().setLevel(logging.INFO)
    if torch.cuda.is_available():
        logging.info("%s", torch.cuda.get_device_name())
    try:
        pretrain.main(
            [
                *("--pack", str(pack), "--work", str(work), "--out", str(work / "models")),
                *("--minutes", str(minutes)),
                *more,
            ]
        )
    except Exception:
        logging.exception("the training has failed")
        raise
    finally:
        split_folder(work, out / "pieces")


def main(arguments: Sequence[str] | None = None) -> int:
    """Read the command line; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m dpd_core.bundled.pieces")
    parser.add_argument("--pack", type=Path, help="the packed corpus")
    parser.add_argument("--work", type=Path, help="where checkpoints are kept")
    parser.add_argument("--minutes", type=float, default=7.0, help="of training, in all")
    parser.add_argument("--join", type=Path, help="folder of pieces to put together")
    parser.add_argument("--out", type=Path, required=True, help="where results go")
    options, more = parser.parse_known_args(arguments)
    if options.join is None and None in (options.pack, options.work):
        parser.error("--pack and --work are needed, or --join")
    options.out.mkdir(parents=True, exist_ok=True)
    if options.join is not None:
        join_folder(options.join, options.out)
        return 0
    train(options.pack, options.work, options.minutes, options.out, more)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
