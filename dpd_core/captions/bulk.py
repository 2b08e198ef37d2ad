"""Many captions at once: find and replace."""

from __future__ import annotations

import time
from collections.abc import Iterable
from dataclasses import dataclass

# The standard library's matcher cannot be stopped; this one takes a timeout.
import regex as regular_expressions

from dpd_core.captions.log import replay, writing
from dpd_core.captions.records import Change, State
from dpd_core.captions.text import checked_caption
from dpd_core.errors import CaptionError
from dpd_core.project import Project
from dpd_core.prototypes.files import Prototype, list_prototypes

MAX_PATTERN = 500
"""Longest pattern or replacement in characters."""

_SEARCH_SECONDS = 1.0
_MAX_REPEATS = 10_000


@dataclass(frozen=True)
class Replacement:
    """What a find-and-replace does, or did.

    Attributes:
        changes: The captions that change.
        matches: Number of places found in them.
    """

    changes: list[Change]
    matches: int


def find_replace(
    project: Project,
    pattern: str,
    replacement: str,
    *,
    regex: bool = False,
    ignore_case: bool = False,
    whole_words: bool = False,
    scope: Iterable[tuple[str, int]] | None = None,
    apply: bool = False,
    expected: Replacement | None = None,
) -> Replacement:
    """Replace text in many captions, or show what that would do.

    Args:
        project: The project.
        pattern: Text to find, at most :data:`MAX_PATTERN` characters.
        replacement: Text to put there; with ``regex`` it may name groups (``\\\\1``,
            ``\\\\g<name>``).
        regex: Take the pattern for a regular expression. A search that computes for longer
            than a second is ended with an error.
        ignore_case: Find capital and small letters alike.
        whole_words: Find only what is not part of a longer word.
        scope: Class names and cluster numbers to look at; ``None``: all.
        apply: Make the changes, as one operation that one :func:`undo` takes back.
        expected: The preview a person agreed to. If the same search would by now do anything
            else, nothing is changed.

    Raises:
        CaptionError: a bad pattern, a caption that would become unacceptable, or captions that
            are no longer those of the preview.
    """
    compiled = _compile(pattern, replacement, regex, ignore_case, whole_words)
    template = replacement if regex else replacement.replace("\\", "\\\\")
    chosen = None if scope is None else set(scope)

    def search(state: State, prototypes: list[Prototype]) -> Replacement:
        inside = [
            prototype for prototype in prototypes if chosen is None or prototype.slot in chosen
        ]
        return _search(state, inside, compiled, template)

    if not apply:
        return search(replay(project), list_prototypes(project))
    with writing(project) as log:
        found = search(log.state, log.prototypes)
        if expected is not None and found != expected:
            raise CaptionError(
                "the captions have been changed since the preview.",
                fix="Look at the new preview, then replace.",
            )
        log.write_changes(found.changes, "bulk", source=f"replace {pattern!r} by {replacement!r}")
        return found


def _compile(
    pattern: str, replacement: str, regex: bool, ignore_case: bool, whole_words: bool
) -> regular_expressions.Pattern[str]:
    if not pattern:
        raise CaptionError("there is nothing to find.", fix="Write the text to find.")
    if max(len(pattern), len(replacement)) > MAX_PATTERN:
        raise CaptionError(
            "the pattern or replacement is too long.", fix=f"Use at most {MAX_PATTERN} characters."
        )
    if regex and _counted_repeats(pattern) > _MAX_REPEATS:
        raise CaptionError(
            "the expression repeats too often.",
            where=pattern,
            fix=f"Keep the product of its {{...}} counts below {_MAX_REPEATS:,}.",
        )
    if regex and (fault := _unbounded(pattern)):
        raise CaptionError(
            f"{fault} is not allowed in the expression.",
            where=pattern,
            fix="Write it without; the memory that it takes has no bound.",
        )
    source = pattern if regex else regular_expressions.escape(pattern)
    if whole_words:
        source = rf"(?<!\w)(?:{source})(?!\w)"
    flags = regular_expressions.IGNORECASE if ignore_case else 0
    try:
        return regular_expressions.compile(source, flags)
    except (regular_expressions.error, RecursionError, OverflowError, ValueError) as error:
        raise CaptionError(
            f"not a regular expression ({error}).",
            where=pattern,
            fix="Mend it, or search for plain text.",
        ) from error


def _counted_repeats(pattern: str) -> int:
    """The product of all ``{n,m}`` counts: compiling takes memory in proportion to it, and no
    timeout covers compiling."""
    product = 1
    for counts in regular_expressions.findall(r"\{\s*(\d*)\s*,?\s*(\d*)\s*\}", pattern):
        product *= max([1, *(int(count) for count in counts if count)])
    return product


def _unbounded(pattern: str) -> str:
    """What of an expression takes memory without a bound: calls of a part by itself, and fuzzy
    matching; empty if nothing does."""
    # Escaped characters mean themselves, and \\p{…}, \\N{…} and the like name a character.
    plain = regular_expressions.sub(r"\\[pPNxugoL]\{[^{}]*\}|\\.", "", pattern)
    # A set ends at its first bracket at the earliest, so that nothing can hide in one.
    plain = regular_expressions.sub(r"\[\^?[^\]]*\]", "", plain)
    if regular_expressions.search(r"\(\?(?:R|[+-]?\d|&|P>)", plain):
        return "recursion"
    if regular_expressions.search(r"\{[^{}]*[A-Za-z<>=:][^{}]*\}|\(\?[a-zA-Z0-9]*[be]", plain):
        return "fuzzy matching"
    return ""


def _search(
    state: State,
    prototypes: list[Prototype],
    pattern: regular_expressions.Pattern[str],
    template: str,
) -> Replacement:
    changes, matches = [], 0
    end = time.monotonic() + _SEARCH_SECONDS
    for prototype in prototypes:
        caption = state.captions.get(prototype.key)
        if caption is None:
            continue
        try:
            left = max(end - time.monotonic(), 0.001)
            text, count = pattern.subn(template, caption.text, timeout=left)
        except TimeoutError:
            raise CaptionError(
                "the search takes too long.",
                where=pattern.pattern,
                fix="Use a simpler expression: repeats inside repeats, such as (a+)+, explode.",
            ) from None
        except (regular_expressions.error, IndexError, KeyError, MemoryError) as error:
            raise CaptionError(
                f"the replacement does not fit the pattern ({error}).",
                where=template,
                fix="Name only groups the pattern has.",
            ) from error
        if text == caption.text:
            continue
        text = checked_caption(
            text, where=f"{prototype.class_name}, cluster {prototype.cluster_id}"
        )
        matches += count
        changes.append(state.proposed(prototype, text))
    return Replacement(changes, matches)
