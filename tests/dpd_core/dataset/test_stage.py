"""The dataset stage: an ordinary folder, settings, refusals, stopping and going on."""

import json
import os
import shutil
from pathlib import Path

import pytest

from dpd_core.config import DatasetConfig
from dpd_core.dataset import images, sources
from dpd_core.dataset.index import load_index
from dpd_core.dataset.pixels import open_record, pixels, thumbnail
from dpd_core.dataset.stage import run
from dpd_core.errors import ConfigError, DatasetError, JobStopped, StageMissing
from dpd_core.events import Event, Log, Progress
from dpd_core.project import Project
from tests.support.image_folders import fill, picture, prepare, reasons


def test_a_folder_becomes_an_index(project: Project, folder: Path) -> None:
    events: list[Event] = []
    result = run(project, DatasetConfig(data=str(folder)), events.append)
    assert {**result, "content": ""} == {
        "source": "folder",
        "classes": 2,
        "train": 10,
        "test": 4,
        "refused": 0,
        "duplicates": 0,
        "left_out": 0,
        "layout": "top",
        "understood": "a folder a class; the split is ours",
        "alternatives": {},
        "bands": "true colour, bands 1, 2, 3 (by the file)",
        "notes": {},
        "content": "",
    }
    checked = [e for e in events if isinstance(e, Progress) and e.message == "checking images"]
    assert (checked[-1].done, checked[-1].total) == (14, 14)
    index = load_index(project)
    assert [record.id for record in index.images] == sorted(record.id for record in index.images)
    assert list(index.classes) == ["forest", "parkinglot"]
    assert index.readable("parkinglot") == "parking lot"
    assert (index.classes["forest"].train, index.classes["forest"].test) == (6, 2)
    assert len(index.select("test")) == 4 and len(index.select("train", "forest")) == 6
    first = index.images[0]
    assert first.id == "forest/00.png" and first.path == folder / "forest" / "00.png"
    assert (first.width, first.height) == (8, 8)
    assert open_record(first).size == (8, 8)
    with pytest.raises(DatasetError, match="forest, parkinglot"):
        index.readable("river")


def test_the_index_file_is_as_agreed(project: Project, folder: Path) -> None:
    prepare(project, folder)
    content = json.loads(project.path("dataset", "index.json").read_text())
    assert content["source"]["kind"] == "folder" and content["source"]["root"] == str(folder)
    assert content["classes"]["forest"] == {"readable": "forest", "train": 6, "test": 2}
    assert set(content["images"][0]) == {
        "id",
        "class",
        "split",
        "file",
        "sha256",
        "width",
        "height",
    }
    assert content["images"][0]["file"] == "forest/00.png"
    assert content["refused"] == []


def test_what_is_not_used_is_listed(project: Project, folder: Path) -> None:
    (folder / "forest" / "notes.txt").write_text("hello")
    (folder / "forest" / "empty.png").write_bytes(b"")
    (folder / "forest" / "cut.png").write_bytes(picture(1)[:60])
    (folder / "forest" / "fake.jpg").write_text("no image")
    (folder / "lost.png").write_bytes(picture(999))
    (folder / "forest" / "gone.png").symlink_to(folder / "nowhere.png")
    (folder / ".DS_Store").write_bytes(b"x")
    (folder / "__MACOSX").mkdir()
    (folder / "__MACOSX" / "a.png").write_bytes(b"x")
    events: list[Event] = []
    result = run(project, DatasetConfig(data=str(folder)), events.append)
    found = reasons(load_index(project))
    assert result["refused"] == len(found) == 6
    assert "not an image but a .txt file" in found["forest/notes.txt"]
    assert "empty" in found["forest/empty.png"]
    assert "damaged" in found["forest/cut.png"]
    assert "not an image" in found["forest/fake.jpg"]
    assert "outside" in found["lost.png"]
    assert "missing" in found["forest/gone.png"]
    warning = next(e for e in events if isinstance(e, Log) and e.level == "warning")
    assert warning.message.startswith("6 files")


def test_names_that_are_not_utf8_are_listed(project: Project, folder: Path) -> None:
    try:
        Path(os.fsdecode(bytes(folder) + b"/forest/\xff.png")).write_bytes(picture(1))
    except OSError:
        pytest.skip("this file system allows only UTF-8 names")
    assert "UTF-8" in reasons(prepare(project, folder))["forest/\\xff.png"]


def test_links_are_followed_but_not_in_circles(project: Project, folder: Path) -> None:
    shutil.move(folder / "forest", folder.parent / "elsewhere")
    (folder / "forest").symlink_to(folder.parent / "elsewhere")
    (folder / "parkinglot" / "again").symlink_to(folder)
    index = prepare(project, folder)
    assert len(index.images) == 14
    assert "read already" in reasons(index)["parkinglot/again"]


