"""How trees of files are understood."""

from collections import Counter
from pathlib import Path, PurePosixPath
from tempfile import TemporaryDirectory

import pytest

from dpd_core.config import DatasetConfig
from dpd_core.dataset.index import load_index
from dpd_core.dataset.layout import Layout, understand
from dpd_core.dataset.stage import run
from dpd_core.dataset.tables import read as read_table
from dpd_core.errors import DatasetError
from dpd_core.events import Event, Log
from dpd_core.project import Project
from tests.support.image_folders import fill, picture, prepare


def read(*paths: str, choice: str = "", tables: dict[str, str] | None = None) -> Layout:
    """The layout of made-up paths; ``tables`` are contents by path."""
    found = []
    with TemporaryDirectory() as folder:
        for name, content in (tables or {}).items():
            path = Path(folder, PurePosixPath(name).name)
            path.write_text(content)
            table = read_table(path, PurePosixPath(name))
            assert table is not None
            found.append(table)
    return understand([PurePosixPath(path) for path in paths], found, choice=choice, data="data")


def layout(*paths: str, choice: str = "") -> tuple[list[tuple[str, str, str | None]], list[str]]:
    found = read(*paths, choice=choice)
    entries = sorted((entry.class_name, entry.name, entry.side) for entry in found.images)
    return entries, [str(path) for path, _ in found.left]


def sides(found: Layout) -> dict[str, tuple[str, str | None]]:
    """Class and split by path."""
    return {str(entry.path): (entry.class_name, entry.side) for entry in found.images}


def several(*folders: str, count: int = 2) -> list[str]:
    """``count`` images in each folder."""
    return [f"{folder}/{k}.png" for folder in folders for k in range(count)]


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
    assert entries == [("car", "x.png", None), ("test", "z.png", None), ("train", "y.png", None)]


SPLIT_NAMES = [
    ("training_set", "test_set"),
    ("seg_train/seg_train", "seg_test/seg_test"),
    ("train_images", "test_images"),
    ("Train", "Holdout"),
    ("training", "evaluation"),
    ("train2017", "val2017"),
    ("trainset", "testset"),
    ("Training Data", "Testing Data"),
    ("TRAIN", "DEV"),
    ("x/train/images", "x/hold_out/images"),
    ("imagesTrain", "imagesTest"),
]


@pytest.mark.parametrize(("train", "test"), SPLIT_NAMES)
def test_split_folders_in_all_their_forms(train: str, test: str) -> None:
    found = read(*several(f"{train}/forest", f"{train}/river"), *several(f"{test}/forest"))
    assert {entry.side for entry in found.images if entry.path.is_relative_to(train)} == {"train"}
    assert {entry.side for entry in found.images if entry.path.is_relative_to(test)} == {"test"}
    assert {entry.class_name for entry in found.images} == {"forest", "river"}
    assert "split folders" in found.text


@pytest.mark.parametrize(
    "name", ["train_station", "testudo", "valley", "development_area", "dev-x"]
)
def test_classes_that_sound_like_splits_are_classes(name: str) -> None:
    found = read(*several(name, "forest", "train"))
    assert {entry.class_name for entry in found.images} == {name, "forest", "train"}


def test_all_three_parts_and_a_third_folder_beside() -> None:
    parts = [f"{part}/{name}" for part in ("train", "valid", "test") for name in ("a", "b")]
    found = read(*several(*parts), *several("unlabeled"), *several("extra/a"))
    by_side = Counter(entry.side for entry in found.images)
    assert by_side == {"train": 8, "test": 4}, "validation joins training where there is a test"
    assert len(found.left) == 4 and all("beside the split" in why for _, why in found.left)


def test_test_images_without_classes_are_left_out_and_validation_tests() -> None:
    found = read(*several("train/a", "train/b", "val/a", "val/b"), *several("test"))
    assert Counter(entry.side for entry in found.images) == {"train": 4, "test": 4}
    assert "validation" in found.text
    assert {str(path) for path, _ in found.left} == {"test/0.png", "test/1.png"}


def test_splits_inside_the_classes_are_kept() -> None:
    found = read(*several("a/train/good", "a/test/good", "a/test/broken", "b/train", "b/test"))
    assert {entry.class_name for entry in found.images} == {"a", "b"}
    assert all(entry.side == entry.path.parts[1] for entry in found.images)
    found = read(*several("g/a/train", "g/a/test", "h/b/train", "h/b/test"))
    assert all(entry.side == entry.path.parts[2] for entry in found.images)
    assert {entry.class_name for entry in found.images} == {"g", "h"}
    assert "leaf" in found.others


