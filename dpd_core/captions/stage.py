"""The stage ``captions``: put each cluster into words, and keep what people wrote."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from dpd_core.captions.aggregate import aggregate, compose, describe
from dpd_core.captions.captioner import Captioner
from dpd_core.captions.current import captions_digest
from dpd_core.captions.image_captions import CaptionRequest, ImageCaptions
from dpd_core.captions.log import LogWriter, replay, writing
from dpd_core.captions.records import Draft, Key, State
from dpd_core.captions.selection import select_prototypes
from dpd_core.captions.text import template_caption
from dpd_core.config import CaptionsConfig
from dpd_core.dataset.index import load_index
from dpd_core.errors import ProjectError
from dpd_core.events import Emit, Log, ignore
from dpd_core.project import Project
from dpd_core.prototypes.files import Member, Prototype, Slot, list_prototypes, load_members

STAGE = "captions"


def run(
    project: Project,
    config: CaptionsConfig,
    emit: Emit = ignore,
    *,
    captioner: tuple[str, Callable[[], Captioner]] | None = None,
) -> dict[str, Any]:
    """Write captions: for every prototype, or those in ``config.only`` and those without one.

    The images' captions are cached in ``captions/raw.json`` by captioner, image content and
    length, batch by batch, so an interrupted run goes on where it was; the prototypes' texts are
    written to the log in one operation at the end. A caption that a person wrote is kept, unless
    ``config.rewrite`` says otherwise. Clusters that are not to be written still count in the
    aggregation, with the captions that the cache has of them.

    Args:
        project: The project; dataset and prototypes must be there.
        config: The settings.
        emit: Where the events go.
        captioner: Fingerprint and loader of a captioner of one's own, in place of the one in the
            settings.

    Returns:
        ``captions`` (prototypes with a caption), ``captioned_images``, ``changed``,
        ``kept_by_hand``, ``no_longer_apply`` (captions by hand whose image is no prototype now),
        ``unreadable`` (image ids), ``mode``, ``captioner``, ``digest`` (of the texts).

    Raises:
        StageMissing: there are no prototypes.
        ModelError: the captioner cannot be loaded.
        ConfigError: the template does not name the class.
        CaptionError: ``config.only`` names a class or cluster that is not there.
    """
    index = load_index(project)
    prototypes = list_prototypes(project)
    readable = {name: index.readable(name) for name in index.classes}
    for prototype in prototypes:
        if prototype.class_name not in readable:
            raise ProjectError(
                f"there is no class {prototype.class_name!r} in the data set now.",
                where=project.path("prototypes", "prototypes.json"),
                fix="Run the stage 'prototypes' again.",
            )
        template_caption(config.template, readable[prototype.class_name])
    wanted = _wanted(project, prototypes, config)
    shown = _images_to_caption(project, prototypes, config)
    raw: dict[str, str] = {}
    unreadable: list[str] = []
    if config.mode != "template":
        by_id = {record.id: record for record in index.images}
        found = [[by_id[image_id] for image_id in ids if image_id in by_id] for ids in shown]
        if config.mode != "group":
            found = [[record] for records in found for record in records]
        words_of = ImageCaptions(
            project, config.captioner, config.max_words, emit, STAGE, captioner=captioner
        )
        requests = [
            CaptionRequest(
                records[0], readable[records[0].class_name] * config.name_class, tuple(records[1:])
            )
            for records in found
            if records
        ]
        ids = {
            image_id
            for prototype, ids in zip(prototypes, shown, strict=True)
            if prototype.key in wanted
            for image_id in ids
        }
        asked = [request for request in requests if request.record.id in ids]
        unreadable = words_of.add(asked, config.batch_size)
        raw = words_of.known(requests)
    words = [[raw[image_id] for image_id in ids if image_id in raw] for ids in shown]
    texts = _texts(prototypes, words, readable, config)
    with writing(project) as log:
        summary = _write(log, prototypes, texts, config, readable, wanted)
    lost = _no_longer_apply(log.state, prototypes)
    _report(emit, summary["kept_by_hand"], lost, unreadable)
    return {
        **summary,
        "captioned_images": len(raw),
        "no_longer_apply": len(lost),
        "unreadable": unreadable,
        "mode": config.mode,
        "captioner": "" if config.mode == "template" else config.captioner,
        "digest": captions_digest(project),
    }


def _wanted(
    project: Project, prototypes: list[Prototype], config: CaptionsConfig
) -> dict[Key, int]:
    """Keys of the captions to write, with the versions that these have now."""
    chosen = {prototype.key for prototype in select_prototypes(prototypes, config.only)}
    state = replay(project)
    chosen |= {prototype.key for prototype in prototypes if prototype.key not in state.captions}
    return {key: state.versions[key] for key in chosen}


def _images_to_caption(
    project: Project, prototypes: list[Prototype], config: CaptionsConfig
) -> list[list[str]]:
    """For each prototype, the image ids to caption (in the mode ``group`` together, under the id
    of the first), nearest to the centre first."""
    if config.mode == "template":
        return [[] for _ in prototypes]
    if config.mode == "vlm":
        return [[prototype.id] for prototype in prototypes]
    clusters: dict[Slot, list[Member]] = {}
    for member in load_members(project).values():
        clusters.setdefault(member.slot, []).append(member)
    shown = []
    for prototype in prototypes:
        members = clusters.get(prototype.slot, [])
        # Outliers only speak for a cluster that has nobody else.
        members.sort(key=lambda member: (member.outlier, member.distance, member.id))
        inside = [member for member in members if not member.outlier] or members
        ids = [member.id for member in inside[: config.nearest]]
        shown.append(ids or [prototype.id])
    return shown


def _texts(
    prototypes: list[Prototype],
    words: list[list[str]],
    readable: dict[str, str],
    config: CaptionsConfig,
) -> list[str]:
    """The text of each prototype from its images' captions."""
    if config.mode != "aggregated":
        return [
            compose(
                describe(captions[0] if captions else "", prototype.class_name, readable).text,
                prototype.class_name,
                readable,
                template=config.template,
            )
            for prototype, captions in zip(prototypes, words, strict=True)
        ]
    clusters: dict[str, list[list[str]]] = {}
    for prototype, captions in zip(prototypes, words, strict=True):
        clusters.setdefault(prototype.class_name, []).append(captions)
    # prototypes are sorted by class and cluster, so going through them in order meets each text.
    texts = {
        name: iter(found)
        for name, found in aggregate(clusters, readable, template=config.template).items()
    }
    return [next(texts[prototype.class_name]) for prototype in prototypes]


