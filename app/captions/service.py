"""What the Captions tab asks of the core: typed, without Gradio.

Whatever comes from the browser (class names, cluster numbers, texts) is checked against the
project; what does not fit raises a :class:`DPDError`.
"""

from __future__ import annotations

import contextlib
import tempfile
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from app.server.jobs import JobQueue, JobView
from app.server.settings import DOWNLOADS
from dpd_core import storage
from dpd_core.captions.current import current_captions
from dpd_core.captions.edits import edit, history
from dpd_core.captions.records import Caption, Entry
from dpd_core.captions.selection import find_prototype
from dpd_core.captions.tables import export_captions
from dpd_core.captions.text import words_of
from dpd_core.config import CaptionsConfig, PreviewConfig, resolve
from dpd_core.dataset.index import load_index
from dpd_core.errors import CaptionError, ModelError, ProjectError
from dpd_core.models.tokens import load_prompt_tokenizer
from dpd_core.pipeline.stages import TABLE, after
from dpd_core.pipeline.staleness import is_current, texts_digest
from dpd_core.project import Project
from dpd_core.prototypes.files import (
    Member,
    Prototype,
    Slot,
    class_text,
    list_prototypes,
    load_members,
)
from dpd_core.synthesize.strategies import STRATEGIES

EMPTY, DUPLICATE, UNNAMED = "empty", "duplicate", "class not named"
"""Warnings that a caption can have."""

Place = tuple[str, int]
"""A class name and a cluster's number: what the page calls a caption by."""


@dataclass(frozen=True)
class Item:
    """One prototype and its caption.

    Attributes:
        prototype: The prototype.
        readable: Readable name of its class.
        caption: Its caption, if it has one.
        warnings: Of :data:`EMPTY`, :data:`DUPLICATE` and :data:`UNNAMED`.
    """

    prototype: Prototype
    readable: str
    caption: Caption | None
    warnings: tuple[str, ...] = ()

    @property
    def place(self) -> Place:
        """What the page calls it by."""
        return self.prototype.slot

    @property
    def text(self) -> str:
        """Its caption's text; empty if it has none."""
        return self.caption.text if self.caption else ""

    @property
    def author(self) -> str:
        """Who wrote the caption; empty if there is none."""
        return self.caption.author if self.caption else ""

    @property
    def version(self) -> int:
        """The caption's version; 0 if it has none."""
        return self.caption.version if self.caption else 0


def load_items(project: Project) -> list[Item]:
    """All prototypes with their captions and warnings, by class and cluster number.

    Raises:
        StageMissing: there are no prototypes yet.
    """
    index, captions = load_index(project), current_captions(project)
    prototypes = list_prototypes(project)
    found = [
        captions.get(prototype.class_name, {}).get(prototype.cluster_id) for prototype in prototypes
    ]
    uses = Counter(caption.text for caption in found if caption)
    return [
        Item(
            prototype,
            index.readable(prototype.class_name),
            caption,
            _warnings(caption, index.readable(prototype.class_name), uses),
        )
        for prototype, caption in zip(prototypes, found, strict=True)
    ]


@dataclass(frozen=True)
class Filter:
    """What the grid shows.

    Attributes:
        search: Words that all must be in the caption, the class or the image's name.
        class_name: A class, or empty for all.
        kind: ``all``, ``warnings``, ``machine``, ``human``, ``bulk`` or ``none``.
    """

    search: str = ""
    class_name: str = ""
    kind: str = "all"

    def of(self, items: Iterable[Item]) -> list[Item]:
        """The items that pass."""
        words = (self.search or "").casefold().split()
        return [item for item in items if self._passes(item, words)]

    def _passes(self, item: Item, words: list[str]) -> bool:
        if self.class_name and item.prototype.class_name != self.class_name:
            return False
        kinds = {
            "all": True,
            "warnings": bool(item.warnings),
            "none": item.caption is None,
            "machine": item.author in ("vlm", "template"),
            "human": item.author == "human",
            "bulk": item.author in ("bulk", "import"),
        }
        text = f"{item.text} {item.readable} {item.prototype.id}".casefold()
        return kinds.get(self.kind, True) and all(word in text for word in words)


