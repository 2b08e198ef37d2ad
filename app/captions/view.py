"""Views of the Captions tab: plain values for its templates and its two JS components."""

from __future__ import annotations

import datetime
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

from app.captions.service import Item, LaterStages, Tokens, Trial, who
from app.captions.text_diff import segments
from dpd_core.captions.records import Change, Entry, State
from dpd_core.prototypes.files import Member

PAGE = 24
"""Cards a page."""

MAX_ROWS = 60
"""Rows of a table of changes."""

Link = Callable[[str], str]
"""Image id → link."""

SUMMARY_TEMPLATE = """<div class='captions-summary'>
<p><b>{{value.total}}</b> prototypes:
{{#each value.authors}}<span class='badge {{this.kind}}'>{{this.text}}</span> {{/each}}</p>
{{#if value.warnings}}<p class='warn'>{{value.warnings}}</p>{{/if}}
<p class='{{value.state}}'>{{value.later}}</p></div>"""

CHANGES_TEMPLATE = """{{#if value.note}}<p class='{{value.kind}}' role='status'>{{value.note}}</p>
{{/if}}{{#if value.rows}}<div class='changes'><table><thead><tr><th scope='col'>Caption</th>
<th scope='col'>Now</th><th scope='col'>Will be</th></tr></thead><tbody>
{{#each value.rows}}<tr><th scope='row'>{{this.title}}</th>
<td>{{#each this.before}}{{#if this.changed}}<del>{{this.text}}</del>{{else}}<span
>{{this.text}}</span>{{/if}}{{/each}}</td><td>{{#each this.after}}{{#if this.changed}}<ins
>{{this.text}}</ins>{{else}}<span>{{this.text}}</span>{{/if}}{{/each}}</td></tr>{{/each}}
</tbody></table>{{#if value.more}}<p>and {{value.more}} more</p>{{/if}}</div>{{/if}}"""

TOKENS_TEMPLATE = """{{#if value.note}}<div class='tokens {{value.state}}'><p>{{value.note}}</p>
{{#if value.pieces}}<ol>{{#each value.pieces}}<li><span>{{this}}</span></li>{{/each}}</ol>
{{/if}}</div>{{/if}}"""

TRIAL_TEMPLATE = """{{#if value.note}}<div class='trial' role='status'><p>{{value.note}}</p>
{{#each value.rows}}<figure><figcaption><b>{{this.title}}</b> {{this.text}}</figcaption>
<div>{{#each this.images}}<img src='{{this}}' alt='{{../title}} image'>{{/each}}</div></figure>
{{/each}}</div>{{/if}}"""

DETAILS_TEMPLATE = """{{#if value.open}}<div class='caption-details'>
<h4>Nearest images of its cluster</h4><ul class='nearest'>{{#each value.nearest}}
<li><img src='{{this.image}}' alt='{{this.title}}' title='{{this.title}}' loading='lazy'></li>
{{/each}}</ul><h4>History</h4>
<ol class='history'>{{#each value.history}}<li class='{{this.kind}}'>
<p><span class='badge {{this.author}}'>{{this.who}}</span> {{this.what}}
<time datetime='{{this.iso}}'>{{this.time}}</time>
{{#if this.restorable}}<button type='button' data-entry='{{this.id}}'
aria-label='Restore the text of version {{this.version}}'>Restore</button>
{{else}}<em>stands now</em>{{/if}}</p><p>{{this.text}}</p></li>{{/each}}</ol></div>{{/if}}"""


def summary(items: Sequence[Item], stages: LaterStages) -> dict[str, Any]:
    """How many captions are whose, and what they have made out of date."""
    names = {
        "vlm": "VLM",
        "template": "template only",
        "human": "human",
        "bulk": "bulk",
        "import": "imported",
        "": "without a caption",
    }
    counts = Counter(item.author for item in items)
    authors = [
        {"kind": kind or "none", "text": f"{counts[kind]} {name}"}
        for kind, name in names.items()
        if counts[kind]
    ]
    warned = Counter(warning for item in items for warning in item.warnings)
    later, state = "No later stage has been run yet.", "fresh"
    if stages.texts:
        later = (
            f"Captions have changed since these stages ran: {', '.join(stages.texts)}. "
            "Run them again to use the new texts."
        )
        state = "warn"
    elif stages.other:
        later = f"Out of date for other reasons than captions: {', '.join(stages.other)}."
    elif stages.fresh:
        later = "Later stages are up to date with these captions."
    return {
        "total": len(items),
        "authors": authors,
        "later": later,
        "state": state,
        "warnings": "Warnings: " + ", ".join(f"{n} {name}" for name, n in warned.items())
        if warned
        else "",
    }


