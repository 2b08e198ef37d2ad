"""Texts of unknown code page: names in archives, tables, captions.

Archives packed on Windows hold names in the code page of that machine, without saying which. It is
recognised by how well the bytes fit: strictly decodable, letters of one script, characters that
are common in it. Whoever decodes by it says which was taken.
"""

from __future__ import annotations

import codecs
import re
import unicodedata
from collections.abc import Sequence

CODE_PAGES = ("gb18030", "shift_jis", "euc_kr", "big5", "cp1251", "cp866", "cp1252", "cp437")
"""Candidates after UTF-8, in the order that decides between equals."""

_BOMS = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)

# Where the common characters of the double-byte code pages lie, by their first byte.
_COMMON = {
    "gb18030": ((0xB0, 0xD7),),
    "shift_jis": ((0x82, 0x83), (0x88, 0x97)),
    "euc_kr": ((0xB0, 0xC8),),
    "big5": ((0xA4, 0xC6),),
}
_DOUBLE = {
    "gb18030": re.compile(rb"[\x81-\xfe][\x40-\xfe]"),
    "shift_jis": re.compile(rb"[\x81-\x9f\xe0-\xfc][\x40-\xfc]"),
    "euc_kr": re.compile(rb"[\xa1-\xfe][\xa1-\xfe]"),
    "big5": re.compile(rb"[\xa1-\xf9][\x40-\xfe]"),
}
_SAMPLE = 20_000
_ENOUGH = 5
"""All of so many letters in the Hangul range are hardly Chinese by chance."""


def decode(content: bytes) -> str:
    """The text of a file: by its byte order mark, as UTF-8, or in the code page that fits best."""
    for mark, encoding in _BOMS:
        if content.startswith(mark):
            return content.decode(encoding)
    try:
        return content.decode("utf-8")
    except UnicodeDecodeError:
        return content.decode(guess([content[:_SAMPLE]]) or "cp1252", errors="replace")


def guess(names: Sequence[bytes]) -> str | None:
    """The code page that fits all the names best; ``"utf-8"`` where that fits, ``None`` if they
    are plain ASCII or nothing fits."""
    foreign = [name for name in dict.fromkeys(names) if not name.isascii()]
    if not foreign:
        return None
    if _decodes(foreign, "utf-8"):
        return "utf-8"
    scores = {page: _score(foreign, page) for page in CODE_PAGES if _decodes(foreign, page)}
    best = max(scores.values(), default=0.0)
    return next((page for page, score in scores.items() if score == best), None)


def _decodes(names: Sequence[bytes], page: str) -> bool:
    try:
        for name in names:
            name.decode(page)
    except UnicodeDecodeError:
        return False
    return True


def _score(names: Sequence[bytes], page: str) -> float:
    """Between 0 and 1: how much of the foreign text is what people write in this code page."""
    if page in _COMMON:
        share = sum(_double_share(name, page) for name in names) / len(names)
        letters = sum(len(_DOUBLE[page].findall(name)) for name in names)
        return share + 0.01 * (page == "euc_kr" and share == 1 and letters >= _ENOUGH)
    return sum(_single_share(name.decode(page)) for name in names) / len(names) * 0.97


def _double_share(name: bytes, page: str) -> float:
    text = name.decode(page)
    letters = [char for char in text if ord(char) > 127]
    if any(unicodedata.category(char)[0] not in "LPNSZ" for char in letters):
        return 0.0
    pairs = _DOUBLE[page].findall(name)
    wide = sum(len(char.encode(page)) > 1 for char in letters)
    if not pairs or wide < len(letters):  # half-width kana and the like: rarely meant
        return 0.1
    good = sum(any(a <= pair[0] <= b for a, b in _COMMON[page]) for pair in pairs)
    return good / len(pairs)


def _single_share(text: str) -> float:
    """Words of letters of one script, with capitals only where words begin or throughout."""
    foreign = [char for char in text if ord(char) > 127]
    good = 0
    for word in re.findall(r"[^\W\d_]+", text):
        scripts = {unicodedata.name(char, "?").split()[0] for char in word}
        cased = word.islower() or word.isupper() or word[1:].islower()
        if len(scripts) == 1 and cased:
            good += sum(ord(char) > 127 for char in word)
    # Latin words have few accented letters; one that is all accents is another script misread.
    latin = [char for char in foreign if unicodedata.name(char, "?").startswith("LATIN")]
    letters = sum(char.isalpha() for char in text)
    if latin and len(latin) > 0.5 * letters:
        return 0.0
    return good / len(foreign)
