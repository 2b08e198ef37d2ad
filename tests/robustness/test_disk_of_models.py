"""A disk that is full while a model is trained or images are made: told, nothing lost, gone on."""

from pathlib import Path

import pytest

from dpd_core.config import (
    CaptionsConfig,
    DatasetConfig,
    ProjectConfig,
    PrototypesConfig,
    SynthesizeConfig,
    TrainConfig,
)
from dpd_core.errors import ProjectError
from dpd_core.pipeline import jobs
from dpd_core.pipeline.verify import verify
from dpd_core.project import Project
from dpd_core.settings import StageConfig
from dpd_core.synthesize.sets import DistilledSet
from dpd_core.train.adapters import list_adapters
from tests.support.distilled_project import CLASSES, save_scene
from tests.support.full_disk import leave
from tests.support.models import save_model

TRAIN = TrainConfig(steps=3, batch_size=2, checkpoint_steps=1, classifier_steps=2, targets="all")
SYNTHESIZE = SynthesizeConfig(steps=2, candidates=2, set_name="one", decoder="model")
FREE = (0, 16 << 10, 200 << 10, 600 << 10)


@pytest.fixture
def project(disk: Path, tmp_path: Path) -> Project:
    """Clustered and captioned; nothing is trained yet."""
    for name, colour in CLASSES.items():
        for number in range(6):
            save_scene(tmp_path / "source" / name / f"{number}.png", colour, 32)
    model = str(save_model(tmp_path / "model"))
    config = ProjectConfig(device="cpu", dtype="float32", model=model, image_size=32)
    project = Project.create(disk / "p", config=config)
    before: dict[str, StageConfig] = {
        "dataset": DatasetConfig(data=str(tmp_path / "source"), test_fraction=0.3),
        "prototypes": PrototypesConfig(ipc=2, project_map=False),
        "captions": CaptionsConfig(mode="template"),
    }
    for stage, settings in before.items():
        jobs.run_stage(project, stage, settings)
    return project


def until_there_is_room(disk: Path, project: Project, stage: str, config: StageConfig) -> list[int]:
    """Run a stage with more and more room on the disk; the rooms it failed with."""
    failed = []
    for free in FREE:
        record = project.record(stage)
        filler = leave(disk, free)
        try:
            jobs.run_stage(project, stage, config)
        except ProjectError as error:
            failed.append(free)
            assert "the disk is full" in error.what and error.fix
            assert project.record(stage) == record
        filler.unlink()
        assert verify(Project.open(project.root)).differences == []
        assert not list(project.root.rglob(".part-*")), "the room is given back"
    jobs.run_stage(project, stage, config)
    assert verify(project).differences == []
    return failed


@pytest.mark.slow
def test_a_disk_that_is_full_while_models_work(disk: Path, project: Project) -> None:
    assert 0 in until_there_is_room(disk, project, "train", TRAIN)
    assert [len(adapter.files) > 0 for adapter in list_adapters(project)] == [True]
    assert 0 in until_there_is_room(disk, project, "synthesize", SYNTHESIZE)
    assert len(DistilledSet.load(project, "one").slots) == 2 * len(CLASSES)
