"""What the places of images say: the class of each, and its split. Pure functions of paths.

A :class:`Tree` is what is left of the paths once wrapping folders, split folders and what lies
beside the data set are taken away; :func:`classes` then reads the classes from it in one of the
ways (:data:`READINGS`).
"""

from __future__ import annotations

import functools
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import PurePosixPath

from dpd_core.dataset import words

READINGS = ("top", "leaf", "path")
"""The top folders are the classes, the innermost ones, or both together."""

_MOSTLY = 0.5


@dataclass(frozen=True)
class Spot:
    """One image: ``at`` are the indices of the folders of its path that may still say a class,
    ``kind`` the split that a folder said (``train``, ``val``, ``test``)."""

    path: PurePosixPath
    at: tuple[int, ...]
    kind: str | None = None

    @property
    def folders(self) -> tuple[str, ...]:
        """Names of the folders that may say a class."""
        return tuple(self.path.parts[index] for index in self.at)

    def without(self, level: int, kind: str | None = None) -> Spot:
        """The spot without one of its folders."""
        return replace(self, at=self.at[:level] + self.at[level + 1 :], kind=kind or self.kind)


@dataclass
class Tree:
    """What is left of the paths.

    Attributes:
        spots: The images.
        left: Those left out, each with the reason.
        split_at: How the split folders lie: ``""`` (none), ``"above"`` or ``"inside"`` the
            classes.
        root: Number of wrapping folders.
    """

    spots: list[Spot]
    left: list[tuple[PurePosixPath, str]] = field(default_factory=list)
    split_at: str = ""
    root: int = 0

    def names(self, level: int = 0) -> Counter[str]:
        """Number of images by folder name at a level."""
        return Counter(s.folders[level] for s in self.spots if len(s.at) > level)

    def keep(self, good: Callable[[Spot], bool], reason: str) -> None:
        """Leave out the other images."""
        self.left += [(spot.path, reason) for spot in self.spots if not good(spot)]
        self.spots = [spot for spot in self.spots if good(spot)]


def plant(paths: Iterable[PurePosixPath]) -> Tree:
    """The tree of the images: unwrapped, without masks, splits noted."""
    tree = Tree([Spot(path, tuple(range(len(path.parts) - 1))) for path in paths])
    _drop_masks(tree)
    _unwrap(tree)
    if not _split_above(tree):
        _split_inside(tree)
    if tree.split_at == "above":
        _drop_common(tree)
    return tree


def inside(paths: Sequence[PurePosixPath], folder: str) -> list[PurePosixPath]:
    """The paths that have a folder (or a chain of folders) of this name, anywhere."""
    chain = tuple(PurePosixPath(folder).parts)
    size = len(chain)

    def has(path: PurePosixPath) -> bool:
        parts = path.parts[:-1]
        return any(parts[k : k + size] == chain for k in range(len(parts) - size + 1))

    return [path for path in paths if has(path)]


def without(path: PurePosixPath, folder: str) -> PurePosixPath:
    """The path without that chain of folders."""
    chain = tuple(PurePosixPath(folder).parts)
    parts = path.parts
    for k in range(len(parts) - len(chain)):
        if parts[k : k + len(chain)] == chain:
            return PurePosixPath(*parts[:k], *parts[k + len(chain) :])
    return path


def classes(tree: Tree, reading: str) -> dict[PurePosixPath, tuple[str, tuple[int, ...]]]:
    """Class, and the indices of the folders that it is made of, by path; images that lie in no
    folder are not in it.

    Where an innermost folder's name occurs in several groups (``water/other``, ``forest/other``),
    the class takes the group's name too.
    """
    chains = {spot: _named(spot) for spot in tree.spots if spot.at}
    groups: dict[str, set[tuple[str, ...]]] = defaultdict(set)
    for spot, chain in chains.items():
        parts = spot.path.parts
        groups[parts[chain[-1]]].add(tuple(parts[index] for index in chain[:-1]))
    found = {}
    for spot, chain in chains.items():
        parts = spot.path.parts
        if reading == "top":
            chosen = spot.at[:1]
        elif reading == "path":
            chosen = chain
        else:
            chosen = chain[-2:] if len(groups[parts[chain[-1]]]) > 1 else chain[-1:]
        found[spot.path] = (" ".join(parts[index] for index in chosen), chosen)
    return found


def deeper(tree: Tree) -> bool:
    """Whether below the top folders there are folders whose names may be classes."""
    return any(len(_named(spot)) > 1 for spot in tree.spots if spot.at)


def generic(tree: Tree) -> bool:
    """Whether no top folder's name says a class: ``part_1``, ``batch 2``, ``images``."""
    names = tree.names()
    return bool(names) and all(words.is_neutral(name) for name in names)


def parts(tree: Tree) -> bool:
    """Whether the top folders are numbered parts of one data set, each with class folders."""
    names = tree.names()
    return bool(names) and all(map(words.is_numbered, names)) and any(_below(tree).values())


def hierarchy(tree: Tree) -> bool:
    """Whether the top folders are groups of class folders, by all appearances: most hold several
    folders of their own, whose names are not the same from group to group."""
    below = _below(tree)
    groups = [name for name, inner in below.items() if inner]
    inner = set().union(*below.values()) if below else set()
    return len(groups) > _MOSTLY * len(below) and len(inner) > len(below) and not side_by_side(tree)


def side_by_side(tree: Tree) -> bool:
    """Whether the top folders hold the same folders again, as several data sets would do."""
    if parts(tree):
        return False
    below = [inner for inner in _below(tree).values() if inner]
    if len(below) < 2 or len(below) < _MOSTLY * len(tree.names()):
        return False
    shares = [len(a & b) / len(a | b) for k, a in enumerate(below) for b in below[:k]]
    return sum(shares) / len(shares) >= _MOSTLY and max(map(len, below)) > 1


