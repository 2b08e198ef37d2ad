"""Views of the tab Prototypes: the map's columns, the prototypes in words, what a run changed.

They read what the stage left without insisting that it still fits: between a decision by hand and
the next clustering it does not, and that is just when a person looks at it.
"""

from __future__ import annotations

from itertools import groupby
from typing import Any

import numpy as np

from dpd_core import storage
from dpd_core.captions.current import current_captions
from dpd_core.dataset.index import DatasetIndex, load_index
from dpd_core.dataset.selections import read_selections
from dpd_core.errors import DPDError, StageMissing
from dpd_core.pipeline.staleness import is_current
from dpd_core.project import Project
from dpd_core.prototypes.changes import Changes, read_changes
from dpd_core.prototypes.curation import Decision, decisions
from dpd_core.prototypes.files import Prototype, list_prototypes, load_members
from dpd_core.prototypes.likeness_file import read_likeness
from dpd_core.prototypes.map_file import FIRST, read_map
from dpd_core.prototypes.overrides import Overrides, read_overrides

Links = Any
"""Something with ``base(project)``, ``thumbnail(project, id)``:
:class:`app.server.pictures.ImageServer`.
"""

STRIP_TEMPLATE = """<div class='proto-strip'>
{{#if value.empty}}<p class='hint'>{{value.empty}}</p>{{/if}}
{{#each value.classes}}<section><h4>{{this.readable}}
<small>{{this.images}} training images in {{this.clusters}} clusters</small></h4><ul>
{{#each this.prototypes}}<li><button type='button' data-id='{{this.id}}'
class='{{this.state}}' title='{{this.id}}'>
<img src='{{this.image}}' alt='Prototype of {{this.readable}}: {{this.id}}{{this.note}}'
loading='lazy' width='84' height='84'>
<span>{{this.mark}} cluster {{this.cluster}}</span><span>{{this.size}} images</span>
<span>margin {{this.margin}}</span></button></li>{{/each}}</ul></section>{{/each}}</div>"""

CHANGES_TEMPLATE = """{{#if value.shown}}<details class='proto-changes' {{value.open}}>
<summary>{{value.title}}</summary>
{{#if value.settings}}<p>Settings: {{value.settings}}.</p>{{/if}}
{{#if value.classes}}<table><thead><tr><th>Class</th><th>Prototypes new</th><th>no longer</th>
<th>Images in / out</th><th>Clusters alike</th></tr></thead><tbody>
{{#each value.classes}}<tr><th scope='row'>{{this.readable}}</th>
<td>{{#each this.added}}<img src='{{this.image}}' alt='{{this.id}}' title='{{this.id}}'
loading='lazy' width='40' height='40'>{{/each}}</td>
<td>{{#each this.removed}}<img src='{{this.image}}' alt='{{this.id}}' title='{{this.id}}'
loading='lazy' width='40' height='40'>{{/each}}</td>
<td>{{this.moved}}</td><td>{{this.agreement}}</td></tr>{{/each}}</tbody></table>{{/if}}
{{#if value.same}}<p>{{value.same}}</p>{{/if}}
{{#if value.choices}}<p><b>Prototypes chosen by hand</b></p><ul>
{{#each value.choices}}<li class='{{this.state}}'>{{this.text}}</li>{{/each}}</ul>{{/if}}
</details>{{/if}}"""

STATUS_TEMPLATE = (
    """<p class='prototypes-status {{value.state}}' role='status'>{{value.text}}</p>"""
)

_ACTIONS = {
    "choose": "prototype chosen",
    "release": "choice given up",
    "exclude": "excluded",
    "include": "included again",
    "move": "moved",
}


def row_ids(index: DatasetIndex) -> list[str]:
    """The image of each row of :func:`columns`."""
    return [record.id for record in index.images]


def row_key(index: DatasetIndex) -> str:
    """Changes when row numbers mean other images."""
    return storage.digest(row_ids(index))


