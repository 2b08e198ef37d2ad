"""The dataset stage: sources, refusals, splits, the index, and the pixels made from it."""

import io
import json
import os
import shutil
import stat
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path, PurePosixPath

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from dpd_core.config import DatasetConfig, ProjectConfig
from dpd_core.dataset import archives, hub, images, splits
from dpd_core.dataset.index import load_index, rename_class
from dpd_core.dataset.pixels import open_record, pixels, thumbnail
from dpd_core.dataset.sources import read_layout
from dpd_core.dataset.stage import run
from dpd_core.errors import ConfigError, DatasetError, JobStopped, StageMissing
from dpd_core.events import Event, Log, Progress
from dpd_core.project import Project


def picture(number: int, size: int = 8) -> bytes:
    """A PNG that differs from that of any other number."""
    noise = np.random.default_rng(number).integers(0, 256, (size, size, 3), dtype=np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(noise).save(buffer, "PNG")
    return buffer.getvalue()


def fill(root: Path, counts: dict[str, int], *, start: int = 0) -> Path:
    """``root/<class>/<k>.png``, all different."""
    number = start
    for name, count in counts.items():
        (root / name).mkdir(parents=True, exist_ok=True)
        for index in range(count):
            (root / name / f"{index:02d}.png").write_bytes(picture(number))
            number += 1
    return root


@pytest.fixture
def project(tmp_path: Path) -> Project:
    return Project.create(tmp_path / "project")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return fill(tmp_path / "data", {"forest": 8, "parkinglot": 6})


def prepare(project: Project, folder: Path | str, **settings: object):
    """Run the stage and load its index."""
    run(project, DatasetConfig(data=str(folder), **settings))
    return load_index(project)


def reasons(index) -> dict[str, str]:
    return {entry.file: entry.reason for entry in index.refused}


# --- an ordinary folder ---------------------------------------------------------------------


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
        "content": "",
    }
    assert events[-1] == Progress(
        "dataset",
        14,
        14,
        events[-1].eta,
        events[-1].message,
        events[-1].memory,
        time=events[-1].time,
    )
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
    assert content["refused"] == [] and content["duplicates"] == []


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
    warning = next(event for event in events if isinstance(event, Log))
    assert warning.level == "warning" and warning.message.startswith("6 files")


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


# --- layouts --------------------------------------------------------------------------------


def layout(*paths: str) -> tuple[list[tuple[str, str, str | None]], list[str]]:
    labelled, outside = read_layout([PurePosixPath(path) for path in paths])
    entries = [(entry.class_name, entry.name, entry.side) for entry in labelled]
    return entries, [str(path) for path in outside]


def test_deeper_folders_belong_to_the_class() -> None:
    assert layout("a/x.png", "b/2020/may/y.png") == (
        [("a", "x.png", None), ("b", "2020/may/y.png", None)],
        [],
    )


@pytest.mark.parametrize("wrap", ["", "UCMerced/", "one/two/"])
def test_wrapping_folders_are_looked_into(wrap: str) -> None:
    entries, outside = layout(f"{wrap}a/x.png", f"{wrap}b/y.png", f"{wrap}lost.png")
    assert [entry[0] for entry in entries] == ["a", "b"] and outside == [f"{wrap}lost.png"]


def test_split_folders_are_the_split() -> None:
    entries, outside = layout(
        "data/Train/a/x.png", "data/test/a/x.png", "data/val/a/x.png", "data/test/y.png"
    )
    assert entries == [
        ("a", "Train/x.png", "train"),
        ("a", "test/x.png", "test"),
        ("a", "val/x.png", "train"),
    ]
    assert outside == ["data/test/y.png"]
    entries, _ = layout("train/a/x.png", "val/a/y.png")
    assert [entry[2] for entry in entries] == ["train", "test"]


def test_a_class_may_be_called_train() -> None:
    entries, _ = layout("car/x.png", "train/y.png", "test/z.png")
    assert entries == [("car", "x.png", None), ("train", "y.png", None), ("test", "z.png", None)]


