"""The captions stage: what is asked of the captioner, what is cached, what is kept."""

from collections.abc import Sequence
from pathlib import Path

import pytest
from caption_project import make_project
from PIL import Image

from dpd_core import storage
from dpd_core.captions import current_captions, edit, run, training_captions
from dpd_core.config import CaptionsConfig
from dpd_core.errors import CaptionError, ConfigError, JobStopped
from dpd_core.events import Event, Log, Progress
from dpd_core.project import Project

CONFIG = CaptionsConfig(nearest=2, batch_size=2)


class Painter:
    """A captioner that names the colour it sees; it remembers what it was asked."""

    fingerprint = "painter"

    def __init__(self) -> None:
        self.asked: list[str] = []

    def caption(
        self, images: list[Image.Image], max_words: int, class_names: Sequence[str] | None = None
    ) -> list[str]:
        names = class_names or [""] * len(images)
        self.asked += names
        texts = []
        for image, name in zip(images, names, strict=True):
            red, green, blue = image.getpixel((0, 0))
            colour = max((red, "red"), (green, "green"), (blue, "blue"))[1]
            texts.append(f"a satellite image of {name or 'a place'} with {colour} ground {green}")
        return texts


@pytest.fixture
def project(tmp_path: Path) -> Project:
    return make_project(tmp_path / "project")


def caption(project: Project, painter: Painter, config: CaptionsConfig = CONFIG, emit=None) -> dict:
    return run(
        project, config, emit or (lambda event: None), captioner=("painter", lambda: painter)
    )


def test_every_prototype_gets_a_text_that_names_its_class(project: Project) -> None:
    result = caption(project, Painter())
    captions = current_captions(project)
    assert result["captions"] == 6
    for name, clusters in captions.items():
        readable = {"golfcourse": "golf course"}.get(name, name)
        for one in clusters.values():
            assert one.text.startswith(f"A satellite image of {readable}: ")
            assert "ground" in one.text
            assert one.author == "vlm"


def test_the_captioner_is_told_the_class_unless_switched_off(project: Project) -> None:
    told, untold = Painter(), Painter()
    caption(project, told)
    assert set(told.asked) == {"airplane", "golf course", "harbor"}
    caption(project, untold, CONFIG.replace(name_class=False))
    assert set(untold.asked) == {""}, "what it was told is part of the cache's key"


def test_only_the_nearest_images_are_captioned_and_only_once(project: Project) -> None:
    first, second = Painter(), Painter()
    assert caption(project, first)["captioned_images"] == 3 * 2 * 2
    assert len(first.asked) == 12
    assert caption(project, second)["changed"] == 0
    assert second.asked == [], "all were in the cache"


def test_a_stop_keeps_what_was_captioned(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    # Progress is reported a few times a second; here, each time.
    monkeypatch.setattr("dpd_core.events.time.monotonic", iter(range(10**6)).__next__)

    def stop(event: Event) -> None:
        if isinstance(event, Progress) and event.done >= 4:
            raise JobStopped("stopped")

    first, second = Painter(), Painter()
    with pytest.raises(JobStopped):
        caption(project, first, emit=stop)
    caption(project, second)
    assert len(first.asked) == 4
    assert len(second.asked) == 12 - 4
    assert len(current_captions(project)["harbor"]) == 2


def test_a_caption_by_hand_is_never_overwritten(project: Project) -> None:
    caption(project, Painter())
    edit(project, "harbor", 1, "boats beside a long pier")
    storage.write_json(project.path("captions", "raw.json"), {})
    result = caption(project, Painter(), CONFIG.replace(mode="template"))
    assert result["kept_by_hand"] == 1
    captions = current_captions(project)
    assert captions["harbor"][1].text == "boats beside a long pier"
    assert captions["harbor"][0].text == "A satellite image of harbor"


def test_images_are_trained_with_their_clusters_text(project: Project) -> None:
    caption(project, Painter())
    texts = training_captions(project)
    assert len(texts) == 18
    captions = current_captions(project)
    assert texts["harbor/1-2.png"] == captions["harbor"][1].text


def test_a_vanished_image_is_reported_and_the_rest_is_captioned(project: Project) -> None:
    project.path("images", "harbor", "0-0.png").unlink()
    seen: list[Event] = []
    result = caption(project, Painter(), emit=seen.append)
    assert result["unreadable"] == ["harbor/0-0.png"]
    assert any(isinstance(event, Log) and event.level == "warning" for event in seen)
    assert len(current_captions(project)["harbor"]) == 2


def test_a_template_without_the_class_is_refused(project: Project) -> None:
    with pytest.raises((ConfigError, CaptionError)):
        run(project, CaptionsConfig(mode="template", template="A satellite image"))
