"""Writing model folders: half-precision weights, replaced as a whole."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from safetensors import safe_open
from safetensors.torch import save_file

# Written by other steps than the export of weights, and kept when those are replaced.
_KEPT = ("README.md", "metrics.json")


@contextmanager
def replace_folder(target: Path) -> Iterator[Path]:
    """Yield a fresh folder that takes the place of ``target`` when the block ends well."""
    target.parent.mkdir(parents=True, exist_ok=True)
    fresh = target.with_name(f".{target.name}.part")
    old = target.with_name(f".{target.name}.old")
    for leftover in (fresh, old):
        shutil.rmtree(leftover, ignore_errors=True)
    fresh.mkdir()
    yield fresh
    if target.exists():
        for name in _KEPT:
            if (target / name).exists() and not (fresh / name).exists():
                shutil.copy2(target / name, fresh / name)
        target.rename(old)
    fresh.rename(target)
    shutil.rmtree(old, ignore_errors=True)


def save_half_precision(folder: Path) -> None:
    """Halve every safetensors file below ``folder``; the weights stay declared float32.

    transformers loads weights in the type its config names. Half precision is right on disk
    and slow or unsupported on a CPU, so the config keeps asking for float32.
    """
    for path in folder.rglob("*.safetensors"):
        with safe_open(path, framework="pt") as stored:
            metadata = stored.metadata()
            tensors = {key: stored.get_tensor(key) for key in stored.keys()}  # noqa: SIM118
        halved = {
            key: value.half() if value.dtype == torch.float32 else value
            for key, value in tensors.items()
        }
        save_file(halved, path, metadata=metadata)
        path.chmod(0o644)  # safetensors writes for the owner only
    for path in folder.rglob("config.json"):
        config = json.loads(path.read_text(encoding="utf-8"))
        for declared in (config, *(v for v in config.values() if isinstance(v, dict))):
            if "dtype" in declared:
                declared["dtype"] = "float32"
        config.pop("_name_or_path", None)
        path.write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")
