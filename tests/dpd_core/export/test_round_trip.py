"""What was exported is read again by the stage `dataset`: classes, images and captions."""

import dataclasses
import json

import datasets
import pyarrow.parquet
import pytest

from dpd_core.config import DatasetConfig, ExportConfig
from dpd_core.dataset import stage as dataset
from dpd_core.dataset.index import load_index
from dpd_core.dataset.origin import Origin
from dpd_core.export import contents
from dpd_core.export import stage as export
from dpd_core.project import Project
from dpd_core.synthesize.sets import DistilledSet
from tests.support.distilled_project import make_project

ORIGIN = Origin("2018-07-04T10:10:31", "EPSG:32632", (10.0, 0.0, 6e5, 0.0, -10.0, 5.1e6))


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    project = make_project(tmp_path_factory.mktemp("exported"))
    export.run(project, ExportConfig(text_files=True))
    return project


def captions(project: Project) -> dict[tuple[str, int], str]:
    slots = DistilledSet.load(project).slots
    return {(slot.class_name, slot.number): slot.caption for slot in slots}


@pytest.mark.parametrize("kind", ["text files", "metadata", "whole", "zip"])
def test_an_export_is_read_again_with_its_captions(exported, tmp_path, kind):
    folder = exported.path("export", "dpd-1")
    data = {"whole": folder, "zip": folder.with_name("dpd-1.zip")}.get(kind)
    if data is None:
        data = tmp_path / "train"
        ending = "*/*.txt" if kind == "text files" else "metadata.jsonl"
        for path in [*(folder / "train").glob("*/*.png"), *(folder / "train").glob(ending)]:
            target = data / path.relative_to(folder / "train")
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(path.read_bytes())
    again = Project.create(tmp_path / "again")
    dataset.run(again, DatasetConfig(data=str(data), test_fraction=0))
    index = load_index(again)
    assert set(index.classes) == {"desert", "forest", "river"}
    assert len(index.images) == 6
    expected = sorted(captions(exported).values())
    assert sorted(image.caption or "" for image in index.images) == expected


def test_the_loader_takes_images_not_captions_for_the_data(exported, tmp_path):
    folder = exported.path("export", "dpd-1")
    datasets.disable_progress_bars()
    loaded = datasets.load_dataset(str(folder), cache_dir=str(tmp_path), split="train")
    assert len(loaded) == 6 and loaded[0]["image"].size == (16, 16)
    assert sorted(loaded["caption"]) == sorted(captions(exported).values())


def test_when_and_where_prototypes_were_taken_is_a_column(exported, tmp_path, monkeypatch):
    first = DistilledSet.load(exported).slots[0].prototype_id

    def located(project: Project):
        index = load_index(project)
        images = [dataclasses.replace(index.images[0], id=first, origin=ORIGIN), *index.images]
        return dataclasses.replace(index, images=images)

    monkeypatch.setattr(contents, "load_index", located)
    result = export.run(exported, ExportConfig(output=str(tmp_path)))
    folder = tmp_path / "dpd-1"
    rows = [json.loads(line) for line in (folder / "train/metadata.jsonl").read_text().splitlines()]
    found = {row["prototype_id"]: row["prototype_transform"] for row in rows}
    assert found.pop(first) == "10.0 0.0 600000.0 0.0 -10.0 5100000.0"
    assert set(found.values()) == {""}
    (table,) = (folder / "parquet").iterdir()
    columns = pyarrow.parquet.read_table(table).to_pydict()
    assert (
        "EPSG:32632" in columns["prototype_crs"]
        and "2018-07-04T10:10:31" in (columns["prototype_taken"])
    )
    assert "prototype_crs" in (folder / "README.md").read_text()
    assert result["images"] == 6
