"""The real app in a process of its own, driven by a real browser.

``app`` is one server a module with a finished project named ``small``; ``start_app`` starts more
servers (hosted, with other projects, to be killed and started again). ``page`` is a fresh browser
window; when its test ends it has not called anybody outside and has thrown no error. Helpers for
the tests are in ``tests/studio_app.py``.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.get_browser import ARGUMENTS, find_browser
from tests.support.studio_app import PROJECT, ROOT, TINY, App, free_port


@pytest.fixture(scope="session")
def small_project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project of 3 drawn classes after all seven stages; copy it, do not change it.

    ``DPD_UI_PROJECT`` names one made before, to save the minute while writing tests.
    """
    if made := os.environ.get("DPD_UI_PROJECT"):
        return Path(made)
    folder = tmp_path_factory.mktemp("finished") / PROJECT
    result = subprocess.run(
        [sys.executable, "-m", "dpd_core", "run", "--project", str(folder), *TINY],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=900,
    )
    assert result.returncode == 0, result.stderr[-3000:]
    return folder


@pytest.fixture
def start_app(tmp_path: Path) -> Iterator[Callable[..., App]]:
    """Start a server: ``start_app(project=folder, name="small", DPD_HOSTED="1", …)``."""
    started: list[App] = []

    def start(project: Path | None = None, name: str = PROJECT, **environment: str) -> App:
        app = App(tmp_path / f"home{len(started)}", free_port(), environment)
        app.home.mkdir()
        if project is not None:
            shutil.copytree(project, app.project(name))
        started.append(app)
        app.start()
        return app

    yield start
    for app in started:
        app.stop()


@pytest.fixture(scope="module")
def app(tmp_path_factory: pytest.TempPathFactory, small_project: Path) -> Iterator[App]:
    """A server with the finished project, shared by a module's tests."""
    running = App(tmp_path_factory.mktemp("app") / "home", free_port())
    running.home.mkdir()
    shutil.copytree(small_project, running.project())
    running.start()
    yield running
    running.stop()


@pytest.fixture(scope="session")
def browser() -> Iterator[Any]:
    """A headless Chromium."""
    path = find_browser()
    if path is None:
        pytest.skip("there is no Chromium; `python tests/get_browser.py` gets one")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=path, args=ARGUMENTS)
        yield chromium
        chromium.close()


@pytest.fixture
def new_page(browser: Any) -> Iterator[Callable[..., Any]]:
    """Open windows that share nothing (as different visitors): ``new_page(width=768)``."""
    contexts: list[Any] = []
    outside: list[str] = []
    errors: list[str] = []

    def watch(request: Any) -> None:
        own = ("http://127.0.0.1:", "ws://127.0.0.1:", "data:", "blob:", "about:")
        if not request.url.startswith(own):
            outside.append(request.url)

    def new(width: int = 1280, height: int = 900, **options: Any) -> Any:
        context = browser.new_context(viewport={"width": width, "height": height}, **options)
        context.set_default_timeout(90_000)  # a busy machine is slow, not broken
        contexts.append(context)
        page = context.new_page()
        page.on("request", watch)
        page.on("pageerror", lambda error: errors.append(str(error)))
        return page

    yield new
    for context in contexts:
        context.close()
    assert outside == [], "a page called somebody outside"
    assert errors == [], "a page threw an error"


@pytest.fixture
def page(new_page: Callable[..., Any]) -> Any:
    """A fresh browser window of 1280 × 900 pixels."""
    return new_page()
