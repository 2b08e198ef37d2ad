"""The real app in a process of its own, for tests that talk to it from outside."""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil

ROOT = Path(__file__).parents[2]
PROJECT = "small"
CLASSES = ("forest", "highway", "river")

TINY = [
    "--demo",
    "--classes",
    ",".join(CLASSES),
    "--ipc",
    "2",
    "--max-per-class",
    "16",
    "--set",
    "dataset.demo_per_class=16",
    "--set",
    "prototypes.neighbors=5",
    "--set",
    "captions.nearest=2",
    "--set",
    "train.steps=4",
    "--set",
    "train.batch_size=4",
    "--set",
    "train.targets=all",
    "--set",
    "train.classifier_steps=2",
    "--set",
    "train.preview_steps=2",
    "--set",
    "train.checkpoint_steps=2",
    "--set",
    "synthesize.steps=3",
    "--set",
    "synthesize.candidates=3",
    "--set",
    "synthesize.batch_size=6",
    "--set",
    "evaluate.student_steps=4",
    "--set",
    "evaluate.seeds=2",
]
"""Settings of ``run`` with which all seven stages are done in about a minute."""


@dataclass
class App:
    """A running ``app.py``.

    Attributes:
        home: Its state (``DPD_HOME``).
        port: Where it listens.
        environment: Variables beside the test's own.
    """

    home: Path
    port: int
    environment: dict[str, str] = field(default_factory=dict)
    process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def log(self) -> Path:
        """What the server printed."""
        return self.home.parent / f"{self.home.name}.log"

    def project(self, name: str = PROJECT) -> Path:
        """Folder of a project (not in hosted mode, where visitors have their own)."""
        return self.home / "projects" / name

    def start(self, seconds: float = 300, options: Sequence[str] = ()) -> None:
        """Start it, with more options of the command line, and wait until it answers."""
        environment = {**os.environ, "DPD_HOME": str(self.home), **self.environment}
        with self.log.open("ab") as output:
            self.process = subprocess.Popen(
                [sys.executable, "app.py", "--port", str(self.port), *options],
                cwd=ROOT,
                env=environment,
                stdout=output,
                stderr=output,
            )
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            if self.process.poll() is not None:
                break
            try:
                urllib.request.urlopen(f"{self.url}/config", timeout=5).close()
                return
            except urllib.error.HTTPError as error:
                if error.code == 401:  # it answers, to those who have its token
                    return
                raise
            except OSError:
                time.sleep(0.2)
        self.kill()
        raise AssertionError(f"the app did not start:\n{self.log.read_text()[-3000:]}")

    def kill(self) -> None:
        """``kill -9``; jobs live on."""
        if self.process is not None and self.process.poll() is None:
            self.process.kill()
            self.process.wait()

    def stop(self) -> None:
        """An end to the server and to the jobs that a failed test has left at work."""
        self.kill()
        # Whoever started this may have been told the folder too.
        own = {psutil.Process().pid, *(parent.pid for parent in psutil.Process().parents())}
        for process in psutil.process_iter(["cmdline"]):
            if process.pid not in own and any(
                str(self.home) in part for part in process.info["cmdline"] or ()
            ):
                with contextlib.suppress(psutil.NoSuchProcess):
                    process.kill()


def wait_for(what: Callable[[], Any], seconds: float = 600) -> Any:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if found := what():
            return found
        time.sleep(0.5)
    raise AssertionError("it did not come")


def free_port() -> int:
    """A port that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def visit(page: Any, url: str) -> None:
    """Go to an address. A page whose server is back after a restart loads itself again, and if it
    does so at this very moment the browser gives up the visit."""
    given_up = ("ERR_ABORTED", "interrupted by another navigation")
    try:
        page.goto(url)
    except Exception as error:
        if not any(words in str(error) for words in given_up):
            raise
        page.wait_for_load_state()  # that of the page that came in between
        page.goto(url)


def open_settings(page: Any, stage: str) -> None:
    """Open the drawer with a stage's settings, which is closed when the stage has been run."""
    page.wait_for_function(f"() => !document.body.classList.contains('cover-{stage}')")
    button = page.locator(f"#{stage}-settings button")
    if button.get_attribute("aria-expanded") == "false":
        button.click()


def open_app(page: Any, app: App, tab: str | None = None, *, query: str = "") -> None:
    """Open the app's page, wait until a project is shown, and go to a tab by its label."""
    visit(page, f"{app.url}/{query}")
    page.wait_for_function(
        "() => document.querySelector('#project input')?.value"
        " && document.querySelectorAll('#stage-list li').length > 0"
    )
    if tab is not None:
        page.get_by_role("tab", name=tab, exact=True).click()
