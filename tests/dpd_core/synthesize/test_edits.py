"""Changing a distilled set by hand: whole, recorded, and seen by what depends on the set."""

import shutil
from pathlib import Path

import pytest

from dpd_core import storage
from dpd_core.config import CONFIGS, EvaluateConfig, ExportConfig, ResampleConfig, SynthesizeConfig
from dpd_core.errors import ConfigError, ProjectError
from dpd_core.pipeline import jobs
from dpd_core.pipeline.staleness import is_current
from dpd_core.pipeline.verify import verify
from dpd_core.project import Project
from dpd_core.prototypes.files import Slot
from dpd_core.synthesize import edits as set_edits
from dpd_core.synthesize.edits import choose_candidate, pin_slot
from dpd_core.synthesize.sets import DistilledSet, read_slot
from tests.support.distilled_project import complete_set, make_project
from tests.support.finished_stage import finish

SET = "dpd-1"
FOREST, RIVER = Slot("forest", 1), Slot("river", 0)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project with a distilled set as the stage leaves it: candidates, digests, slot records."""
    root = tmp_path_factory.mktemp("edits")
    project = make_project(root)
    for stage in ("prototypes", "captions", "train"):
        finish(project, stage, CONFIGS[stage](), {})
    finish(project, "synthesize", SynthesizeConfig(), {"set": SET})
    complete_set(project)
    return root


@pytest.fixture
def project(made: Path, tmp_path: Path) -> Project:
    shutil.copytree(made / "project", tmp_path / "project")
    return Project.open(tmp_path / "project")


def test_another_candidate_is_chosen_everywhere(project: Project) -> None:
    root = project.path("distilled", SET)
    sheet = (root / "contact_sheet.png").read_bytes()
    distilled = DistilledSet.load(project)
    before = {
        distilled.path(record): distilled.path(record).read_bytes() for record in distilled.slots
    }
    record = choose_candidate(project, SET, FOREST, 0)
    assert record.chosen_by == "hand"
    assert DistilledSet.load(project).find(FOREST) == record
    assert record.score == -1.0
    path = distilled.path(record)
    assert path.read_bytes() == (root / "candidates/forest/001-0.png").read_bytes()
    changed = [path for path, content in before.items() if path.read_bytes() != content]
    assert changed == [path], "and nothing else"
    assert (root / "contact_sheet.png").read_bytes() != sheet
    assert verify(project).differences == []
    assert choose_candidate(project, SET, FOREST, 1).chosen == 1
    assert path.read_bytes() == before[path], "a choice can be taken back"


def test_a_choice_survives_that_the_stage_writes_the_manifest_again(project: Project) -> None:
    record = choose_candidate(project, SET, RIVER, 0)
    assert read_slot(project.path("distilled", SET), RIVER) == record


def test_what_was_made_from_the_set_is_out_of_date_after_a_choice(project: Project) -> None:
    evaluate = EvaluateConfig(student_steps=1, seeds=1, distribution=False, baselines=())
    jobs.run_stage(project, "evaluate", evaluate)
    jobs.run_stage(project, "export", ExportConfig(adapter=False))
    assert is_current(project, "evaluate", evaluate)
    other = project.path("distilled", "other")
    shutil.copytree(project.path("distilled", SET), other)
    manifest = storage.read_json(other / "manifest.json")
    storage.write_json(other / "manifest.json", {**manifest, "name": "other"})
    choose_candidate(project, "other", RIVER, 0)
    assert is_current(project, "evaluate"), "a choice in another set does not concern it"
    pin_slot(project, SET, RIVER)
    assert is_current(project, "export"), "a pin changes no image"
    choose_candidate(project, SET, RIVER, 0)
    assert not is_current(project, "evaluate")
    assert not is_current(project, "export")
    jobs.run_stage(project, "export", ExportConfig(adapter=False))
    assert is_current(project, "export")
    exported = project.path("export", SET, "train", "river", "000.png").read_bytes()
    distilled = DistilledSet.load(project, SET)
    assert exported == distilled.path(distilled.find(RIVER)).read_bytes()


@pytest.mark.parametrize("after", range(4))
def test_a_kill_in_the_middle_is_mended(
    project: Project, monkeypatch: pytest.MonkeyPatch, after: int
) -> None:
    """Killed after the n-th file of the change."""
    written = []
    real = storage.atomic_path

    def dying(path: Path):
        if len(written) > after:
            raise KeyboardInterrupt
        written.append(path)
        return real(path)

    monkeypatch.setattr(storage, "atomic_path", dying)
    with pytest.raises(KeyboardInterrupt):
        choose_candidate(project, SET, Slot("desert", 0), 0)
    monkeypatch.undo()
    set_edits.mend(project)
    assert verify(project).differences == []
    record = DistilledSet.load(project).slots[0]
    assert (record.class_name, record.score) == ("desert", -1.0)
    assert not list(project.path("distilled").glob("*/pending.json"))


def test_the_impossible_is_refused_and_changes_nothing(project: Project) -> None:
    root = project.path("distilled", SET)
    before = (root / "manifest.json").read_bytes()
    for request in (
        ("dpd-1", Slot("forest", 9), 0),
        ("dpd-1", Slot("nowhere", 0), 0),
        ("none", Slot("forest", 0), 0),
        ("dpd-1", Slot("forest", 0), 7),
    ):
        with pytest.raises(ProjectError):
            choose_candidate(project, *request)
    (root / "candidates/forest/000-0.png").write_bytes(b"tampered")
    with pytest.raises(ProjectError, match="has been changed"):
        choose_candidate(project, SET, Slot("forest", 0), 0)
    assert (root / "manifest.json").read_bytes() == before
    assert not (root / "pending.json").exists()


@pytest.mark.parametrize("name", ["forest", "a,b", "50% water", "park/lake", "<img src=x>"])
def test_any_class_can_be_named_in_a_setting(name: str) -> None:
    slot = Slot(name, 12)
    config = ResampleConfig.from_dict({"slots": str(slot)})
    assert [Slot.parse(text) for text in config.slots] == [slot]
    for wrong in ("forest", "forest/x", "/3", ""):
        with pytest.raises(ConfigError):
            Slot.parse(wrong)