def test_a_project_inside_its_data_is_left_out(folder: Path) -> None:
    project = Project.create(folder / "project")
    run(project, DatasetConfig(data=str(folder)))
    thumbnail(project, load_index(project).images[0])
    assert len(prepare(project, folder).images) == 14


def test_the_source_must_be_one(project: Project, folder: Path) -> None:
    with pytest.raises(ConfigError, match="no data"):
        run(project, DatasetConfig())
    with pytest.raises(ConfigError, match="both"):
        run(project, DatasetConfig(data=str(folder), demo=True))
    with pytest.raises(ConfigError, match="band"):
        run(project, DatasetConfig(data=str(folder), bands=(1, 2)))


@pytest.mark.parametrize("data", ["no/such/folder/here", "/no/such", "nowhere", "~nobody-x/y"])
def test_a_source_that_is_not_there(project: Project, data: str) -> None:
    with pytest.raises(DatasetError) as error:
        run(project, DatasetConfig(data=data))
    assert data in str(error.value)


def test_a_file_that_is_no_archive(project: Project, tmp_path: Path) -> None:
    (tmp_path / "data.zip").write_text("hello")
    with pytest.raises(DatasetError, match="no zip or tar"):
        prepare(project, tmp_path / "data.zip")


def test_classes_can_be_chosen(project: Project, folder: Path) -> None:
    fill(folder, {"river": 5}, start=100)
    result = run(project, DatasetConfig(data=str(folder), classes=("river", "forest")))
    assert list(load_index(project).classes) == ["forest", "river"]
    assert result["left_out"] == 6
    with pytest.raises(DatasetError, match="Available: forest, parkinglot, river"):
        prepare(project, folder, classes=("Forest",))


def test_classes_that_differ_in_case_are_named(project: Project, folder: Path) -> None:
    fill(folder, {"Forest": 3}, start=100)
    if len(list(folder.iterdir())) == 2:
        pytest.skip("this file system does not tell cases apart")
    with pytest.raises(DatasetError, match=r"'Forest' and 'forest'"):
        prepare(project, folder)


def test_a_class_with_one_image_is_an_error(project: Project, folder: Path, tmp_path: Path) -> None:
    fill(folder, {"river": 1}, start=100)
    with pytest.raises(DatasetError, match=r"river: no image to test on") as error:
        prepare(project, folder)
    assert "--test-data" in str(error.value)
    # two copies of one image are one image
    shutil.copy(folder / "river" / "00.png", folder / "river" / "01.png")
    with pytest.raises(DatasetError, match="river"):
        prepare(project, folder)
    tests = fill(tmp_path / "tests", {"forest": 1, "parkinglot": 1, "river": 1}, start=200)
    index = prepare(project, folder, test_data=str(tests))
    assert index.classes["river"].train == 2 and index.classes["river"].test == 1


def test_a_class_of_damaged_images_is_an_error(project: Project, folder: Path) -> None:
    (folder / "river").mkdir()
    (folder / "river" / "a.png").write_bytes(b"")
    with pytest.raises(DatasetError, match=r"river: no usable image.*empty"):
        prepare(project, folder)


def test_at_most_so_many_images_a_class(project: Project, folder: Path) -> None:
    everything = {record.id for record in prepare(project, folder).images}
    result = run(project, DatasetConfig(data=str(folder), max_per_class=4))
    few = load_index(project)
    assert [info.train + info.test for info in few.classes.values()] == [4, 4]
    assert result["left_out"] == 6
    assert {record.id for record in few.images} < everything


def test_separate_test_data(project: Project, folder: Path, tmp_path: Path) -> None:
    tests = fill(tmp_path / "tests", {"forest": 2, "parkinglot": 3, "river": 1}, start=100)
    shutil.copy(folder / "forest" / "00.png", tests / "forest" / "copy.png")
    with pytest.raises(DatasetError, match="river: no image to train on"):
        prepare(project, folder, test_data=str(tests))
    shutil.rmtree(tests / "river")
    index = prepare(project, folder, test_data=str(tests))
    assert len(index.select("test")) == 6
    assert index.select("test", "forest")[0].path == tests / "forest" / "00.png"
    assert index.select("test", "forest")[0].id == "forest/test/00.png"
    # the train copy of a test image is not used
    assert len(index.select("train", "forest")) == 7
    assert "forest/test/copy.png" in reasons(index)["forest/00.png"]


def test_test_data_beside_a_test_folder_is_an_error(project: Project, tmp_path: Path) -> None:
    fill(tmp_path / "data" / "train", {"a": 3, "b": 3})
    fill(tmp_path / "data" / "test", {"a": 1, "b": 1}, start=50)
    tests = fill(tmp_path / "more", {"a": 1, "b": 1}, start=100)
    with pytest.raises(DatasetError, match="test folder of its own"):
        prepare(project, tmp_path / "data", test_data=str(tests))


