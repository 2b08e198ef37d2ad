"""Seeds derived from names, never from positions or from the order of calls.

``derive_seed(project_seed, "synthesize", "forest", 3, "candidate", 0)`` is the same number in
every process and on every machine, so one slot can be made again alone and any number of
processes make the same images as one.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch


def derive_seed(*parts: str | int) -> int:
    """A 63-bit seed from a path of names and numbers.

    Parts are joined unambiguously: ``("a", "bc")`` and ``("ab", "c")`` differ.
    """
    text = "\x1f".join(f"{type(part).__name__}:{part}" for part in parts)
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1


def generator(*parts: str | int) -> torch.Generator:
    """A CPU torch generator seeded by :func:`derive_seed`.

    It is always a CPU one: the same noise on every device, moved there afterwards.
    """
    import torch

    return torch.Generator().manual_seed(derive_seed(*parts))
