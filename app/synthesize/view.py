"""Views of the Synthesize tab: the grid of a distilled set, alone or beside another."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from dpd_core.prototypes.files import Slot
from dpd_core.synthesize.records import BY_HAND, Candidate, PlannedSlot, SlotRecord
from dpd_core.synthesize.strategies import STRATEGIES, Strategy

PAGE = 30
"""Cells on a page."""
ORDERS = {
    "by class": "class",
    "lowest score first": "worst",
    "highest score first": "best",
}

STRATEGY_TEMPLATE = """<p class='strategy'>{{value.description}} <em>{{value.source}}</em></p>"""


MEANINGS = {
    "set": "how much less the whole set's loss is with this image than with the average of the "
    "slot's candidates, in thousandths: the higher, the more it teaches beside the other images",
    "margin": "how much surer the latent classifier is of its class than of any other: the higher, "
    "the more typical; below 0 it takes the image for another class",
    "first": "nothing measured: this strategy keeps the first image that it makes",
    "correct": "the latent classifier's probability of its class, and 1 more where it names it "
    "right",
    "difficulty": "how near it is to the difficulty that this slot stands for; 0 is exactly that",
    "diverse": "how near it is to its own prototype and how far from the others of the class, and "
    "2 more where the latent classifier names it right",
}
"""What a score says, by selection rule."""

BY_HAND_MEANS = (
    "Choosing another one puts it into the set at once, and what was measured and exported of the "
    "set is out of date. The other images stay. When the set is made again, a choice by hand is "
    "kept only if it is pinned."
)


@dataclass(frozen=True)
class SetView:
    """A distilled set, finished or not, as the grid needs it.

    Attributes:
        name, root: Its name and folder.
        planned: Every slot, in order.
        slots: The records of those that are filled.
        finished: Whether all are.
        busy: Slots that are being sampled anew.
        nearness: How near it comes to real images, in a sentence; empty if it is not evaluated.
        rule: The selection rule of its strategy; empty where nobody has noted it.
    """

    name: str
    root: Path
    planned: list[PlannedSlot]
    slots: dict[Slot, SlotRecord]
    finished: bool
    busy: frozenset[Slot] = field(default_factory=frozenset)
    nearness: str = ""
    rule: str = ""


@dataclass(frozen=True)
class Links:
    """Makes links to images: of a file in the project, and of a prototype by image id."""

    file: Callable[[Path], str]
    thumbnail: Callable[[str], str]


def strategy(name: str, strategies: Mapping[str, Strategy] = STRATEGIES) -> dict[str, str]:
    """What a strategy does, and where it is from."""
    found = strategies.get(name)
    if found is None:
        return {"description": "There is no such strategy.", "source": ""}
    return {"description": found.description, "source": f"Source: {found.source}"}


def grid(
    shown: SetView | None,
    beside: SetView | None,
    links: Links,
    names: Mapping[str, str],
    *,
    order: str = "class",
    class_name: str = "",
    page: int = 0,
) -> dict[str, Any]:
    """Values of the sample grid.

    Args:
        shown: The set; ``None`` if there is none.
        beside: Another one to compare with; ``None`` for none.
        links: Makes the links.
        names: Readable class name by class name.
        order: One of the values of :data:`ORDERS`; slots without a score come last.
        class_name: Show only this class; empty: all.
        page: Page number from 0; one that is not there becomes the nearest that is.
    """
    if shown is None:
        return {"set": "", "cells": [], "pages": 0, "page": 0, "note": "No distilled set yet."}
    rows = [row for row in shown.planned if class_name in ("", row.class_name)]
    scores = {slot: record.score for slot, record in shown.slots.items()}
    if order != "class":
        sign = 1 if order == "worst" else -1
        rows.sort(key=lambda row: (sign * scores.get(row.slot, float("inf") * sign), row.slot))
    pages = max((len(rows) + PAGE - 1) // PAGE, 1)
    page = min(max(page, 0), pages - 1)
    cells = [
        _cell(row, shown, beside, links, names) for row in rows[page * PAGE : (page + 1) * PAGE]
    ]
    sheet = shown.root / "contact_sheet.png"
    return {
        "set": shown.name,
        "beside": beside.name if beside is not None else "",
        "finished": shown.finished,
        "cells": cells,
        "page": page,
        "pages": pages,
        "count": len(rows),
        "note": summary(shown),
        "score": MEANINGS.get(shown.rule, ""),
        "by_hand": BY_HAND_MEANS,
        "sheet": links.file(sheet) if shown.finished and sheet.exists() else "",
        "sheet_name": f"{shown.root.name}.png",
    }


def summary(shown: SetView) -> str:
    """One line about a set."""
    filled = len(shown.slots)
    if not shown.finished:
        return f"{filled} of {len(shown.planned)} images made so far"
    right = sum(record.is_right for record in shown.slots.values())
    by_hand = sum(record.chosen_by == BY_HAND for record in shown.slots.values())
    pinned = sum(record.pinned for record in shown.slots.values())
    made = sum(record.sampled for record in shown.slots.values())
    refused = sum(record.refused for record in shown.slots.values())
    parts = [f"{filled} images, {right} named right by the latent classifier"]
    parts += [f"chosen from {made:,}, of which {refused:,} were too near to a real one"] * bool(
        made
    )
    parts += [f"{by_hand} chosen by hand"] * bool(by_hand) + [f"{pinned} pinned"] * bool(pinned)
    return ". ".join(filter(None, [", ".join(parts), shown.nearness]))


def why(record: SlotRecord) -> str:
    """Why a slot's image is the one it is."""
    made = record.sampled or len(record.candidates)
    refused = record.refused or sum(candidate.refused for candidate in record.candidates)
    among = f"of the {made:,} made"
    if refused:
        among = f"of the {made - refused:,} that are not too near to a real image ({made:,} made)"
    if record.chosen_by == BY_HAND:
        allowed = [one for one in record.candidates if not one.refused] or record.candidates
        best = max(allowed, key=lambda candidate: candidate.score)
        if best is record.image:
            return "It was chosen by hand; by its score it would be the same."
        place = record.candidates.index(best) + 1
        return f"It was chosen by hand; by its score it would be candidate {place}."
    if record.from_set:
        return f"It was taken over, pinned, from the set {record.from_set}."
    if made == 1:
        return "It is the only one that was made."
    return f"It has the highest score {among}."


