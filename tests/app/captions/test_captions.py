"""What the Captions tab asks of the core and shows, without a browser."""

from __future__ import annotations

from pathlib import Path

import pytest

from app.captions import service
from app.captions import view as views
from app.captions.service import DUPLICATE, EMPTY, UNNAMED, Filter
from app.captions.text_diff import segments
from app.server.jobs import JobQueue
from app.server.settings import Settings
from dpd_core import storage
from dpd_core.captions.bulk import find_replace
from dpd_core.captions.edits import edit, history, redo, undo
from dpd_core.captions.log import replay
from dpd_core.config import CONFIGS, CaptionsConfig
from dpd_core.errors import CaptionConflict, CaptionError, ConfigError
from dpd_core.project import Project
from tests.support.caption_project import make_project, write_prototypes
from tests.support.finished_stage import finish


@pytest.fixture
def project(tmp_path: Path) -> Project:
    made = make_project(tmp_path / "project")
    edit(made, "airplane", 0, "A white airplane")
    edit(made, "airplane", 1, "A white airplane")
    edit(made, "golfcourse", 0, "Two bunkers")
    edit(made, "golfcourse", 1, "Golf-course with GOLF COURSES")
    edit(made, "harbor", 0, "Harbors <b>full</b> of boats")
    return made


def link(image_id: str) -> str:
    return f"/link/{image_id}"


def test_warnings_say_what_is_empty_doubled_or_does_not_name_its_class(project: Project) -> None:
    warnings = {item.place: item.warnings for item in service.load_items(project)}
    assert warnings == {
        ("airplane", 0): (DUPLICATE,),
        ("airplane", 1): (DUPLICATE,),
        ("golfcourse", 0): (UNNAMED,),
        ("golfcourse", 1): (),
        ("harbor", 0): (),
        ("harbor", 1): (EMPTY,),
    }


@pytest.mark.parametrize(
    ("chosen", "places"),
    [
        (Filter(), 6),
        (Filter("WHITE airplane"), [("airplane", 0), ("airplane", 1)]),
        (Filter("harbor/0-1.png"), [("harbor", 0)]),
        (Filter(class_name="golfcourse", kind="warnings"), [("golfcourse", 0)]),
        (Filter(kind="none"), [("harbor", 1)]),
        (Filter(kind="human"), 5),
        (Filter(kind="machine"), []),
        (Filter("bunkers", "harbor"), []),
    ],
)
def test_the_filter(project: Project, chosen: Filter, places: list | int) -> None:
    found = [item.place for item in chosen.of(service.load_items(project))]
    assert found == places or len(found) == places


def test_places_from_the_browser_are_checked() -> None:
    sent = [["harbor", 0], ["harbor", 0], ["harbor", "1"], [3, 4], "ab", None, ["a", 1, 2]]
    assert service.places(sent) == [("harbor", 0)]
    assert service.places(None) == service.places({"harbor": 0}) == []


def test_saving_what_was_not_seen_is_refused(project: Project) -> None:
    assert service.save(project, ["harbor", 0], "A harbor", 1).version == 2
    with pytest.raises(CaptionConflict):
        service.save(project, ["harbor", 0], "Another harbor", 1)
    for place, text, version in (
        (["sea", 0], "A", 0),
        (["harbor", 9], "A", 0),
        (None, "A", 0),
        (["harbor", 0], "A", "2"),
        (["harbor", 0], None, 2),
    ):
        with pytest.raises(CaptionError):
            service.save(project, place, text, version)
    assert history(project, "harbor", 0)[-1].after == "A harbor"


def test_an_earlier_text_is_restored_as_an_edit(project: Project) -> None:
    first = history(project, "harbor", 0)[0]
    service.save(project, ["harbor", 0], "A harbor", 1)
    service.restore(project, ("harbor", 0), first.id, 2)
    assert service.load_items(project)[4].text == first.after
    with pytest.raises(CaptionError, match="no such entry"):
        service.restore(project, ("airplane", 0), first.id, 1)


