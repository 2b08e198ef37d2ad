"""Starting: ``python -m dpd_core --help``, and ``python app.py`` until its page can be used.

"Usable" is what the browser tests wait for: a real browser has loaded the page and shows the stages
of a project. The browser itself is running already.
"""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import time
from pathlib import Path

from playwright.sync_api import sync_playwright

from dpd_core.config import ProjectConfig
from dpd_core.project import Project
from tests.benchmarks.harness import ROOT, Options, Row, child, scratch
from tests.support.studio_app import App, free_port

_ARGUMENTS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]


def run(options: Options) -> list[Row]:
    """Two rows; nothing to compare with."""
    child(["-m", "dpd_core", "--help"])  # the file system's cache
    helps = [child(["-m", "dpd_core", "--help"]).cost for _ in range(options.repeats + 2)]
    answers, pages = zip(*(_page() for _ in range(options.repeats)), strict=True)
    note = f"server answers after {statistics.median(answers):.1f} s; slowest {max(pages):.1f} s"
    return [
        Row(
            "python -m dpd_core --help",
            statistics.median(cost.wall for cost in helps),
            None,
            None,
            None,
            "< 1 s",
            f"{len(helps)} starts",
            note=f"processor time {min(cost.cpu for cost in helps):.2f} s",
        ),
        Row(
            "python app.py to usable page",
            statistics.median(pages),
            None,
            None,
            None,
            "< 8 s",
            f"{len(pages)} starts",
            note=note,
        ),
    ]


def _page() -> tuple[float, float]:
    """Seconds from the start of the process to an answer, and to a page that shows a project."""
    with scratch() as folder, sync_playwright() as playwright:
        found = Path("/usr/bin/chromium")
        path = {"executable_path": str(found)} if found.exists() else {}
        browser = playwright.chromium.launch(args=_ARGUMENTS, **path)
        page = browser.new_page()
        app = App(folder / "home", free_port())
        Project.create(app.project(), config=ProjectConfig())
        started = time.perf_counter()
        process = subprocess.Popen(
            [sys.executable, "app.py", "--port", str(app.port)],
            cwd=ROOT,
            env={**os.environ, "DPD_HOME": str(app.home)},
            stderr=subprocess.DEVNULL,
        )
        try:
            answered = _goto(page, app.url, process) - started
            page.wait_for_function(
                "() => document.querySelector('#project input')?.value"
                " && document.querySelectorAll('#stage-list li').length > 0"
            )
            return answered, time.perf_counter() - started
        finally:
            process.kill()
            process.wait()
            browser.close()


def _goto(page: object, url: str, process: subprocess.Popen[bytes]) -> float:
    """Open the page as soon as the server answers; the time when it did."""
    import urllib.request

    while process.poll() is None:
        try:
            urllib.request.urlopen(f"{url}/config", timeout=30).close()
        except OSError:
            time.sleep(0.05)
            continue
        answered = time.perf_counter()
        page.goto(url)  # type: ignore[attr-defined]
        return answered
    raise RuntimeError(f"the app ended with {process.returncode}")
