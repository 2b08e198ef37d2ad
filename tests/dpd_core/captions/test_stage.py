"""The stage: captioning, aggregating, resuming, and keeping what people wrote."""

import pytest

from dpd_core import storage
from dpd_core.captions.current import captions_digest, current_captions, training_captions
from dpd_core.captions.edits import edit, history, undo
from dpd_core.captions.selection import select_prototypes
from dpd_core.captions.stage import run
from dpd_core.config import CaptionsConfig
from dpd_core.dataset.index import load_index
from dpd_core.errors import (
    CaptionError,
    ConfigError,
    JobStopped,
    ModelError,
    ProjectError,
    StageMissing,
)
from dpd_core.events import Log, Progress
from dpd_core.project import Project
from dpd_core.prototypes.files import Prototype, class_text
from tests.support.caption_project import COLORS, make_project, write_prototypes
from tests.support.captioners import save_blip, save_qwen

WORDS = {
    "airplane": "a white airplane with a red tail",
    "golfcourse": "a golf course with bunkers",
    "harbor": "a harbor with many boats",
}


class Fake:
    """Knows the class by the color, adds the member's number, and counts its work."""

    fingerprint = "fake"

    def __init__(self, words=WORDS):
        self.words, self.batches, self.told = words, [], []

    def caption(self, images, max_words, class_names=None):
        self.batches.append(len(images))
        self.told.extend(class_names)
        return [self._one(image) for image in images]

    def _one(self, image):
        assert image.mode == "RGB" and image.size[0] == image.size[1]
        pixel = image.getpixel((0, 0))
        name = min(COLORS, key=lambda name: abs(COLORS[name][2] - pixel[2]))
        return f"a satellite image of {self.words[name]}"


def caption(project, model=None, emit=lambda event: None, **settings):
    model = model or Fake()
    return run(project, CaptionsConfig(**settings), emit, captioner=("fake", lambda: model))


def texts(project):
    return {
        name: [caption.text for _, caption in sorted(found.items())]
        for name, found in current_captions(project).items()
    }


@pytest.fixture
def project(tmp_path):
    return make_project(tmp_path / "project")


def test_every_prototype_gets_a_text_that_names_its_class(project):
    model = Fake()
    result = caption(project, model, nearest=2)
    assert texts(project) == {
        "airplane": ["A satellite image of airplane: a white airplane with a red tail"] * 2,
        "golfcourse": ["A satellite image of golf course: bunkers"] * 2,
        "harbor": ["A satellite image of harbor: many boats"] * 2,
    }
    assert result == {
        "captions": 6,
        "changed": 6,
        "kept_by_hand": 0,
        "captioned_images": 12,
        "no_longer_apply": 0,
        "unreadable": [],
        "mode": "aggregated",
        "captioner": "bundled",
        "digest": captions_digest(project),
    }
    assert sum(model.batches) == 12, "the two nearest of each cluster"
    assert {
        caption.author for c in current_captions(project).values() for caption in c.values()
    } == {"vlm"}
    snapshot = storage.read_json(project.path("captions", "captions.json"))
    assert snapshot["harbor"][1]["caption"] == "A satellite image of harbor: many boats"


def test_the_template_needs_no_captioner(project):
    result = run(project, CaptionsConfig(mode="template", captioner="/not/there"))
    assert texts(project)["golfcourse"] == ["A satellite image of golf course"] * 2
    assert (result["captioned_images"], result["captioner"]) == (0, "")


def test_vlm_mode_describes_the_prototype_itself(project):
    model = Fake()
    result = caption(project, model, mode="vlm")
    assert result["captioned_images"] == 6
    assert texts(project)["harbor"] == ["A satellite image of harbor: many boats"] * 2


@pytest.mark.parametrize("mode", ["vlm", "aggregated"])
def test_a_captioner_that_names_the_wrong_class_is_not_believed(project, mode):
    wrong = Fake({**WORDS, "airplane": "a harbor with many boats on grey water"})
    caption(project, wrong, mode=mode)
    sentence = "A satellite image of airplane"
    assert texts(project)["airplane"][0] == f"{sentence}: many boats on grey water"
    caption(project, Fake({**WORDS, "airplane": "a harbor"}), mode=mode, max_words=39)
    assert texts(project)["airplane"][0] == sentence
    assert current_captions(project)["airplane"][0].author == "template"