def test_the_nearest_images_begin_with_the_prototype(project: Project) -> None:
    near = service.nearest(project, ("harbor", 1), 2)
    assert [member.id for member in near] == ["harbor/1-1.png", "harbor/1-0.png"]


def test_a_run_of_the_captioner_is_for_what_is_chosen() -> None:
    config = CaptionsConfig(mode="vlm")
    assert service.captioning(config, "all", "x", [("x", 1)], False) == config
    chosen = service.captioning(config, "class", "a,b", [], True)
    assert (chosen.only, chosen.rewrite) == (("a%2Cb",), True)
    assert service.captioning(config, "selected", "", [("x", 1)], False).only == ("x/1",)
    for scope in ("class", "selected"):
        with pytest.raises(CaptionError, match="chosen"):
            service.captioning(config, scope, "", [], False)


def test_tokens_are_counted_by_the_models_own_tokenizer(project: Project) -> None:
    short = service.count_tokens(project, "a satellite image of harbor")
    assert short.count == 5 and len(short.pieces) == 1
    long = service.count_tokens(project, "boats " * 100)
    assert len(long.pieces) == -(-long.count // long.room) > 1
    view = views.tokens(long)
    assert view["state"] == "long" and f"in {len(long.pieces)} parts" in view["note"]
    project.configure(project.config.replace(model="/not/there"))
    with pytest.raises(Exception, match="no such folder"):
        service.count_tokens(project, "a")


def test_a_try_out_compares_with_the_caption_before(project: Project) -> None:
    config = service.trial(project, ("airplane", 0), " two  planes ", "dpd")
    assert (config.prompt.split(), config.before) == (["two", "planes"], "A white airplane")
    assert config.prototype == "airplane/0" and config.steps == 25
    edit(project, "airplane", 0, "two planes")
    assert service.trial(project, ("airplane", 0), "two planes", "dpd").before == "A white airplane"
    with pytest.raises(CaptionError):
        service.trial(project, ("sea", 0), "two planes", "dpd")
    with pytest.raises(ConfigError):
        service.trial(project, ("harbor", 0), "x", 3)  # type: ignore[arg-type]


def test_the_newest_try_out_of_a_prototype_is_found(project: Project, tmp_path: Path) -> None:
    queue = JobQueue(Settings(home=tmp_path / "home"))
    assert service.last_trial(project, queue, ("harbor", 0)) is None
    for number, place in enumerate((("harbor", 0), ("harbor", 0), ("harbor", 1))):
        folder = project.path("jobs", f"2026010{number}-preview-ab")
        config = service.trial(project, place, f"text {number}", "template")
        storage.write_json(
            folder / "config.json",
            {
                "stage": "preview",
                "settings": config.to_dict(),
                "command": "",
            },
        )
        files = [f"previews/{number}/0.png"]
        storage.write_json(
            folder / "state.json",
            {
                "status": "done",
                "pid": 1,
                "process_started": 0.0,
                "result": {
                    "prompts": [
                        {"text": "old", "files": files},
                        {"text": f"text {number}", "files": files},
                    ],
                    "adapter": "",
                    "prototype": "",
                    "strategy": "template",
                    "folder": "",
                },
            },
        )
    found = service.last_trial(project, queue, ("harbor", 0))
    view = views.trial(found, link)
    assert [(row["title"], row["text"]) for row in view["rows"]] == [
        ("Before", "old"),
        ("After", "text 1"),
    ]
    assert view["rows"][1]["images"] == ["/link/previews/1/0.png"]


def test_stages_made_from_other_captions_are_named(project: Project) -> None:
    edit(project, "harbor", 1, "A harbor")
    assert "No later stage" in views.summary([], service.later_stages(project))["later"]
    for stage in ("dataset", "prototypes", "captions", "train", "synthesize"):
        finish(project, stage, CONFIGS[stage](), {})
    assert service.later_stages(project) == (["train", "synthesize"], [], [])
    edit(project, "harbor", 1, "Another harbor")
    assert service.later_stages(project) == ([], ["train", "synthesize"], [])
    view = views.summary(service.load_items(project), service.later_stages(project))
    assert "train, synthesize" in view["later"] and view["state"] == "warn"
    # The set is made anew from the new texts, but with the adapter of the old ones.
    finish(project, "synthesize", CONFIGS["synthesize"](), {})
    assert service.later_stages(project).texts == ["train", "synthesize"]
    undo(project)
    project.configure(project.config.replace(seed=9))
    assert service.later_stages(project).other == ["train"]


def test_the_grid_shows_a_page_and_marks_what_is_chosen(project: Project) -> None:
    write_prototypes(project, {"harbor": [f"{k}-0.png" for k in range(30)]})
    items = service.load_items(project)
    first = views.grid(items, 0, [["harbor", 3]], ["harbor", 4], link, "key")
    second = views.grid(items, 1, [], None, link, "key")
    assert (len(first["cards"]), len(second["cards"]), views.pages(len(items))) == (24, 6, 2)
    assert [card["cluster"] for card in first["cards"] if card["selected"]] == [3]
    assert [card["cluster"] for card in first["cards"] if card["open"]] == [4]
    assert views.grid([], 0, [], None, link, "key")["empty"]
    assert views.neighbours(items, items[0]) == (None, items[1])


def test_the_editor_knows_the_version_that_is_seen(project: Project) -> None:
    items = service.load_items(project)
    value = views.editor(items[4], views.neighbours(items, items[4]), link, "key")
    assert (value["version"], value["place"]) == (1, ["harbor", 0])
    assert value["text"] == "Harbors <b>full</b> of boats", "escaping is the template's work"
    assert (value["before"], value["after"]) == (["golfcourse", 1], ["harbor", 1])
    assert views.editor(items[5], (None, None), link, "key")["version"] == 0
    assert views.editor(None, (None, None), link, "key")["key"] == ""


def test_buttons_say_what_they_will_change(project: Project) -> None:
    found = find_replace(project, "white", "red")
    assert views.replace_label(found.changes, found.matches) == "Replace 2 matches in 2 captions"
    assert views.replace_label([], 0) == "Nothing to replace"
    find_replace(project, "white", "red", apply=True)
    assert views.step_labels(replay(project)) == (
        "Undo: replace 'white' by 'red' (2 captions)",
        "",
    )
    undo(project)
    undone = views.step_labels(replay(project))
    assert undone == ("Undo: edit (harbor 0)", "Redo: replace 'white' by 'red' (2 captions)")
    redo(project)
    history_rows = views.details(history(project, "airplane", 0), [], link)["history"]
    assert [row["what"] for row in history_rows] == [
        "done again",
        "undone",
        "replace 'white' by 'red'",
        "",
    ]
    assert [row["restorable"] for row in history_rows] == [False, True, True, True]


def test_a_table_marks_what_changes_word_by_word(project: Project) -> None:
    old, new = segments("two white boats", "two red boats at sea")
    assert [run["text"] for run in old if run["changed"]] == ["white"]
    assert [run["text"] for run in new if run["changed"]] == ["red", " at sea"]
    assert "".join(run["text"] for run in new) == "two red boats at sea"
    assert segments(None, "a") == ([], [{"text": "a", "changed": True}])
    found = find_replace(project, "a", "<i>").changes
    view = views.changes(found * 30, "note")
    assert len(view["rows"]) == views.MAX_ROWS
    assert view["more"] == len(found) * 30 - views.MAX_ROWS


def test_captions_are_written_to_a_file_named_after_the_project(project: Project) -> None:
    for ending in (".json", ".csv"):
        path = service.written_file(project, ending)
        assert path.name == f"project-captions{ending}" and path.stat().st_size > 100
    with pytest.raises(CaptionError):
        service.written_file(project, ".txt")
