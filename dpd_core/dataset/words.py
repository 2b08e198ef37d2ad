"""What names of files and folders say: a split, nothing, rubbish of a system, a mask.

The one place for these lists. Names are compared in lower case, cut into words.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Iterable

_RUBBISH = frozenset(
    (
        "__macosx",
        "@eadir",
        "@tmp",
        "@recycle",
        "@recently-snapshot",
        "#recycle",
        "#snapshot",
        "$recycle.bin",
        "system volume information",
        "recycler",
        "lost+found",
        "__pycache__",
        "thumbs.db",
        "ehthumbs.db",
        "ehthumbs_vista.db",
        "desktop.ini",
        "picasa.ini",
        "icon\r",
        "folder.jpg:zone.identifier",
        "node_modules",
        "found.000",
    )
)
_RUBBISH_PREFIXES = (".", "~$", "synophoto_thumb_", "synophoto:thumb", "synofile_thumb_")

_TRAIN = frozenset("train training trainset trn trainval traindata trainingset".split())  # noqa: SIM905
_VALIDATION = frozenset(
    "val valid validation validate valset validset dev development eval evaluation".split()  # noqa: SIM905
)
_TEST = frozenset("test testing testset tst holdout heldout testdata testingset".split())  # noqa: SIM905
_FILLERS = frozenset(
    """set sets data dataset datasets image images img imgs picture pictures photo photos split
    splits seg file files folder sample samples part subset jpg jpeg png tif tiff rgb of the hold
    held out orig original raw all partial""".split()  # noqa: SIM905
)
_CONTAINERS = frozenset(
    """image images img imgs jpegimages picture pictures photo photos jpg jpeg png tif tiff data
    raw tile tiles patch patches crop crops chip chips frame frames file files original originals
    rgb""".split()  # noqa: SIM905
)
_PICTURES = frozenset(
    """images image img imgs jpegimages rgb photos pictures original originals data""".split()  # noqa: SIM905
)
_MASKS = frozenset(
    """mask masks gt groundtruth segmentation segmentations seg annotation annotations label labels
    labelled maskimages edges""".split()  # noqa: SIM905
)
_BESIDE = frozenset(
    """assets asset figures figure figs fig docs doc documentation media screenshots screenshot
    thumbnails thumbnail readme static website web logo logos preview previews illustrations
    examples example demo results""".split()  # noqa: SIM905
)
_MONTHS = frozenset(
    """jan feb mar apr may jun jul aug sep sept oct nov dec january february march april june july
    august september october november december""".split()  # noqa: SIM905
)

_CLASS_LISTS = frozenset(
    "class classes classnames names categories map mapping labelmap indices".split()  # noqa: SIM905
)

_WORD = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|\d+|[^\W\d_a-zA-Z]+")
_NUMBERED = re.compile(r"(?:[a-z]{1,10}[\W_]*)?\d[\w\-. ]{0,11}")


def is_rubbish(name: str) -> bool:
    """Whether a system, a cache or a network drive left a file or folder of this name."""
    lower = name.casefold()
    return lower in _RUBBISH or (lower.startswith(_RUBBISH_PREFIXES) and name not in (".", ".."))


def words(name: str) -> list[str]:
    """The words of a name in lower case: ``trainImages_2`` is ``train``, ``images``, ``2``."""
    return [word.lower() for word in _WORD.findall(name)]


def _kinds(parts: Iterable[str]) -> set[str]:
    known = {"train": _TRAIN, "val": _VALIDATION, "test": _TEST}
    return {kind for part in parts for kind, names in known.items() if part in names}


def split_folder(name: str) -> str | None:
    """``"train"``, ``"val"`` or ``"test"`` if a folder's name says that and nothing else:
    ``train``, ``training_set``, ``seg_train``, ``val2017``, ``Holdout``; not ``train station``.
    """
    parts = words(name)
    if {"hold", "held"} & set(parts) and "out" in parts:
        parts = [*(part for part in parts if part not in ("hold", "held", "out")), "holdout"]
    kinds = _kinds(parts)
    if kinds == {"train", "val"}:
        kinds = {"train"}
    known = _TRAIN | _VALIDATION | _TEST | _FILLERS
    if len(kinds) != 1 or any(part not in known and not part.isdigit() for part in parts):
        return None
    return kinds.pop()


def split_file(name: str) -> str | None:
    """The split that a word in the name of a table or a Parquet file says, whatever stands
    beside it: ``eurosat_train-00000-of-00002``, ``ISIC_2019_Training_GroundTruth``."""
    kinds = _kinds(words(name))
    if kinds == {"train", "val"}:
        return "train"
    return kinds.pop() if len(kinds) == 1 else None


def is_numbered(name: str) -> bool:
    """Whether a folder's name is a number, a date or a numbered part: ``2020``, ``batch_1``."""
    lower = name.strip().lower()
    return lower in _MONTHS or bool(_NUMBERED.fullmatch(lower))


def names_classes(name: str) -> bool:
    """Whether a file's name says that it lists the classes, not the images."""
    return bool(set(words(name)) & _CLASS_LISTS)


@functools.lru_cache(maxsize=65_536)
def is_neutral(name: str) -> bool:
    """Whether a folder's name says no class: a number, a date, a part, ``images``."""
    if name.strip().lower() in _CONTAINERS or is_numbered(name):
        return True
    parts = words(name)
    return bool(parts) and all(p in _CONTAINERS or p in _FILLERS or p.isdigit() for p in parts)


def is_mask(name: str) -> bool:
    """Whether a folder holds masks, if there are images beside it."""
    return "".join(words(name)) in _MASKS


def holds_pictures(name: str) -> bool:
    """Whether a folder's name says that it holds the images, for telling masks beside it."""
    return "".join(words(name)) in _PICTURES


def is_beside(name: str) -> bool:
    """Whether a folder usually holds pictures *about* a data set."""
    parts = words(name)
    return bool(parts) and parts[0] in _BESIDE


def sides(kinds: Iterable[str | None]) -> dict[str, str]:
    """Train or test by kind of split: validation is for testing where there is no test part,
    and joins the training images where there is one. Empty if not both sides are there."""
    present = {kind for kind in kinds if kind}
    if "test" in present and present & {"train", "val"}:
        return {"train": "train", "val": "train", "test": "test"}
    if {"train", "val"} <= present:
        return {"train": "train", "val": "test"}
    return {}