def nothing_yet(message: str) -> dict[str, Any]:
    """The summary of a project that cannot have captions yet."""
    return {"total": 0, "authors": [], "warnings": "", "later": message, "state": "warn"}


def pages(count: int) -> int:
    """Number of pages for so many cards; at least one."""
    return max(-(-count // PAGE), 1)


def grid(
    shown: Sequence[Item],
    page: int,
    selected: Sequence[Any],
    opened: Any,
    link: Link,
    project: str,
    epoch: str = "",
) -> dict[str, Any]:
    """One page of cards.

    Args:
        shown: All that pass the filter.
        page: From 0.
        selected, opened: Places.
        link: Link to an image.
        project: Key under which the browser keeps drafts.
        epoch: Another one tells the browser to take ``selected`` over its own marks.
    """
    chosen = set(map(tuple, selected))
    cards = [
        {
            "key": key(project, item),
            "class": item.prototype.class_name,
            "cluster": item.prototype.cluster_id,
            "readable": item.readable,
            "text": item.text,
            "image": link(item.prototype.id),
            "author": item.author or "none",
            "who": who(item.caption) if item.caption else "none",
            "warnings": list(item.warnings),
            "selected": item.place in chosen,
            "open": opened is not None and item.place == tuple(opened),
        }
        for item in shown[page * PAGE : (page + 1) * PAGE]
    ]
    empty = "" if cards else "No caption matches. Clear the search or choose another filter."
    return {
        "cards": cards,
        "empty": empty,
        "selected": [list(place) for place in selected],
        "epoch": epoch,
    }


def key(project: str, item: Item) -> str:
    """What a draft is filed under in the browser."""
    return f"{project}|{item.prototype.class_name}|{item.prototype.id}"


def editor(
    item: Item | None,
    neighbours: tuple[Item | None, Item | None],
    link: Link,
    project: str,
    *,
    note: dict[str, Any] | None = None,
    passive: bool = False,
) -> dict[str, Any]:
    """The editor's values.

    Args:
        item: The open caption; ``None`` closes the editor.
        neighbours: The captions before and after it.
        link: Link to an image.
        project: Key under which the browser keeps drafts.
        note: What became of the last save: ``id``, ``key``, ``kind`` and ``text``.
        passive: Whether nobody asked for it; such a value neither opens nor closes a caption.
    """
    if item is None:
        return {"key": "", "project": project, "note": note, "passive": passive}
    before, after = (list(neighbour.place) if neighbour else None for neighbour in neighbours)
    return {
        "key": key(project, item),
        "project": project,
        "place": list(item.place),
        "title": f"{item.readable}, prototype {item.prototype.cluster_id}",
        "text": item.text,
        "version": item.version,
        "author": item.author or "none",
        "who": who(item.caption) if item.caption else "no caption yet",
        "by_hand": bool(item.caption and item.caption.by_hand),
        "warnings": list(item.warnings),
        "image": link(item.prototype.id),
        "alt": f"Prototype image of {item.readable}",
        "before": before,
        "after": after,
        "note": note,
        "passive": passive,
    }


def neighbours(shown: Sequence[Item], item: Item | None) -> tuple[Item | None, Item | None]:
    """The items before and after one in the filtered list."""
    places = [candidate.place for candidate in shown]
    at = places.index(item.place) if item and item.place in places else None
    if at is None:
        return None, None
    return shown[at - 1] if at else None, shown[at + 1] if at + 1 < len(shown) else None


def details(entries: Sequence[Entry], near: Sequence[Member], link: Link) -> dict[str, Any]:
    """Nearest images and history, newest first."""
    rows = []
    for version, entry in enumerate(entries, start=1):
        when = datetime.datetime.fromisoformat(entry.time)
        rows.append(
            {
                "id": entry.id,
                "version": version,
                "iso": entry.time,
                "who": who(entry),
                "author": entry.author or "none",
                "kind": entry.kind,
                "time": when.strftime("%Y-%m-%d %H:%M UTC"),
                "what": _what(entry),
                "text": entry.after or "(no caption)",
                "restorable": entry is not entries[-1] and bool(entry.after),
            }
        )
    return {
        "open": True,
        "history": rows[::-1],
        "nearest": [
            {
                "image": link(member.id),
                "title": f"{member.id}, distance {member.distance:.3g}"
                f"{' (outlier)' if member.outlier else ''}",
            }
            for member in near
        ],
    }


def tokens(found: Tokens | None, problem: str = "") -> dict[str, Any]:
    """How many tokens a text has, and how it is split."""
    if found is None:
        note = f"Tokens cannot be counted: {problem}" if problem else ""
        return {"note": note, "state": "unknown", "pieces": []}
    plural = "token" if found.count == 1 else "tokens"
    if len(found.pieces) < 2:
        note = f"{found.count} {plural} of the {found.room} that the text encoder reads at once."
        return {"note": note, "state": "short", "pieces": []}
    note = (
        f"{found.count} {plural}: more than the {found.room} that the text encoder reads at "
        f"once. Nothing is cut: it is read in {len(found.pieces)} parts:"
    )
    return {"note": note, "state": "long", "pieces": found.pieces}


def changes(
    found: Sequence[Change],
    note: str = "",
    *,
    readable: Callable[[str], str] = str,
    kind: str = "note",
) -> dict[str, Any]:
    """A table old → new with the changed parts marked."""
    rows = []
    for change in found[:MAX_ROWS]:
        before, after = segments(change.before, change.after)
        rows.append(
            {
                "title": f"{readable(change.class_name)} {change.cluster_id}",
                "before": before,
                "after": after,
            }
        )
    return {"note": note, "kind": kind, "rows": rows, "more": max(len(found) - MAX_ROWS, 0)}


def replace_label(found: Sequence[Change], matches: int) -> str:
    """Text of the button that replaces."""
    if not found:
        return "Nothing to replace"
    return f"Replace {_count(matches, 'match', 'matches')} in {_count(len(found), 'caption')}"


def step_labels(state: State) -> tuple[str, str]:
    """Texts of the buttons that undo and redo; empty where there is nothing to."""
    return tuple(
        f"{verb}: {_operation(state, operations[-1].id, len(operations[-1].clusters))}"
        if operations
        else ""
        for verb, operations in (("Undo", state.done), ("Redo", state.undone))
    )  # type: ignore[return-value]


def trial(found: Trial | None, file: Callable[[str], str]) -> dict[str, Any]:
    """The newest try-out of a caption: how far it is, or its images."""
    if found is None:
        return {"note": "", "rows": []}
    job, text = found.job, found.settings.get("prompt", "")
    if found.result is None:
        note = {
            "failed": f"The try-out failed: {job.error}",
            "stopped": "The try-out was stopped.",
            "interrupted": "The try-out was interrupted.",
        }.get(
            job.status,
            f"Trying “{text}”: {job.status}, {job.done} of {job.total or '?'} steps "
            "(the sidebar can stop it).",
        )
        return {"note": note, "rows": []}
    prompts = found.result["prompts"]
    titles = ["Before", "After"] if len(prompts) == 2 else ["Tried"]
    model = f"adapter {found.result['adapter']}" if found.result["adapter"] else "the plain model"
    return {
        "note": f"Same noise for both texts, with {model}.",
        "rows": [
            {
                "title": title,
                "text": prompt["text"],
                "images": [file(path) for path in prompt["files"]],
            }
            for title, prompt in zip(titles, prompts, strict=True)
        ],
    }


def _operation(state: State, batch: int, size: int) -> str:
    entry = next(event for event in state.entries if event.batch == batch)
    names = {"human": "edit", "import": f"import of {entry.source}", "bulk": entry.source}
    what = "give back" if entry.kind == "reset" else names.get(entry.author, "edit")
    if len(what) > 60:
        what = f"{what[:57]}…"
    if size == 1:
        return f"{what} ({entry.class_name} {entry.cluster_id})"
    return f"{what} ({size} captions)"


def _what(entry: Entry) -> str:
    words = {"undo": "undone", "redo": "done again", "reset": "given back to the captioner"}
    if entry.kind in words:
        return words[entry.kind]
    return entry.source if entry.author in ("bulk", "import", "vlm") else ""


def _count(number: int, one: str, many: str = "") -> str:
    return f"{number:,} {one if number == 1 else many or one + 's'}"