@pytest.mark.parametrize("told", [True, False])
def test_the_captioner_is_told_the_class_or_not(project, told):
    model = Fake()
    caption(project, model, name_class=told)
    assert set(model.told) == ({"airplane", "golf course", "harbor"} if told else {""})


def test_cached_captions_are_not_made_again(project):
    caption(project)
    again, other = Fake(), Fake()
    before = storage.read_json_lines(project.path("captions", "log.jsonl"))
    assert caption(project, again)["changed"] == 0
    assert again.batches == []
    assert storage.read_json_lines(project.path("captions", "log.jsonl")) == before
    caption(project, other, max_words=12)
    assert sum(other.batches) == 18


def test_a_run_can_be_for_some_captions_only(project):
    caption(project, Fake({name: f"{name} of old" for name in WORDS}), max_words=39)
    before = texts(project)
    model = Fake()
    assert caption(project, model, only=("harbor", "airplane/1"))["changed"] == 3
    assert sum(model.batches) == 3 * 3, "only their images"
    now = texts(project)
    assert now["harbor"] == ["A satellite image of harbor: many boats"] * 2
    assert now["airplane"][0] == before["airplane"][0] != now["airplane"][1]
    assert now["golfcourse"] == before["golfcourse"]


def test_a_run_for_some_gives_the_texts_of_a_full_run(project):
    caption(project)
    full = texts(project)
    edit(project, "harbor", 0, "by hand")
    assert caption(project, only=("harbor/0",), rewrite=True)["changed"] == 1
    assert texts(project) == full


def test_prototypes_without_a_caption_get_one_in_every_run(project):
    assert caption(project, only=("harbor",))["changed"] == 6


def test_names_with_commas_and_slashes_can_be_chosen(project):
    prototypes = [
        Prototype(f"{name}.png", name, 0, "", "", 0.0, 0.0, 0.0, 1)
        for name in ("a,b", "a", "a/0", "100%2C")
    ]
    for prototype in prototypes:
        for name in (class_text(prototype.class_name), str(prototype.slot)):
            assert "," not in name
            assert select_prototypes(prototypes, (name,)) == [prototype]
    with pytest.raises(CaptionError, match="no such class"):
        select_prototypes(prototypes, ("b",))
    with pytest.raises(CaptionError, match="no cluster 7"):
        select_prototypes(prototypes, ("a,b/7",))


def test_captions_by_hand_are_written_over_only_if_asked(project):
    caption(project)
    edit(project, "harbor", 0, "my harbor")
    assert caption(project, only=("harbor",))["kept_by_hand"] == 1
    assert texts(project)["harbor"][0] == "my harbor"
    assert caption(project, only=("harbor",), rewrite=True)["changed"] == 1
    assert texts(project)["harbor"][0] == "A satellite image of harbor: many boats"
    assert [entry.after for entry in history(project, "harbor", 0)][1] == "my harbor"


def test_what_is_written_during_a_run_is_kept_even_so(project):
    class Editing(Fake):
        def caption(self, *arguments):
            edit(project, "harbor", 0, "written meanwhile")
            return super().caption(*arguments)

    caption(project)
    edit(project, "harbor", 0, "seen")
    caption(project, Editing(), max_words=39, rewrite=True)
    assert texts(project)["harbor"][0] == "written meanwhile"


def test_the_choice_of_captions_holds_for_one_run(project):
    config = CaptionsConfig(mode="vlm", only=("harbor",), rewrite=True)
    assert config.lasting() == CaptionsConfig(mode="vlm")


def test_a_run_whose_captions_are_all_cached_loads_nothing(project):
    caption(project)

    def refuse():
        raise AssertionError("must not be loaded")

    run(project, CaptionsConfig(), captioner=("fake", refuse))


class Dying(Fake):
    """Ends the run before a batch, as a crash would."""

    def __init__(self, after):
        super().__init__()
        self.after = after

    def caption(self, *arguments):
        if len(self.batches) == self.after:
            raise JobStopped("stop")
        return super().caption(*arguments)


