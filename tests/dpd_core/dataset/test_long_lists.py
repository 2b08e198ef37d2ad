"""An index of many files lies in Parquet beside a small JSON file, and reads the same."""

import json
from pathlib import Path

import pytest

from dpd_core.dataset import long_lists
from dpd_core.dataset.index import load_index
from dpd_core.errors import ProjectError
from dpd_core.pipeline.verify import verify
from dpd_core.project import Project
from tests.support.image_folders import prepare


@pytest.fixture
def small(project: Project, folder: Path, monkeypatch: pytest.MonkeyPatch) -> Project:
    """A project whose index is in Parquet, and of which a file is refused."""
    (folder / "forest" / "bad.png").write_bytes(b"no image")
    (folder / "forest" / "00.txt").write_text("Trees, and a path; Wäldchen.")
    prepare(project, folder)
    first = load_index(project)
    monkeypatch.setattr(long_lists, "MOST_IN_JSON", 0)
    project.path("dataset", "index.json").unlink()
    prepare(project, folder)
    assert load_index(project) == first and first.refused
    return project


def test_a_long_index_reads_the_same(small: Project) -> None:
    content = json.loads(small.path("dataset", "index.json").read_text())
    tables = {content["images"], content["refused"]}
    assert {path.name for path in small.path("dataset").glob("*.parquet")} == tables
    captions = [image.caption for image in load_index(small).images]
    assert captions[0] == "Trees, and a path; Wäldchen." and captions[1] is None
    assert not verify(small).differences


def test_tables_of_an_earlier_index_go(small: Project, folder: Path) -> None:
    before = set(small.path("dataset").glob("*.parquet"))
    (folder / "forest" / "01.png").unlink()
    prepare(small, folder)
    after = set(small.path("dataset").glob("*.parquet"))
    assert len(after) == 2 and len(after & before) == 1, "the refused ones are the same"


@pytest.mark.parametrize("kind", ["cut", "gone", "elsewhere", "number"])
def test_a_damaged_table_is_named(small: Project, kind: str) -> None:
    path = small.path("dataset", "index.json")
    content = json.loads(path.read_text())
    table = path.parent / content["images"]
    if kind == "cut":
        table.write_bytes(table.read_bytes()[:-100])
    elif kind == "gone":
        table.unlink()
    else:
        content["images"] = "../../x.parquet" if kind == "elsewhere" else 7
    path.write_text(json.dumps(content))
    with pytest.raises(ProjectError, match="not an index of images"):
        load_index(small)
