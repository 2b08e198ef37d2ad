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


def test_demo_scenes(project: Project, demo: DatasetConfig) -> None:
    result = run(project, demo)
    assert (result["source"], result["train"], result["test"]) == ("demo", 6, 2)
    index = load_index(project)
    record = index.images[0]
    assert record.path == project.path("dataset", "demo", "forest", "scene-000.png")
    assert record.caption and (record.width, record.height) == (64, 64)
    assert len({record.sha256 for record in index.images}) == 8


def test_demo_scenes_go_on_where_they_were(
    project: Project, demo: DatasetConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    from dpd_core.bundled import scenes

    run(project, demo)
    whole = project.path("dataset", "index.json").read_bytes()
    project.path("dataset", "demo", "river", "scene-002.png").write_bytes(b"cut off")
    drawn = []
    render = scenes.render_scene

    def counted(name: str, **options: int) -> scenes.Scene:
        drawn.append((name, options["seed"]))
        return render(name, **options)

    monkeypatch.setattr(scenes, "render_scene", counted)
    run(project, demo)
    assert [name for name, _ in drawn] == ["river"] and drawn[0][1] >= 2_000_000
    assert project.path("dataset", "index.json").read_bytes() == whole


def test_demo_classes_that_do_not_exist(project: Project) -> None:
    with pytest.raises(DatasetError, match=r"no demo scenes of moon.*forest"):
        run(project, DatasetConfig(demo=True, classes=("moon", "forest")))
