"""Readable class names from folder names, whatever convention the folders follow.

Captions and prompts contain the class in words, so ``baseballdiamond``, ``dense_residential``,
``AnnualCrop``, ``01_airport`` and ``aGrass`` have to become what a person would write.
"""

from __future__ import annotations

import functools
import re
import unicodedata
from collections import Counter
from collections.abc import Iterable

from dpd_core.dataset.vocabulary import PUBLISHED, WORDS

# "01_airport", "3 - beach", "007river": a number that only sorts the folders.
_SORTING_NUMBER = re.compile(r"^(?:\d+[\s._\-)]+|0\d+)(?=\D)")

# "aGrass" to "gParking" (RSSCN7): one letter that only sorts the folders.
_SORTING_LETTER = re.compile(r"^[a-z](?=[A-Z][a-z])")

# Where words change without a separator: "annualCrop", "RVPark", "lake2".
_CAMEL = re.compile(r"(?<=[a-z])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])|(?<=[a-z])(?=\d+$)")

_SEPARATORS = re.compile(r"[\s_\-.,;+&/\\]+")

_SHORTEST_WORD = 3


def readable_names(classes: Iterable[str]) -> dict[str, str]:
    """Readable name by class name, all different.

    Where two classes would read the same (``01_river`` and ``02_river``), both keep their
    numbers and letters.
    """
    names = {name: readable_name(name) for name in classes}
    counts = Counter(names.values())
    for name, readable in names.items():
        if counts[readable] > 1:
            names[name] = " ".join(_split(name)) or name
    repeated = Counter(names.values())
    return {name: name if repeated[readable] > 1 else readable for name, readable in names.items()}


def readable_name(name: str) -> str:
    """The class in words, lower case.

    Published class names have their usual reading; otherwise sorting numbers and letters are
    dropped, camel case and separators split, and glued words cut by a word list. A name that
    no rule fits is returned as it is, in lower case.
    """
    text = unicodedata.normalize("NFC", name).strip()
    text = _SORTING_NUMBER.sub("", text)
    text = _SORTING_LETTER.sub("", text)
    words = [part for word in _split(text) for part in segment(word)]
    if all(word.isdigit() for word in words):
        return f"class {name.strip()}" if words else name
    return PUBLISHED.get("".join(words), " ".join(words))


def _split(text: str) -> list[str]:
    spaced = _CAMEL.sub(" ", text)
    return [part.lower() for part in _SEPARATORS.split(spaced) if part]


@functools.cache
def segment(word: str) -> tuple[str, ...]:
    """Cut a lower-case word into as few known words as possible.

    A known word stays whole (``farmland``), and so does one that cannot be cut without a rest.
    Of several cuts into equally many words the one with the longest first word wins.
    """
    best: list[list[str] | None] = [[]] + [None] * len(word)
    # best[n]: the best cut of the last n letters, built from the end.
    for length in range(_SHORTEST_WORD, len(word) + 1):
        tail = word[len(word) - length :]
        for end in range(length, _SHORTEST_WORD - 1, -1):
            rest = best[length - end]
            if rest is None or not _known(tail[:end]):
                continue
            current = best[length]
            if current is None or len(rest) + 1 < len(current):
                best[length] = [tail[:end], *rest]
    return tuple(best[len(word)] or [word])


def _known(word: str) -> bool:
    if word in WORDS:
        return True
    # "tanks", "beaches"; "grass" is a word of its own and "gras" none.
    singular = word.removesuffix("s")
    return singular != word and (singular in WORDS or singular.removesuffix("e") in WORDS)