def _cell(
    row: PlannedSlot,
    shown: SetView,
    beside: SetView | None,
    links: Links,
    names: Mapping[str, str],
) -> dict[str, Any]:
    slot, record = row.slot, shown.slots.get(row.slot)
    cell: dict[str, Any] = {
        "key": str(slot),
        "class": slot.class_name,
        "slot": slot.number,
        "title": f"{names.get(slot.class_name, slot.class_name)} {slot.number + 1}",
        "prototype": links.thumbnail(record.prototype_id if record else row.prototype_id),
        "caption": record.caption if record else row.caption,
        "busy": slot in shown.busy,
        "image": None,
        "beside": None,
    }
    if record is not None:
        cell |= _image(record, shown, links)
        cell["why"] = why(record)
        cell["candidates"] = [
            {
                "index": candidate.index,
                "score": f"{candidate.score:.2f}",
                "predicted": candidate.predicted,
                "right": candidate.predicted == slot.class_name,
                "chosen": candidate is record.image,
                "round": candidate.round,
                "note": _nearness(candidate),
                "url": links.file(shown.root / record.candidate_file(candidate)),
            }
            for candidate in record.candidates
        ]
    if beside is not None:
        other = beside.slots.get(slot)
        cell["beside"] = _image(other, beside, links) if other is not None else {"image": None}
    return cell


def _nearness(candidate: Candidate) -> str:
    """How near a candidate comes to a real image, in words; empty where nobody measured it."""
    if candidate.features is None or candidate.layout is None:
        return ""
    if candidate.refused:
        return "refused: too near to a real image"
    return f"nearest real image: {candidate.features:.2f} alike, layout {candidate.layout:.2f}"


def _image(record: SlotRecord, of: SetView, links: Links) -> dict[str, Any]:
    return {
        "image": links.file(of.root / record.file),
        "score": f"{record.score:.2f}",
        "right": record.is_right,
        "predicted": record.image.predicted,
        "by_hand": record.chosen_by == BY_HAND,
        "pinned": record.pinned,
    }
