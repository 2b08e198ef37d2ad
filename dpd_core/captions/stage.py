"""The stage ``captions``: put each cluster into words, and keep what people wrote."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from dpd_core import storage
from dpd_core.captions.aggregate import aggregate, compose, describe
from dpd_core.captions.captioner import Captioner, captioner_fingerprint, load_captioner
from dpd_core.captions.edits import current_captions
from dpd_core.captions.log import Draft, Key, LogWriter, State, replay, writing
from dpd_core.captions.targets import Member, Target, load_members, load_targets, select_targets
from dpd_core.captions.text import template_caption
from dpd_core.config import CaptionsConfig
from dpd_core.errors import DatasetError, ProjectError, StageMissing
from dpd_core.events import Emit, Log, Meter, ignore
from dpd_core.hardware import choose_hardware
from dpd_core.project import Project

if TYPE_CHECKING:
    from PIL import Image

    from dpd_core.dataset import DatasetIndex, ImageRecord

STAGE = "captions"
_LARGEST_SIDE = 2048


def run(
    project: Project, config: CaptionsConfig, emit: Emit = ignore, *,
    captioner: tuple[str, Callable[[], Captioner]] | None = None,
) -> dict[str, Any]:  # fmt: skip
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
    from dpd_core.dataset import load_index

    index = load_index(project)
    targets = load_targets(project)
    readable = {name: index.readable(name) for name in index.classes}
    for target in targets:
        if target.class_name not in readable:
            raise ProjectError(f"there is no class {target.class_name!r} in the data set now.",
                               where=project.path("prototypes", "prototypes.json"),
                               fix="Run the stage 'prototypes' again.")  # fmt: skip
        template_caption(config.template, readable[target.class_name])
    wanted = _wanted(project, targets, config)
    shown = _images_to_caption(project, targets, config)
    raw: dict[str, str] = {}
    unreadable: list[str] = []
    if config.mode != "template":
        by_id = {record.id: record for record in index.images}
        records = [by_id[image_id] for ids in shown for image_id in ids if image_id in by_id]
        identity, load = captioner or _captioner(project, config, emit)
        cache = _RawCache(project, f"{identity}/{config.max_words}", emit)
        shows = [Shown(one, readable[one.class_name] * config.name_class) for one in records]
        ids = {image_id for target, ids in zip(targets, shown, strict=True)
               if target.key in wanted for image_id in ids}  # fmt: skip
        asked = [one for one in shows if one.record.id in ids]
        unreadable = _caption_images(cache, asked, load, config, emit)
        raw = {one.record.id: cache.texts[one.key] for one in shows if one.key in cache.texts}
    words = [[raw[image_id] for image_id in ids if image_id in raw] for ids in shown]
    texts = _texts(targets, words, readable, config)
    with writing(project) as log:
        summary = _write(log, targets, texts, config, readable, wanted)
    lost = _no_longer_apply(log.state, targets)
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


@dataclass(frozen=True)
class Shown:
    """An image as the captioner gets it.

    Attributes:
        record: The image.
        class_name: Readable name that the captioner is told; empty where it is not told.
    """

    record: ImageRecord
    class_name: str

    @property
    def key(self) -> str:
        """Identity of what the captioner is shown: bytes, bands and name."""
        return "-".join([self.record.sha256, *map(str, self.record.bands), self.class_name])


def training_captions(project: Project) -> dict[str, str]:
    """The caption of every train image, by image id: its cluster's.

    An image that was left out of the clustering as an outlier gets the sentence that names its
    class.

    Raises:
        StageMissing: prototypes or captions are not there yet.
    """
    captions = current_captions(project)
    record = project.record(STAGE)
    template = CaptionsConfig.from_dict(record["settings"] if record else {}).template
    readable: dict[str, str] = {}
    texts = {}
    for member in load_members(project):
        caption = captions.get(member.class_name, {}).get(
            -1 if member.cluster_id is None else member.cluster_id
        )
        if caption is not None:
            texts[member.image_id] = caption.text
        elif member.cluster_id is not None:
            raise _uncaptioned(project, member)
        else:
            readable = readable or _readable(project)
            texts[member.image_id] = template_caption(template, readable[member.class_name])
    return texts


def captions_digest(project: Project) -> str:
    """Identity of all current captions' texts; another one means that images made from them are
    out of date."""
    captions = current_captions(project)
    texts = {name: {str(k): one.text for k, one in c.items()} for name, c in captions.items()}
    return storage.digest(texts)


def _wanted(project: Project, targets: list[Target], config: CaptionsConfig) -> dict[Key, int]:
    """Keys of the captions to write, with the versions that these have now."""
    chosen = {target.key for target in select_targets(targets, config.only)}
    state = replay(project)
    chosen |= {target.key for target in targets if target.key not in state.captions}
    return {key: state.versions[key] for key in chosen}


def _images_to_caption(
    project: Project, targets: list[Target], config: CaptionsConfig
) -> list[list[str]]:
    """For each prototype, the image ids to caption, nearest to the centre first."""
    if config.mode == "template":
        return [[] for _ in targets]
    if config.mode == "vlm":
        return [[target.prototype_id] for target in targets]
    clusters: dict[tuple[str, int], list[Member]] = {}
    for member in load_members(project):
        if member.cluster_id is not None:
            clusters.setdefault((member.class_name, member.cluster_id), []).append(member)
    shown = []
    for target in targets:
        members = clusters.get((target.class_name, target.cluster_id), [])
        # Outliers only speak for a cluster that has nobody else.
        members.sort(key=lambda member: (member.outlier, member.distance, member.image_id))
        inside = [member for member in members if not member.outlier] or members
        ids = [member.image_id for member in inside[: config.nearest]]
        shown.append(ids or [target.prototype_id])
    return shown


def _captioner(
    project: Project, config: CaptionsConfig, emit: Emit
) -> tuple[str, Callable[[], Captioner]]:
    """The captioner's fingerprint, and how to load it: a run that finds every image's caption in
    the cache loads nothing."""

    def load() -> Captioner:
        hardware = choose_hardware(project.config)
        emit(Log(STAGE, f"loading the captioner {config.captioner} ({hardware.reason})"))
        return load_captioner(config.captioner, hardware)

    return captioner_fingerprint(config.captioner), load


def _caption_images(
    cache: _RawCache, shows: list[Shown], load: Callable[[], Captioner],
    config: CaptionsConfig, emit: Emit,
) -> list[str]:  # fmt: skip
    """Fill the cache for these images; return the ids of those that cannot be read."""
    # One caption for each content. The batches are those of the whole list, so that a run that
    # was interrupted goes on with the very batches it would have had.
    wanted = list({one.key: one for one in shows}.values())
    size = config.batch_size
    batches = [wanted[start : start + size] for start in range(0, len(wanted), size)]
    batches = [batch for batch in batches if any(one.key not in cache.texts for one in batch)]
    if not batches:
        return []
    model = load()
    unreadable: list[str] = []
    done = len(wanted) - sum(map(len, batches))
    meter = Meter(emit, STAGE, len(wanted), done=done, message="captioning images")
    for batch in batches:
        images, readable = [], []
        for one in batch:
            try:
                images.append(_square(one.record))
                readable.append(one)
            except DatasetError as error:
                unreadable.append(one.record.id)
                emit(Log(STAGE, f"not captioned: {one.record.id}: {error}", "warning"))
        if images:
            names = [one.class_name for one in readable]
            texts = model.caption(images, config.max_words, names)
            cache.add({one.key: text for one, text in zip(readable, texts, strict=True)})
        meter.advance(len(batch))
    return sorted(unreadable)


def _texts(
    targets: list[Target], words: list[list[str]], readable: dict[str, str], config: CaptionsConfig
) -> list[str]:
    """The text of each prototype from its images' captions."""
    if config.mode != "aggregated":
        return [
            compose(
                describe(captions[0] if captions else "", target.class_name, readable).text,
                target.class_name, readable, template=config.template,
            )
            for target, captions in zip(targets, words, strict=True)
        ]  # fmt: skip
    clusters: dict[str, list[list[str]]] = {}
    for target, captions in zip(targets, words, strict=True):
        clusters.setdefault(target.class_name, []).append(captions)
    # targets are sorted by class and cluster, so going through them in order meets each text.
    texts = {
        name: iter(found)
        for name, found in aggregate(
            clusters, readable, template=config.template, common=config.common
        ).items()
    }
    return [next(texts[target.class_name]) for target in targets]


