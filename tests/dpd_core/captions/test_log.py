"""Editing captions: the append-only log, undo, find and replace, files."""

import csv
import json
import multiprocessing
import time
from pathlib import Path

import pytest

from dpd_core import storage
from dpd_core.captions.bulk import export_captions, find_replace, import_captions
from dpd_core.captions.edits import (
    apply_changes,
    current_captions,
    edit,
    history,
    next_steps,
    redo,
    reset,
    undo,
)
from dpd_core.captions.log import replay
from dpd_core.captions.stage import run
from dpd_core.config import CaptionsConfig
from dpd_core.errors import CaptionError, ProjectError, StageMissing
from dpd_core.project import Project
from tests.support.caption_project import make_project, write_prototypes

TEMPLATE = CaptionsConfig(mode="template")


@pytest.fixture
def project(tmp_path):
    project = make_project(tmp_path / "project", classes=("harbor", "airplane"))
    run(project, TEMPLATE)
    return project


def texts(project):
    return {
        (name, k): caption.text
        for name, clusters in current_captions(project).items()
        for k, caption in clusters.items()
    }


def lines(project):
    return storage.read_json_lines(project.path("captions", "log.jsonl"))


def snapshot(project):
    content = storage.read_json(project.path("captions", "captions.json"))
    return {(name, one["cluster_id"]): one["caption"] for name, c in content.items() for one in c}


def test_an_edit_is_on_record_and_in_the_snapshot(project):
    before = lines(project)
    caption = edit(project, "harbor", 1, " many  boats\n at a pier ")
    assert (caption.text, caption.author, caption.version) == ("many boats at a pier", "human", 2)
    assert caption.by_hand and caption.prototype_id == "harbor/1-1.png"
    assert current_captions(project)["harbor"][1] == caption
    assert lines(project)[:-1] == before, "earlier lines must never change"
    entry = lines(project)[-1]
    assert entry | {"time": ""} == {
        "id": 5,
        "time": "",
        "kind": "set",
        "author": "human",
        "source": "",
        "class": "harbor",
        "cluster_id": 1,
        "prototype": "harbor/1-1.png",
        "before": "A satellite image of harbor",
        "after": "many boats at a pier",
        "batch": 5,
        "of": 1,
    }
    assert snapshot(project) == texts(project)
    assert [one.author for one in history(project, "harbor", 1)] == ["template", "human"]


def test_the_snapshot_keeps_the_published_format(project):
    edit(project, "harbor", 0, "boats")
    published = storage.read_json(project.path("prototypes", "prototypes.json"))
    content = storage.read_json(project.path("captions", "captions.json"))
    assert content["harbor"][0] == published["harbor"][0] | {
        "caption": "boats",
        "caption_version": 2,
        "caption_author": "human",
    }


def test_writing_the_same_text_changes_nothing(project):
    count = len(lines(project))
    edit(project, "harbor", 0, "A satellite image  of harbor")
    assert len(lines(project)) == count


def test_a_caption_changed_meanwhile_is_not_overwritten(project):
    seen = current_captions(project)["harbor"][0].version
    edit(project, "harbor", 0, "theirs", expected_version=seen)
    with pytest.raises(CaptionError, match=r"changed meanwhile.*theirs"):
        edit(project, "harbor", 0, "mine", expected_version=seen)
    assert texts(project)["harbor", 0] == "theirs"


@pytest.mark.parametrize(
    ("arguments", "match"),
    [
        (("port", 0, "x"), "no such class.*airplane, harbor"),
        (("harbor", 7, "x"), "no cluster 7.*0, 1"),
        (("harbor", 0, " "), "harbor, cluster 0: the caption is empty"),
        (("harbor", 0, "x" * 2001), "2,001 characters"),
        (("harbor", 0, "x", "vlm"), "author"),
    ],
)
def test_a_wrong_edit_is_refused(project, arguments, match):
    count = len(lines(project))
    with pytest.raises(CaptionError, match=match):
        edit(project, *arguments)
    assert len(lines(project)) == count


