"""The append-only log: what it survives, and how it is read."""

import multiprocessing
import tracemalloc

import pytest

from dpd_core import storage
from dpd_core.captions.bulk import find_replace
from dpd_core.captions.current import current_captions
from dpd_core.captions.edits import (
    edit,
    history,
    undo,
)
from dpd_core.captions.log import replay
from dpd_core.errors import CaptionError, ProjectError
from dpd_core.project import Project
from tests.support.caption_project import lines, texts, write_prototypes


@pytest.fixture
def project(captioned):
    return captioned


def snapshot(project):
    content = storage.read_json(project.path("captions", "captions.json"))
    return {
        (name, entry["cluster_id"]): entry["caption"] for name, c in content.items() for entry in c
    }


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


def test_the_state_is_extended_not_read_again(project, monkeypatch):
    edit(project, "harbor", 0, "one boat")
    replay(project)
    parsed, parse = [], storage.parse_json

    def counting(content):
        parsed.append(content)
        return parse(content)

    monkeypatch.setattr(storage, "parse_json", counting)
    edit(project, "harbor", 0, "two boats")
    replay(project)
    assert sum(b'"two boats"' in line for line in parsed if isinstance(line, bytes)) <= 2
    assert not any(b'"after": "one boat"' in line for line in parsed if isinstance(line, bytes))


def test_a_log_that_was_rewritten_is_read_anew(project):
    edit(project, "harbor", 0, "one boat")
    replay(project)
    path = project.path("captions", "log.jsonl")
    inode = path.stat().st_ino
    content = path.read_text().replace("one boat", "1 small boat")
    path.write_text(content)
    assert path.stat().st_ino == inode
    assert "1 small boat" in [caption.text for caption in replay(project).captions.values()]


def test_many_edits_keep_one_state(project):
    edit(project, "harbor", 0, "0")
    tracemalloc.start()
    for number in range(1, 61):
        edit(project, "harbor", number % 2, f"{number} boats")
    grown, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert grown < 2_000_000, "sixty states of sixty lines would be more"
    assert len(replay(project).entries) == len(lines(project))
