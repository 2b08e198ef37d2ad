"""Real runs of strangers: what they know of the server, and that they end when they must."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import psutil
import pytest

from app.server import environment, scheduler, wardens, workers
from app.server.jobs import JobQueue
from app.server.settings import Settings
from app.server.waiting_list import Entry, WaitingList
from app.server.workspaces import Workspace, new_visitor
from dpd_core import storage
from dpd_core.config import DatasetConfig
from dpd_core.project import Project
from tests.support.studio_app import wait_for

SECRETS = {
    "HF_TOKEN": "hf_owner",
    "HUGGING_FACE_HUB_TOKEN": "hf_owner",
    "OAUTH_CLIENT_SECRET": "client",
    "AWS_SECRET_ACCESS_KEY": "aws",
    "DATABASE_URL": "postgres://",
    "GRADIO_SERVER_NAME": "0.0.0.0",
    "HF_HOME": "/owner/cache",
}


@pytest.fixture
def hosted(tmp_path: Path) -> Settings:
    return Settings(home=tmp_path / "home", min_free=0).served_to_strangers()


def visit(settings: Settings) -> Project:
    return Workspace.of(settings, new_visitor()).create("mine")


def test_a_strangers_run_inherits_no_secret(tmp_path: Path) -> None:
    """The token file of whoever owns the server is not read either."""
    (tmp_path / "token").write_text("hf_owner")
    server = {**os.environ, **SECRETS, "HF_TOKEN_PATH": str(tmp_path / "token")}
    known = environment.of_a_run("j", hosted=True, cache=tmp_path / "hub", environment=server)
    assert not set(SECRETS) & set(known) - {"HF_HOME"}
    assert "hf_owner" not in str(known)
    code = (
        "import json, huggingface_hub as hub; from huggingface_hub import constants, utils;"
        "print(json.dumps([hub.get_token(), constants.HF_HUB_CACHE,"
        " utils.build_hf_headers().get('authorization')]))"
    )
    told = subprocess.run(
        [sys.executable, "-c", code], env=known, capture_output=True, text=True, check=True
    )
    assert json.loads(told.stdout) == [None, str(tmp_path / "hub" / "hub"), None]
    own = environment.of_a_run("j", hosted=True, token="hf_mine", environment=server)
    assert own["HF_TOKEN"] == "hf_mine"
    local = environment.of_a_run("j", hosted=False, environment=server)
    assert local["HF_TOKEN"] == "hf_owner"
    assert "HF_HUB_DOWNLOAD_TIMEOUT" in local


def test_the_list_moves_while_nobody_looks(
    hosted: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two visitors' runs, one at a time; no page is open. No zombie is left, nor a cache."""
    monkeypatch.setenv("HF_TOKEN", "hf_owner")
    queue, projects = JobQueue(hosted), [visit(hosted), visit(hosted)]
    ended = scheduler.start(queue, 0.2)
    try:
        for project in projects:
            queue.start(project, "dataset", DatasetConfig(demo=True, demo_per_class=4))
        children = list(queue._children)
        wait_for(lambda: not queue.list.entries(), 300)
        for project in projects:
            view = queue.current(project)
            assert view is not None
            assert view.status == "done", view.error
            assert not (view.job.folder / "hub").exists()
            assert project.record("dataset") is not None
        assert all(child.returncode == 0 for child in children)
        wait_for(lambda: not queue._children, 20)
    finally:
        ended.set()


class Deaf:
    """A process that does not listen to a request, nor (if so told) to SIGTERM."""

    def __init__(self, settings: Settings, *, deafer: bool = False):
        project = visit(settings)
        job = "20260101-000000-000000-train-dead"
        self.folder = project.path("jobs", job)
        made = {"stage": "dataset", "settings": DatasetConfig(demo=True).to_dict(), "command": "x"}
        storage.write_json(self.folder / "config.json", made)
        code = "import signal, sys, time\n"
        code += "signal.signal(signal.SIGTERM, signal.SIG_IGN)\n" if deafer else ""
        code += "print('ready', flush=True)\ntime.sleep(600)"
        self.process = subprocess.Popen(
            [sys.executable, "-c", code], stdout=subprocess.PIPE, start_new_session=True
        )
        assert self.process.stdout is not None
        self.process.stdout.readline()
        self.born = psutil.Process(self.process.pid).create_time()
        state = {"status": "running", "pid": self.process.pid, "process_started": self.born}
        storage.write_json(self.folder / "state.json", {**state, "started": time.time()})
        self.project = project
        WaitingList(settings.home / "queue").put(
            Entry(
                job,
                str(project.root),
                started=time.time(),
                entered=time.time(),
                pid=self.process.pid,
                born=self.born,
            )
        )

    def end(self) -> None:
        self.process.kill()
        self.process.wait()


@pytest.mark.parametrize("deafer", [False, True])
def test_stop_ends_what_does_not_listen(
    hosted: Settings, monkeypatch: pytest.MonkeyPatch, deafer: bool
) -> None:
    monkeypatch.setattr(wardens, "TOLD_SECONDS", 0.3)
    monkeypatch.setattr(wardens, "KILL_SECONDS", 0.5)
    deaf, queue = Deaf(hosted, deafer=deafer), JobQueue(replace(hosted, heavy_jobs=0))
    try:
        queue.dispatch()
        assert deaf.process.poll() is None
        queue.stop(deaf.project, deaf.folder.name)

        def ended() -> bool:
            queue.dispatch()
            return deaf.process.poll() is not None

        wait_for(ended, 30)
        queue.dispatch()
        assert queue.list.entries() == []
        view = queue.current(deaf.project)
        assert view is not None
        assert view.status == "stopped"
    finally:
        deaf.end()


def test_a_run_that_takes_too_much_memory_is_ended(hosted: Settings) -> None:
    settings = replace(hosted, run_memory=1000, heavy_jobs=0)
    deaf = Deaf(settings)
    try:
        JobQueue(settings).dispatch()
        assert deaf.process.wait(20) != 0
        assert b"memory" in (deaf.folder / "stop").read_bytes()
    finally:
        deaf.end()


def test_resume_needs_one_click_after_a_pause_and_a_kill(hosted: Settings) -> None:
    deaf, queue = Deaf(hosted), JobQueue(replace(hosted, heavy_jobs=0))
    try:
        queue.pause(deaf.project, deaf.folder.name)
        assert queue.resume(deaf.project, deaf.folder.name) == deaf.folder.name, "it goes on"
        queue.pause(deaf.project, deaf.folder.name)
        deaf.end()
        again = queue.resume(deaf.project, deaf.folder.name)
        assert again != deaf.folder.name
        view = queue.current(deaf.project)
        assert view is not None
        assert (view.id, view.status) == (again, "queued")
    finally:
        deaf.end()


def test_another_process_of_the_same_number_is_left_alone() -> None:
    me = psutil.Process()
    assert workers.find(me.pid, me.create_time()) is not None
    assert workers.find(me.pid, me.create_time() - 100) is None
    workers.end(me.pid, me.create_time() - 100, kill=True)