def test_without_prototypes_there_is_nothing_to_edit(tmp_path):
    with pytest.raises(StageMissing, match="prototypes --project"):
        edit(Project.create(tmp_path / "new"), "harbor", 0, "boats")


def test_undo_and_redo_walk_through_what_people_did(project):
    first = texts(project)
    edit(project, "harbor", 0, "one")
    edit(project, "harbor", 1, "two")
    edit(project, "harbor", 0, "three")
    undo(project)
    assert texts(project)["harbor", 0] == "one"
    undo(project)
    undo(project)
    assert texts(project) == first
    assert current_captions(project)["harbor"][0].author == "template"
    with pytest.raises(CaptionError, match="nothing to undo"):
        undo(project)  # what the machine wrote is not undone
    assert [change.after for change in redo(project)] == ["one"]
    redo(project)
    redo(project)
    assert texts(project)["harbor", 0] == "three"
    assert current_captions(project)["harbor"][0].author == "human"
    with pytest.raises(CaptionError, match="nothing to do again"):
        redo(project)
    assert [line["kind"] for line in lines(project)[4:]] == ["set"] * 3 + ["undo"] * 3 + [
        "redo"
    ] * 3, "undoing only ever appends"


def test_a_new_edit_ends_what_could_be_done_again(project):
    edit(project, "harbor", 0, "one")
    undo(project)
    edit(project, "harbor", 1, "two")
    assert next_steps(project)[1] == []
    undo(project)
    assert [change.after for change in next_steps(project)[1]] == ["two"]


def test_undo_survives_a_restart_and_a_machine_run(project):
    edit(project, "harbor", 0, "by hand")
    undo(project)
    run(project, CaptionsConfig(mode="template", template="An aerial photo of {class}"))
    assert texts(project)["harbor", 0] == "An aerial photo of harbor"
    redo(Project.open(project.root))
    assert texts(project)["harbor", 0] == "by hand"
    undo(project)
    assert texts(project)["harbor", 0] == "An aerial photo of harbor", "the newest, not the oldest"


def test_a_first_caption_can_be_undone(tmp_path):
    project = make_project(tmp_path / "project", classes=("harbor",))
    edit(project, "harbor", 0, "boats")
    undo(project)
    assert current_captions(project) == {"harbor": {}}
    assert redo(project)[0].after == "boats"


def test_reset_gives_a_caption_back_to_the_machine(project):
    edit(project, "harbor", 0, "one")
    edit(project, "harbor", 0, "two")
    assert reset(project, "harbor", 0).author == "template"
    run(project, CaptionsConfig(mode="template", template="A photo of {class}"))
    assert texts(project)["harbor", 0] == "A photo of harbor"
    undo(project)
    assert (texts(project)["harbor", 0], current_captions(project)["harbor"][0].by_hand) == (
        "two",
        True,
    )


def test_a_torn_last_line_costs_only_itself(project):
    log = project.path("captions", "log.jsonl")
    edit(project, "harbor", 0, "kept")
    whole = log.read_bytes()
    edit(project, "harbor", 1, "torn")
    torn = log.read_bytes()
    for end in range(len(whole) + 1, len(torn) - 1, 7):
        log.write_bytes(torn[:end])
        assert texts(project)["harbor", 0] == "kept"
        assert texts(project)["harbor", 1] == "A satellite image of harbor"
        edit(project, "harbor", 1, "after the crash")
        assert texts(project)["harbor", 1] == "after the crash"
        assert log.read_bytes().startswith(whole), "nothing else may be lost"
    log.write_bytes(torn[:-1])  # only the line's end is missing: the line is whole
    edit(project, "airplane", 1, "next")
    assert (texts(project)["harbor", 1], texts(project)["airplane", 1]) == ("torn", "next")


