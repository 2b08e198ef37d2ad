"""The project folder: whole files, honest records, one writer at a time."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from dpd_core import storage
from dpd_core.config import DatasetConfig, ProjectConfig, PrototypesConfig
from dpd_core.errors import DPDError, ProjectError, StageMissing
from dpd_core.pipeline import jobs
from dpd_core.pipeline.staleness import inputs_now, is_current
from dpd_core.project import Project
from tests.support.finished_stage import finish


def test_an_interrupted_write_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "value.json"
    storage.write_json(path, {"a": 1})
    with pytest.raises(RuntimeError), storage.atomic_path(path) as temporary:
        temporary.write_text("half")
        raise RuntimeError
    assert storage.read_json(path) == {"a": 1}
    assert list(tmp_path.iterdir()) == [path]


def test_a_folder_is_replaced_as_a_whole(tmp_path: Path) -> None:
    folder = tmp_path / "set"
    for number in (1, 2):
        with storage.atomic_folder(folder) as temporary:
            (temporary / f"{number}.txt").write_text("x")
    assert [path.name for path in folder.iterdir()] == ["2.txt"]
    assert list(tmp_path.iterdir()) == [folder]


def test_a_torn_last_line_is_left_out_and_does_not_spoil_the_next(tmp_path: Path) -> None:
    path = tmp_path / "log.jsonl"
    storage.append_json_line(path, {"n": 1})
    with path.open("ab") as file:
        file.write(b'{"n": 2, "te')
    assert storage.read_json_lines(path) == [{"n": 1}]
    storage.append_json_line(path, {"n": 3})
    assert storage.read_json_lines(path) == [{"n": 1}, {"n": 3}]


@pytest.mark.parametrize("name", ["forest", "dense residential", "AnnualCrop", "a-b_c"])
def test_harmless_names_stay(name: str) -> None:
    assert storage.safe_name(name) == name


@pytest.mark.parametrize(
    "name",
    ["../x", "CON", "a/b", "", ".", "..", "<img src=x>", "森林", "x" * 300, "a\x00b", "lpt1"],
)
def test_harmful_names_become_one_plain_unique_part(name: str) -> None:
    safe = storage.safe_name(name)
    assert safe != name
    assert Path(safe).name == safe
    assert len(safe) < 100
    assert safe.isascii()
    assert safe != storage.safe_name(name + "!")


def test_paths_cannot_leave_the_project(tmp_path: Path) -> None:
    project = Project.create(tmp_path / "p")
    with pytest.raises(ProjectError, match="leads out"):
        project.path("..", "elsewhere")
    (project.root / "link").symlink_to(tmp_path)
    with pytest.raises(ProjectError, match="leads out"):
        project.path("link", "x")


def test_a_stage_is_current_until_it_or_something_before_it_changes(tmp_path: Path) -> None:
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


def test_a_missing_stage_names_the_command(tmp_path: Path) -> None:
    project = Project.create(tmp_path / "p")
    with pytest.raises(StageMissing, match="python -m dpd_core dataset"):
        project.result("dataset")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "not readable as JSON"),
        ("[]", "not a project file"),
        ('{"schema": 99, "stages": {}}', "schema 99"),
        ('{"schema": 1, "stages": {"../x": {}}, "settings": {}}', "not a project file"),
    ],
)
def test_a_damaged_project_is_refused_with_a_remedy(
    tmp_path: Path, text: str, message: str
) -> None:
    (tmp_path / "project.json").write_text(text)
    with pytest.raises(ProjectError, match=message) as caught:
        Project.open(tmp_path)
    assert caught.value.fix


def test_a_second_process_is_told(tmp_path: Path) -> None:
    project = Project.create(tmp_path / "p")
    other = (
        "import sys; from dpd_core.project import Project\n"
        "with Project.open(sys.argv[1]).lock(): pass"
    )
    with project.lock():
        result = subprocess.run(
            [sys.executable, "-c", other, str(project.root)], capture_output=True, text=True
        )
    assert "another process is working on this project" in result.stderr
    assert subprocess.run([sys.executable, "-c", other, str(project.root)]).returncode == 0


def test_a_read_only_folder_is_a_clear_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*args: object, **options: object) -> None:
        raise OSError(30, "Read-only file system")

    monkeypatch.setattr("tempfile.mkstemp", refuse)
    with pytest.raises(ProjectError, match="read-only"):
        Project.create(tmp_path / "p")


def test_project_json_is_readable_by_people(tmp_path: Path) -> None:
    project = Project.create(tmp_path / "p", config=ProjectConfig(seed=4))
    manifest = json.loads(project.manifest_path.read_text())
    assert manifest["settings"]["seed"] == 4
    assert project.config.seed == 4


def test_captions_edited_since_make_the_stages_after_them_stale(tmp_path: Path) -> None:
    from dpd_core.captions import edits
    from dpd_core.config import CaptionsConfig, EvaluateConfig, SynthesizeConfig, TrainConfig
    from tests.support.distilled_project import make_project

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


def test_a_caption_edited_while_a_stage_runs_makes_its_result_stale(tmp_path: Path) -> None:
    from dpd_core.captions import edits
    from dpd_core.config import CaptionsConfig, TrainConfig
    from tests.support.distilled_project import make_project

    project = make_project(tmp_path)
    edits.edit(project, "forest", 0, "trees")
    finish(project, "prototypes", PrototypesConfig(), {})
    finish(project, "captions", CaptionsConfig(), {})
    inputs = inputs_now(project, "train")
    edits.edit(project, "forest", 0, "many trees")
    project.finish("train", TrainConfig(), {}, inputs=inputs)
    assert not is_current(project, "train")


def test_choices_by_hand_make_the_prototypes_stale(tmp_path: Path) -> None:
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


def test_a_class_renamed_makes_the_captions_stale(tmp_path: Path) -> None:
    from dpd_core.config import CaptionsConfig

    project = Project.create(tmp_path / "p")
    finish(project, "dataset", DatasetConfig(data="x"), {})
    finish(project, "prototypes", PrototypesConfig(), {})
    finish(project, "captions", CaptionsConfig(), {})
    storage.write_json(project.path("dataset", "names.json"), {"forest": "wood"})
    assert is_current(project, "prototypes")
    assert not is_current(project, "captions")


def test_what_a_run_had_to_do_does_not_change_the_stage(tmp_path: Path) -> None:
    """An interrupted captions stage finds its texts written; they are the same texts."""
    project = Project.create(tmp_path / "p")
    first = finish(project, "dataset", DatasetConfig(), {"digest": "1", "changed": 6})
    assert finish(project, "dataset", DatasetConfig(), {"digest": "1", "changed": 0}) == first


KILLED = """
import os, signal, sys
from pathlib import Path
from dpd_core import storage
root = Path(sys.argv[1])
with storage.atomic_folder(root / "export" / "my.set") as folder:
    (folder / "a").write_text("new")
    if sys.argv[2] == "swap":
        replace = Path.replace
        def killed(self, target):
            if self == folder:
                os.kill(os.getpid(), signal.SIGKILL)
            return replace(self, target)
        Path.replace = killed
    else:
        with storage.atomic_path(root / "latents" / "x.safetensors") as path:
            os.kill(os.getpid(), signal.SIGKILL)
