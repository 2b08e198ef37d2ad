"""Projects of a visitor: none is lost by a slip, and none can be found by a path."""

from __future__ import annotations

import errno
import os
import shutil
import time
from pathlib import Path
from typing import Any

import gradio as gr
import pytest

from app.build import build
from app.server import paths
from app.server.arrivals import Arrivals
from app.server.settings import MB, Settings
from app.server.workspaces import DEMO, SEEN, TRASH_SECONDS, Workspace, folder_name, new_visitor
from app.ui.messages import message
from dpd_core import storage
from dpd_core.errors import ProjectError


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    return Workspace.of(Settings(home=tmp_path), "")


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> tuple[gr.Blocks, Any]:
    return build(Settings(home=tmp_path_factory.mktemp("home")))


def handler(page: gr.Blocks, name: str) -> Any:
    """A handler of the sidebar, as the page calls it."""
    return next(
        handler.fn for handler in page.fns.values() if getattr(handler.fn, "__name__", "") == name
    )


@pytest.mark.parametrize("action", ["", "delete", None, "remove", "NEW", 7])
def test_create_never_deletes(page: tuple[gr.Blocks, Any], action: Any) -> None:
    """A server that has forgotten what was asked for gets an empty action."""
    blocks, ctx = page
    workspace = ctx.workspace({})
    if "open" not in workspace.names():
        workspace.create("open")
    with pytest.raises(gr.Error, match="not clear"):
        handler(blocks, "_change")({"project": "open"}, action, "typed")
    assert workspace.names() == ["open"]


@pytest.mark.parametrize("typed", ["", "other", None, "OPEN", "open/../other"])
def test_only_the_typed_name_deletes(page: tuple[gr.Blocks, Any], typed: Any) -> None:
    blocks, ctx = page
    workspace = ctx.workspace({})
    for name in ("open", "other"):
        if name not in workspace.names():
            workspace.create(name)
    with pytest.raises(gr.Error, match="nothing was deleted"):
        handler(blocks, "_delete")({"project": "open"}, typed)
    assert workspace.names() == ["open", "other"]


def test_what_was_deleted_can_be_brought_back_for_a_week(workspace: Workspace) -> None:
    project = workspace.create("mine")
    storage.write_bytes(project.path("captions", "log.jsonl"), b"{}\n")
    workspace.delete("mine")
    assert workspace.names() == []
    workspace.create("mine")
    assert workspace.undelete().name == "mine 2"
    assert (workspace.root / "mine 2" / "captions" / "log.jsonl").read_bytes() == b"{}\n"
    workspace.delete("mine 2")
    assert workspace.empty_trash(now=time.time() + TRASH_SECONDS - 60) == 0
    assert workspace.empty_trash(now=time.time() + TRASH_SECONDS + 60) == 1
    with pytest.raises(ProjectError, match="no deleted project"):
        workspace.undelete()


def test_half_copied_and_half_deleted_projects_are_none(workspace: Workspace) -> None:
    project = workspace.create("mine")
    for name in (".part-123-abc", ".deleted-00", ".part-1-x-old-mine"):
        shutil.copytree(project.root, workspace.root / name)
        os.utime(workspace.root / name / "project.json", (2e9, 2e9))
    assert workspace.names() == ["mine"]
    assert workspace.latest() == "mine"
    with pytest.raises(ProjectError):
        workspace.open(".deleted-00")


def test_the_token_is_in_no_path(tmp_path: Path) -> None:
    settings = Settings(home=tmp_path).served_to_strangers()
    token = new_visitor()
    project = Workspace.of(settings, token).create("mine")
    assert token not in str(project.root)
    assert project.root.parent.name == folder_name(token)
    # The name of the folder, should it get out, is the key to nothing.
    assert Workspace.of(settings, folder_name(token)).names() == []


def test_messages_to_strangers_hold_no_path_of_the_server(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(paths, "_homes", set())
    settings = Settings(home=tmp_path / "home").served_to_strangers()
    paths.hide(settings)
    project = Workspace.of(settings, new_visitor()).create("mine")
    project.manifest_path.write_bytes(b"{")
    with pytest.raises(ProjectError) as fault:
        project.manifest()
    assert str(tmp_path) in str(fault.value)
    told = str(message(fault.value))
    assert "project.json" in told
    assert str(tmp_path) not in told
    assert project.root.parent.name not in told
    for place in (settings.home, Path(__file__), Path(shutil.__file__), settings.home / "queue"):
        told = str(message(ProjectError("a fault.", where=place, fix="None.")))
        assert str(place) not in told
        assert str(tmp_path) not in told


def test_a_full_disk_while_a_project_is_copied_is_said_plainly(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    workspace.create("mine")

    def full(*_: Any, **__: Any) -> None:
        raise shutil.Error([("a", "b", f"[Errno {errno.ENOSPC}] No space left on device: 'b'")])

    monkeypatch.setattr(shutil, "copytree", full)
    with pytest.raises(ProjectError, match="disk is full"):
        workspace.duplicate("mine", "copy")
    with pytest.raises(ProjectError, match="disk is full"):
        workspace.ensure_demo()
    assert workspace.names() == ["mine"]


def test_a_visitor_of_the_api_alone_is_seen(tmp_path: Path) -> None:
    settings = Settings(home=tmp_path).served_to_strangers()
    token = new_visitor()
    project = Workspace.of(settings, token).create("mine")
    mark = project.root.parent / SEEN
    os.utime(mark, (0, 0))
    Workspace.of(settings, token).open("mine")
    assert time.time() - mark.stat().st_mtime < 60
    mark.unlink()
    Workspace.of(settings, token)
    assert mark.exists()
    os.utime(mark, (2e9, 2e9))  # the clock went back
    Workspace.of(settings, token)
    assert mark.stat().st_mtime < 2e9


def test_made_up_visitors_of_one_address_come_to_an_end(tmp_path: Path) -> None:
    settings = Settings(home=tmp_path, visitors_per_hour=3).served_to_strangers()
    arrivals = Arrivals(settings)

    def come(address: str) -> None:
        token = new_visitor()
        Workspace.of(settings, token, lambda: arrivals.admit(address)).create("mine")

    for _ in range(3):
        come("203.0.113.7")
    with pytest.raises(ProjectError, match="from your address"):
        come("203.0.113.7")
    come("203.0.113.8")
    assert len(list((tmp_path / "visitors").iterdir())) == 4


def test_nobody_comes_where_the_disk_is_nearly_full(tmp_path: Path) -> None:
    settings = Settings(home=tmp_path, min_free=2**62).served_to_strangers()
    admit = Arrivals(settings).admit
    workspace = Workspace.of(settings, new_visitor(), lambda: admit("203.0.113.7"))
    with pytest.raises(ProjectError, match="nearly full"):
        workspace.ensure_demo()
    assert not workspace.root.exists()
    assert settings.min_free > MB
    assert DEMO not in workspace.names()