def test_bands_reach_the_pixels(project: Project, folder: Path) -> None:
    plain = prepare(project, folder)
    turned = prepare(project, folder, bands=(3, 2, 1))
    a, b = (pixels(project, index.images[:2], 8) for index in (plain, turned))
    assert (a == b[..., ::-1]).all() and not (a == b).all()
    with pytest.raises(DatasetError, match="band 4"):
        prepare(project, folder, bands=(4, 3, 2))


def test_a_stopped_run_goes_on_where_it_was(
    project: Project, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    decoded: list[int] = []
    decode = images.decode

    def counted(source: bytes, **options: object) -> images.Decoded:
        decoded.append(1)
        if len(decoded) == 6:
            raise JobStopped("stopped.")
        return decode(source, **options)

    monkeypatch.setattr(images, "decode", counted)
    with pytest.raises(JobStopped):
        run(project, DatasetConfig(data=str(folder)))
    with pytest.raises(StageMissing):
        load_index(project)
    run(project, DatasetConfig(data=str(folder)))
    assert len(decoded) == 6 + 9  # five were known, nine were left
    run(project, DatasetConfig(data=str(folder), test_fraction=0.5))
    assert len(decoded) == 15
    (folder / "forest" / "00.png").write_bytes(picture(4321, size=9))
    run(project, DatasetConfig(data=str(folder)))
    assert len(decoded) == 16
    assert load_index(project).images[0].width == 9


def test_a_memory_cut_by_a_crash_does_no_harm(project: Project, folder: Path) -> None:
    prepare(project, folder)
    project.path("cache", "dataset.json").unlink()
    (memory,) = project.path("cache", "checked").iterdir()
    memory.write_bytes(memory.read_bytes()[:50] + b'\n{"a": 1}\nxx\n')
    assert len(prepare(project, folder).images) == 14


def test_nothing_is_read_again_where_no_file_has_changed(
    project: Project, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = DatasetConfig(data=str(folder))
    first = run(project, config)
    events: list[Event] = []
    monkeypatch.setattr(sources, "find", None)
    assert run(project, config, events.append) == first
    assert any("No file has changed" in e.message for e in events if isinstance(e, Log))
    assert any("Understood as top" in e.message for e in events if isinstance(e, Log))
    monkeypatch.undo()
    for act in (
        lambda: (folder / "forest" / "99.png").write_bytes(picture(77)),
        lambda: (folder / "forest" / "99.png").rename(folder / "forest" / "98.png"),
        lambda: (folder / "forest" / "98.png").unlink(),
        lambda: os.utime(folder / "forest" / "00.png", (1, 1)),
        lambda: (folder / "labels.txt").write_text("x"),
        lambda: project.path("dataset", "index.json").unlink(),
    ):
        act()
        events.clear()
        run(project, config, events.append)
        assert not any("No file" in e.message for e in events if isinstance(e, Log))
    assert load_index(project).images


def test_a_stop_request_gets_through(project: Project, folder: Path) -> None:
    def stop(event: Event) -> None:
        raise JobStopped("stopped.")

    with pytest.raises(JobStopped):
        run(project, DatasetConfig(data=str(folder)), stop)


def test_the_result_tells_changed_content(project: Project, folder: Path) -> None:
    config = DatasetConfig(data=str(folder))
    first = run(project, config)
    assert run(project, config) == first
    (folder / "forest" / "00.png").write_bytes(picture(4321))
    assert run(project, config) != first


def test_no_index_yet_and_no_images_any_more(project: Project, folder: Path) -> None:
    with pytest.raises(StageMissing, match="dataset"):
        load_index(project)
    index = prepare(project, folder)
    (folder / "forest" / "00.png").unlink()
    with pytest.raises(DatasetError, match="missing"):
        open_record(index.images[0])
    shutil.move(folder, folder.with_name("moved"))
    with pytest.raises(DatasetError, match="gone") as error:
        load_index(project)
    assert "--data" in str(error.value.fix)


@pytest.mark.shared_data
def test_uc_merced(project: Project, shared_data: Path) -> None:
    root = shared_data / "UCMerced_LandUse"
    classes = ("airplane", "mobilehomepark")
    result = run(project, DatasetConfig(data=str(root), classes=classes, max_per_class=20))
    assert {**result, "content": ""} == {
        "source": "folder",
        "classes": 2,
        "train": 30,
        "test": 10,
        "refused": 0,
        "duplicates": 0,
        "left_out": 1470 - 40,
        "layout": "top",
        "understood": "a folder a class; the split is ours",
        "alternatives": {},
        "bands": "true colour, bands 1, 2, 3 (by the file)",
        "notes": {},
        "content": "",
    }
    index = load_index(project)
    assert index.readable("mobilehomepark") == "mobile home park"
    assert pixels(project, index.select("test"), 64).std() > 30