def test_an_operation_cut_off_in_the_middle_never_happened(project):
    log = project.path("captions", "log.jsonl")
    before = texts(project)
    find_replace(project, "satellite", "aerial", apply=True)
    content = log.read_bytes().splitlines(keepends=True)
    log.write_bytes(b"".join(content[:-1]))
    assert texts(project) == before
    edit(project, "harbor", 0, "next")
    assert texts(project) == before | {("harbor", 0): "next"}
    undo(project)
    assert texts(project) == before


def test_a_damaged_log_is_named(project):
    log = project.path("captions", "log.jsonl")
    log.write_bytes(b"nonsense\n" + log.read_bytes())
    with pytest.raises(ProjectError, match=r"log\.jsonl.*line 1"):
        current_captions(project)
    log.write_text('{"id": 1}\n')
    with pytest.raises(CaptionError, match=r"log\.jsonl.*not a caption log"):
        current_captions(project)


def _edit_many(root: str, class_name: str, count: int) -> None:
    for number in range(count):
        edit(Project.open(root), class_name, 0, f"{class_name} {number}")


def test_two_processes_may_edit_at_once(project):
    context = multiprocessing.get_context("spawn")
    workers = [
        context.Process(target=_edit_many, args=(str(project.root), name, 15))
        for name in ("harbor", "airplane")
    ]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(60)
    assert [worker.exitcode for worker in workers] == [0, 0]
    assert texts(project)["harbor", 0] == "harbor 14"
    assert texts(project)["airplane", 0] == "airplane 14"
    assert [line["id"] for line in lines(project)] == list(range(1, 35))
    assert snapshot(project) == texts(project)


def test_a_caption_belongs_to_its_image_not_to_the_cluster_number(project):
    edit(project, "harbor", 0, "seen on the image 0-1")
    write_prototypes(project, {"harbor": ["1-2.png", "0-1.png"], "airplane": ["0-1.png"]})
    captions = current_captions(project)["harbor"]
    assert 0 not in captions, "another image represents the cluster now"
    assert captions[1].text == "seen on the image 0-1"


def test_find_and_replace_previews_then_applies_as_one_step(project):
    edit(project, "harbor", 1, "no match here")
    first = texts(project)
    preview = find_replace(project, "satellite image", "photo")
    assert preview.matches == 3 and len(preview.changes) == 3
    assert texts(project) == first
    done = find_replace(project, "satellite image", "photo", apply=True, expected=preview)
    assert done == preview
    assert texts(project)["harbor", 0] == "A photo of harbor"
    assert current_captions(project)["harbor"][0].author == "bulk"
    assert len({line["batch"] for line in lines(project)[-3:]}) == 1
    assert len(undo(project)) == 3
    assert texts(project) == first


def test_find_and_replace_is_refused_if_the_preview_is_stale(project):
    preview = find_replace(project, "satellite", "aerial")
    edit(project, "harbor", 0, "a satellite photo")
    with pytest.raises(CaptionError, match="since the preview"):
        find_replace(project, "satellite", "aerial", apply=True, expected=preview)
    with pytest.raises(CaptionError, match="changed meanwhile"):
        apply_changes(project, preview.changes, "bulk")
    assert texts(project)["harbor", 0] == "a satellite photo"
    assert texts(project)["airplane", 0] == "A satellite image of airplane"


@pytest.mark.parametrize(
    ("pattern", "replacement", "options", "result"),
    [
        (".", "!", {}, "a.b boat Boats"),
        ("boat", r"\1", {}, r"a.b \1 Boats"),
        ("boat", "ship", {"ignore_case": True}, "a.b ship ships"),
        ("boat", "ship", {"ignore_case": True, "whole_words": True}, "a.b ship Boats"),
        (r"(\w)\.(\w)", r"\2.\1", {"regex": True}, "b.a boat Boats"),
        (r"(?P<x>boat)", r"<\g<x>>", {"regex": True}, "a.b <boat> Boats"),
        (r"\s*boats?\b", "", {"regex": True, "ignore_case": True}, "a.b"),
    ],
)
def test_patterns(project, pattern, replacement, options, result):
    edit(project, "harbor", 0, "a.b boat Boats")
    found = find_replace(project, pattern, replacement, scope=[("harbor", 0)], **options)
    if pattern == ".":
        result = "a!b boat Boats"
    assert [change.after for change in found.changes] == [result]