def test_a_given_split_is_kept(project: Project, tmp_path: Path) -> None:
    fill(tmp_path / "data" / "train", {"a": 3, "b": 3})
    fill(tmp_path / "data" / "test", {"a": 2, "b": 1}, start=50)
    index = prepare(project, tmp_path / "data")
    assert len(index.select("train")) == 6 and len(index.select("test")) == 3
    assert index.select("test", "b")[0].id == "b/test/00.png"


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ([], "no images"),
        (["a.png", "b.png"], "not sorted into class folders"),
        (["a/1.png", "a/2.png"], "only one class"),
    ],
)
def test_folders_without_classes_say_what_is_needed(
    project: Project, tmp_path: Path, files: list[str], message: str
) -> None:
    root = tmp_path / "data"
    root.mkdir()
    for number, name in enumerate(files):
        (root / name).parent.mkdir(exist_ok=True)
        (root / name).write_bytes(picture(number))
    with pytest.raises(DatasetError, match=message) as error:
        prepare(project, root)
    assert "folder" in str(error.value.fix)


# --- settings -------------------------------------------------------------------------------


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


# --- splits ---------------------------------------------------------------------------------


def entries(counts: dict[str, int]) -> list[splits.Entry]:
    return [
        splits.Entry(f"{name}/{number}", name, f"{name}-{number}")
        for name, count in counts.items()
        for number in range(count)
    ]


@settings(max_examples=60, deadline=None)
@given(st.integers(2, 30), st.integers(2, 30), st.floats(0.01, 0.9), st.integers(0, 5))
def test_split_is_stratified_and_stable(first: int, second: int, share: float, seed: int) -> None:
    data = entries({"a": first, "b": second})
    sides = splits.divide(data, seed=seed, fraction=share)
    for name, count in (("a", first), ("b", second)):
        tested = sum(sides[entry.id] == "test" for entry in data if entry.class_name == name)
        assert 1 <= tested <= count - 1
        assert abs(tested - share * count) <= 1
    assert splits.divide(data[::-1], seed=seed, fraction=share) == sides
    alone = splits.divide(data[:first], seed=seed, fraction=share)
    assert alone == {key: side for key, side in sides.items() if key.startswith("a/")}


def test_split_depends_on_the_seed_and_not_on_file_names() -> None:
    data = entries({"a": 20})
    sides = splits.divide(data, seed=1, fraction=0.5)
    renamed = [splits.Entry(f"a/new-{entry.id[2:]}", "a", entry.sha256) for entry in data]
    again = splits.divide(renamed, seed=1, fraction=0.5)
    assert [again[entry.id] for entry in renamed] == [sides[entry.id] for entry in data]
    assert splits.divide(data, seed=2, fraction=0.5) != sides


def test_without_a_test_share_everything_is_for_training() -> None:
    assert set(splits.divide(entries({"a": 3}), seed=0, fraction=0.0).values()) == {"train"}


def test_validation_leaves_the_test_images_out(tmp_path: Path, folder: Path) -> None:
    tested = prepare(Project.create(tmp_path / "one"), folder)
    chosen = prepare(Project.create(tmp_path / "two"), folder, validation=True)
    train = {record.id for record in tested.select("train")}
    assert {record.id for record in chosen.images} == train
    assert chosen.select("test"), "a part of the training images"
    assert all(info.test for info in chosen.classes.values())
    with pytest.raises(ConfigError, match="nothing to validate on"):
        prepare(Project.create(tmp_path / "three"), folder, validation=True, test_fraction=0.0)


def test_copies_stay_on_one_side(project: Project, folder: Path) -> None:
    for number in range(8):
        shutil.copy(folder / "forest" / f"{number:02d}.png", folder / "forest" / f"c{number}.png")
    # the same image in two classes: one of the labels is wrong
    shutil.copy(folder / "forest" / "03.png", folder / "parkinglot" / "x.png")
    index = prepare(project, folder, test_fraction=0.5)
    assert len(index.duplicates) == 8
    assert ["forest/03.png", "forest/c3.png", "parkinglot/x.png"] in index.duplicates
    side = {record.id: record.split for record in index.images}
    assert all(len({side[name] for name in group}) == 1 for group in index.duplicates)
    assert side["parkinglot/x.png"] == "train"


