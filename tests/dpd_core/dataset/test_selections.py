"""Selections by name: kept, replaced, forgotten, and never of what is not there."""

from pathlib import Path

import pytest

from dpd_core import storage
from dpd_core.dataset import selections
from dpd_core.dataset.index import load_index
from dpd_core.dataset.selections import read_selections, save_selection
from dpd_core.errors import DatasetError
from dpd_core.project import Project
from tests.support.distilled_project import make_project


@pytest.fixture
def project(tmp_path: Path) -> Project:
    return make_project(tmp_path)


def test_a_selection_is_kept_replaced_and_forgotten(project: Project) -> None:
    ids = [record.id for record in load_index(project).images][:3]
    assert save_selection(project, "  odd  ones ", ids) == "odd ones"
    save_selection(project, "a", [ids[0], ids[0]])
    assert read_selections(project) == {"a": ids[:1], "odd ones": ids}
    save_selection(project, "odd ones", ids[1:])
    save_selection(project, "a", [])
    assert read_selections(project) == {"odd ones": ids[1:]}


@pytest.mark.parametrize("name", ["", "x" * 61, "a\nb\x07", None])
def test_it_needs_a_name(project: Project, name: object) -> None:
    with pytest.raises(DatasetError, match="needs a name"):
        save_selection(project, name, [])


def test_unknown_images_and_too_many_are_refused(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(DatasetError, match="not in the data set"):
        save_selection(project, "x", ["no/such.png"])
    ids = [load_index(project).images[0].id]
    monkeypatch.setattr(selections, "MOST", 1)
    save_selection(project, "one", ids)
    save_selection(project, "one", ids)
    with pytest.raises(DatasetError, match="there are 1 selections"):
        save_selection(project, "two", ids)


@pytest.mark.parametrize("content", [[], {"a": "b"}, {"a": [1]}])
def test_a_damaged_file_is_named(project: Project, content: object) -> None:
    storage.write_json(project.path("dataset", "selections.json"), content)
    with pytest.raises(DatasetError, match="not a file of selections"):
        read_selections(project)