def test_the_scope_limits_the_search(project):
    found = find_replace(project, "image", "photo", scope=[("harbor", 1), ("airplane", 0)])
    assert {(one.class_name, one.cluster_id) for one in found.changes} == {
        ("harbor", 1),
        ("airplane", 0),
    }
    assert find_replace(project, "image", "photo", scope=[]).changes == []


@pytest.mark.parametrize(
    ("pattern", "replacement", "match"),
    [
        ("(", "", "not a regular expression"),
        ("image", r"\1", "replacement does not fit"),
        ("image", r"\g<name>", "replacement does not fit"),
        ("", "x", "nothing to find"),
        ("x" * 501, "", "too long"),
        ("((a{1000}){1000}){1000}", "", "repeats too often"),
        (r"(?R)?a", "", "recursion is not allowed"),
        (r"(a(?1)?b)", "", "recursion is not allowed"),
        (r"(?P<n>a(?&n)?)", "", "recursion is not allowed"),
        (r"(?P<n>a(?P>n)?)", "", "recursion is not allowed"),
        (r"(?:image){e<=3}", "", "fuzzy matching is not allowed"),
        (r"(?be)(?:image){1<=i<=2,s}", "", "fuzzy matching is not allowed"),
        (r"(?:image){2i+1s<=4:[a-z]}", "", "fuzzy matching is not allowed"),
        (".*", "", "caption is empty"),
        ("image", "\x07", "U\\+0007"),
        ("[ae]", "x" * 500, "characters"),
    ],
)
def test_a_bad_search_is_refused(project, pattern, replacement, match):
    before = texts(project)
    with pytest.raises(CaptionError, match=match):
        find_replace(project, pattern, replacement, regex=True, apply=True)
    assert texts(project) == before


@pytest.mark.parametrize(
    "pattern",
    [r"\p{Lu}\w{2,}", r"\(\?R\)", r"\{e\}", r"(?i)(?P<beach>an?){1,2}(?(beach)x?|y?)", r"[{]x[}]?"],
)
def test_what_looks_like_it_is_searched_for(project, pattern):
    find_replace(project, pattern, "x", regex=True)


def test_an_exploding_expression_is_stopped(project):
    edit(project, "harbor", 0, "a" * 1000 + "!")
    start = time.process_time()
    with pytest.raises(CaptionError, match="takes too long"):
        find_replace(project, "(a+)+$", "x", regex=True)
    assert time.process_time() - start < 5


@pytest.mark.parametrize("ending", [".json", ".csv"])
def test_captions_go_out_and_come_back(project, tmp_path, ending):
    edit(project, "harbor", 0, 'boats, "white"; Häfen = 港')
    path = tmp_path / f"captions{ending}"
    assert export_captions(project, path) == 4
    wanted = texts(project)
    find_replace(project, "a", "e", apply=True)
    preview = import_captions(project, path, apply=False)
    assert len(preview) == 4 and texts(project) != wanted
    assert import_captions(project, path) == preview
    assert texts(project) == wanted
    assert current_captions(project)["airplane"][0].author == "import"
    assert current_captions(project)["airplane"][0].source == path.name
    assert import_captions(project, path) == [], "the same again changes nothing"
    assert len(undo(project)) == 4


def test_a_row_without_prototype_goes_by_the_cluster(project, tmp_path):
    path = tmp_path / "captions.json"
    path.write_text('{"harbor": [{"cluster_id": 1, "caption": "two piers"}]}')
    import_captions(project, path)
    assert texts(project)["harbor", 1] == "two piers"
    sheet = tmp_path / "captions.csv"
    with sheet.open("w", encoding="utf-8-sig", newline="") as file:  # as a spreadsheet saves it
        csv.writer(file).writerows([["class", "cluster_id", "caption"], ["harbor", "0", "one"]])
    import_captions(project, sheet)
    assert texts(project)["harbor", 0] == "one"


