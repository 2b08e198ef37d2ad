"""What the page costs: requests and processor time of idle tabs, first paint, weight.

    python -m tests.benchmarks.page PROJECT --home FOLDER [--tabs 20] [--seconds 20]

It copies the project into a new home, starts a server there, and opens it in a browser. One JSON
object comes out: what one idle tab asks for, tab by tab of the page; the server's processor time
with many idle tabs; and of a first visit the first contentful paint and the bytes that came.
"""

from __future__ import annotations

import argparse
import json
import shutil
import time
from pathlib import Path
from typing import Any

import psutil
from playwright.sync_api import sync_playwright

from dpd_core import STAGES
from tests.get_browser import ARGUMENTS, find_browser
from tests.support.studio_app import App, free_port, open_app


def idle_requests(page: Any, app: App, label: str, seconds: float) -> int:
    """How often a tab that nobody touches asks the server."""
    open_app(page, app, label)
    page.wait_for_timeout(4000)
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    page.wait_for_timeout(1000 * seconds)
    return len(asked)


def first_visit(browser: Any, app: App) -> dict[str, float]:
    """First contentful paint in seconds and the MB that came over the wire."""
    page = browser.new_page(viewport={"width": 1280, "height": 900})
    wire = page.context.new_cdp_session(page)
    received = {"bytes": 0.0}
    wire.send("Network.enable")

    def count(event: dict[str, Any]) -> None:
        received["bytes"] += event["encodedDataLength"]

    wire.on("Network.loadingFinished", count)
    open_app(page, app)
    page.wait_for_timeout(3000)
    paint = page.evaluate(
        "performance.getEntriesByName('first-contentful-paint').map((one) => one.startTime)[0]"
    )
    page.close()
    return {"first_paint_s": round(paint / 1000, 2), "MB": round(received["bytes"] / 1e6, 2)}


def main() -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("project", type=Path)
    parser.add_argument("--home", type=Path, required=True)
    parser.add_argument("--tabs", type=int, default=20)
    parser.add_argument("--seconds", type=float, default=20)
    options = parser.parse_args()
    app = App(options.home, free_port())
    shutil.copytree(options.project, app.project())
    app.start()
    assert app.process is not None
    server = psutil.Process(app.process.pid)
    result: dict[str, Any] = {"seconds": options.seconds}
    try:
        with sync_playwright() as playwright:
            browser = playwright.chromium.launch(executable_path=find_browser(), args=ARGUMENTS)
            result["first_visit"] = first_visit(browser, app)
            requests = {}
            for stage in ("start", *STAGES):
                page = browser.new_page()
                requests[stage] = idle_requests(page, app, stage.capitalize(), options.seconds)
                page.close()
            result["requests"] = requests
            pages = [browser.new_page() for _ in range(options.tabs)]
            for page in pages:
                open_app(page, app, "Train")
            time.sleep(5)
            before = sum(server.cpu_times()[:2])
            pages[0].wait_for_timeout(1000 * options.seconds)
            spent = sum(server.cpu_times()[:2]) - before
            result["idle_tabs"] = options.tabs
            result["processor_seconds"] = round(spent, 2)
            browser.close()
    finally:
        app.stop()
    print(json.dumps(result))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