def test_data_sets_side_by_side_are_asked_for() -> None:
    paths = several(*(f"{root}/{name}" for root in ("rgb", "all") for name in ("a", "b", "c")))
    with pytest.raises(DatasetError, match="side by side") as error:
        read(*paths)
    assert "rgb/" in str(error.value.fix) and "top" in str(error.value.fix)
    found = read(*paths, choice="rgb/")
    assert {entry.class_name for entry in found.images} == {"a", "b", "c"}
    assert all(entry.path.parts[0] == "rgb" for entry in found.images) and len(found.left) == 6
    assert len({(entry.class_name, entry.name) for entry in found.images}) == 6
    assert {entry.class_name for entry in read(*paths, choice="top").images} == {"rgb", "all"}


def test_kinds_of_images_in_each_class_can_be_chosen() -> None:
    paths = several("a/rgbir", "a/sar", "b/rgbir", "b/sar")
    with pytest.raises(DatasetError, match="side by side"):
        read(*paths)
    found = read(*paths, choice="sar/")
    assert sides(found) == {
        f"{name}/sar/{k}.png": (name, None) for name in ("a", "b") for k in range(2)
    }


@pytest.mark.parametrize(
    "folders", [("a/2019", "a/2020", "b/2019", "b/2020"), ("a/tile_1", "a/tile_2", "b/tile_1")]
)
def test_dates_and_numbers_are_no_classes(folders: tuple[str, ...]) -> None:
    found = read(*several(*folders))
    assert {entry.class_name for entry in found.images} == {"a", "b"} and found.reading == "top"


def test_numbered_parts_of_one_data_set() -> None:
    found = read(*several("part1/a", "part1/b", "part2/a", "part2/c"))
    assert found.reading == "leaf"
    assert Counter(entry.class_name for entry in found.images) == {"a": 4, "b": 2, "c": 2}


def test_groups_of_classes() -> None:
    paths = several("water/river", "water/lake", "wood/forest", "wood/shrub", "built/roof")
    found = read(*paths)
    assert found.reading == "leaf" and "top" in found.others and "path" in found.others
    assert {entry.class_name for entry in found.images} == {
        "river",
        "lake",
        "forest",
        "shrub",
        "roof",
    }
    top = read(*paths, choice="top")
    assert {entry.class_name for entry in top.images} == {"water", "wood", "built"}
    whole = read(*paths, choice="path")
    assert "water river" in {entry.class_name for entry in whole.images}


def test_leaves_of_one_name_in_several_groups_stay_apart() -> None:
    found = read(*several("water/other", "water/lake", "wood/other", "wood/forest"), choice="leaf")
    assert {entry.class_name for entry in found.images} == {
        "water other",
        "wood other",
        "lake",
        "forest",
    }


def test_masks_and_pictures_about_the_data_are_left_out() -> None:
    found = read(*several("a/images", "a/masks", "b/images", "b/masks"))
    assert {entry.class_name for entry in found.images} == {"a", "b"} and len(found.left) == 4
    found = read(*several("EuroSAT/a", "EuroSAT/b", "EuroSAT/c"), *several("docs"), "preview.png")
    assert {entry.class_name for entry in found.images} == {"a", "b", "c"}
    assert {str(path) for path, _ in found.left} == {"docs/0.png", "docs/1.png", "preview.png"}


def test_file_names_may_say_the_class() -> None:
    found = read("forest_001.jpg", "forest_002.jpg", "river (1).jpg", "river (2).jpg")
    assert found.reading == "names"
    assert sides(found)["river (1).jpg"] == ("river", None)
    found = read("images/cat.0.jpg", "images/cat.1.jpg", "images/dog.0.jpg", "images/dog.1.jpg")
    assert {entry.class_name for entry in found.images} == {"cat", "dog"}
    with pytest.raises(DatasetError, match="not sorted"):
        read("1.jpg", "2.jpg", "3.jpg")


