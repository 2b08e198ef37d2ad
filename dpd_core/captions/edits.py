"""What people do to captions: edit, give back, undo, redo, and look at what was done."""

from __future__ import annotations

from collections.abc import Sequence

from dpd_core.captions.log import changed_meanwhile, replay, writing
from dpd_core.captions.records import MACHINES, PEOPLE, Caption, Change, Draft, Entry, State
from dpd_core.captions.selection import find_prototype
from dpd_core.captions.text import checked_caption
from dpd_core.errors import CaptionError
from dpd_core.project import Project
from dpd_core.prototypes.files import Slot, list_prototypes


def history(project: Project, class_name: str, cluster_id: int) -> list[Entry]:
    """Every change of one caption, oldest first.

    Raises:
        CaptionError: there is no such prototype.
    """
    prototype = find_prototype(list_prototypes(project), Slot(class_name, cluster_id))
    return [entry for entry in replay(project).entries if entry.key == prototype.key]


def edit(
    project: Project,
    class_name: str,
    cluster_id: int,
    text: str,
    author: str = "human",
    *,
    source: str = "",
    expected_version: int | None = None,
) -> Caption:
    """Write one caption.

    Args:
        project: The project.
        class_name, cluster_id: Which prototype.
        text: The caption; white space is normalised.
        author: Who decided on it; one of :data:`PEOPLE`.
        source: Where it came from, if that is worth keeping.
        expected_version: Version the writer saw (0: no caption).

    Returns:
        The caption as it stands now. Writing the same text again changes nothing.

    Raises:
        CaptionConflict: the caption has been changed since ``expected_version``.
        CaptionError: no such prototype, or an unacceptable text.
    """
    if author not in PEOPLE:
        raise CaptionError(f"got the author {author!r}.", fix=f"Use one of {', '.join(PEOPLE)}.")
    where = f"{class_name}, cluster {cluster_id}"
    plain = checked_caption(text, where=where)
    with writing(project) as log:
        prototype = find_prototype(log.prototypes, Slot(class_name, cluster_id))
        old = log.state.captions.get(prototype.key)
        version = log.state.versions[prototype.key]
        if expected_version is not None and expected_version != version:
            raise changed_meanwhile(where, old)
        if old is None or old.text != plain:
            log.write([Draft(prototype.key, prototype.cluster_id, plain, author, source)])
        return log.state.captions[prototype.key]


def reset(project: Project, class_name: str, cluster_id: int) -> Caption:
    """Give a caption written by hand back to the machine: its last generated text stands again,
    and the next run of the stage may replace it. Can be undone.

    Raises:
        CaptionError: no such prototype, or it never had a generated caption.
    """
    with writing(project) as log:
        prototype = find_prototype(log.prototypes, Slot(class_name, cluster_id))
        made = [
            entry
            for entry in log.state.entries
            if entry.key == prototype.key and entry.author in MACHINES and entry.after
        ]
        if not made:
            raise CaptionError(
                "this caption was never generated.",
                where=f"{class_name}, cluster {cluster_id}",
                fix="Run the stage 'captions' first.",
            )
        old = log.state.captions.get(prototype.key)
        if old is None or old.by_hand:
            last = made[-1]
            draft = Draft(prototype.key, prototype.cluster_id, last.after, last.author, last.source)
            log.write([draft], kind="reset")
        return log.state.captions[prototype.key]


def apply_changes(
    project: Project, changes: Sequence[Change], author: str, *, source: str = ""
) -> None:
    """Make proposed changes as one operation: all of them, or none.

    Raises:
        CaptionConflict: a caption has been changed since, or is no longer a prototype's.
    """
    with writing(project) as log:
        log.write_changes(changes, author, source=source)


def undo(project: Project) -> list[Change]:
    """Take the last operation of a person back; what was changed is returned.

    Raises:
        CaptionError: there is nothing to undo.
    """
    return _step(project, "undo")


def redo(project: Project) -> list[Change]:
    """Do the last operation that was undone again; what was changed is returned.

    Raises:
        CaptionError: there is nothing to do again.
    """
    return _step(project, "redo")


def _step(project: Project, kind: str) -> list[Change]:
    with writing(project) as log:
        changes = _step_changes(log.state, kind)
        if not changes:
            what = "undo" if kind == "undo" else "do again"
            raise CaptionError(f"there is nothing to {what}.")
        operation = (log.state.done if kind == "undo" else log.state.undone)[-1]
        goal = operation.before if kind == "undo" else operation.after
        drafts = []
        for change in changes:
            caption = goal[change.key]
            author, source = (caption.author, caption.source) if caption else ("", "")
            drafts.append(Draft(change.key, change.cluster_id, change.after, author, source))
        log.write(drafts, kind=kind, target=operation.id)
        return changes


def _step_changes(state: State, kind: str) -> list[Change]:
    operations = state.done if kind == "undo" else state.undone
    if not operations:
        return []
    operation = operations[-1]
    goal = operation.before if kind == "undo" else operation.after
    changes = []
    for key, caption in goal.items():
        old = state.captions.get(key)
        changes.append(
            Change(
                key[0],
                operation.clusters[key],
                key[1],
                old.text if old else None,
                caption.text if caption else None,
                state.versions[key],
            )
        )
    return changes
