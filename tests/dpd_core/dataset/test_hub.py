"""Data sets of the Hub, and Parquet."""

import shutil
from pathlib import Path

import pyarrow
import pyarrow.parquet
import pytest

from dpd_core.config import DatasetConfig
from dpd_core.dataset import hub
from dpd_core.dataset.stage import run
from dpd_core.errors import DatasetError
from dpd_core.project import Project
from tests.support.image_folders import fill, picture, prepare, reasons


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


def write_parquet(path: Path, **columns: object) -> Path:
    """A Parquet file without what the datasets library notes in it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    pyarrow.parquet.write_table(pyarrow.table(columns), path)
    return path


def cells(count: int = 8, *, start: int = 0) -> pyarrow.Array:
    """Structs of image bytes and no path."""
    return pyarrow.array([{"bytes": picture(start + k), "path": None} for k in range(count)])


NUMBERS = [k % 2 for k in range(8)]
NAMES = ["forest" if k % 2 else "river" for k in range(8)]

LABELS = {
    "uint8": {"label": pyarrow.array(NUMBERS, pyarrow.uint8())},
    "int16": {"label": pyarrow.array(NUMBERS, pyarrow.int16())},
    "bool": {"is_water_label": pyarrow.array([bool(k) for k in NUMBERS])},
    "large string": {"label": pyarrow.array(NAMES, pyarrow.large_string())},
    "dictionary": {"label": pyarrow.array(NAMES).dictionary_encode()},
    "list of one": {"labels": pyarrow.array([[name] for name in NAMES])},
    "text beside": {"label": pyarrow.array(NUMBERS), "label_text": pyarrow.array(NAMES)},
    "capital": {"Label": pyarrow.array(NAMES)},
    "in the name": {"scene_class": pyarrow.array(NAMES)},
}
EXPECTED = {"uint8": ["0", "1"], "int16": ["0", "1"], "bool": ["False", "True"]}


@pytest.mark.parametrize("kind", LABELS)
def test_labels_of_any_type(project: Project, tmp_path: Path, kind: str) -> None:
    file = write_parquet(tmp_path / "a.parquet", image=cells(), **LABELS[kind])
    index = prepare(project, file)
    assert list(index.classes) == EXPECTED.get(kind, ["forest", "river"])
    label = {"uint8": "1", "int16": "1", "bool": "True"}.get(kind, "forest")
    assert index.by_id[f"{label}/train/000007.png"].path.read_bytes() == picture(7)


def test_plain_bytes_and_several_image_columns(project: Project, tmp_path: Path) -> None:
    raw = pyarrow.array([picture(k) for k in range(8)])
    file = write_parquet(
        tmp_path / "a.parquet", thumbnail=cells(start=500), picture=raw, label=pyarrow.array(NAMES)
    )
    index = prepare(project, file)
    assert {record.path.read_bytes() for record in index.images} == {picture(k) for k in range(8)}
    assert "column picture" in index.source["understood"]
    assert "thumbnail" in index.source["understood"]


def test_another_column_can_be_chosen(project: Project, tmp_path: Path) -> None:
    other = pyarrow.array(["x" if k < 4 else "y" for k in range(8)])
    file = write_parquet(
        tmp_path / "a.parquet", image=cells(), label=pyarrow.array(NAMES), coarse_label=other
    )
    assert "parquet:coarse_label" in prepare(project, file).source["alternatives"]
    assert list(prepare(project, file, layout="parquet:coarse_label").classes) == ["x", "y"]


@pytest.mark.parametrize(
    ("train", "test"),
    [
        ("data/train-00000-of-00001", "data/test-00000-of-00001"),
        ("train/0000", "validation/0000"),
        ("eurosat_training", "eurosat_evaluation"),
        ("default/partial-train/0000", "default/partial-test/0000"),
    ],
)
def test_the_split_may_be_any_part_of_the_path(
    project: Project, tmp_path: Path, train: str, test: str
) -> None:
    labels = pyarrow.array(NAMES)
    write_parquet(tmp_path / "d" / f"{train}.parquet", image=cells(), label=labels)
    write_parquet(tmp_path / "d" / f"{test}.parquet", image=cells(start=50), label=labels)
    index = prepare(project, tmp_path / "d")
    assert {r.path.read_bytes() for r in index.select("test")} == {
        picture(50 + k) for k in range(8)
    }
    assert len(index.select("train")) == 8


def test_pictures_beside_parquet_are_those_of_its_page(project: Project, tmp_path: Path) -> None:
    root = tmp_path / "d"
    write_parquet(root / "data" / "train.parquet", image=cells(), label=pyarrow.array(NAMES))
    fill(root, {"assets": 3, "figures": 3}, start=700)
    (root / "thumbnail.png").write_bytes(picture(600))
    index = prepare(project, root)
    assert list(index.classes) == ["forest", "river"] and len(index.images) == 8
    assert "beside the Parquet" in reasons(index)["assets/00.png"]
    assert list(prepare(project, root, layout="top").classes) == ["assets", "figures"]
    packed = shutil.make_archive(str(tmp_path / "d"), "zip", root)
    assert len(prepare(project, packed).images) == 8


def test_several_data_sets_of_parquet_are_asked_for(project: Project, tmp_path: Path) -> None:
    for number, name in enumerate(("rgb_small", "msi")):
        file = tmp_path / "d" / name / "train.parquet"
        write_parquet(file, image=cells(start=100 * number), label=pyarrow.array(NAMES))
    with pytest.raises(DatasetError, match="several data sets"):
        prepare(project, tmp_path / "d")
    index = prepare(project, tmp_path / "d", layout="msi/")
    assert {r.path.read_bytes() for r in index.images} == {picture(100 + k) for k in range(8)}