def _write(
    log: LogWriter, targets: list[Target], texts: list[str], config: CaptionsConfig,
    readable: dict[str, str], wanted: dict[Key, int],
) -> dict[str, int]:  # fmt: skip
    drafts, kept = [], 0
    for target, text in zip(targets, texts, strict=True):
        if target.key not in wanted:
            continue
        old = log.state.captions.get(target.key)
        # Whoever allowed writing over captions has not seen what was written since.
        new = log.state.versions[target.key] != wanted[target.key]
        if old is not None and old.by_hand and (new or not config.rewrite):
            kept += 1
        elif old is None or old.text != text:
            plain = text == template_caption(config.template, readable[target.class_name])
            author, source = ("template", "") if plain else ("vlm", config.captioner)
            drafts.append(Draft(target.key, target.cluster_id, text, author, source))
    log.write(drafts)
    log.write_snapshot()
    return {"captions": len(targets), "changed": len(drafts), "kept_by_hand": kept}


def _no_longer_apply(state: State, targets: list[Target]) -> list[tuple[str, str]]:
    """Keys of the captions by hand whose image is not a prototype now."""
    current = {target.key for target in targets}
    return sorted(key for key, one in state.captions.items() if one.by_hand and key not in current)


def _report(emit: Emit, kept: int, lost: list[tuple[str, str]], unreadable: Sequence[str]) -> None:
    if kept:
        emit(Log(STAGE, f"{kept} captions written by hand were kept"))
    if lost:
        names = ", ".join(image for _, image in lost[:5]) + (" ..." if len(lost) > 5 else "")
        emit(Log(STAGE, f"{len(lost)} captions written by hand no longer apply, because their "
                 f"images are not prototypes now: {names}", "warning"))  # fmt: skip
    if unreadable:
        emit(Log(STAGE, f"{len(unreadable)} images could not be read", "warning"))


