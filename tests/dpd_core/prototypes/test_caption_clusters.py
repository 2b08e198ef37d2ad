"""Captions are clustered beside the images, and both sides choose the prototypes (PDS)."""

from pathlib import Path

import numpy as np
import torch

from dpd_core.captions import stage as captions_stage
from dpd_core.config import CaptionsConfig, DatasetConfig, ProjectConfig, PrototypesConfig
from dpd_core.dataset import stage as dataset
from dpd_core.events import Event, Log
from dpd_core.hardware import choose_hardware
from dpd_core.models.backbone import Backbone
from dpd_core.project import Project
from dpd_core.prototypes import stage as prototypes
from dpd_core.prototypes.caption_clusters import match, matched_representatives, text_clusters
from dpd_core.prototypes.clusterer import PrototypeClusterer
from tests.support.curated_project import clustered_project
from tests.support.finished_stage import finish


def test_the_matching_shares_as_many_images_as_can_be() -> None:
    images = np.array([0, 0, 0, 1, 1, 1, 2, 2])
    texts = np.array([1, 1, 0, 1, 1, 1, 2, 0])
    # The first cluster would like text 1 as well, but the second shares more with it.
    assert match(images, texts, 3).tolist() == [0, 1, 2]
    assert match(images, texts % 2, 3).tolist().count(-1) == 1, "two texts serve two clusters"


def test_fewer_different_texts_than_clusters_are_that_many_clusters() -> None:
    vectors = np.eye(3, 4)[[0, 0, 1, 1, 1]]
    labels = text_clusters(vectors, 4, n_init=2, seed=0)
    assert len(set(labels.tolist())) == 2
    assert labels[0] == labels[1] != labels[2]


def test_a_prototype_reads_like_its_cluster_too() -> None:
    draws = torch.Generator().manual_seed(0)
    centres = torch.randn(2, 4, 4, 4, generator=draws).repeat_interleave(10, 0)
    latents = centres + 0.1 * torch.randn(20, 4, 4, 4, generator=draws)
    clusterer = PrototypeClusterer(ipc=2, pool=4).fit(latents, ["forest"] * 20)
    plain = clusterer.representatives_["forest"]
    texts = np.eye(2, 5)[clusterer.labels_]
    agreed, share = matched_representatives(clusterer, texts)
    assert agreed == {"forest": plain}
    assert share == 1
    # Now the most typical image of each cluster is described like the other cluster.
    for row in plain:
        texts[row] = texts[row][[1, 0, 2, 3, 4]]
    other, share = matched_representatives(clusterer, texts)
    assert share == 0.9
    for k, (row, before) in enumerate(zip(other["forest"], plain, strict=True)):
        members = np.flatnonzero((clusterer.labels_ == k) & (np.arange(20) != before))
        assert row == members[clusterer.margins_[members].argmax()]


def test_text_vectors_tell_texts_apart_and_read_long_ones_whole() -> None:
    backbone = Backbone.load(hardware=choose_hardware(ProjectConfig(device="cpu")))
    long = "a river between fields " * 40
    texts = ["a forest", "a harbor with boats", "a forest", long, long + "and a harbor"]
    vectors = backbone.text_vectors(texts)
    assert torch.allclose(vectors.norm(dim=1), torch.ones(5), atol=1e-5)
    assert torch.equal(vectors[0], vectors[2])
    assert not torch.allclose(vectors[0], vectors[1], atol=1e-3)
    assert not torch.allclose(vectors[3], vectors[4], atol=1e-4)


def test_the_stage_captions_all_images_and_the_captions_stage_finds_them(tmp_path: Path) -> None:
    project = Project.create(tmp_path / "p", config=ProjectConfig(device="cpu"))
    data = DatasetConfig(demo=True, demo_per_class=6, classes=("beach", "forest"))
    finish(project, "dataset", data, dataset.run(project, data))
    config, events = PrototypesConfig(ipc=2, project_map=False), list[Event]()
    matched = config.replace(match_captions="bundled")
    finish(project, "prototypes", matched, prototypes.run(project, matched, events.append))
    assert any(isinstance(event, Log) and "agree on" in event.message for event in events)
    clustering = prototypes.load_clustering(project)
    for name, chosen in clustering.prototypes.items():
        assert [one.cluster_id for one in chosen] == [0, 1]
        assert all(clustering.members[one.id].class_name == name for one in chosen)
    again = list[Event]()
    captions_stage.run(project, CaptionsConfig(), again.append)
    messages = [event.message for event in again if isinstance(event, Log)]
    assert not any("loading the captioner" in message for message in messages)


def test_a_file_of_prototypes_stands_and_says_so(tmp_path: Path, monkeypatch) -> None:  # type: ignore[no-untyped-def]
    project = clustered_project(tmp_path, monkeypatch)
    file = tmp_path / "mine.json"
    file.write_bytes(project.path("prototypes", "prototypes.json").read_bytes())
    config = PrototypesConfig(
        ipc=3, pool=4, project_map=False, file=str(file), match_captions="bundled"
    )
    events = list[Event]()
    prototypes.run(project, config, events.append)
    assert any(
        isinstance(event, Log) and "no captions were matched" in event.message for event in events
    )