def test_the_split_is_the_same_in_every_project(tmp_path: Path, folder: Path) -> None:
    sides = []
    for name in ("one", "two"):
        index = prepare(Project.create(tmp_path / name), folder)
        sides.append({record.id: record.split for record in index.images})
    assert sides[0] == sides[1]
    other = Project.create(tmp_path / "three", config=ProjectConfig(seed=7))
    index = prepare(other, folder)
    assert {record.id: record.split for record in index.images} != sides[0]


# --- archives -------------------------------------------------------------------------------


def zip_of(path: Path, members: dict[str, bytes]) -> Path:
    with zipfile.ZipFile(path, "w") as file:
        for name, content in members.items():
            file.writestr(name, content)
    return path


def tar_of(path: Path, members: dict[str, bytes], mode: str = "w") -> Path:
    with tarfile.open(path, mode) as file:
        for name, content in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            file.addfile(info, io.BytesIO(content))
    return path


GOOD = {
    f"set/{name}/{k}.png": picture(10 * i + k)
    for i, name in enumerate(("forest", "river"))
    for k in range(3)
}


@pytest.mark.parametrize(
    ("name", "pack"),
    [
        ("a.zip", zip_of),
        ("a.tar", tar_of),
        ("a.tar.gz", lambda p, m: tar_of(p, m, "w:gz")),
        ("a.tar.xz", lambda p, m: tar_of(p, m, "w:xz")),
        ("noending", zip_of),
    ],
)
def test_archives(
    project: Project, tmp_path: Path, name: str, pack: Callable[[Path, dict[str, bytes]], Path]
) -> None:
    index = prepare(project, pack(tmp_path / name, GOOD))
    assert index.source["kind"] == "archive" and index.source["root"] is None
    assert len(index.images) == 6 and list(index.classes) == ["forest", "river"]
    assert all(record.path.is_relative_to(project.root) for record in index.images)
    # the archive may go; the project may move
    (tmp_path / name).unlink()
    shutil.move(project.root, tmp_path / "moved")
    moved = load_index(Project.open(tmp_path / "moved"))
    assert open_record(moved.images[0]).size == (8, 8)


EVIL = {
    "../evil.png": "leads out",
    "set/forest/../../../evil.png": "leads out",
    "/tmp/dpd-evil.png": "leads out",
    "C:\\evil.png": "leads out",
    "..\\evil.png": "leads out",
    "set/river/readme.md": "not an image",
    "set/forest/0.PNG": "of this name already",
    "set/forest/" + "x" * 300 + ".png": "cannot be a file name",
    "set/forest/1.png/a.png": "name of a file",
}


@pytest.mark.parametrize("pack", [zip_of, tar_of])
def test_nothing_leaves_the_archive_folder(
    project: Project, tmp_path: Path, pack: Callable[[Path, dict[str, bytes]], Path]
) -> None:
    evil = {name: picture(500 + k) for k, name in enumerate(EVIL)}
    hidden = {"__MACOSX/set/._0.png": b"x", "set/.hidden/a.png": b"x"}
    before = {path for path in tmp_path.rglob("*") if "project" not in path.parts}
    archive = pack(tmp_path / "evil.bin", {**GOOD, **evil, **hidden})
    index = prepare(project, archive)
    assert len(index.images) == 6
    found = reasons(index)
    assert set(found) == set(EVIL)
    for name, reason in EVIL.items():
        assert reason in found[name]
    after = {path for path in tmp_path.rglob("*") if project.root not in (path, *path.parents)}
    assert after - before <= {archive}
    assert not Path("/tmp/dpd-evil.png").exists()
    assert not list(project.root.rglob("*evil*"))


def test_links_in_archives_are_refused(project: Project, tmp_path: Path) -> None:
    archive = tar_of(tmp_path / "a.tar", GOOD)
    with tarfile.open(archive, "a") as file:
        for name, kind in (
            ("s.png", tarfile.SYMTYPE),
            ("h.png", tarfile.LNKTYPE),
            ("d.png", tarfile.CHRTYPE),
        ):
            info = tarfile.TarInfo(f"set/forest/{name}")
            info.type, info.linkname = kind, "/etc/passwd"
            file.addfile(info)
    found = reasons(prepare(project, archive))
    assert set(found) == {"set/forest/s.png", "set/forest/h.png", "set/forest/d.png"}
    assert all("link" in reason for reason in found.values())

    archive = zip_of(tmp_path / "b.zip", GOOD)
    with zipfile.ZipFile(archive, "a") as file:
        info = zipfile.ZipInfo("set/forest/s.png")
        info.external_attr = (stat.S_IFLNK | 0o777) << 16
        file.writestr(info, "/etc/passwd")
    assert "link" in reasons(prepare(project, archive))["set/forest/s.png"]