def columns(project: Project) -> dict[str, Any]:
    """Everything the map shows, by column: one entry an image, in the order of the index.

    Returns:
        ``key`` (see :func:`row_key`), ``layout`` (changes with the positions), ``first``
        (whether they only stand in for UMAP's), ``ids``, ``x``,
        ``y`` (``None`` for an image that is not on the map), ``classes`` (name and words),
        ``cls`` (places in ``classes``), ``split`` (1 for test), ``cluster`` (-1 for none),
        ``margin``, ``outlier`` (score or ``None``); and rows: ``prototypes``, ``chosen``,
        ``excluded``, ``outliers`` (left out as such), ``moved`` (row and original class);
        ``captions`` by class and cluster; ``near`` (row of the most similar other image) and
        ``alike`` (how similar, at most 1), both ``None`` where that was not measured; and
        ``selections``, rows by name.
    """
    index = load_index(project)
    ids = row_ids(index)
    row_of = {image_id: row for row, image_id in enumerate(ids)}
    place = {name: number for number, name in enumerate(index.classes)}
    shown = read_map(project) or {"key": "", "ids": [], "x": [], "y": []}
    x: list[float | None] = [None] * len(ids)
    y: list[float | None] = [None] * len(ids)
    for image_id, across, up in zip(shown["ids"], shown["x"], shown["y"], strict=True):
        if image_id in row_of:
            x[row_of[image_id]], y[row_of[image_id]] = round(across, 3), round(up, 3)
    overrides = read_overrides(project)
    chosen = [i for clusters in overrides.chosen.values() for i in clusters.values()]
    return {
        "key": storage.digest(ids),
        "layout": shown["key"],
        "first": shown["key"].startswith(FIRST),
        "ids": ids,
        "x": x,
        "y": y,
        "classes": [
            {"name": name, "readable": info.readable} for name, info in index.classes.items()
        ],
        "cls": [place[record.class_name] for record in index.images],
        "split": [int(record.split == "test") for record in index.images],
        **_members(project, index, row_of),
        "prototypes": sorted(row_of[i] for i in _prototype_ids(project) if i in row_of),
        "chosen": sorted(row_of[i] for i in chosen if i in row_of),
        "excluded": sorted(row_of[i] for i in overrides.excluded if i in row_of),
        "moved": _moved(project, index, row_of),
        "captions": _captions(project),
        **_likeness(project, index),
        "selections": {
            name: [row_of[i] for i in chosen_ids if i in row_of]
            for name, chosen_ids in read_selections(project).items()
        },
    }


def strip(project: Project, links: Links) -> dict[str, Any]:
    """The current prototypes by class, for people who do not want the map."""
    index = load_index(project)
    try:
        prototypes = list_prototypes(project)
    except DPDError:
        return {"classes": [], "empty": "There are no prototypes yet. Press “Re-cluster”."}
    overrides = read_overrides(project)
    classes = []
    for name, of_class in groupby(prototypes, key=lambda prototype: prototype.class_name):
        if name not in index.classes:
            continue
        entries = list(of_class)
        readable = index.readable(name)
        classes.append(
            {
                "readable": readable,
                "clusters": len(entries),
                "images": sum(entry.cluster_size for entry in entries),
                "prototypes": [
                    _strip_entry(project, index, entry, readable, overrides, links)
                    for entry in entries
                ],
            }
        )
    return {"classes": classes, "empty": ""}


def changes(project: Project, links: Links) -> dict[str, Any]:
    """What the last clustering changed."""
    found, index = read_changes(project), load_index(project)
    if found is None or (found.first and not found.choices):
        return {"shown": False}

    def readable(name: str) -> str:
        return index.readable(name) if name in index.classes else name

    def images(ids: tuple[str, ...]) -> list[dict[str, str]]:
        return [{"id": i, "image": links.thumbnail(project, i)} for i in ids]

    rows = [
        {
            "readable": readable(changed.class_name),
            "added": images(changed.added),
            "removed": images(changed.removed),
            "moved": f"+{changed.joined} / −{changed.left}",
            "agreement": "" if changed.agreement is None else f"{max(changed.agreement, 0):.0%}",
        }
        for changed in found.classes
        if changed.added or changed.removed or changed.joined or changed.left
    ]
    unchanged = len(found.classes) - len(rows)
    same = ""
    if not found.first and unchanged:
        same = f"{unchanged} classes" if rows else "All classes"
        same += " have the same prototypes and images as before."
    return {
        "shown": True,
        "title": _title(found, len(rows)),
        # What needs nobody's eye stays folded.
        "open": "open" if rows or not all(choice.kept for choice in found.choices) else "",
        "settings": ", ".join(
            f"{name.replace('_', ' ')} {_word(old)} → {_word(new)}"
            for name, (old, new) in found.settings.items()
        ),
        "classes": rows,
        "same": same,
        "choices": [
            _choice(
                choice.id,
                choice.kept,
                choice.cluster_id,
                choice.reason,
                readable(choice.class_name),
            )
            for choice in found.choices
        ],
    }


def status(project: Project) -> dict[str, str]:
    """Whether the clustering is what the settings and decisions say, in one sentence."""
    record = project.record("prototypes")
    if record is None:
        return {
            "state": "open",
            "text": "Not clustered yet. Press “Re-cluster” to find the "
            "prototypes and draw the map.",
        }
    result = record["result"]
    text = (
        f"{result['prototypes']} prototypes of {result['classes']} classes from "
        f"{result['images']} training images"
    )
    if result.get("excluded"):
        text += f", {result['excluded']} excluded"
    if record["settings"].get("file"):
        text += ", taken from an imported file"
    if not is_current(project, "prototypes"):
        return {
            "state": "stale",
            "text": f"{text}. Something has changed since: press "
            "“Re-cluster” to apply it; later stages follow.",
        }
    return {"state": "done", "text": f"{text}."}


