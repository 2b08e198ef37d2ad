"""Prototypes by the names that people and settings give them."""

from __future__ import annotations

from collections.abc import Sequence
from urllib.parse import unquote

from dpd_core.errors import CaptionError, ConfigError
from dpd_core.prototypes.files import Prototype, Slot


def find_prototype(prototypes: Sequence[Prototype], slot: Slot) -> Prototype:
    """The prototype of a slot.

    Raises:
        CaptionError: there is no such class or cluster.
    """
    of_class = {
        prototype.cluster_id: prototype
        for prototype in prototypes
        if prototype.class_name == slot.class_name
    }
    if not of_class:
        known = ", ".join(dict.fromkeys(prototype.class_name for prototype in prototypes))
        raise CaptionError(
            "there is no such class.",
            where=slot.class_name,
            fix=f"Classes with prototypes: {known}.",
        )
    if slot.number not in of_class:
        raise CaptionError(
            f"there is no cluster {slot.number}.",
            where=slot.class_name,
            fix=f"Its clusters: {', '.join(map(str, of_class))}.",
        )
    return of_class[slot.number]


def select_prototypes(prototypes: Sequence[Prototype], only: Sequence[str]) -> list[Prototype]:
    """The prototypes that the setting ``only`` names, classes or slots; all if it names nothing.

    Raises:
        CaptionError: there is no such class or cluster.
    """
    classes = {prototype.class_name for prototype in prototypes}
    chosen: set[tuple[str, str]] = set()
    for entry in only:
        slot = _slot(entry)
        if slot is not None and slot.class_name in classes:
            chosen.add(find_prototype(prototypes, slot).key)
        elif unquote(entry) in classes:
            chosen |= {
                prototype.key for prototype in prototypes if prototype.class_name == unquote(entry)
            }
        elif entry:
            find_prototype(prototypes, Slot(unquote(entry), 0))
    return (
        [prototype for prototype in prototypes if prototype.key in chosen]
        if any(only)
        else list(prototypes)
    )


def _slot(text: str) -> Slot | None:
    try:
        return Slot.parse(text)
    except ConfigError:
        return None
