"""The stage: files that agree, the map, and the same bytes again."""

import json
from pathlib import Path

import pytest

from dpd_core.dataset import stage as dataset
from dpd_core.errors import DatasetError, ProjectError, StageMissing
from dpd_core.project import Project
from dpd_core.prototypes import stage as prototypes
from dpd_core.prototypes.files import (
    load_clustering,
    load_prototypes,
)
from dpd_core.prototypes.map_file import read_map
from tests.support.prototype_runs import config, contents, published, published_ids, write_overrides


@pytest.fixture
def project(unclustered: Project) -> Project:
    return unclustered


def test_run_writes_files_that_agree(project: Project) -> None:
    result = prototypes.run(project, config())
    json.dumps(result)
    assert result["classes"] == 2
    assert result["prototypes"] == 6
    assert result["images"] == 16
    assert result["outliers"] == result["excluded"] == 0
    assert set(contents(project)) == {
        "prototypes.json",
        "clusters.json",
        "centers.safetensors",
        "changes.json",
    }

    clustering = load_clustering(project)
    train = {record.id for record in dataset.load_index(project).select("train")}
    assert set(clustering.members) == train
    for name, entries in clustering.prototypes.items():
        assert clustering.centers[name].shape == (3, 3 * 4 * 4)
        assert [entry.cluster_id for entry in entries] == [0, 1, 2]
        for entry in entries:
            member = clustering.members[entry.id]
            assert member.class_name == name
            assert member.cluster_id == entry.cluster_id
            assert (
                member.margin
                == entry.margin
                == pytest.approx(entry.d_inter_min - entry.d_intra, abs=2e-6)
            )
            assert member.distance == entry.d_intra
            sizes = [m.cluster_id for m in clustering.members.values() if m.class_name == name]
            assert sizes.count(entry.cluster_id) == entry.cluster_size


def test_the_file_has_the_published_keys_and_six_decimals(project: Project) -> None:
    prototypes.run(project, config())
    content = published(project)
    assert list(content) == ["forest", "river"]
    for entries in content.values():
        for entry in entries:
            assert list(entry) == [
                "image",
                "caption",
                "cluster_id",
                "file_name",
                "margin",
                "d_intra",
                "d_inter_min",
                "cluster_size",
                "id",
            ]
            assert entry["caption"] == ""
            assert entry["margin"] == round(entry["margin"], 6)
            assert entry["file_name"] == Path(entry["id"]).name


def test_running_again_writes_the_same_bytes(project: Project) -> None:
    first = prototypes.run(project, config())
    before = contents(project)
    assert prototypes.run(project, config()) == first
    assert contents(project) == before
    assert prototypes.run(project, config(ipc=2))["key"] != first["key"]


def test_the_map_shows_all_images(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dpd_core.prototypes.map.project_map", lambda vectors, **_: vectors[:, :2])
    write_overrides(project, {"excluded": [published_ids(project)[0]]})
    prototypes.run(project, config(project_map=True, neighbors=4))
    shown = read_map(project)
    assert shown is not None
    index = dataset.load_index(project)
    assert shown["ids"] == [
        record.id for split in ("train", "test") for record in index.select(split)
    ]
    assert len(set(zip(shown["x"], shown["y"], strict=True))) == 24


def test_outliers_are_listed_in_the_clusters_file(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(prototypes, "OUTLIER_FRACTION", 0.125)  # one of the eight of a class
    result = prototypes.run(project, config(remove_outliers=True))
    assert result["outliers"] == 2
    members = load_clustering(project).members
    assert len(members) == 16
    assert sum(member.outlier for member in members.values()) == 2
    entries = [entry for name in published(project).values() for entry in name]
    assert sum(entry["cluster_size"] for entry in entries) == 14
    assert not any(members[entry["id"]].outlier for entry in entries)


def test_too_few_images_leave_no_files(project: Project) -> None:
    with pytest.raises(DatasetError, match="8 training images"):
        prototypes.run(project, config(ipc=9))
    with pytest.raises(StageMissing, match="dpd_core prototypes"):
        load_prototypes(project)


@pytest.mark.parametrize("file", ["clusters.json", "centers.safetensors"])
@pytest.mark.parametrize("fault", ["missing", "other run", "garbage"])
def test_files_that_do_not_agree_are_refused(project: Project, file: str, fault: str) -> None:
    prototypes.run(project, config(ipc=2))
    other = contents(project)[file]
    prototypes.run(project, config())
    path = project.path("prototypes", file)
    if fault == "missing":
        path.unlink()
    else:
        path.write_bytes(other if fault == "other run" else b"{]")
    if (file, fault) == ("clusters.json", "other run"):
        # Two clusterings may by chance agree on every prototype: make sure they do not.
        members = json.loads(other)
        members[load_prototypes(project)["river"][2].id]["cluster_id"] = 0
        path.write_text(json.dumps(members))
    with pytest.raises(ProjectError, match="Run the stage 'prototypes' again"):
        load_clustering(project)