def test_bombs_in_archives_are_refused(
    project: Project, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(archives, "RATIO_FROM_BYTES", 1 << 16)
    with zipfile.ZipFile(tmp_path / "a.zip", "w", zipfile.ZIP_DEFLATED) as file:
        for name, content in GOOD.items():
            file.writestr(name, content)
        file.writestr("set/forest/bomb.png", bytes(1 << 20))
    assert "times its size" in reasons(prepare(project, tmp_path / "a.zip"))["set/forest/bomb.png"]

    monkeypatch.setattr(archives, "MAX_TOTAL_BYTES", 500)
    with pytest.raises(DatasetError, match="unpacks to more than"):
        prepare(project, tar_of(tmp_path / "b.tar.gz", GOOD, "w:gz"))
    monkeypatch.setattr(archives, "MAX_MEMBERS", 1)
    with pytest.raises(DatasetError, match="more than 1 members"):
        prepare(project, zip_of(tmp_path / "c.zip", {**GOOD, "more": b""}))
    assert not list(project.path("dataset", "archive").glob(".part-*"))


def test_a_damaged_member_and_a_damaged_archive(project: Project, tmp_path: Path) -> None:
    archive = zip_of(tmp_path / "a.zip", {**GOOD, "set/river/bad.png": b"0123456789" * 9})
    content = archive.read_bytes().replace(b"0123456789" * 9, b"9876543210" * 9)
    archive.write_bytes(content)
    assert "damaged" in reasons(prepare(project, archive))["set/river/bad.png"]
    packed = tar_of(tmp_path / "b.tar.gz", GOOD, "w:gz").read_bytes()
    (tmp_path / "b.tar.gz").write_bytes(packed[: len(packed) // 2])
    with pytest.raises(DatasetError, match="damaged"):
        prepare(project, tmp_path / "b.tar.gz")


def test_only_the_copy_in_use_is_kept(project: Project, tmp_path: Path, folder: Path) -> None:
    prepare(project, zip_of(tmp_path / "a.zip", GOOD))
    prepare(project, zip_of(tmp_path / "b.zip", {**GOOD, "set/river/9.png": picture(77)}))
    assert len(list(project.path("dataset", "archive").iterdir())) == 1
    prepare(project, folder)
    assert list(project.path("dataset", "archive").iterdir()) == []


# --- Hub and Parquet ------------------------------------------------------------------------


def table(count: int, *, start: int = 0, names: tuple[str, ...] = ("AnnualCrop", "River")):
    """A datasets.Dataset of images with their bytes inside and class labels."""
    import datasets

    rows = {
        "image": [{"bytes": picture(start + k), "path": f"tile_{k}.png"} for k in range(count)],
        "label": [k % len(names) for k in range(count)],
    }
    features = datasets.Features(
        {"image": datasets.Image(), "label": datasets.ClassLabel(names=list(names))}
    )
    return datasets.Dataset.from_dict(rows, features=features)


def test_a_folder_of_parquet_files(project: Project, tmp_path: Path) -> None:
    root = tmp_path / "parquet" / "data"
    root.mkdir(parents=True)
    table(8).to_parquet(root / "train-00000-of-00001.parquet")
    table(4, start=50).to_parquet(root / "test-00000-of-00001.parquet")
    (root / "README.md").write_text("card")
    index = prepare(project, tmp_path / "parquet")
    assert index.source["kind"] == "hub" and index.source["root"] is None
    assert len(index.select("train")) == 8 and len(index.select("test")) == 4
    assert index.readable("AnnualCrop") == "annual crop"
    record = index.select("test", "River")[0]
    assert record.id == "River/test/tile_1.png" and record.path.read_bytes() == picture(51)


def test_one_parquet_file_is_split_by_us(project: Project, tmp_path: Path) -> None:
    table(12).to_parquet(tmp_path / "images.parquet")
    index = prepare(project, tmp_path / "images.parquet")
    assert len(index.select("train")) == 8 and len(index.select("test")) == 4
    assert project.path("dataset", "hub").is_dir()


def test_changed_parquet_files_are_noticed(project: Project, tmp_path: Path) -> None:
    file = tmp_path / "images.parquet"
    table(12).to_parquet(file)
    before = {record.sha256 for record in prepare(project, file).images}
    table(12, start=1).to_parquet(file)
    after = {record.sha256 for record in prepare(project, file).images}
    assert len(before & after) == 11
    assert len(list(project.path("dataset", "hub").iterdir())) == 1
    assert not list(project.root.glob(".part-*"))


def test_rows_without_image_or_class_are_listed(project: Project, tmp_path: Path) -> None:
    import datasets

    good = table(8)
    rows = {
        "image": [row["image"] for row in good.cast_column("image", datasets.Image(decode=False))]
        + [None, {"bytes": picture(90), "path": None}, {"bytes": b"junk", "path": "x.png"}],
        "label": [*good["label"], 0, None, 1],
    }
    datasets.Dataset.from_dict(rows, features=good.features).to_parquet(tmp_path / "a.parquet")
    found = reasons(prepare(project, tmp_path / "a.parquet"))
    assert found["train row 8"] == "it has no image." and found["train row 9"] == "it has no class."
    assert "not an image" in found["River/train/x.png"]


def test_rows_cannot_pick_up_files_of_this_machine(project: Project, tmp_path: Path) -> None:
    import datasets

    (tmp_path / "private.png").write_bytes(picture(666))
    good = table(8)
    rows = {
        "image": [
            *good.cast_column("image", datasets.Image(decode=False))["image"],
            {"bytes": None, "path": str(tmp_path / "private.png")},
        ],
        "label": [*good["label"], 0],
    }
    features = {
        "image": {"bytes": datasets.Value("binary"), "path": datasets.Value("string")},
        "label": good.features["label"],
    }
    plain = datasets.Dataset.from_dict(rows, features=datasets.Features(features))
    plain.to_parquet(tmp_path / "a.parquet")
    index = prepare(project, tmp_path / "a.parquet")
    assert "outside the data set" in reasons(index)["train row 8"]
    assert len(index.images) == 8 and not list(project.root.rglob("private*"))


def test_class_names_of_rows_cannot_lead_out(project: Project, tmp_path: Path) -> None:
    table(8, names=("../../evil", "a/b")).to_parquet(tmp_path / "a.parquet")
    index = prepare(project, tmp_path / "a.parquet")
    assert list(index.classes) == ["..-..-evil", "a-b"]
    assert all(record.path.resolve().is_relative_to(project.root) for record in index.images)
    assert not list(tmp_path.rglob("evil"))


def test_columns_that_are_missing_are_named(project: Project, tmp_path: Path) -> None:
    table(4).remove_columns("label").to_parquet(tmp_path / "a.parquet")
    with pytest.raises(DatasetError, match=r"no class column; its columns are image"):
        prepare(project, tmp_path / "a.parquet")
    (tmp_path / "b.parquet").write_bytes(b"PAR1 no")
    with pytest.raises(DatasetError, match="cannot be read"):
        prepare(project, tmp_path / "b.parquet")


@pytest.mark.parametrize(
    ("name", "hub_id"),
    [
        ("eurosat", "timm/eurosat-rgb"),
        ("UC Merced", "blanchon/UC_Merced"),
        ("AID", "blanchon/AID"),
        ("nwpu-resisc45", "timm/resisc45"),
        ("NWPU_RESISC45", "timm/resisc45"),
    ],
)
def test_presets_load_from_the_hub(
    project: Project, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, hub_id: str
) -> None:
    """The Hub is replaced by an image folder; rows then have paths instead of bytes."""
    import datasets

    root = fill(tmp_path / "data", {"Airport": 4, "Center": 4})
    load = datasets.load_dataset
    asked = []

    def from_folder(path: str) -> object:
        asked.append(path)
        return load("imagefolder", data_dir=str(root), cache_dir=str(tmp_path / "cache"))

    monkeypatch.setattr(datasets, "load_dataset", from_folder)
    monkeypatch.setattr(hub, "_download_folders", lambda: (root,))
    index = prepare(project, name)
    assert asked == [hub_id]
    assert index.readable("Center") == "city center" and len(index.images) == 8
    assert index.images[0].id == "Airport/train/00.png"
    assert index.source["licence"] == hub.preset(name).licence


def test_the_hub_out_of_reach_is_explained(project: Project) -> None:
    with pytest.raises(DatasetError, match="cannot be had from the Hub") as error:
        run(project, DatasetConfig(data="owner/absent"))
    assert "network" in str(error.value.fix)


# --- demo scenes ----------------------------------------------------------------------------


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


# --- stopping, resuming, moving -------------------------------------------------------------


def test_a_stopped_run_goes_on_where_it_was(
    project: Project, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    decoded: list[int] = []
    decode = images.open_rgb

    def counted(source: bytes, **options: object) -> Image.Image:
        decoded.append(1)
        if len(decoded) == 6:
            raise JobStopped("stopped.")
        return decode(source, **options)

    monkeypatch.setattr(images, "open_rgb", counted)
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
    (memory,) = project.path("cache", "checked").iterdir()
    memory.write_bytes(memory.read_bytes()[:50] + b'\n{"a": 1}\nxx\n')
    assert len(prepare(project, folder).images) == 14


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


# --- pixels, thumbnails, names --------------------------------------------------------------


def test_pixels_are_the_images(project: Project, folder: Path) -> None:
    index = prepare(project, folder)
    array = pixels(project, index.images, 8)
    assert array.shape == (14, 8, 8, 3) and array.dtype == np.uint8
    for row, record in zip(array, index.images, strict=True):
        assert (row == np.asarray(Image.open(record.path))).all()
    assert pixels(project, index.images[::-1], 5).shape == (14, 5, 5, 3)
    assert pixels(project, [], 5).shape == (0, 5, 5, 3)


def test_large_sets_are_kept_on_disk(
    project: Project, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    index = prepare(project, folder)
    small = pixels(project, index.images, 6)
    monkeypatch.setattr("dpd_core.dataset.pixels.CACHE_FROM", 2)
    events: list[Event] = []
    array = pixels(project, index.images, 6, emit=events.append, stage="evaluate")
    assert isinstance(array, np.memmap) and (array == small).all()
    assert events[-1].stage == "evaluate" and events[-1].done == 14
    with pytest.raises(ValueError):
        array[0] = 0
    monkeypatch.setattr(images, "open_rgb", None)  # nothing is decoded again
    assert (pixels(project, index.images, 6) == small).all()


def test_pixels_of_changed_images_are_an_error(project: Project, folder: Path) -> None:
    index = prepare(project, folder)
    (folder / "forest" / "00.png").write_bytes(picture(4321))
    with pytest.raises(DatasetError, match="changed"):
        pixels(project, index.images, 8)


def test_thumbnails_are_made_once(project: Project, tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / "data" / name).mkdir(parents=True)
        for number in range(2):
            path = tmp_path / "data" / name / f"{number}.png"
            path.write_bytes(picture(ord(name) + number * 10, size=200))
    record = prepare(project, tmp_path / "data").images[0]
    path = thumbnail(project, record, 64)
    assert path.is_relative_to(project.path("dataset", "thumbnails"))
    assert Image.open(path).size == (64, 64)
    record.path.unlink()
    assert thumbnail(project, record, 64) == path
    with pytest.raises(DatasetError):
        thumbnail(project, record, 32)


def test_classes_can_be_renamed(project: Project, folder: Path) -> None:
    prepare(project, folder)
    rename_class(project, "forest", "  boreal \n forest ")
    assert load_index(project).readable("forest") == "boreal forest"
    assert prepare(project, folder).readable("forest") == "boreal forest"
    rename_class(project, "forest", "")
    assert load_index(project).readable("forest") == "forest"
    with pytest.raises(DatasetError, match="no such class"):
        rename_class(project, "moon", "moon")
    with pytest.raises(DatasetError, match="no name"):
        rename_class(project, "forest", "x" * 200)


# --- real scenes ----------------------------------------------------------------------------


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
        "content": "",
    }
    index = load_index(project)
    assert index.readable("mobilehomepark") == "mobile home park"
    assert pixels(project, index.select("test"), 64).std() > 30
