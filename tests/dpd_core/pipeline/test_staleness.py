"""Which stages are what a run would make now."""

from pathlib import Path

from dpd_core import storage
from dpd_core.captions import edits
from dpd_core.config import (
    CaptionsConfig,
    DatasetConfig,
    EvaluateConfig,
    ProjectConfig,
    PrototypesConfig,
    SynthesizeConfig,
    TrainConfig,
)
from dpd_core.pipeline.staleness import inputs_now, is_current
from dpd_core.project import Project
from tests.support.distilled_project import make_project
from tests.support.finished_stage import finish


def test_is_current_until_the_stage_or_one_before_it_changes(tmp_path: Path) -> None:
    project = Project.create(tmp_path / "p")
    dataset, prototypes = DatasetConfig(data="x"), PrototypesConfig()
    finish(project, "dataset", dataset, {"digest": "1"})
    finish(project, "prototypes", prototypes, {"prototypes": 3})
    assert is_current(project, "prototypes", prototypes)
    assert not is_current(project, "prototypes", prototypes.replace(ipc=7))
    finish(project, "dataset", dataset, {"digest": "2"})
    assert is_current(project, "dataset", dataset)
    assert not is_current(project, "prototypes", prototypes), "made from the earlier data set"
    finish(project, "prototypes", prototypes, {"prototypes": 3})
    assert is_current(project, "prototypes")
    project.configure(ProjectConfig(seed=1))
    assert not is_current(project, "prototypes")


def test_is_current_ends_after_captions_with_an_edit(tmp_path: Path) -> None:

    project = make_project(tmp_path)
    edits.edit(project, "forest", 0, "trees")
    stages = [
        ("prototypes", PrototypesConfig()),
        ("captions", CaptionsConfig()),
        ("train", TrainConfig()),
        ("synthesize", SynthesizeConfig()),
        ("evaluate", EvaluateConfig()),
    ]
    for stage, config in stages:
        finish(project, stage, config, {})
    assert is_current(project, "evaluate")
    edits.edit(project, "forest", 0, "many trees")
    assert is_current(project, "captions"), "it keeps what people wrote"
    assert not any(is_current(project, stage) for stage in ("train", "synthesize", "evaluate"))
    edits.undo(project)
    assert is_current(project, "evaluate"), "the same texts are the same input"


def test_is_current_is_false_after_an_edit_while_the_stage_ran(tmp_path: Path) -> None:

    project = make_project(tmp_path)
    edits.edit(project, "forest", 0, "trees")
    finish(project, "prototypes", PrototypesConfig(), {})
    finish(project, "captions", CaptionsConfig(), {})
    inputs = inputs_now(project, "train")
    edits.edit(project, "forest", 0, "many trees")
    project.finish("train", TrainConfig(), {}, inputs=inputs)
    assert not is_current(project, "train")


def test_is_current_ends_with_choices_by_hand(tmp_path: Path) -> None:
    project = Project.create(tmp_path / "p")
    finish(project, "dataset", DatasetConfig(data="x"), {})
    finish(project, "prototypes", PrototypesConfig(), {})
    path = project.path("prototypes", "overrides.json")
    storage.write_json(path, {"excluded": [], "chosen": {"forest": {}}})
    assert is_current(project, "prototypes"), "no choice is none"
    storage.write_json(path, {"excluded": ["forest/1.png", "forest/0.png"]})
    assert not is_current(project, "prototypes")
    finish(project, "prototypes", PrototypesConfig(), {})
    storage.write_json(path, {"excluded": ["forest/0.png", "forest/1.png"], "chosen": {}})
    assert is_current(project, "prototypes")
    path.write_text("{")
    assert not is_current(project, "prototypes"), "running the stage says what is wrong"


def test_is_current_ends_for_captions_with_a_renamed_class(tmp_path: Path) -> None:

    project = Project.create(tmp_path / "p")
    finish(project, "dataset", DatasetConfig(data="x"), {})
    finish(project, "prototypes", PrototypesConfig(), {})
    finish(project, "captions", CaptionsConfig(), {})
    storage.write_json(project.path("dataset", "names.json"), {"forest": "wood"})
    assert is_current(project, "prototypes")
    assert not is_current(project, "captions")
