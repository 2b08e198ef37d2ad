"""Files written whole or not at all, and names for them."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from dpd_core import storage
from dpd_core.errors import ProjectError
from dpd_core.project import Project


def test_atomic_path_interrupted_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "value.json"
    storage.write_json(path, {"a": 1})
    with pytest.raises(RuntimeError), storage.atomic_path(path) as temporary:
        temporary.write_text("half")
        raise RuntimeError
    assert storage.read_json(path) == {"a": 1}
    assert list(tmp_path.iterdir()) == [path]


def test_atomic_folder_replaces_the_whole_folder(tmp_path: Path) -> None:
    folder = tmp_path / "set"
    for number in (1, 2):
        with storage.atomic_folder(folder) as temporary:
            (temporary / f"{number}.txt").write_text("x")
    assert [path.name for path in folder.iterdir()] == ["2.txt"]
    assert list(tmp_path.iterdir()) == [folder]


def test_what_is_being_written_is_not_found(tmp_path: Path) -> None:
    """A list that is read while another writes sees whole files only."""
    storage.write_json(tmp_path / "a" / "b.json", {})
    with storage.atomic_path(tmp_path / "a" / "c.json"), storage.atomic_folder(tmp_path / "d") as d:
        (d / "e.json").write_text("{")
        assert len(list((tmp_path / "a").glob("*.json"))) == 2, "or the rule is not needed"
        assert storage.whole(tmp_path / "a", "*.json") == [tmp_path / "a" / "b.json"]
        assert storage.whole(tmp_path, "*/*.json") == [tmp_path / "a" / "b.json"]


def test_read_json_lines_leaves_a_torn_last_line_out(tmp_path: Path) -> None:
    path = tmp_path / "log.jsonl"
    storage.append_json_line(path, {"n": 1})
    with path.open("ab") as file:
        file.write(b'{"n": 2, "te')
    assert storage.read_json_lines(path) == [{"n": 1}]
    storage.append_json_line(path, {"n": 3})
    assert storage.read_json_lines(path) == [{"n": 1}, {"n": 3}]


@pytest.mark.parametrize("name", ["forest", "dense residential", "AnnualCrop", "a-b_c"])
def test_safe_name_keeps_harmless_names(name: str) -> None:
    assert storage.safe_name(name) == name


@pytest.mark.parametrize(
    "name",
    ["../x", "CON", "a/b", "", ".", "..", "<img src=x>", "森林", "x" * 300, "a\x00b", "lpt1"],
)
def test_safe_name_makes_harmful_names_one_plain_unique_part(name: str) -> None:
    safe = storage.safe_name(name)
    assert safe != name
    assert Path(safe).name == safe
    assert len(safe) < 100
    assert safe.isascii()
    assert safe != storage.safe_name(name + "!")


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


def test_tidy_removes_old_parts_of_killed_processes(tmp_path: Path) -> None:
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
def test_atomic_folder_killed_while_replacing_comes_back(tmp_path: Path, by: str) -> None:
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


@pytest.mark.parametrize("text", ["[" * 100_000, "9" * 10_000, "\ud800", "\0"])
def test_read_json_refuses_any_other_bytes_by_name(tmp_path: Path, text: str) -> None:
    path = tmp_path / "value.json"
    path.write_bytes(text.encode("utf-8", "surrogatepass"))
    with pytest.raises(ProjectError, match="not readable as JSON") as caught:
        storage.read_json(path)
    assert caught.value.where == str(path)


def test_sort_metadata_makes_equal_content_equal_bytes(tmp_path: Path) -> None:
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
