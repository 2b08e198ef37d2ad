"""Prototypes: the published procedure, the files, hand-made choices, and bad files."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from sklearn.cluster import KMeans
from torch import Tensor

from dpd_core.config import DatasetConfig, PrototypesConfig
from dpd_core.dataset import stage as dataset
from dpd_core.errors import ConfigError, DatasetError, ProjectError, StageMissing
from dpd_core.events import Event, Log
from dpd_core.project import Project
from dpd_core.prototypes import stage as prototypes
from dpd_core.prototypes.clusterer import PrototypeClusterer, pooled_vectors
from dpd_core.prototypes.files import read_prototypes, write_prototypes
from dpd_core.prototypes.map import read_map
from dpd_core.prototypes.stage import load_clustering, load_prototypes
from dpd_core.seeding import derive_seed
from tests.support.curated_project import PoolingEncoder
from tests.support.finished_stage import finish


def clumps(name: str, clumps: int = 3, members: int = 7) -> Tensor:
    """Latents (clumps · members, 4, 16, 16) of one class in well separated clumps."""
    draw = torch.Generator().manual_seed(derive_seed(name) % 1000)
    centers = torch.randn(clumps, 1, 4, 4, 4, generator=draw).repeat(1, members, 1, 1, 1)
    latents = centers.flatten(0, 1).repeat_interleave(4, 2).repeat_interleave(4, 3)
    return latents + 0.3 * torch.randn(latents.shape, generator=draw)


def collection(*names: str) -> tuple[Tensor, list[str]]:
    latents = [clumps(name) for name in names]
    return torch.cat(latents), [n for n, z in zip(names, latents, strict=True) for _ in z]


# ---- the clusterer -------------------------------------------------------------------------


def test_vectors_are_pooled_flattened_and_of_length_one() -> None:
    latents = torch.arange(2 * 4 * 4 * 4, dtype=torch.float16).reshape(2, 4, 4, 4)
    vectors = pooled_vectors(latents, 2)
    assert vectors.shape == (2, 16)
    assert vectors.dtype == np.float32
    by_hand = latents[0].float().reshape(4, 2, 2, 2, 2).mean((2, 4)).flatten().numpy()
    assert vectors[0] == pytest.approx(by_hand / np.linalg.norm(by_hand), rel=1e-6)
    assert pooled_vectors(torch.zeros(1, 4, 4, 4), 2).tolist() == [[0.0] * 16]
    # A pool larger than the latent repeats its cells, and so moves nobody nearer to anybody.
    wide, plain = pooled_vectors(latents, 8), pooled_vectors(latents, 4)
    assert wide @ wide.T == pytest.approx(plain @ plain.T, rel=1e-6)


def test_it_is_the_published_procedure_written_out() -> None:
    latents, names = collection("forest")
    fitted = PrototypeClusterer(ipc=3, alpha=0.7, pool=8, n_init=4, seed=5).fit(latents, names)
    z = torch.nn.functional.adaptive_avg_pool2d(latents, 8).flatten(1)
    z = torch.nn.functional.normalize(z).numpy()
    seed = derive_seed(5, "prototypes", "forest") % 2**32
    kmeans = KMeans(3, n_init=4, random_state=seed).fit(z)
    assert fitted.labels_.tolist() == kmeans.labels_.tolist()
    assert fitted.centers_["forest"] == pytest.approx(kmeans.cluster_centers_, abs=1e-6)
    for k in range(3):
        best, best_margin = -1, -np.inf
        for i in np.flatnonzero(kmeans.labels_ == k):
            distances = [np.linalg.norm(z[i] - c) for c in kmeans.cluster_centers_]
            margin = min(d for j, d in enumerate(distances) if j != k) - 0.7 * distances[k]
            assert fitted.margins_[i] == pytest.approx(margin, abs=1e-5)
            assert fitted.d_intra_[i] == pytest.approx(distances[k], abs=1e-5)
            if margin > best_margin:
                best, best_margin = i, margin
        assert fitted.representatives_["forest"][k] == best
        assert fitted.cluster_sizes_["forest"][k] == 7


def test_other_classes_their_order_and_number_change_nothing() -> None:
    together = PrototypeClusterer(ipc=3).fit(*collection("forest", "river", "road"))
    latents, names = collection("road", "forest")
    apart = PrototypeClusterer(ipc=3).fit(latents, names)
    for name in ("road", "forest"):
        ours, theirs = together.rows_[name], apart.rows_[name]
        assert np.array_equal(together.centers_[name], apart.centers_[name])
        assert np.array_equal(together.labels_[ours], apart.labels_[theirs])
        assert np.array_equal(together.margins_[ours], apart.margins_[theirs])
        places = [ours.tolist().index(row) for row in together.representatives_[name]]
        assert [theirs[place] for place in places] == apart.representatives_[name]


def test_the_seed_matters_and_repeats() -> None:
    draw = torch.Generator().manual_seed(0)
    latents, names = torch.randn(60, 4, 8, 8, generator=draw), ["noise"] * 60

    def labels(seed: int) -> list[int]:
        return PrototypeClusterer(ipc=6, n_init=1, seed=seed).fit(latents, names).labels_.tolist()

    assert labels(0) == labels(0)
    assert labels(0) != labels(1)


def test_one_cluster_is_represented_by_the_member_nearest_its_centre() -> None:
    latents, names = collection("forest")
    fitted = PrototypeClusterer(ipc=1, alpha=1.0).fit(latents, names)
    nearest = int(np.linalg.norm(fitted.vectors_ - fitted.vectors_.mean(0), axis=1).argmin())
    assert fitted.representatives_ == {"forest": [nearest]}
    assert fitted.margins_ == pytest.approx(-fitted.d_intra_)
    assert PrototypeClusterer(ipc=1, alpha=0).fit(latents, names).representatives_ == {
        "forest": [nearest]
    }


def test_as_many_clusters_as_images_makes_each_its_own_prototype() -> None:
    latents, names = collection("forest")
    fitted = PrototypeClusterer(ipc=21).fit(latents, names)
    assert sorted(fitted.representatives_["forest"]) == list(range(21))
    assert fitted.d_intra_ == pytest.approx(0, abs=1e-6)


def test_too_few_images_are_refused_by_class_and_count() -> None:
    latents, names = collection("forest")
    with pytest.raises(DatasetError, match=r"river.*2 training images.*5"):
        PrototypeClusterer(ipc=5).fit(latents, ["forest"] * 19 + ["river"] * 2)
    latents[3:] = latents[0]
    with pytest.raises(DatasetError, match=r"forest.*3 different images among 21"):
        PrototypeClusterer(ipc=5).fit(latents, names)


@pytest.mark.parametrize(
    "setting",
    [
        {"ipc": 0},
        {"pool": 0},
        {"n_init": 0},
        {"alpha": -1.0},
        {"alpha": float("nan")},
        {"outlier_fraction": 0.0},
        {"outlier_fraction": 0.6},
    ],
)
def test_arguments_are_checked_by_fit_not_by_the_constructor(setting: dict[str, Any]) -> None:
    clusterer = PrototypeClusterer(**setting)
    with pytest.raises(ConfigError, match=next(iter(setting))):
        clusterer.fit(*collection("forest"))


def test_latents_that_do_not_fit_are_refused() -> None:
    latents, names = collection("forest")
    with pytest.raises(ValueError, match="20 names"):
        PrototypeClusterer(ipc=3).fit(latents, names[1:])
    latents[2, 0, 0, 0] = float("nan")
    with pytest.raises(DatasetError, match="forest"):
        PrototypeClusterer(ipc=3).fit(latents, names)


def test_outliers_are_left_out_but_placed() -> None:
    latents, names = collection("forest")
    latents[20] = -5 * latents[20]
    plain = PrototypeClusterer(ipc=3).fit(latents, names)
    assert not plain.outliers_.any()
    assert plain.outlier_scores_.argmax() == 20
    cleaned = PrototypeClusterer(ipc=3, remove_outliers=True).fit(latents, names)
    assert cleaned.outliers_.tolist() == [False] * 20 + [True]
    assert sum(cleaned.cluster_sizes_["forest"]) == 20
    assert 20 not in cleaned.representatives_["forest"]
    distances = np.linalg.norm(cleaned.centers_["forest"] - cleaned.vectors_[20], axis=1)
    assert cleaned.labels_[20] == distances.argmin()
    without = PrototypeClusterer(ipc=3).fit(latents[:20], names[:20])
    assert np.array_equal(cleaned.centers_["forest"], without.centers_["forest"])


def test_removing_outliers_leaves_enough_images_for_the_clusters() -> None:
    latents, names = collection("forest")
    fitted = PrototypeClusterer(ipc=20, remove_outliers=True, outlier_fraction=0.5)
    assert fitted.fit(latents, names).outliers_.sum() == 1
    two = PrototypeClusterer(ipc=1, remove_outliers=True).fit(latents[:2], names[:2])
    assert two.outlier_scores_.tolist() == [1.0, 1.0]


# ---- the stage -----------------------------------------------------------------------------


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Project:
    """Two classes of twelve noisy images, a third of them for testing."""
    rng = np.random.default_rng(0)
    for name in ("forest", "river"):
        (tmp_path / "images" / name).mkdir(parents=True)
        for number in range(12):
            pixels = rng.integers(0, 256, (8, 8, 3)) // 3 + 50 * (number % 3)
            image = Image.fromarray(pixels.astype(np.uint8))
            image.save(tmp_path / "images" / name / f"{name}{number:02d}.png")
    monkeypatch.setattr("dpd_core.models.backbone.backbone_identity", lambda config: "pooling")
    monkeypatch.setattr("dpd_core.models.backbone.load_backbone", lambda project: PoolingEncoder())
    project = Project.create(tmp_path / "project")
    config = DatasetConfig(data=str(tmp_path / "images"), test_fraction=0.34)
    finish(project, "dataset", config, dataset.run(project, config))
    return project


def config(**settings: Any) -> PrototypesConfig:
    return PrototypesConfig(**{"ipc": 3, "pool": 4, "project_map": False, **settings})


def contents(project: Project) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in project.path("prototypes").iterdir()}


def published(project: Project) -> dict[str, list[dict[str, Any]]]:
    return json.loads(project.path("prototypes", "prototypes.json").read_text())


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
    assert shown["ids"] == [one.id for split in ("train", "test") for one in index.select(split)]
    assert len(set(zip(shown["x"], shown["y"], strict=True))) == 24


def test_outliers_are_listed_in_the_clusters_file(project: Project) -> None:
    result = prototypes.run(project, config(remove_outliers=True, outlier_fraction=0.125))
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


# ---- choices made by hand ------------------------------------------------------------------


def write_overrides(project: Project, content: Any) -> Path:
    path = project.path("prototypes", "overrides.json")
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps(content))
    return path


def published_ids(project: Project) -> list[str]:
    prototypes.run(project, config())
    return [entry["id"] for entries in published(project).values() for entry in entries]


def warnings(events: list[Event]) -> list[str]:
    return [e.message for e in events if isinstance(e, Log) and e.level == "warning"]


def test_an_excluded_image_takes_no_part(project: Project) -> None:
    excluded = published_ids(project)[0]
    write_overrides(project, {"excluded": [excluded, "forest/gone.png"]})
    events: list[Event] = []
    result = prototypes.run(project, config(), events.append)
    assert result["excluded"] == 1
    assert result["images"] == 15
    assert excluded not in load_clustering(project).members
    assert excluded not in [e["id"] for entries in published(project).values() for e in entries]
    assert len(warnings(events)) == 1
    assert "forest/gone.png" in warnings(events)[0]


def test_a_choice_replaces_the_representative_of_its_cluster(project: Project) -> None:
    prototypes.run(project, config())
    clustering = load_clustering(project)
    automatic = clustering.prototypes["river"][1]
    other = next(
        image_id
        for image_id, member in clustering.members.items()
        if (member.class_name, member.cluster_id) == ("river", 1) and image_id != automatic.id
    )
    write_overrides(project, {"chosen": {"river": {"1": other}}})
    events: list[Event] = []
    prototypes.run(project, config(), events.append)
    chosen = load_clustering(project).prototypes
    assert chosen["river"][1].id == other
    assert chosen["river"][1].margin == clustering.members[other].margin < automatic.margin
    assert chosen["river"][0] == clustering.prototypes["river"][0]
    assert chosen["forest"] == clustering.prototypes["forest"]
    assert not warnings(events)


@pytest.mark.parametrize(
    "chosen",
    [{"river": {"1": "river/no.png"}}, {"desert": {"0": "same"}}, {"forest": {"1": "same"}}],
)
def test_a_choice_that_no_longer_stands_is_reported_and_not_used(
    project: Project, chosen: dict[str, dict[str, str]]
) -> None:
    prototypes.run(project, config())
    before = load_prototypes(project)
    stand_in = {"same": before["river"][1].id}
    content = {
        name: {k: stand_in.get(image, image) for k, image in clusters.items()}
        for name, clusters in chosen.items()
    }
    write_overrides(project, {"chosen": content})
    events: list[Event] = []
    prototypes.run(project, config(), events.append)
    assert load_prototypes(project) == before
    ((class_name, clusters),) = content.items()
    assert len(warnings(events)) == 1
    assert all(word in warnings(events)[0] for word in (class_name, *clusters.values()))


def test_a_chosen_image_is_the_prototype_of_whatever_cluster_it_falls_into(
    project: Project,
) -> None:
    prototypes.run(project, config())
    clustering = load_clustering(project)
    automatic = {entry.id for entries in clustering.prototypes.values() for entry in entries}
    other = next(
        i for i, m in clustering.members.items() if m.class_name == "river" and i not in automatic
    )
    write_overrides(project, {"chosen": {"river": {"7": other}}})
    for ipc in (3, 2, 1):
        events: list[Event] = []
        prototypes.run(project, config(ipc=ipc), events.append)
        now = load_clustering(project)
        assert now.prototypes["river"][now.members[other].cluster_id].id == other
        assert not warnings(events)


def test_of_two_chosen_images_in_one_cluster_one_stays(project: Project) -> None:
    prototypes.run(project, config())
    first, second = (entry.id for entry in load_prototypes(project)["river"][:2])
    write_overrides(project, {"chosen": {"river": {"0": first, "1": second}}})
    events: list[Event] = []
    prototypes.run(project, config(ipc=1), events.append)
    assert [entry.id for entry in load_prototypes(project)["river"]] == [first]
    assert [second in text and first in text for text in warnings(events)] == [True]


@pytest.mark.parametrize(
    "content",
    [
        [],
        {"excluded": "forest/1.png"},
        {"excluded": [3]},
        {"chosen": {"river": {"one": "a"}}},
        {"chosen": {"river": ["a"]}},
        {"chosen": {"river": {"1": None}}},
    ],
)
def test_a_bad_file_of_choices_is_refused_by_name(project: Project, content: Any) -> None:
    write_overrides(project, content)
    with pytest.raises(ProjectError, match=r"overrides\.json"):
        prototypes.run(project, config())


# ---- files of others -----------------------------------------------------------------------


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