def _write(
    log: LogWriter,
    prototypes: list[Prototype],
    texts: list[str],
    config: CaptionsConfig,
    readable: dict[str, str],
    wanted: dict[Key, int],
) -> dict[str, int]:
    drafts, kept = [], 0
    for prototype, text in zip(prototypes, texts, strict=True):
        if prototype.key not in wanted:
            continue
        old = log.state.captions.get(prototype.key)
        # Whoever allowed writing over captions has not seen what was written since.
        new = log.state.versions[prototype.key] != wanted[prototype.key]
        if old is not None and old.by_hand and (new or not config.rewrite):
            kept += 1
        elif old is None or old.text != text:
            plain = text == template_caption(config.template, readable[prototype.class_name])
            author, source = ("template", "") if plain else ("vlm", config.captioner)
            drafts.append(Draft(prototype.key, prototype.cluster_id, text, author, source))
    log.write(drafts)
    log.write_snapshot()
    return {"captions": len(prototypes), "changed": len(drafts), "kept_by_hand": kept}


def _no_longer_apply(state: State, prototypes: list[Prototype]) -> list[tuple[str, str]]:
    """Keys of the captions by hand whose image is not a prototype now."""
    current = {prototype.key for prototype in prototypes}
    return sorted(
        key for key, caption in state.captions.items() if caption.by_hand and key not in current
    )


def _report(emit: Emit, kept: int, lost: list[tuple[str, str]], unreadable: Sequence[str]) -> None:
    if kept:
        emit(Log(STAGE, f"{kept} captions written by hand were kept"))
    if lost:
        names = ", ".join(image for _, image in lost[:5]) + (" ..." if len(lost) > 5 else "")
        emit(
            Log(
                STAGE,
                f"{len(lost)} captions written by hand no longer apply, because their "
                f"images are not prototypes now: {names}",
                "warning",
            )
        )
    if unreadable:
        emit(Log(STAGE, f"{len(unreadable)} images could not be read", "warning"))