def inner_names(tree: Tree) -> list[str]:
    """Names of the folders in the top folders, the most common first."""
    counts: Counter[str] = Counter()
    for inner in _below(tree).values():
        counts.update(inner)
    return sorted(counts, key=lambda name: (-counts[name], name))


def _below(tree: Tree) -> dict[str, set[str]]:
    """Names, if they may be classes, of the folders in each top folder."""
    below: dict[str, set[str]] = {name: set() for name in tree.names()}
    for spot in tree.spots:
        inner = [index for index in _named(spot) if index != spot.at[0]] if spot.at else []
        if inner:
            below[spot.folders[0]].add(spot.path.parts[inner[0]])
    return below


def _named(spot: Spot) -> tuple[int, ...]:
    """Indices of the folders whose names may be classes: not numbers, dates or ``images``."""
    named = tuple(i for i in spot.at if not words.is_neutral(spot.path.parts[i]))
    return named or spot.at[:1]


def _drop_masks(tree: Tree) -> None:
    siblings: dict[tuple[str, ...], set[str]] = defaultdict(set)
    for spot in tree.spots:
        parts = spot.path.parts[:-1]
        for level, name in enumerate(parts):
            siblings[parts[:level]].add(name)
    masks = {
        (*parent, name)
        for parent, names in siblings.items()
        if any(words.holds_pictures(name) for name in names)
        for name in names
        if words.is_mask(name)
    }
    if masks:
        tree.keep(
            lambda s: not any(s.path.parts[:k] in masks for k in range(1, len(s.path.parts))),
            "it lies in a folder of masks beside the images.",
        )


def _unwrap(tree: Tree) -> None:
    """Go into folders that alone hold the data set, leaving out pictures beside them."""
    while True:
        tops = tree.names()
        deep = {s.folders[0]: 0 for s in tree.spots if len(s.at) > 1}
        inner: dict[str, set[str]] = defaultdict(set)
        for spot in tree.spots:
            if len(spot.at) > 1:
                inner[spot.folders[0]].add(spot.folders[1])
        flat = [name for name in tops if name not in deep]
        beside = {name for name in flat if deep and words.is_beside(name)}
        if len(deep) == 1 and flat and not any(map(words.split_folder, tops)):
            (name,) = deep
            named = {part for part in inner[name] if not words.is_neutral(part)}
            if len(named) > max(len(flat), 1):
                beside |= set(flat)
        if beside:
            tree.keep(functools.partial(_not_below, beside), "a picture beside the data set.")
            continue
        if len(tops) != 1 or not deep:
            return
        tree.keep(lambda s: len(s.at) > 1, "it lies outside the class folders.")
        tree.spots = [spot.without(0) for spot in tree.spots]
        tree.root += 1


def _split_above(tree: Tree) -> bool:
    """Note the split if the top folders are split folders."""
    kinds = {name: words.split_folder(name) for name in tree.names()}
    if not words.sides(kinds.values()):
        return False
    deep = any(kinds[s.folders[0]] for s in tree.spots if len(s.at) > 1)
    if not deep and not all(kinds.values()):
        return False  # classes, of which one is called "train"
    listed = ", ".join(sorted(name for name, kind in kinds.items() if kind))
    tree.keep(
        lambda s: bool(s.at) and kinds[s.folders[0]] is not None,
        f"it lies beside the split folders ({listed}).",
    )
    tree.spots = [spot.without(0, kinds[spot.folders[0]]) for spot in tree.spots]
    tree.split_at = "above"
    return True


def _drop_common(tree: Tree) -> None:
    """Take away what wraps the classes of one split: ``seg_train/seg_train/forest``."""
    done: list[Spot] = []
    for kind in ("train", "val", "test"):
        spots = [spot for spot in tree.spots if spot.kind == kind]
        while True:
            tops = {spot.folders[0] for spot in spots if spot.at}
            deep = [spot for spot in spots if len(spot.at) > 1]
            again = len(tops) == 1 and (
                words.split_folder(next(iter(tops))) or words.is_neutral(next(iter(tops)))
            )
            if not again or not (deep or all(spot.at for spot in spots)):
                break
            spots = [spot.without(0) if spot.at else spot for spot in spots]
        done += spots
    tree.spots = sorted(done, key=lambda spot: spot.path)


def _split_inside(tree: Tree) -> None:
    """Note the split if the folders in the classes, or deeper, are split folders."""
    for level in (1, 2, 3):
        marked = [
            s for s in tree.spots if len(s.at) > level and words.split_folder(s.folders[level])
        ]
        kinds = {words.split_folder(s.folders[level]) for s in marked}
        if len(marked) < _MOSTLY * len(tree.spots) or not words.sides(kinds):
            continue
        parents = {spot.folders[:level] for spot in marked}
        tree.keep(
            functools.partial(_not_beside_splits, level, parents),
            "it lies beside the split folders in its class.",
        )
        tree.spots = [
            s.without(level, words.split_folder(s.folders[level])) if len(s.at) > level else s
            for s in tree.spots
        ]
        tree.split_at = "inside"
        return


def _not_below(folders: set[str], spot: Spot) -> bool:
    return not spot.at or spot.folders[0] not in folders


def _not_beside_splits(level: int, parents: set[tuple[str, ...]], spot: Spot) -> bool:
    if spot.folders[:level] not in parents:
        return True
    return len(spot.at) > level and words.split_folder(spot.folders[level]) is not None
