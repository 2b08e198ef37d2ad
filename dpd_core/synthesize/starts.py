"""Where sampling starts: images that are encoded and noised to the level at which it begins.

A start from the prototype gives an image that resembles the prototype. For images that are new, a
start joins two of the slot's members, each turned or mirrored, along a soft random border: all
that is in it is real, and no real image has this layout. Noise hides the border.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from dpd_core import storage
from dpd_core.prototypes.files import Member, Slot
from dpd_core.seeding import generator

FIELD = 3
"""Places a side of the random field whose sign says which member is seen."""
LEAST, MOST = 0.2, 0.5
"""Bounds of the part of a start that the second member covers. Halves make a scene of neither; the
more one of them rules, the more the scene is one, and the guard says where it is too much so."""
SHARPNESS = 6.0
"""Steepness of the border, in standard deviations of the field."""


class MemberStarts:
    """Starts from two members of a slot each.

    Args:
        members: Ids of the training images of each slot; to a slot with only one, its class
            gives the other.
        image: The image of an id at the model's size, uint8 (H, W, 3).
    """

    def __init__(
        self, members: Mapping[Slot, Sequence[str]], image: Callable[[str], np.ndarray]
    ) -> None:
        self._members = {slot: sorted(ids) for slot, ids in members.items()}
        self._image = image
        self._classes: dict[str, list[str]] = {}
        for slot, ids in sorted(self._members.items()):
            self._classes.setdefault(slot.class_name, []).extend(ids)

    def start(self, slot: Slot, seed: int) -> tuple[np.ndarray, tuple[str, str]]:
        """The start of one candidate.

        Args:
            slot: The slot; it or its class has a member.
            seed: Of the candidate.

        Returns:
            uint8 (H, W, 3), and the ids of the two members: twice the same where the class has
            but one image.
        """
        draws = generator(seed, "start")
        pool = self._members.get(slot, [])
        if len(pool) < 2:
            pool = sorted({*pool, *self._classes[slot.class_name]})
        order = torch.randperm(len(pool), generator=draws)[:2].tolist()
        first, second = pool[order[0]], pool[order[-1]]
        base, added = (_turned(self._image(image_id), draws) for image_id in (first, second))
        share = _share(draws, base.shape[:2])[..., None].numpy()
        joined = share * base.astype(np.float32) + (1 - share) * added
        return np.clip(joined.round(), 0, 255).astype(np.uint8), (first, second)


def slot_members(members: Mapping[str, Member]) -> dict[Slot, list[str]]:
    """Ids of each slot's members that are no outliers, or of all where there are only those."""
    found: dict[Slot, list[str]] = {}
    for outliers in (False, True):
        of_slot: dict[Slot, list[str]] = {}
        for member in members.values():
            if member.outlier == outliers:
                of_slot.setdefault(member.slot, []).append(member.id)
        for slot, ids in of_slot.items():
            found.setdefault(slot, ids)
    return found


def members_key(members: Mapping[Slot, Sequence[str]]) -> str:
    """Digest of what the members of each slot are."""
    return storage.digest([[*slot, sorted(ids)] for slot, ids in sorted(members.items())])


def _share(draws: torch.Generator, shape: tuple[int, int]) -> Tensor:
    """How much of the first member is seen at each place, (H, W) in [0, 1]."""
    field = torch.randn(1, 1, FIELD, FIELD, generator=draws)
    field = F.interpolate(field, shape, mode="bicubic", align_corners=True)[0, 0]
    covered = LEAST + (MOST - LEAST) * torch.rand((), generator=draws)
    border = field.flatten().quantile(covered)
    return torch.sigmoid(SHARPNESS * (field - border) / field.std().clamp(min=1e-6))


def _turned(image: np.ndarray, draws: torch.Generator) -> np.ndarray:
    """(H, H, 3) in one of its eight orientations."""
    turns, mirrored = torch.randint(4, (), generator=draws), torch.randint(2, (), generator=draws)
    image = np.rot90(image, int(turns))
    return image[:, ::-1] if mirrored else image