"""


def killed(root: Path, moment: str) -> None:
    result = subprocess.run([sys.executable, "-c", KILLED, str(root), moment])
    assert result.returncode == -9


def test_parts_of_killed_processes_are_removed_when_old(tmp_path: Path) -> None:
    project = Project.create(tmp_path / "p")
    killed(project.root, "writing")
    own = project.path("latents", f".part-{os.getpid()}-abcdefgh.json")
    other = project.path("latents", ".part-note")
    for path in (own, other):
        path.write_text("x")
    parts = list(project.root.rglob(".part-*"))
    assert len(parts) == 4
    assert storage.tidy(project.root) == []
    removed = storage.tidy(project.root, older_than=-1.0)
    assert len(removed) == 3
    assert list(project.root.rglob(".part-*")) == [own], "its process is alive"


@pytest.mark.parametrize("by", ["tidy", "write"])
def test_a_folder_killed_while_it_was_replaced_comes_back(tmp_path: Path, by: str) -> None:
    project = Project.create(tmp_path / "p")
    folder = project.path("export", "my.set")
    with storage.atomic_folder(folder) as temporary:
        (temporary / "a").write_text("old")
    killed(project.root, "swap")
    assert not folder.exists()
    if by == "tidy":
        storage.tidy(project.root)
    else:
        with pytest.raises(RuntimeError), storage.atomic_folder(folder):
            raise RuntimeError
    assert (folder / "a").read_text() == "old"


def test_a_stage_tidies_up_before_it_starts(tmp_path: Path) -> None:
    project = Project.create(tmp_path / "p")
    part = project.path(".part-abcdefgh.json")
    part.write_text("x")
    os.utime(part, (0, 0))
    with pytest.raises(DPDError):
        jobs.run_stage(project, "dataset", DatasetConfig())
    assert not part.exists()


@pytest.mark.parametrize("text", ["[" * 100_000, "9" * 10_000, "\ud800", "\0"])
def test_any_bytes_in_place_of_json_are_refused_by_name(tmp_path: Path, text: str) -> None:
    path = tmp_path / "value.json"
    path.write_bytes(text.encode("utf-8", "surrogatepass"))
    with pytest.raises(ProjectError, match="not readable as JSON") as caught:
        storage.read_json(path)
    assert caught.value.where == str(path)


def test_equal_content_is_equal_bytes_also_in_safetensors(tmp_path: Path) -> None:
    import torch
    from safetensors import safe_open
    from safetensors.torch import save_file

    metadata = {f"key {number} “é”\n": "value" * number for number in range(12)}
    seen = set()
    for number in range(5):
        path = tmp_path / f"{number}.safetensors"
        save_file({"x": torch.arange(3.0)}, path, metadata=metadata)
        storage.sort_metadata(path)
        seen.add(path.read_bytes())
    assert len(seen) == 1
    with safe_open(path, "pt") as file:
        assert file.metadata() == metadata
        assert file.get_tensor("x").tolist() == [0.0, 1.0, 2.0]
