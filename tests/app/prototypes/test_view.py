"""The tab Prototypes without a browser: the map's columns, words about prototypes and changes, and
what becomes of requests from the page."""

import json
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest

from app.prototypes import service as services
from app.prototypes import view as views
from dpd_core import storage
from dpd_core.captions import stage as captions_stage
from dpd_core.config import CaptionsConfig, PrototypesConfig
from dpd_core.dataset.index import load_index
from dpd_core.dataset.selections import save_selection
from dpd_core.errors import DatasetError, DPDError, ProjectError
from dpd_core.project import Project
from dpd_core.prototypes import curation
from dpd_core.prototypes.files import load_clustering, load_prototypes
from dpd_core.prototypes.likeness import write_likeness
from dpd_core.prototypes.overrides import read_overrides
from tests.support.curated_project import cluster, clustered_project, members_beside


class Links:
    """Image links, readable in a test."""

    def thumbnail(self, project: Project, image_id: str) -> str:
        return f"thumb/{quote(image_id)}"


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Project:
    return clustered_project(tmp_path, monkeypatch)


def lay_out(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dpd_core.prototypes.map.project_map", lambda vectors, **_: vectors[:, :2])
    cluster(project, project_map=True)


def ask(project: Project, action: str, *ids: str, class_name: str = "") -> curation.Decision:
    data = views.columns(project)
    rows = [data["ids"].index(image_id) for image_id in ids]
    return services.decide(
        project, {"action": action, "rows": rows, "key": data["key"], "class_name": class_name}
    )


def test_similar_images_are_found_by_rows_of_the_current_map(project: Project) -> None:
    data = views.columns(project)
    assert data["near"] is None
    with pytest.raises(DatasetError, match="not been compared"):
        services.similar(project, data["key"], 0)
    write_likeness(project, load_index(project))
    data = json.loads(json.dumps(views.columns(project)))
    assert len(data["near"]) == len(data["alike"]) == len(data["ids"])
    found = services.similar(project, data["key"], 3, count=4)
    assert found["rows"][0] == found["of"] == 3
    assert len(found["alike"]) == 4
    for key, row in ((data["key"], 10_000), ("other", 3), (data["key"], None)):
        with pytest.raises(DatasetError):
            services.similar(project, key, row)


def test_saved_selections_are_rows_of_the_map(project: Project) -> None:
    ids = [record.id for record in load_index(project).images]
    save_selection(project, "two", [ids[4], ids[1]])
    assert views.columns(project)["selections"] == {"two": [4, 1]}


# ---- the map's columns ---------------------------------------------------------------------


def test_columns_say_of_each_image_what_the_stage_found(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    lay_out(project, monkeypatch)
    captions_stage.run(project, CaptionsConfig(mode="template"))
    data = json.loads(json.dumps(views.columns(project)))
    index, clustering = load_index(project), load_clustering(project)
    assert data["ids"] == [record.id for record in index.images]
    for name in ("x", "y", "cls", "split", "cluster", "margin", "outlier"):
        assert len(data[name]) == len(data["ids"])
    assert None not in data["x"]
    for row, record in enumerate(index.images):
        assert data["classes"][data["cls"][row]]["name"] == record.class_name
        assert data["split"][row] == (record.split == "test")
        member = clustering.members.get(record.id)
        assert data["cluster"][row] == (member.cluster_id if member else -1)
        assert (data["margin"][row] is None) == (record.split == "test")
    stars = {data["ids"][row] for row in data["prototypes"]}
    assert stars == {
        prototype.id for entries in clustering.prototypes.values() for prototype in entries
    }
    assert data["captions"]["river"]["2"] == "A satellite image of river"


def test_columns_show_decisions_before_they_are_applied(project: Project) -> None:
    chosen, excluded = (
        members_beside(project, "river", 0)[0],
        members_beside(project, "river", 1)[0],
    )
    moved = load_prototypes(project)["river"][2].id
    curation.choose_prototype(project, chosen)
    curation.exclude(project, [excluded])
    curation.move_to_class(project, [moved], "forest")
    data = views.columns(project)
    row = data["ids"].index
    assert (data["chosen"], data["excluded"]) == ([row(chosen)], [row(excluded)])
    assert data["moved"] == [[row(moved), "river"]]
    assert data["classes"][data["cls"][row(moved)]]["name"] == "forest"
    assert data["cluster"][row(moved)] == -1, "its cluster is one of another class"
    assert row(moved) in data["prototypes"], "until the next clustering"


def test_columns_without_map_or_clusters_have_gaps(project: Project) -> None:
    assert set(views.columns(project)["x"]) == {None}
    for path in project.path("prototypes").iterdir():
        path.unlink()
    data = views.columns(project)
    assert set(data["cluster"]) == {-1}
    assert data["prototypes"] == [] == data["chosen"]


# ---- words ---------------------------------------------------------------------------------


def test_the_strip_lists_prototypes_with_what_was_decided(project: Project) -> None:
    prototypes = load_prototypes(project)
    curation.exclude(project, [prototypes["forest"][0].id])
    curation.choose_prototype(project, prototypes["river"][1].id)
    forest, river = views.strip(project, Links())["classes"]
    assert [prototype["id"] for prototype in river["prototypes"]] == [
        prototype.id for prototype in prototypes["river"]
    ]
    assert river["images"] == sum(prototype.cluster_size for prototype in prototypes["river"])
    assert [shown["state"] for shown in forest["prototypes"]] == ["stale", "", ""]
    assert [shown["state"] for shown in river["prototypes"]] == ["", "chosen", ""]
    assert river["prototypes"][0]["image"] == f"thumb/{quote(prototypes['river'][0].id)}"
    project.path("prototypes", "prototypes.json").unlink()
    assert "Re-cluster" in views.strip(project, Links())["empty"]


def test_the_report_of_changes_names_images_settings_and_lost_choices(project: Project) -> None:
    assert views.changes(project, Links()) == {"shown": False}
    first, second = (prototype.id for prototype in load_prototypes(project)["river"][:2])
    curation.choose_prototype(project, first)
    curation.choose_prototype(project, second)
    cluster(project, ipc=1)
    report = views.changes(project, Links())
    assert report["settings"] == "ipc 3 → 1"
    assert [changed["readable"] for changed in report["classes"]] == ["forest", "river"]
    assert len(report["classes"][1]["removed"]) == 2
    assert [choice["state"] for choice in report["choices"]] == ["kept", "lost"]
    assert second in report["choices"][1]["text"]
    assert first in report["choices"][1]["text"]


def test_the_status_asks_for_a_new_clustering_when_something_was_decided(project: Project) -> None:
    assert views.status(project)["state"] == "done"
    assert views.undo_label(project) == ""
    curation.exclude(project, members_beside(project, "river", 0)[:1])
    assert views.status(project)["state"] == "stale"
    assert "excluded" in views.undo_label(project)
    curation.undo(project)
    assert views.status(project)["state"] == "done"
    assert views.undo_label(project) == ""


# ---- requests from the page ----------------------------------------------------------------


def test_requests_become_decisions(project: Project) -> None:
    chosen, other = members_beside(project, "river", 0)[:2]
    test = load_index(project).select("test", "river")[0].id
    ask(project, "choose", chosen)
    assert list(read_overrides(project).chosen["river"].values()) == [chosen]
    ask(project, "release", chosen)
    assert ask(project, "exclude", other, test).ids == (other,), "test images stay as they are"
    assert read_overrides(project).excluded == {other}
    ask(project, "include", other)
    assert read_overrides(project).excluded == frozenset()
    ask(project, "move", other, test, class_name="forest")
    assert {load_index(project).by_id[i].class_name for i in (other, test)} == {"forest"}


@pytest.mark.parametrize(
    ("asked", "text"),
    [
        ({}, "changed since"),
        ({"key": "old", "rows": [0], "action": "exclude"}, "changed since"),
        ({"rows": [10_000]}, "not a selection"),
        ({"rows": [-1]}, "not a selection"),
        ({"rows": [True]}, "not a selection"),
        ({"rows": "0"}, "not a selection"),
        ({"rows": {"0": 1}}, "not a selection"),
        ({"rows": [0, 1], "action": "choose"}, "one image"),
        ({"rows": [], "action": "exclude"}, "no image"),
        ({"rows": [0], "action": "<img src=x onerror=alert(1)>"}, "no action"),
        ({"rows": [0], "action": "move", "class_name": ["x"]}, "no such class"),
        ({"rows": [0], "action": "move"}, "no such class"),
    ],
)
def test_forged_and_outdated_requests_are_refused(
    project: Project, asked: dict[str, Any], text: str
) -> None:
    key = views.row_key(load_index(project)) if "rows" in asked else None
    with pytest.raises(DPDError, match=text):
        services.decide(project, {"key": key, **asked})
    assert curation.decisions(project) == []


def test_test_images_alone_cannot_be_excluded(project: Project) -> None:
    with pytest.raises(DatasetError, match="test image"):
        ask(project, "exclude", load_index(project).select("test")[0].id)


def test_an_imported_file_is_checked_and_kept(project: Project, tmp_path: Path) -> None:
    given = json.loads(project.path("prototypes", "prototypes.json").read_text())
    given["river"] = given["river"][:2]
    file = tmp_path / "theirs.json"
    storage.write_json(file, given)
    config = services.import_prototypes(project, PrototypesConfig(ipc=5), file)
    file.unlink()
    cluster(project, file=config.file)
    assert len(load_prototypes(project)["river"]) == 2
    assert "imported" in views.status(project)["text"]
    file.write_text('{"desert": []}')
    with pytest.raises(ProjectError, match="desert") as caught:
        services.import_prototypes(project, PrototypesConfig(), file)
    assert str(tmp_path) not in str(caught.value), "a server's path is nobody's business"
