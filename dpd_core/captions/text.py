"""Caption text: what people may write, and tidying what a captioner generates."""

from __future__ import annotations

import re
import unicodedata

from dpd_core.errors import CaptionError, ConfigError

MAX_CAPTION = 2000
"""Longest caption in characters. Prompts are encoded window by window at any length, but very
long descriptions hurt the images (a limit the paper states)."""

_STOP_TEXT = """
    a about above across after all along also among an and any are around as at away be been
    being below beneath beside between both but by can consist consists contain contains could
    depict depicted depicts down during each either few for from further had has have here in
    inside into is it its itself just like many may more most mostly near nearby next no nor not
    of off on one onto or other out outside over own per several show showing shown shows side
    so some such than that the their them then there these they this those through to together
    too toward towards under up upon various very visible was we were what when where which
    while who will with within without would you your
    aerial background feature features featuring foreground image imagery images overhead photo
    photograph picture pictured satellite scene see seen shot view viewed
"""
STOP_WORDS = frozenset(_STOP_TEXT.split())
"""Words that carry no description: function words, and the words of "a satellite image"."""

# Marks that reverse or reorder the text around them: what is shown is not what is stored.
_REORDERING = frozenset("\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")
_WORD = re.compile(r"[^\W_]+(?:['’\-][^\W_]+)*")
_MARKUP = re.compile(r"[*`#]+|<[|/]?[a-z_]+[|]?>")
_LONGEST_REPEAT = 6
_SENTENCE = 5
"""Words of a sentence that can stand alone: a shorter one is no description."""


def checked_caption(text: str, *, where: str | None = None) -> str:
    """A caption as it is stored: runs of white space, line ends too, become one space.

    Args:
        text: What somebody wrote.
        where: What it belongs to, for the message.

    Raises:
        CaptionError: it is empty, longer than :data:`MAX_CAPTION`, or holds control characters.
    """
    if not isinstance(text, str):
        raise CaptionError(f"got {text!r} for a caption.", where=where, fix="Give a text.")
    plain = " ".join(text.split())
    if not plain:
        raise CaptionError(
            "the caption is empty.", where=where, fix="Write what the image shows, or undo."
        )
    if len(plain) > MAX_CAPTION:
        raise CaptionError(
            f"the caption has {len(plain):,} characters.",
            where=where,
            fix=f"Shorten it to at most {MAX_CAPTION:,}.",
        )
    for char in plain:
        if unicodedata.category(char) in ("Cc", "Cs") or char in _REORDERING:
            raise CaptionError(
                f"the caption holds the control character U+{ord(char):04X}.",
                where=where,
                fix="Remove it; typing the text anew is the surest way.",
            )
    return plain


def template_caption(template: str, readable: str) -> str:
    """The sentence that names the class, e.g. ``A satellite image of golf course``.

    Args:
        template: Sentence with ``{class}``; other braces are left as they are.
        readable: Readable class name.

    Raises:
        ConfigError: the template does not say where the class name goes.
        CaptionError: the sentence is not an acceptable caption.
    """
    if "{class}" not in template:
        raise ConfigError(
            f"got {template!r}.",
            where="captions.template",
            fix="Put {class} where the class name goes.",
        )
    return checked_caption(template.replace("{class}", readable), where="captions.template")


def words_of(text: str) -> list[str]:
    """The text's words, lower case, plurals reduced, for counting and comparing only.

    The reduction goes by the ending (``trees`` is ``tree``, ``beaches`` is ``beach``); it is
    crude, but the same on both sides of every comparison.
    """
    return [_singular(word.lower()) for word in _WORD.findall(text)]


def tidy_generated(text: str, max_words: int) -> str:
    """Tidy a captioner's output; may be empty.

    White space is collapsed; markup, special tokens and control characters go; a word or phrase
    said again right away ("a road a road a road") is kept once; at most ``max_words`` words
    stay, and a sentence cut there loses the function words left dangling at its end.
    """
    text = _MARKUP.sub(" ", text)
    text = "".join(
        " " if unicodedata.category(char)[0] == "C" or char.isspace() else char for char in text
    )
    text = re.sub(r" +([,.;:!?])", r"\1", " ".join(text.split())).strip(" \"'“”")
    words = _without_repeats(text.split())
    if len(words) > max_words:
        words = _cut(words[:max_words])
    return " ".join(words)


def _singular(word: str) -> str:
    if len(word) <= 3 or not word.endswith("s") or word.endswith(("ss", "us", "is")):
        return word
    if word.endswith(("ches", "shes", "sses", "xes")):
        return word[:-2]
    return word[:-3] + "y" if word.endswith("ies") and len(word) > 4 else word[:-1]


def _without_repeats(words: list[str]) -> list[str]:
    kept: list[str] = []
    for word in words:
        kept.append(word)
        for size in range(1, min(_LONGEST_REPEAT, len(kept) // 2) + 1):
            last, before = kept[-size:], kept[-2 * size : -size]
            if [_bare(word) for word in last] == [_bare(word) for word in before]:
                # The later one stays: its punctuation fits what comes next.
                del kept[-2 * size : -size]
                break
    return kept


def _bare(word: str) -> str:
    return word.strip(".,;:!?").lower() or word


def _cut(words: list[str]) -> list[str]:
    ends = [index for index, word in enumerate(words) if word.endswith((".", "!", "?"))]
    if ends and ends[-1] >= min(len(words) // 2, _SENTENCE - 1):
        return words[: ends[-1] + 1]
    while len(words) > 1 and _bare(words[-1]) in STOP_WORDS:
        words = words[:-1]
    return [*words[:-1], words[-1].rstrip(",;:")]
