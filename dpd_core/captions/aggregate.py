"""Many captions of one cluster become one description for its prototype.

After VLCP (ICCV 2025): words found in most classes' descriptions say nothing about any of
them and are dropped; of a cluster's captions, the one that covers the most frequent remaining
words is kept. It is a real caption, not a list of words, so it stays a sentence. Dropping only
decides which caption wins; the winner keeps all its words.

What is ours: the caption becomes "<sentence that names the class>: <description>", and a caption
that takes the image for another known class is not trusted. The label is the truth here: the
noun phrase that names the wrong class goes, and with it whatever repeats that name.
"""

from __future__ import annotations

import itertools
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from dpd_core.captions.text import MAX_CAPTION, STOP_WORDS, template_caption, words_of

_KIND = r"(?:satellite|aerial|overhead|top[- ]down|bird'?s[- ]eye|remote[- ]sensing|google earth)"
_IMAGE = r"(?:images?|imagery|photos?|photographs?|pictures?|views?|scenes?|shots?|perspectives?)"
_PREFIX = re.compile(
    rf"""(?:
      (?:in\s+)?(?:this|the|an?)?\s*(?:(?:high[- ]resolution|close[- ]up|color|colour)\s+)*
        (?:{_KIND}\s+)*{_IMAGE}
        (?:\s+(?:of|from|taken\s+from|that\s+shows|showing|shows?|depicts?|depicting|captures?|
                 features?|presents?|displays?|contains?|is(?:\s+of)?)\b|\s*[,:]|\s*$)
    | (?:this|it|here|there)\s+(?:is|are|shows?|depicts?)\b
    | we\s+(?:can\s+)?see\b
    )\s*""",
    re.IGNORECASE | re.VERBOSE,
)
_JOINTS = """
    with containing featuring showing having including and or but while where which that
    near beside along alongside in inside on at by next between among amid through under beneath
    over above across around behind below from against into onto within without surrounded
    bordered flanked lined covered filled dotted scattered divided crossed located situated parked
    docked moored anchored arranged oriented running flowing winding crossing passing leading lying
    sitting standing stretching seen viewed is are has have
"""
_JOINT = re.compile(rf"\b(?:{'|'.join(_JOINTS.split())})\b|[,;:.!?]", re.IGNORECASE)
_LEADING = re.compile(
    r"^(?:[\s,;:.!?]+|(?:with|containing|featuring|showing|having|including|and|or|but|while|is|are"
    r"|has|have|that|which|where)\b)+\s*",
    re.IGNORECASE,
)
_ARTICLES = frozenset({"a", "an", "the"})


@dataclass(frozen=True)
class Description:
    """One caption with the generic opening and any wrong class taken off.

    Attributes:
        text: What is left; may be empty.
        trusted: Whether the caption did not take the image for another known class.
    """

    text: str
    trusted: bool


def aggregate(
    captions: Mapping[str, Sequence[Sequence[str]]],
    readable: Mapping[str, str],
    *,
    template: str = "A satellite image of {class}",
    common: float = 0.7,
) -> dict[str, list[str]]:
    """One text for each cluster of each class.

    Args:
        captions: By class name, for each cluster, its captions, nearest to the centre first.
        readable: Readable name by class name; the classes that a caption can wrongly name are
            those given here.
        template: Sentence that names the class; see
            :func:`~dpd_core.captions.text.template_caption`.
        common: Words found in at least this share of the classes are dropped (document frequency
            over classes). With a single class none are: there is nothing they fail to tell apart.

    Returns:
        By class name, one text a cluster, in the order given. A cluster whose captions say
        nothing beyond the class gets the template's sentence alone.
    """
    described = {
        name: [[describe(caption, name, readable) for caption in cluster] for cluster in clusters]
        for name, clusters in captions.items()
    }
    dropped = _common_words(described, common)
    return {
        name: [
            compose(
                _best(cluster, dropped | _name_words(name, readable)),
                name,
                readable,
                template=template,
            )
            for cluster in clusters
        ]
        for name, clusters in described.items()
    }


def compose(
    description: str, class_name: str, readable: Mapping[str, str], *, template: str
) -> str:
    """``template sentence: description``, or the sentence alone if nothing is described."""
    sentence = template_caption(template, readable[class_name])
    informative = set(words_of(description)) - STOP_WORDS - _name_words(class_name, readable)
    if not informative:
        return sentence
    text = f"{sentence.rstrip(' .:')}: {description}"
    if len(text) > MAX_CAPTION:
        text = text[:MAX_CAPTION].rsplit(" ", 1)[0].rstrip(",;:")
    return text


