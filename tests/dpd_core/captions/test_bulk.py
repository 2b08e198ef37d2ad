"""Find and replace; captions as files."""

import csv
import json
import time
from pathlib import Path

import pytest

from dpd_core import storage
from dpd_core.captions.bulk import find_replace
from dpd_core.captions.current import current_captions
from dpd_core.captions.edits import (
    apply_changes,
    edit,
    undo,
)
from dpd_core.captions.tables import export_captions, import_captions
from dpd_core.errors import CaptionError
from tests.support.caption_project import lines, texts


@pytest.fixture
def project(captioned):
    return captioned


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
    assert {(change.class_name, change.cluster_id) for change in found.changes} == {
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


@pytest.mark.parametrize("text", ["=1+1", "+boats", "-boats", "@boats", "'=1+1", "'boats'"])
def test_a_caption_is_no_formula_in_the_table_and_comes_back_as_it_was(project, tmp_path, text):
    edit(project, "harbor", 0, text)
    path = tmp_path / "captions.csv"
    export_captions(project, path)
    with path.open(newline="", encoding="utf-8") as file:
        cells = [cell for row in csv.reader(file) for cell in row]
    assert not any(cell.startswith(("=", "+", "-", "@")) for cell in cells)
    edit(project, "harbor", 0, "something else")
    import_captions(project, path)
    assert texts(project)["harbor", 0] == text