PLAIN = ["i/1.png", "i/2.png", "i/3.png", "i/4.png"]
WANTED = {"i/1.png": "a", "i/2.png": "b", "i/3.png": "a", "i/4.png": "b"}
TABLES = {
    "labels.csv": "file_name,label\n1.png,a\n2.png,b\n3.png,a\n4.png,b\n",
    "train.tsv": "image_id\tdx\n1\ta\n2\tb\n3\ta\n4\tb\n",
    "i/metadata.jsonl": "".join(
        f'{{"file_name": "{k}.png", "label": "{"ab"[(k + 1) % 2]}", "text": "t{k}"}}\n'
        for k in range(1, 5)
    ),
    "list.txt": "i/1.png a\ni/2.png b\ni/3.png a\ni/4.png b\n",
    "noheader.csv": "1.png,a\n2.png,b\n3.png,a\n4.png,b\n",
    "hot.csv": "image,a,b\n1,1.0,0.0\n2,0.0,1.0\n3,1.0,0.0\n4,0.0,1.0\n",
    "coco.json": '{"images": [{"id": 1, "file_name": "1.png"}, {"id": 2, "file_name": "2.png"},'
    '{"id": 3, "file_name": "3.png"}, {"id": 4, "file_name": "4.png"}], "annotations": ['
    '{"image_id": 1, "category_id": 7}, {"image_id": 2, "category_id": 8},'
    '{"image_id": 3, "category_id": 7}, {"image_id": 4, "category_id": 8}],'
    '"categories": [{"id": 7, "name": "a"}, {"id": 8, "name": "b"}]}',
    "by_class.json": '{"a": ["i/1", "i/3"], "b": ["i/2", "i/4"]}',
    "by_file.json": '{"1.png": "a", "2.png": "b", "3.png": "a", "4.png": "b"}',
    "fiftyone.json": '{"classes": ["a", "b"], "labels": {"1": 0, "2": 1, "3": 0, "4": 1}}',
    "windows.csv": ";Filename;ClassName;Label\n0;C:\\x\\i\\1.png;a;0\n1;C:\\x\\i\\2.png;b;1\n"
    "2;C:\\x\\i\\3.png;a;0\n3;C:\\x\\i\\4.png;b;1\n",
}


@pytest.mark.parametrize("name", TABLES)
def test_tables_say_the_classes(name: str) -> None:
    found = read(*PLAIN, tables={name: TABLES[name]})
    assert found.reading == "table" and name.rpartition("/")[2] in found.text
    assert {path: entry[0] for path, entry in sides(found).items()} == WANTED
    if name.endswith("jsonl"):
        assert [entry.caption for entry in found.images] == ["t1", "t2", "t3", "t4"]


@pytest.mark.parametrize("names", ["a\nb\n", "0 a\n1 b\n"])
def test_numbers_become_names_where_a_file_says_how(names: str) -> None:
    labels = "file,label\n1.png,0\n2.png,1\n3.png,0\n4.png,1\n"
    found = read(*PLAIN, tables={"labels.csv": labels, "classes.txt": names})
    assert {path: entry[0] for path, entry in sides(found).items()} == WANTED
    found = read(*PLAIN, tables={"labels.csv": labels, "label_map.json": '{"a": 0, "b": 1}'})
    assert {path: entry[0] for path, entry in sides(found).items()} == WANTED


def test_splits_of_tables_are_kept() -> None:
    paths = several("a", "b")
    lists = {"train.txt": "a/0.png\nb/0\n", "test.txt": "a/1.png\nb/1\n"}
    expected = {
        "a/0.png": ("a", "train"),
        "b/0.png": ("b", "train"),
        "a/1.png": ("a", "test"),
        "b/1.png": ("b", "test"),
    }
    assert sides(read(*paths, tables=lists)) == expected
    column = "path,split\na/0.png,train\nb/0.png,TRAIN\na/1.png,test\nb/1.png,val\n"
    found = sides(read(*paths, tables={"meta.csv": column}))
    assert found["a/1.png"] == ("a", "test") and found["b/0.png"] == ("b", "train")
    # one list for each part, with numbered classes of their own
    official = {
        f"{part}.csv": f",Filename,Label,ClassName\n0,a/{k}.png,0,a\n1,b/{k}.png,1,b\n"
        for k, part in enumerate(("train", "test"))
    }
    found = read(*paths, tables=official)
    assert sides(found) == expected and found.reading == "top"


def test_what_no_list_names_is_left_out_where_others_have_a_split() -> None:
    lists = {"train.txt": "a/0.png\nb/0.png\n", "test.txt": "a/1.png\nb/1.png\n"}
    found = read(*several("a", "b", count=3), tables=lists)
    assert {str(path) for path, _ in found.left} == {"a/2.png", "b/2.png"}
    assert all("no split" in why for _, why in found.left)