def describe(caption: str, class_name: str, readable: Mapping[str, str]) -> Description:
    """Take off what the template's sentence already says, and what the label contradicts.

    The head is the text up to the first joint (a preposition, a participle, a comma ...). If it
    is just the class's name it goes, because the sentence before it names the class. If it names
    another known class, it goes together with every later phrase that names that class; the
    other phrases stay, as what can be seen in the image.

    Args:
        caption: A captioner's text.
        class_name: Class of the image, from its label.
        readable: Readable name by class name.
    """
    text = _without_opening(caption)
    joint = _JOINT.search(text)
    head = text[: joint.start()] if joint else text
    wrong = _wrong_class(head, class_name, readable)
    if wrong is not None:
        rest = _without_phrases(text[len(head) :], wrong)
        return Description(_tidy(_without_opening(_tidy(rest))), trusted=False)
    bare = [word for word in words_of(head) if word not in _ARTICLES]
    if bare == words_of(readable[class_name]):
        text = text[len(head) :]
    return Description(_tidy(text), trusted=True)


def _common_words(
    described: Mapping[str, Sequence[Sequence[Description]]], common: float
) -> set[str]:
    """Words of at least the share ``common`` of the classes."""
    if len(described) < 2:
        return set()
    classes: Counter[str] = Counter()
    for clusters in described.values():
        texts = [description.text for cluster in clusters for description in cluster]
        classes.update({word for text in texts for word in words_of(text)})
    # The small allowance keeps 0.7 · 10 classes at 7, which floating point makes 7.000000000000001.
    least = common * len(described) - 1e-9
    return {word for word, count in classes.items() if count >= least}


def _best(cluster: Sequence[Description], dropped: set[str]) -> str:
    """The description that covers the cluster's most frequent informative words.

    Score: sum over its distinct words of the number of *other* captions that have the word,
    because a word of one caption alone speaks for one image, not for the cluster (if the captions
    share no word, every word counts one); divided by ½ + ½ · length / mean length (pivoted length
    normalisation, Singhal et al. 1996), so that neither a long caption wins by rambling nor a
    short one by being short. The first of equals wins: it is the nearest to the centre.
    Distrusted captions only count where there is no other.
    """
    informative = [
        set(words_of(description.text)) - STOP_WORDS - dropped for description in cluster
    ]
    usable = [k for k, description in enumerate(cluster) if informative[k] and description.trusted]
    usable = usable or [k for k in range(len(cluster)) if informative[k]]
    if not usable:
        return ""
    frequency = Counter(word for k in usable for word in informative[k])
    shared = any(count > 1 for count in frequency.values())
    length = {k: len(words_of(cluster[k].text)) for k in usable}
    mean = sum(length.values()) / len(length)

    def score(k: int) -> float:
        covered = sum(frequency[word] - shared for word in informative[k])
        return covered / (0.5 + 0.5 * length[k] / mean)

    return cluster[max(usable, key=lambda k: (score(k), -k))].text


def _without_opening(text: str) -> str:
    text = text.strip()
    while (opening := _PREFIX.match(text)) and opening.end():
        text = text[opening.end() :]
    return text


def _wrong_class(head: str, class_name: str, readable: Mapping[str, str]) -> list[str] | None:
    """Words of the other class that the head names, if it does not name its own.

    The longest name counts: "a dense residential area" is not of the class "residential" where
    there is a class "dense residential", but is itself no sign against the latter.
    """
    spoken, own = words_of(head), words_of(readable[class_name])
    named = [words_of(name) for name in readable.values()]
    named = [name for name in named if name and _holds(spoken, name)]
    if not named:
        return None
    longest = max(named, key=len)
    if longest == own or _holds(own, longest) or (own in named and not _holds(longest, own)):
        return None
    return longest


def _holds(words: list[str], part: list[str]) -> bool:
    size = len(part)
    return any(words[start : start + size] == part for start in range(len(words) - size + 1))


def _without_phrases(text: str, name: list[str]) -> str:
    """Leave out the phrases (joint to joint) that name a class."""
    cuts = [match.start() for match in _JOINT.finditer(text)]
    bounds = [0, *(cut for cut in cuts if cut), len(text)]
    phrases = [text[start:end] for start, end in itertools.pairwise(bounds)]
    kept = " ".join(phrase.strip() for phrase in phrases if not _holds(words_of(phrase), name))
    return re.sub(r"\s+(?=[,;:.!?])", "", kept)


def _tidy(text: str) -> str:
    """Without joining words at the start and punctuation at the end; small first letter."""
    text = _LEADING.sub("", text.strip()).rstrip(" .,;:!")
    if len(text) > 1 and text[0].isupper() and not text[1].isupper():
        text = text[0].lower() + text[1:]
    return text


def _name_words(class_name: str, readable: Mapping[str, str]) -> set[str]:
    return set(words_of(readable[class_name]))