@pytest.mark.parametrize("after", [0, 1, 3])
def test_an_interrupted_run_goes_on_with_the_same_batches(project, after):
    whole = Fake()
    caption(make_project(project.root.parent / "whole"), whole, batch_size=5)
    first, second = Dying(after), Fake()
    with pytest.raises(JobStopped):
        caption(project, first, batch_size=5)
    assert current_captions(project) == {name: {} for name in COLORS}, "nothing half-written"
    caption(project, second, batch_size=5)
    assert first.batches + second.batches == whole.batches == [5, 5, 5, 3]
    assert texts(project)["harbor"] == ["A satellite image of harbor: many boats"] * 2


def test_a_stop_is_heard_while_captioning(project):
    def stop(event):
        if isinstance(event, Progress):
            raise JobStopped("stop")

    with pytest.raises(JobStopped):
        caption(project, emit=stop)


def test_a_damaged_cache_costs_only_time(project):
    caption(project)
    events = []
    for content in ("{", '{"a": 1}', "[]"):
        project.path("captions", "raw.json").write_text(content)
        model = Fake()
        caption(project, model, events.append)
        assert sum(model.batches) == 18
    assert any("damaged" in event.message for event in events if isinstance(event, Log))


def test_what_a_person_wrote_is_kept(project):
    caption(project)
    edit(project, "harbor", 1, "my own words")
    events = []
    result = caption(
        project, Fake({**WORDS, "harbor": "a harbor with cranes"}), events.append, max_words=20
    )
    assert texts(project)["harbor"] == ["A satellite image of harbor: cranes", "my own words"]
    assert result["kept_by_hand"] == 1
    assert any(
        "1 captions written by hand were kept" in event.message
        for event in events
        if isinstance(event, Log)
    )
    undo(project)
    caption(project, Fake({**WORDS, "harbor": "a harbor with cranes"}), max_words=20)
    assert texts(project)["harbor"][1] == "A satellite image of harbor: cranes"


def test_a_caption_by_hand_does_not_pass_to_another_prototype(project):
    caption(project)
    edit(project, "harbor", 0, "my own words")
    files = {name: ["0-1.png", "1-1.png"] for name in COLORS} | {"harbor": ["0-2.png", "1-1.png"]}
    write_prototypes(project, files)
    events = []
    result = caption(project, emit=events.append)
    assert texts(project)["harbor"][0] == "A satellite image of harbor: many boats"
    assert (result["kept_by_hand"], result["no_longer_apply"]) == (0, 1)
    assert any(
        "no longer apply" in event.message and "harbor/0-1.png" in event.message
        for event in events
        if isinstance(event, Log)
    )
    write_prototypes(project, files | {"harbor": ["0-1.png", "1-1.png"]})
    assert texts(project)["harbor"][0] == "my own words", "it comes back with its image"


def test_an_unreadable_image_is_reported_and_the_others_speak(project):
    project.path("images", "harbor", "0-0.png").write_bytes(b"not an image")
    events = []
    result = caption(project, emit=events.append)
    assert result["unreadable"] == ["harbor/0-0.png"]
    assert texts(project)["harbor"] == ["A satellite image of harbor: many boats"] * 2
    assert any("harbor/0-0.png" in event.message for event in events if isinstance(event, Log))
    for path in project.path("images", "harbor").iterdir():
        path.write_bytes(b"no")
    storage.write_json(project.path("captions", "raw.json"), {})
    caption(project)
    assert texts(project)["harbor"] == ["A satellite image of harbor"] * 2


def test_outliers_do_not_speak_for_their_cluster(project):
    path = project.path("prototypes", "clusters.json")
    clusters = storage.read_json(path)
    clusters["harbor/0-0.png"]["outlier"] = True
    for name in ("0", "1", "2"):
        clusters[f"golfcourse/1-{name}.png"]["outlier"] = True
    storage.write_json(path, clusters)
    model = Fake()
    assert caption(project, model)["captioned_images"] == 17, "all of a cluster of outliers"


