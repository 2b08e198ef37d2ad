"""Prototype files: ours, published ones, and bad ones."""

import json
from pathlib import Path
from typing import Any

import pytest

from dpd_core.dataset import stage as dataset
from dpd_core.errors import ProjectError
from dpd_core.project import Project
from dpd_core.prototypes import stage as prototypes
from dpd_core.prototypes.files import (
    load_clustering,
    load_prototypes,
    read_prototypes,
    write_prototypes,
)
from tests.support.prototype_runs import config, published


@pytest.fixture
def project(unclustered: Project) -> Project:
    return unclustered


@pytest.fixture
def strange(project: Project, tmp_path: Path) -> tuple[Path, dict[str, Any]]:
    """A published file for the project's images, as its author's machine would have written it."""
    prototypes.run(project, config())
    content = published(project)
    for entries in content.values():
        for entry in entries:
            del entry["id"]
            entry["image"] = f"/home/author/data/{entry['image']}".replace(".png", ".tif")
            entry["file_name"] = entry["file_name"].replace(".png", ".tif")
    return tmp_path / "published.json", content


def test_a_written_file_reads_back_the_same(project: Project, tmp_path: Path) -> None:
    prototypes.run(project, config())
    first = load_prototypes(project)
    write_prototypes(tmp_path / "copy.json", first)
    assert read_prototypes(tmp_path / "copy.json", dataset.load_index(project)) == first


def test_a_published_file_is_matched_by_file_name(
    project: Project, strange: tuple[Path, dict[str, Any]]
) -> None:
    path, content = strange
    path.write_text(json.dumps(content))
    read = read_prototypes(path, dataset.load_index(project))
    ours = load_prototypes(project)
    for name in ours:
        assert [entry.id for entry in read[name]] == [entry.id for entry in ours[name]]


def test_prototypes_of_a_published_file_take_the_place_of_clustering(
    project: Project, strange: tuple[Path, dict[str, Any]]
) -> None:
    path, content = strange
    content["river"] = content["river"][:2]
    path.write_text(json.dumps(content))
    result = prototypes.run(project, config(ipc=7, file=str(path)))
    assert result["prototypes"] == 5
    clustering = load_clustering(project)
    assert len(clustering.members) == 16
    vectors = {}
    for name, entries in clustering.prototypes.items():
        for entry in entries:
            assert clustering.members[entry.id].cluster_id == entry.cluster_id
            assert clustering.members[entry.id].distance == pytest.approx(0, abs=1e-6)
            vectors[name, entry.cluster_id] = clustering.centers[name][entry.cluster_id]
    del content["forest"]
    path.write_text(json.dumps(content))
    with pytest.raises(ProjectError, match=r"published\.json: it has no prototypes for forest"):
        prototypes.run(project, config(file=str(path)))


def broken(content: dict[str, Any], fault: str) -> Any:
    """The content of a published file with one fault in the second entry of river."""
    entry = content["river"][1]
    match fault:
        case "list":
            return [content]
        case "empty":
            return {}
        case "class":
            content["desert"] = content.pop("river")
        case "entries":
            content["river"] = {"0": entry}
        case "no entries":
            content["river"] = []
        case "entry":
            content["river"][1] = "river01.tif"
        case "nan" | "infinite":
            entry["margin"] = float("nan" if fault == "nan" else "inf")
        case "huge":
            entry["d_intra"] = 10**400
        case "number":
            entry["d_inter_min"] = "0.5"
        case "bool":
            entry["cluster_size"] = True
        case "size":
            entry["cluster_size"] = 0
        case "negative":
            entry["cluster_id"] = -1
        case "gap":
            entry["cluster_id"] = 9
        case "twice":
            content["river"][2]["file_name"] = entry["file_name"]
        case "unknown":
            entry["file_name"] = "elsewhere.tif"
        case "other class":
            entry["file_name"] = content["forest"][0]["file_name"]
        case key:
            del entry[key]
    return content


@pytest.mark.parametrize(
    "fault",
    [
        "list",
        "empty",
        "class",
        "entries",
        "no entries",
        "entry",
        "nan",
        "infinite",
        "huge",
        "number",
        "bool",
        "size",
        "negative",
        "gap",
        "twice",
        "unknown",
        "other class",
        "image",
        "caption",
        "cluster_id",
        "file_name",
        "margin",
        "d_intra",
        "d_inter_min",
        "cluster_size",
    ],
)
def test_a_bad_prototype_file_is_refused_at_the_entry(
    project: Project, strange: tuple[Path, dict[str, Any]], fault: str
) -> None:
    path, content = strange
    path.write_text(json.dumps(broken(content, fault)))
    with pytest.raises(ProjectError) as caught:
        read_prototypes(path, dataset.load_index(project))
    message = str(caught.value)
    assert str(path) in message
    assert caught.value.fix
    if fault not in ("list", "empty"):
        assert ("desert" if fault == "class" else "river") in message
    if fault not in ("list", "empty", "class", "entries", "no entries", "gap", "twice"):
        assert "entry 1" in message


@pytest.mark.parametrize("text", ["", "{", "[" * 100_000, "\x00", '{"river": ' + "9" * 5000 + "}"])
def test_what_is_not_json_is_refused(project: Project, tmp_path: Path, text: str) -> None:
    path = tmp_path / "bad.json"
    path.write_text(text)
    with pytest.raises(ProjectError, match=r"bad\.json"):
        read_prototypes(path, dataset.load_index(project))
    with pytest.raises(ProjectError, match="no such prototype file"):
        read_prototypes(tmp_path / "missing.json", dataset.load_index(project))


def test_a_prototype_from_the_test_split_is_refused(
    project: Project, strange: tuple[Path, dict[str, Any]]
) -> None:
    path, content = strange
    index = dataset.load_index(project)
    content["river"][1]["file_name"] = Path(index.select("test", "river")[0].id).name
    path.write_text(json.dumps(content))
    with pytest.raises(ProjectError, match="test split"):
        read_prototypes(path, index)