def places(value: Any) -> list[Place]:
    """Class names and cluster numbers from an untrusted list of pairs; others are left out."""
    found: dict[Place, None] = {}
    for pair in value if isinstance(value, list | tuple) else []:
        with contextlib.suppress(TypeError, ValueError):
            name, number = pair
            if isinstance(name, str) and isinstance(number, int):
                found[name, number] = None
    return list(found)


def find_item(items: Sequence[Item], place: Place | None) -> Item | None:
    """The item at a place, if there is one."""
    return next((item for item in items if place is not None and item.place == tuple(place)), None)


def save(project: Project, place: Any, text: Any, version: Any) -> Caption:
    """Write a caption that the browser sent, if it is still the version that its writer saw.

    Raises:
        CaptionConflict: it has been changed meanwhile; nothing was written.
        CaptionError: no such prototype, or an unacceptable text.
    """
    [(class_name, cluster_id)] = places([place]) or [("", 0)]
    if not isinstance(version, int) or isinstance(version, bool):
        raise CaptionError("the page did not say which version it saw.", fix="Reload the page.")
    return edit(project, class_name, cluster_id, text, expected_version=version)


def restore(project: Project, place: Place, entry_id: Any, version: Any) -> Caption:
    """Write the text of an earlier entry of a caption's history again, by hand.

    Raises:
        CaptionConflict: it has been changed meanwhile; nothing was written.
        CaptionError: no such entry.
    """
    for entry in history(project, *place):
        if entry.id == entry_id and entry.after:
            return save(project, place, entry.after, version)
    raise CaptionError("there is no such entry in this caption's history.", fix="Reload the page.")


def nearest(project: Project, place: Place, count: int = 8) -> list[Member]:
    """The train images of a cluster that are nearest to its centre, the prototype's own first."""
    prototype = find_prototype(list_prototypes(project), Slot(*place))
    members = [member for member in load_members(project).values() if member.slot == place]
    members.sort(key=lambda member: (member.id != prototype.id, member.distance, member.id))
    return members[:count]


def captioning(
    config: CaptionsConfig, scope: str, class_name: str, selected: Sequence[Place], rewrite: bool
) -> CaptionsConfig:
    """The settings of a run of the stage for ``all``, a ``class`` or the ``selected``.

    Raises:
        CaptionError: nothing is chosen.
    """
    only: tuple[str, ...] = ()
    if scope == "class":
        only = (class_text(class_name),) if class_name else ()
    elif scope == "selected":
        only = tuple(str(Slot(*place)) for place in selected)
    if scope != "all" and not only:
        raise CaptionError(
            f"no {'class' if scope == 'class' else 'caption'} is chosen.",
            fix="Choose in the list below, or caption all.",
        )
    return config.replace(only=only, rewrite=rewrite)


@dataclass(frozen=True)
class Tokens:
    """A text as the text encoder reads it.

    Attributes:
        count: Number of tokens.
        room: Tokens that fit into one window.
        pieces: The text of each window.
    """

    count: int
    room: int
    pieces: list[str]


def count_tokens(project: Project, text: str) -> Tokens:
    """How the project's model reads a text.

    Raises:
        ModelError: its tokenizer is not there.
    """
    model = project.config.model
    try:
        tokenizer = load_prompt_tokenizer(model)
    except ProjectError as error:
        raise ModelError(error.what, where=model, fix=error.fix) from error
    plain = " ".join(text.split())
    chunks = tokenizer.chunks(plain)
    return Tokens(sum(map(len, chunks)), tokenizer.room, tokenizer.pieces(plain))