GOOD = {"class": "harbor", "cluster_id": 0, "caption": "boats"}


@pytest.mark.parametrize(
    ("rows", "match"),
    [
        ([GOOD, {**GOOD, "class": "port"}], "row 3: there is no class 'port'"),
        ([{**GOOD, "class": ""}], "row 2: the class is missing"),
        ([{**GOOD, "cluster_id": 9}], "row 2: there is no cluster '9'"),
        ([{**GOOD, "cluster_id": "x"}], "row 2: there is no cluster 'x'"),
        ([{**GOOD, "caption": ""}], "row 2: the caption is empty"),
        ([{**GOOD, "caption": "x" * 2001}], "row 2: the caption has 2,001"),
        ([{**GOOD, "prototype": "harbor/9-9.png"}], "row 2: 'harbor/9-9.png' is not a prototype"),
        ([GOOD, GOOD], "row 3: the caption was already given by bad.csv, row 2"),
        ([], "no caption in the file"),
    ],
)
def test_a_bad_row_is_named_and_nothing_is_taken_over(project, tmp_path, rows, match):
    path = tmp_path / "bad.csv"
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, ["class", "cluster_id", "prototype", "caption"])
        writer.writeheader()
        writer.writerows(rows)
    before = lines(project)
    with pytest.raises(CaptionError, match=match):
        import_captions(project, path)
    assert lines(project) == before


@pytest.mark.parametrize(
    ("content", "match"),
    [
        ("[]", "prototypes' format"),
        ("{", "not readable as JSON"),
        ('{"harbor": 1}', "class harbor"),
        ('{"harbor": [1]}', "entry 1"),
        ('{"harbor": [{"cluster_id": 0}]}', "entry 1: the caption is missing"),
        ('{"harbor": [{"cluster_id": 0, "caption": 5}]}', "entry 1: got 5"),
        ('{"harbor": [{"cluster_id": [], "caption": "x"}]}', "entry 1: there is no cluster"),
        ('{"harbor": [{"id": ["x"], "caption": "x"}]}', "entry 1"),
        (b"\xff\xfe", "not readable"),
    ],
)
def test_a_bad_json_file_is_refused(project, tmp_path, content, match):
    path = tmp_path / "bad.json"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(CaptionError, match=match):
        import_captions(project, path)


def test_other_files_are_refused(project, tmp_path):
    with pytest.raises(CaptionError, match="not readable"):
        import_captions(project, tmp_path / "missing.csv")
    with pytest.raises(CaptionError, match=r"\.json or \.csv"):
        export_captions(project, tmp_path / "captions.txt")


def test_the_published_file_itself_can_be_imported(project, tmp_path):
    published = storage.read_json(project.path("prototypes", "prototypes.json"))
    for records in published.values():
        for record in records:
            del record["id"]
            record["caption"] = f"a caption for {record['file_name']}"
    path: Path = tmp_path / "prototypes.json"
    path.write_text(json.dumps(published))
    assert len(import_captions(project, path)) == 4
    assert texts(project)["harbor", 1] == "a caption for 1-1.png"


def _edit_elsewhere(root, text):
    edit(Project.open(root), "harbor", 0, text)


def test_what_another_process_writes_is_seen_at_once_and_a_state_is_ones_own(project):
    known = texts(project)
    for text in ("one boat", "two boats", "no boat"):
        other = multiprocessing.get_context("spawn").Process(
            target=_edit_elsewhere, args=(project.root, text)
        )
        other.start()
        other.join()
        assert other.exitcode == 0
        assert texts(project) == {**known, ("harbor", 0): text}
    state = replay(project)
    state.captions.clear()
    state.entries.clear()
    state.done.clear()
    assert texts(project)["harbor", 0] == "no boat"
    assert len(history(project, "harbor", 0)) == 4
    undo(project)
    assert texts(project)["harbor", 0] == "two boats"