class _RawCache:
    """``captions/raw.json``: image captions by captioner and length, then by content."""

    def __init__(self, project: Project, key: str, emit: Emit):
        self._path = project.path("captions", "raw.json")
        self._all: dict[str, dict[str, str]] = {}
        if self._path.exists():
            try:
                self._all = self._checked(storage.read_json(self._path))
            except (ProjectError, ValueError) as error:
                # Only a cache: what is lost is time.
                emit(Log(STAGE, f"the cached captions are damaged and made again: {error}",
                         "warning"))  # fmt: skip
        self.texts = self._all.setdefault(key, {})

    @staticmethod
    def _checked(value: Any) -> dict[str, dict[str, str]]:
        if isinstance(value, dict) and all(
            isinstance(texts, dict) and all(isinstance(text, str) for text in texts.values())
            for texts in value.values()
        ):
            return value
        raise ValueError("not captions by image")

    def add(self, texts: dict[str, str]) -> None:
        """Take new texts up, on disk too."""
        self.texts.update(texts)
        storage.write_json(self._path, self._all)


def _square(record: ImageRecord) -> Image.Image:
    """The square of the image that the diffusion model sees too, in its own resolution."""
    from dpd_core.dataset.pixels import open_record
    from dpd_core.images import to_square

    image = open_record(record)
    return to_square(image, min(*image.size, _LARGEST_SIDE))


def _readable(project: Project) -> dict[str, str]:
    from dpd_core.dataset import load_index

    index: DatasetIndex = load_index(project)
    return {name: index.readable(name) for name in index.classes}


def _uncaptioned(project: Project, member: Member) -> StageMissing:
    return StageMissing(
        f"cluster {member.cluster_id} of the class {member.class_name!r} has no caption yet.",
        where=project.root,
        fix=f"Run `python -m dpd_core captions --project {project.root}` first.",
    )
