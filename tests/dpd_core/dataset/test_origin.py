"""When and where an image was taken: from the file through the index."""

import io
import json
from pathlib import Path

import numpy as np
import pytest
import tifffile
from PIL import Image

from dpd_core.dataset.images import decode
from dpd_core.dataset.index import load_index
from dpd_core.dataset.origin import Origin
from dpd_core.project import Project
from tests.support.image_folders import prepare

UTM32 = (1, 1, 0, 3, 1024, 0, 1, 1, 1025, 0, 1, 1, 3072, 0, 1, 32632)


def geotiff(
    values: np.ndarray,
    *,
    keys: tuple[int, ...] = UTM32,
    texts: str = "",
    scale: tuple[float, ...] = (10.0, 10.0, 0.0),
    tie: tuple[float, ...] = (0.0, 0.0, 0.0, 600000.0, 5100000.0, 0.0),
    when: str | None = None,
) -> bytes:
    tags = [(33550, "d", 3, scale, True), (33922, "d", 6, tie, True)]
    tags.append((34735, "H", len(keys), keys, True))
    if texts:
        tags.append((34737, "s", 0, texts, True))
    buffer = io.BytesIO()
    options = {"photometric": "rgb"} if values.shape[-1] == 3 else {}
    tifffile.imwrite(buffer, values, extratags=tags, datetime=when, **options)
    return buffer.getvalue()


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_a_geotiffs_place_and_date(dtype: type) -> None:
    values = np.arange(8 * 9 * 3).reshape(8, 9, 3).astype(dtype)
    found = decode(geotiff(values, when="2018:07:04 10:10:31")).origin
    expected = (10.0, 0.0, 600000.0, 0.0, -10.0, 5100000.0)
    assert found == Origin("2018-07-04T10:10:31", "EPSG:32632", expected)


def test_values_of_points_are_moved_by_half_a_pixel() -> None:
    keys = (*UTM32[:11], 2, *UTM32[12:])
    found = decode(geotiff(np.zeros((8, 9, 3), np.uint8), keys=keys)).origin
    assert found.transform == (10.0, 0.0, 599995.0, 0.0, -10.0, 5100005.0)


def test_a_tie_point_elsewhere_in_the_image() -> None:
    found = decode(geotiff(np.zeros((8, 9, 3), np.uint8), tie=(2, 3, 0, 620, 970, 0))).origin
    assert found.transform == (10.0, 0.0, 600.0, 0.0, -10.0, 1000.0)


def test_a_system_of_its_own_keeps_its_name() -> None:
    keys = (1, 1, 0, 2, 1025, 0, 1, 1, 3072, 0, 1, 32767)
    keys = (*keys[:3], 3, *keys[4:], 3073, 34737, 8, 0)
    found = decode(geotiff(np.zeros((8, 9, 3), np.uint8), keys=keys, texts="My grid|")).origin
    assert found.crs == "My grid"


@pytest.mark.parametrize("kind", ["jpeg", "webp", "png"])
def test_the_date_of_a_camera(kind: str) -> None:
    exif = Image.Exif()
    exif.get_ifd(0x8769)[36867] = "2021:12:24 18:00:05"
    exif[306] = "2025:01:01 00:00:00"
    buffer = io.BytesIO()
    Image.new("RGB", (8, 8), (1, 2, 3)).save(buffer, kind, exif=exif)
    assert decode(buffer.getvalue()).origin == Origin("2021-12-24T18:00:05")


@pytest.mark.parametrize(
    "change",
    [
        {"scale": (float("nan"), 1.0, 0.0)},
        {"keys": (1, 1, 0, 200, 3072, 0, 1)},
        {"keys": (1, 1, 0, 1, 3072, 34737, 60000, 60000)},
        {"when": "0000:00:00 00:00:00"},
    ],
)
def test_damaged_tags_are_no_place(change: dict) -> None:
    found = decode(geotiff(np.zeros((8, 9, 3), np.uint8), **change)).origin
    assert found.taken == "" and all(np.isfinite(found.transform))


def test_the_index_keeps_it_and_a_second_run_too(project: Project, tmp_path: Path) -> None:
    data = tmp_path / "d"
    for name in ("forest", "river"):
        (data / name).mkdir(parents=True)
        for k in range(4):
            values = np.full((8, 9, 3), 40 * k + 20 * (name == "river"), np.uint8)
            values[0, 0] = k
            (data / name / f"{k}.tif").write_bytes(geotiff(values, when="2018:07:04 10:10:31"))
    for _ in range(2):  # decoded, then remembered
        project.path("cache", "dataset.json").unlink(missing_ok=True)
        prepare(project, data)
        record = load_index(project).by_id["forest/0.tif"]
        assert record.origin.crs == "EPSG:32632" and record.origin.taken == "2018-07-04T10:10:31"
        assert record.origin.transform[2] == 600000.0
    entry = json.loads(project.path("dataset", "index.json").read_text())["images"][0]
    assert entry["crs"] == "EPSG:32632" and entry["transform"][2] == 600000.0
