"""Which device and number format to compute with, and why."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING

from dpd_core.errors import ConfigError

if TYPE_CHECKING:
    import torch

    from dpd_core.config import ProjectConfig


@dataclass(frozen=True)
class Hardware:
    """The decision and its reason, as shown in the app and the log.

    Attributes:
        device: torch device, e.g. ``cuda``.
        dtype: Number format of the frozen networks and of autocast.
        reason: One sentence for a person.
    """

    device: torch.device
    dtype: torch.dtype
    reason: str

    @property
    def precision(self) -> str:
        """The name accelerate uses for :attr:`dtype`: ``no``, ``bf16`` or ``fp16``."""
        return {"bfloat16": "bf16", "float16": "fp16"}.get(str(self.dtype).split(".")[1], "no")

    def autocast(self) -> torch.autocast:
        """The context in which small networks are trained: bfloat16 where that is the number
        format, else float32, because float16 would need loss scaling."""
        import torch

        return torch.autocast(
            self.device.type, torch.bfloat16, enabled=self.dtype == torch.bfloat16
        )


def choose_hardware(config: ProjectConfig) -> Hardware:
    """Decide from the project's settings and what the machine has.

    Raises:
        ConfigError: the device asked for is not there.
    """
    import torch

    found = {
        "cuda": torch.cuda.is_available(),
        "mps": torch.backends.mps.is_available(),
        "cpu": True,
    }
    if config.device == "auto":
        device = next(name for name in ("cuda", "mps", "cpu") if found[name])
        reason = f"{device} is the fastest device found"
    elif found[config.device]:
        device, reason = config.device, f"{config.device} was asked for"
    else:
        raise ConfigError(
            f"no {config.device} device was found.", where="project.device", fix="Use 'auto'."
        )
    if config.dtype == "auto":
        dtype, why = _natural_dtype(device)
    else:
        dtype, why = config.dtype, f"{config.dtype} was asked for"
    # Each of several processes (torchrun, accelerate) has a GPU of its own.
    local = os.environ.get("LOCAL_RANK") if device == "cuda" else None
    place = torch.device(device if local is None else f"{device}:{local}")
    return Hardware(place, getattr(torch, dtype), f"{reason}; {why}")


@cache
def _natural_dtype(device: str) -> tuple[str, str]:
    import torch

    if device == "cuda":
        if torch.cuda.is_bf16_supported(including_emulation=False):
            return "bfloat16", "bfloat16, which this GPU computes natively"
        return "float16", "float16, because this GPU lacks bfloat16"
    if device == "cpu":
        if torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported():
            return "bfloat16", "bfloat16, which this processor computes natively"
        return "float32", "float32, because this processor has no bfloat16 arithmetic"
    return "float32", "float32, the format that is safe on this device"


@contextmanager
def same_threads() -> Iterator[None]:
    """Leave torch's number of threads as it is found, whatever libraries do to it meanwhile.

    numba, which UMAP starts, shares OpenMP with torch and raises the number to that of the cores
    for the rest of the process. With another number torch takes other kernels, which round
    otherwise: what is sampled afterwards would not be what another process samples.
    """
    import torch

    before = torch.get_num_threads()
    try:
        yield
    finally:
        torch.set_num_threads(before)


def peak_memory() -> int:
    """Most memory that this process has held so far, in MB: of the GPU if it computes on one,
    else of the machine."""
    torch = sys.modules.get("torch")  # not imported for this: that takes seconds
    if torch is not None and torch.cuda.is_available() and torch.cuda.is_initialized():
        return round(torch.cuda.max_memory_reserved() / 2**20)
    return peak_resident_memory()


def peak_resident_memory() -> int:
    """Most memory of the machine that this process has held so far, in MB."""
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return round(peak / (2**20 if sys.platform == "darwin" else 2**10))