def test_equal_images_are_captioned_once(project):
    content = project.path("images", "harbor", "0-0.png").read_bytes()
    index = storage.read_json(project.path("dataset", "index.json"))
    first = next(row for row in index["images"] if row["id"] == "harbor/0-0.png")
    for row in index["images"]:
        if row["class"] == "harbor":
            project.path(row["file"]).write_bytes(content)
            row["sha256"] = first["sha256"]
    storage.write_json(project.path("dataset", "index.json"), index)
    model = Fake()
    assert caption(project, model)["captioned_images"] == 18
    assert sum(model.batches) == 13


def test_each_train_image_is_trained_with_its_clusters_caption(project):
    caption(project)
    edit(project, "harbor", 1, "my own words")
    found = training_captions(project)
    assert set(found) == {record.id for record in load_index(project).images}
    assert found["harbor/1-2.png"] == "my own words"
    assert found["harbor/0-0.png"] == "A satellite image of harbor: many boats"


def test_training_waits_for_captions(project):
    with pytest.raises(StageMissing, match="captions --project"):
        training_captions(project)


def test_the_digest_follows_the_texts(project):
    caption(project)
    first = captions_digest(project)
    edit(project, "harbor", 1, "my own words")
    assert captions_digest(project) != first
    undo(project)
    assert captions_digest(project) == first


def test_what_is_missing_or_wrong_is_named(project, tmp_path):
    with pytest.raises(ConfigError, match=r"captions\.template"):
        run(project, CaptionsConfig(mode="template", template="no name"))
    with pytest.raises(ModelError, match="no such folder"):
        run(project, CaptionsConfig(captioner="./nowhere"))
    project.path("prototypes", "prototypes.json").write_text("[1]")
    with pytest.raises(ProjectError, match="not a prototype file"):
        run(project, CaptionsConfig(mode="template"))
    write_prototypes(project, {"port": ["0-1.png"]})
    with pytest.raises(ProjectError, match="'port'"):
        run(project, CaptionsConfig(mode="template"))
    project.path("prototypes", "prototypes.json").unlink()
    with pytest.raises(StageMissing, match="prototypes --project"):
        run(project, CaptionsConfig(mode="template"))
    with pytest.raises(StageMissing, match="dataset"):
        run(Project.create(tmp_path / "empty"), CaptionsConfig(mode="template"))


def test_with_a_real_model(project, tmp_path):
    folder = save_blip(tmp_path / "blip")
    config = CaptionsConfig(captioner=str(folder), nearest=1, max_words=5)
    result = run(project, config)
    assert result["captioned_images"] == 6 and result["changed"] == 6
    assert all(
        text.startswith("A satellite image of golf course") for text in texts(project)["golfcourse"]
    )
    assert run(Project.open(project.root), config)["changed"] == 0


class Together(Fake):
    """Says how many images it saw together."""

    def caption_together(self, groups, max_words, class_names):
        self.batches.append([len(group) for group in groups])
        return [f"{len(group)} alike, {self._one(group[0])}" for group in groups]


def test_a_group_is_described_as_a_whole_and_once(project):
    model = Together()
    result = caption(project, model, mode="group", nearest=3, batch_size=7)
    assert model.batches == [[3, 3]] * 3, "seven images at once are two groups of three"
    assert result["changed"] == 6
    assert all("3 alike" in text for found in texts(project).values() for text in found)
    caption(project, model, mode="group", nearest=3, rewrite=True)
    assert len(model.batches) == 3, "the answers are kept"
    caption(project, model, mode="group", nearest=2)
    assert model.batches[3:] == [[2] * 6], "another group is another question"


def test_an_unreadable_image_leaves_its_group(project):
    project.path("images", "harbor", "0-0.png").write_bytes(b"no image")
    model = Together()
    result = caption(project, model, mode="group", nearest=3, batch_size=100)
    assert result["unreadable"] == ["harbor/0-0.png"]
    assert sorted(model.batches[0]) == [2, 3, 3, 3, 3, 3]


def test_a_group_with_a_real_model(project, tmp_path):
    folder = save_qwen(tmp_path / "qwen")
    config = CaptionsConfig(captioner=str(folder), mode="group", nearest=2, max_words=5)
    assert run(project, config)["changed"] > 0
    assert run(Project.open(project.root), config)["changed"] == 0