def undo_label(project: Project) -> str:
    """Text of the undo button; empty if there is nothing to undo."""
    try:
        standing = [decision for decision in decisions(project) if not decision.undone]
    except DPDError:
        return ""
    return f"Undo: {sentence(standing[-1])}" if standing else ""


def sentence(decision: Decision) -> str:
    """A decision in a few words."""
    count = len(decision.ids)
    images = decision.ids[0].rsplit("/", 1)[-1] if count == 1 else f"{count} images"
    where = f" to {decision.class_name}" if decision.class_name else ""
    return f"{images} {_ACTIONS.get(decision.action, decision.action)}{where}"


def _members(project: Project, index: DatasetIndex, row_of: dict[str, int]) -> dict[str, list[Any]]:
    """The columns of ``clusters.json``."""
    count = len(row_of)
    cluster, outliers = [-1] * count, []
    margin: list[float | None] = [None] * count
    outlier: list[float | None] = [None] * count
    try:
        members = load_members(project)
    except StageMissing:
        members = {}
    for image_id, member in members.items():
        row = row_of.get(image_id)
        if row is None:
            continue
        margin[row], outlier[row] = round(member.margin, 4), round(member.outlier_score, 3)
        if member.class_name == index.images[row].class_name:  # else moved since
            cluster[row] = member.cluster_id
        if member.outlier:
            outliers.append(row)
    return {"cluster": cluster, "margin": margin, "outlier": outlier, "outliers": outliers}


def _likeness(project: Project, index: DatasetIndex) -> dict[str, Any]:
    found = read_likeness(project, index)
    if found is None:
        return {"near": None, "alike": None}
    alike = np.round(found.alike.astype(float), 3)
    return {"near": found.nearest.tolist(), "alike": alike.tolist()}


def _prototype_ids(project: Project) -> list[str]:
    try:
        return [prototype.id for prototype in list_prototypes(project)]
    except StageMissing:
        return []


def _moved(project: Project, index: DatasetIndex, row_of: dict[str, int]) -> list[list[Any]]:
    from dpd_core.dataset.labels import read_labels

    labels = read_labels(project)
    if not labels:
        return []
    original = load_index(project, corrected=False)
    return [
        [row_of[i], original.readable(original.by_id[i].class_name)]
        for i, name in labels.items()
        if i in row_of and name in index.classes
    ]


def _captions(project: Project) -> dict[str, dict[str, str]]:
    try:
        captions = current_captions(project)
    except DPDError:
        return {}
    return {
        name: {str(k): caption.text for k, caption in texts.items()}
        for name, texts in captions.items()
    }


def _strip_entry(
    project: Project,
    index: DatasetIndex,
    entry: Prototype,
    readable: str,
    overrides: Overrides,
    links: Links,
) -> dict[str, Any]:
    image_id = entry.id
    known = index.by_id.get(image_id)
    by_hand = {i for clusters in overrides.chosen.values() for i in clusters.values()}
    state, note = "", ""
    if known is None or known.class_name not in index.classes or image_id in overrides.excluded:
        state, note = "stale", ", excluded or gone since"
    elif image_id in by_hand:
        state, note = "chosen", ", chosen by hand"
    return {
        "id": image_id,
        "cluster": entry.cluster_id,
        "size": entry.cluster_size,
        "margin": f"{entry.margin:.3f}",
        "readable": readable,
        "state": state,
        "note": note,
        "mark": "☆" if state == "chosen" else "",
        "image": links.thumbnail(project, image_id),
    }


def _title(found: Changes, classes: int) -> str:
    if found.first:
        return "The first clustering"
    if not classes:
        return "The last clustering changed no prototype"
    new = sum(len(changed.added) for changed in found.classes)
    return f"The last clustering changed {new} prototypes in {classes} classes"


def _choice(
    image_id: str, kept: bool, cluster: int | None, reason: str, readable: str
) -> dict[str, str]:
    if kept:
        text = f"{image_id}: kept, the prototype of cluster {cluster} of {readable}."
        return {"state": "kept", "text": text}
    return {
        "state": "lost",
        "text": f"{image_id}: could not be kept as a prototype of {readable}, because {reason}.",
    }


def _word(value: Any) -> str:
    return (
        {True: "on", False: "off"}.get(value, str(value))
        if isinstance(value, bool)
        else (str(value) or "none")
    )