def test_other_columns_and_tables_can_be_chosen() -> None:
    table = "file_name,fine_label,coarse_label\n1.png,a,x\n2.png,b,x\n3.png,a,y\n4.png,b,y\n"
    found = read(*PLAIN, tables={"t.csv": table})
    assert "table:coarse_label" in found.others
    found = read(*PLAIN, tables={"t.csv": table}, choice="table:coarse_label")
    assert {entry.class_name for entry in found.images} == {"x", "y"}
    two = {"a.csv": TABLES["labels.csv"], "b.csv": TABLES["labels.csv"].replace(",b", ",c")}
    found = read(*PLAIN, tables=two, choice="table:b.csv")
    assert {entry.class_name for entry in found.images} == {"a", "c"}


def test_rows_of_several_classes_are_refused() -> None:
    rows = "".join(f"{k},{k % 2},{1 - k % 2}\n" for k in range(1, 10))
    paths = [f"{k}.png" for k in range(1, 11)]
    found = read(*paths, tables={"hot.csv": f"image,a,b\n{rows}10,1,1\n"})
    assert len(found.images) == 9 and "names 2 classes" in found.left[0][1]


def test_a_column_a_class_in_each_split_folder() -> None:
    paths = [f"{part}/{k}.jpg" for part in ("train", "valid", "test") for k in range(4)]
    rows = "filename, forest, river\n" + "".join(f"{k}.jpg,{k % 2},{1 - k % 2}\n" for k in range(4))
    found = read(
        *paths, tables={f"{part}/_classes.csv": rows for part in ("train", "valid", "test")}
    )
    assert found.reading == "table"
    assert sides(found)["train/1.jpg"] == ("forest", "train")
    assert sides(found)["test/0.jpg"] == ("river", "test")
    assert Counter(entry.side for entry in found.images) == {"train": 8, "test": 4}


def test_an_unknown_choice_names_the_known_ones() -> None:
    with pytest.raises(DatasetError, match="no layout 'nonsense'") as error:
        read(*several("a", "b"), choice="nonsense")
    assert "leaf" in str(error.value.fix)
    with pytest.raises(DatasetError, match="no image lies in a folder x"):
        read(*several("a", "b"), choice="x/")


def test_rubbish_of_systems_is_no_data(project: Project, folder: Path) -> None:
    for name in ("@eaDir/x.png", "__MACOSX", "#recycle", ".ipynb_checkpoints", "$RECYCLE.BIN"):
        (folder / "forest" / name).mkdir(parents=True)
        (folder / "forest" / name / "SYNOPHOTO_THUMB_M.jpg").write_bytes(picture(700))
    (folder / "@eaDir").mkdir()
    (folder / "@eaDir" / "a.png").write_bytes(picture(701))
    (folder / "forest" / "Thumbs.db").write_bytes(b"x")
    (folder / "forest" / "desktop.ini").write_bytes(b"x")
    index = prepare(project, folder)
    assert len(index.images) == 14 and not index.refused


def test_a_caption_file_beside_each_image(project: Project, folder: Path) -> None:
    for path in sorted(folder.rglob("*.png")):
        path.with_suffix(".txt").write_text(f"a view of {path.stem}\n")
    index = prepare(project, folder)
    assert [record.caption for record in index.select(None, "forest")][:2] == [
        "a view of 00",
        "a view of 01",
    ]
    assert not index.refused


def test_how_it_was_understood_is_told(project: Project, tmp_path: Path) -> None:
    fill(tmp_path / "data" / "water", {"river": 3, "lake": 3})
    fill(tmp_path / "data" / "wood", {"forest": 3, "shrub": 3}, start=50)
    events: list[Event] = []
    result = run(project, DatasetConfig(data=str(tmp_path / "data")), events.append)
    assert result["layout"] == "leaf" and "groups" in result["understood"]
    assert "top" in result["alternatives"]
    said = [event for event in events if isinstance(event, Log) and event.level == "warning"]
    assert any("--layout top" in event.message for event in said)
    source = load_index(project).source
    assert source["layout"] == "leaf" and source["alternatives"] == result["alternatives"]
    assert list(prepare(project, tmp_path / "data", layout="top").classes) == ["water", "wood"]


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
