"""Hostile and torn safetensors files, wherever one is read, and torn logs."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import save

from dpd_core import storage
from dpd_core.errors import DPDError
from dpd_core.models import weights
from dpd_core.models.checkpoint import resume_checkpoint
from dpd_core.models.files import resolve_model
from dpd_core.models.shards import shard_fault
from dpd_core.project import Project
from dpd_core.prototypes.files import load_clustering
from dpd_core.train.classifier import read_classifier
from tests.robustness.bad_projects import hostile_weights
from tests.support.distilled_project import make_project

TORN = save({"weight": torch.ones(1000)})[:-100]
FILES = [*hostile_weights(), ("torn", TORN)]


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Project:
    return make_project(tmp_path_factory.mktemp("whole"))


def classifier(path: Path, project: Project) -> None:
    path.rename(path.with_name("classifier.safetensors"))
    record = {"classes": ["a", "b"], "channels": 4}
    storage.write_json(path.with_name("classifier.json"), record)
    read_classifier(path.parent)


def checkpoint(path: Path, project: Project) -> None:
    parameter = torch.nn.Parameter(torch.ones(2))
    optimizer = torch.optim.AdamW([parameter])
    resume_checkpoint(path, parameters={"weight": parameter}, optimizer=optimizer)


def centers(path: Path, project: Project) -> None:
    place = project.path("prototypes", "centers.safetensors")
    whole = place.read_bytes()
    place.write_bytes(path.read_bytes())
    try:
        load_clustering(project)
    finally:
        place.write_bytes(whole)


def shard(path: Path, project: Project) -> None:
    if (fault := shard_fault(path)) is not None:
        raise DPDError(fault)


def decoder(path: Path, project: Project) -> None:
    class Vae:
        decoder, post_quant_conv = torch.nn.Linear(1, 1), None

    weights.load_decoder(Vae, path)


READERS: dict[str, Callable[[Path, Project], None]] = {
    "model": lambda path, project: resolve_model(str(path)) and None,
    "classifier": classifier,
    "checkpoint": checkpoint,
    "centers": centers,
    "shard": shard,
    "decoder": decoder,
}


@pytest.mark.parametrize("reader", READERS)
def test_each_reader_refuses_each(reader: str, project: Project, tmp_path: Path) -> None:
    for number, (name, content) in enumerate(FILES):
        path = tmp_path / str(number) / "x.safetensors"
        path.parent.mkdir()
        path.write_bytes(content)
        try:
            READERS[reader](path, project)
        except DPDError as error:
            assert error.what, name
        else:
            pytest.fail(f"{name} was taken")


def test_a_torn_log_of_events_is_read_to_its_end(project: Project, tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    storage.append_json_line(path, {"a": 1})
    with path.open("ab") as file:
        file.write(b'{"a": 2, "text": "cut of')
    assert storage.read_json_lines(path) == [{"a": 1}]
    storage.append_json_line(path, {"a": 3})
    assert storage.read_json_lines(path) == [{"a": 1}, {"a": 3}]
    assert json.loads(path.read_text().splitlines()[-1]) == {"a": 3}