def trial(project: Project, place: Place, text: str, strategy: str) -> PreviewConfig:
    """Settings of a preview of a text, beside the caption that stands now; if they are the same,
    beside the one before.

    Raises:
        CaptionError: no such prototype.
        ConfigError: no such strategy.
    """
    plain = " ".join(text.split())
    texts = [entry.after for entry in history(project, *place) if entry.after]
    before = next((earlier for earlier in reversed(texts) if earlier != plain), "")
    given = {"cfg": None, **_settings(project, "synthesize")}
    kept = ("adapter", "steps", "scheduler", "cfg", "guidance_scale")
    config = PreviewConfig.from_dict({name: given[name] for name in kept if name in given})
    return config.replace(
        prompt=text, before=before, prototype=str(Slot(*place)), strategy=strategy
    )


@dataclass(frozen=True)
class Trial:
    """The newest preview of a prototype.

    Attributes:
        job: Its run.
        settings: Its settings.
        result: What it left, once it is done.
    """

    job: JobView
    settings: dict[str, Any]
    result: dict[str, Any] | None


def last_trial(project: Project, queue: JobQueue, place: Place) -> Trial | None:
    """The newest preview that was started for a prototype."""
    for job in queue.jobs(project):
        if job.stage != "preview":
            continue
        with contextlib.suppress(ProjectError):
            settings = job.job.config["settings"]
            if settings.get("prototype") != str(Slot(*place)):
                continue
            done = job.status == "done"
            result = job.job.state.get("result") if done else None
            return Trial(job, settings, result)
    return None


def strategy_choices() -> list[tuple[str, str]]:
    """What a preview can be sampled with: a sentence and the strategy's name."""
    first = {
        "template": "The words alone",
        "dpd": "Pulled to the prototype (dpd)",
        "d4m": "From the noised prototype (d4m)",
    }
    return [(first.get(name, name), name) for name in STRATEGIES]


class LaterStages(NamedTuple):
    """The finished stages after the captions.

    Attributes:
        fresh: Up to date.
        texts: Out of date, because they or what they were made from read other captions.
        other: Out of date for other reasons.
    """

    fresh: list[str]
    texts: list[str]
    other: list[str]


def later_stages(project: Project) -> LaterStages:
    """Which later stages are up to date with the captions that stand now."""
    now = texts_digest(project)
    later = LaterStages([], [], [])
    for stage in after("captions"):
        record = project.record(stage)
        if record is None:
            continue
        read = record["inputs"].get("by_hand", {}).get("texts", now)
        if read != now or set(later.texts).intersection(TABLE[stage].needs):
            later.texts.append(stage)
        else:
            (later.fresh if is_current(project, stage) else later.other).append(stage)
    return later


def written_file(project: Project, ending: str) -> Path:
    """The captions as a file to download (``.json`` or ``.csv``), in a temporary folder.

    Raises:
        CaptionError: another ending.
        StageMissing: there are no prototypes.
    """
    folder = Path(tempfile.mkdtemp(prefix=DOWNLOADS))
    path = folder / f"{storage.safe_name(project.name)}-captions{ending}"
    export_captions(project, path)
    return path


def who(entry: Entry | Caption) -> str:
    """An author in a word or two for the page."""
    names = {
        "vlm": "VLM",
        "template": "template",
        "human": "human",
        "bulk": "bulk",
        "import": "import",
        "": "nobody",
    }
    return names.get(entry.author, entry.author)


def _settings(project: Project, stage: str) -> dict[str, Any]:
    """What a stage was last run with, else the laptop's preset."""
    record = project.record(stage)
    return record["settings"] if record else resolve(stage, "quick").to_dict()


def _warnings(caption: Caption | None, readable: str, uses: Counter[str]) -> tuple[str, ...]:
    if caption is None or not caption.text:
        return (EMPTY,)
    found = []
    if uses[caption.text] > 1:
        found.append(DUPLICATE)
    spoken, name = words_of(caption.text), words_of(readable)
    inside = any(spoken[k : k + len(name)] == name for k in range(len(spoken)))
    if not inside and "".join(name) not in "".join(spoken):
        found.append(UNNAMED)
    return tuple(found)
