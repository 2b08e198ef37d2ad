"""Captions of images, single or together: asked of the captioner once, then found in
``captions/raw.json``."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from PIL import Image

from dpd_core import storage
from dpd_core.captions.captioner import (
    TOGETHER,
    Captioner,
    captioner_fingerprint,
    load_captioner,
)
from dpd_core.dataset.images import to_square
from dpd_core.dataset.index import ImageRecord
from dpd_core.dataset.pixels import open_record
from dpd_core.errors import DatasetError, ProjectError
from dpd_core.events import Emit, Log, Meter
from dpd_core.hardware import choose_hardware
from dpd_core.project import Project

_LARGEST_SIDE = 2048


@dataclass(frozen=True)
class CaptionRequest:
    """What the captioner gets: an image, or several to be described together.

    Attributes:
        record: The image, or the first of them.
        class_name: Readable name that the captioner is told; empty where it is not told.
        others: The others of a group.
    """

    record: ImageRecord
    class_name: str
    others: tuple[ImageRecord, ...] = ()

    @property
    def records(self) -> tuple[ImageRecord, ...]:
        """All images."""
        return (self.record, *self.others)

    @property
    def key(self) -> str:
        """Identity of what the captioner is shown: bytes, bands and name, and of a group the
        question too."""
        shown = [[record.sha256, *map(str, record.bands)] for record in self.records]
        if self.others:
            return f"group-{storage.digest(TOGETHER, shown, self.class_name)}"
        return "-".join([*shown[0], self.class_name])


class ImageCaptions:
    """One captioner's captions of a project's images, by content.

    They are on disk batch by batch, so an interrupted run goes on where it was. A run that finds
    all of its images' captions there loads no model.

    Args:
        project: Where they are kept.
        source: ``"bundled"``, a local folder or a Hub id.
        max_words: Length of a caption.
        emit, stage: Progress.
        captioner: Fingerprint and loader of a captioner of one's own, in place of ``source``.

    Raises:
        ModelError: there is no such captioner.
    """

    def __init__(
        self,
        project: Project,
        source: str,
        max_words: int,
        emit: Emit,
        stage: str,
        *,
        captioner: tuple[str, Callable[[], Captioner]] | None = None,
    ):
        self._max_words, self._emit, self._stage = max_words, emit, stage
        self._project, self._source = project, source
        fingerprint, self._load = captioner or (captioner_fingerprint(source), self._load_source)
        self._path = project.path("captions", "raw.json")
        self._all: dict[str, dict[str, str]] = {}
        if self._path.exists():
            try:
                self._all = _checked(storage.read_json(self._path))
            except (ProjectError, ValueError) as error:
                # Only a cache: what is lost is time.
                emit(
                    Log(
                        stage, f"the cached captions are damaged and made again: {error}", "warning"
                    )
                )
        self._texts = self._all.setdefault(f"{fingerprint}/{max_words}", {})

    def known(self, requests: Sequence[CaptionRequest]) -> dict[str, str]:
        """The captions that are there, by the id of the (first) image."""
        return {
            request.record.id: self._texts[request.key]
            for request in requests
            if request.key in self._texts
        }

    def add(self, requests: Sequence[CaptionRequest], batch_size: int) -> list[str]:
        """Caption those of these requests that have no caption yet, ``batch_size`` images at once.
        An image that cannot be read is left out of its group.

        Returns:
            Ids of those that cannot be read, sorted.
        """
        # One caption for each content. The batches are those of the whole list, so that a run
        # that was interrupted goes on with the very batches it would have had.
        wanted = list({request.key: request for request in requests}.values())
        most = max((len(request.records) for request in wanted), default=1)
        at_once = max(1, batch_size // most)
        batches = [wanted[at : at + at_once] for at in range(0, len(wanted), at_once)]
        batches = [
            batch for batch in batches if any(request.key not in self._texts for request in batch)
        ]
        if not batches:
            return []
        model = self._load()
        unreadable: list[str] = []
        done = len(wanted) - sum(map(len, batches))
        meter = Meter(self._emit, self._stage, len(wanted), done=done, message="captioning images")
        for batch in batches:
            images, readable = [], []
            for request in batch:
                found = []
                for record in request.records:
                    try:
                        found.append(_square(record))
                    except DatasetError as error:
                        unreadable.append(record.id)
                        text = f"not captioned: {record.id}: {error}"
                        self._emit(Log(self._stage, text, "warning"))
                if found:
                    images.append(found)
                    readable.append(request)
            if images:
                names = [request.class_name for request in readable]
                texts = _asked(model, images, self._max_words, names)
                self._texts.update(
                    {request.key: text for request, text in zip(readable, texts, strict=True)}
                )
                storage.write_json(self._path, self._all)
            meter.advance(len(batch))
        return sorted(unreadable)

    def _load_source(self) -> Captioner:
        hardware = choose_hardware(self._project.config)
        self._emit(Log(self._stage, f"loading the captioner {self._source} ({hardware.reason})"))
        return load_captioner(self._source, hardware)


def _asked(
    model: Captioner, images: list[list[Image.Image]], max_words: int, names: list[str]
) -> list[str]:
    if all(len(group) == 1 for group in images):
        return model.caption([image for (image,) in images], max_words, names)
    return model.caption_together(images, max_words, names)


def _checked(value: Any) -> dict[str, dict[str, str]]:
    if isinstance(value, dict) and all(
        isinstance(texts, dict) and all(isinstance(text, str) for text in texts.values())
        for texts in value.values()
    ):
        return value
    raise ValueError("not captions by image")


def _square(record: ImageRecord) -> Image.Image:
    """The square of the image that the diffusion model sees too, in its own resolution."""
    image = open_record(record)
    return to_square(image, min(*image.size, _LARGEST_SIDE))
