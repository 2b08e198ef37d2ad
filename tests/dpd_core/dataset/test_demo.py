"""The demo source."""

import pytest

from dpd_core.config import DatasetConfig
from dpd_core.dataset.index import load_index
from dpd_core.dataset.stage import run
from dpd_core.errors import DatasetError
from dpd_core.project import Project


@pytest.fixture
def demo() -> DatasetConfig:
    return DatasetConfig(demo=True, demo_per_class=4, classes=("river", "forest"))


def test_demo_images(project: Project, demo: DatasetConfig) -> None:
    result = run(project, demo)
    assert (result["source"], result["train"], result["test"]) == ("demo", 6, 2)
    index = load_index(project)
    record = index.images[0]
    assert record.path.parent == project.path("dataset", "demo", "forest")
    assert (record.width, record.height) == (64, 64)
    assert len({record.sha256 for record in index.images}) == 8


def test_the_demo_has_ten_classes_and_enough_to_test_on(project: Project) -> None:
    result = run(project, DatasetConfig(demo=True))
    index = load_index(project)
    assert len(index.classes) == 10
    assert result["test"] >= 150
    assert index.source["licence"] == "mit"


def test_demo_images_go_on_where_they_were(project: Project, demo: DatasetConfig) -> None:
    run(project, demo)
    whole = project.path("dataset", "index.json").read_bytes()
    kept, cut = sorted(project.path("dataset", "demo", "river").iterdir())[:2]
    content, before = cut.read_bytes(), kept.stat().st_mtime_ns
    cut.write_bytes(b"cut off")
    run(project, demo)
    assert cut.read_bytes() == content
    assert kept.stat().st_mtime_ns == before
    assert project.path("dataset", "index.json").read_bytes() == whole


def test_demo_classes_that_do_not_exist(project: Project) -> None:
    with pytest.raises(DatasetError, match=r"no demo images of moon.*forest"):
        run(project, DatasetConfig(demo=True, classes=("moon", "forest")))
