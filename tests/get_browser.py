"""Make sure that there is a Chromium for the browser tests: ``python tests/get_browser.py``.

One that is there already is used; else root on a Debian system installs the distribution's, and
everybody else gets playwright's own. Without ``--required`` a failure is only told: the tests that
need no browser can run all the same.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
from pathlib import Path

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")

ARGUMENTS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
"""Start a browser that runs in containers and calls nobody."""


def find_browser() -> str | None:
    """Path of a Chromium: ``$CHROMIUM``, one on the path, or playwright's own."""
    given = os.environ.get("CHROMIUM")
    if given:
        return shutil.which(given)
    for name in NAMES:
        if found := shutil.which(name):
            return found
    return _playwrights_own()


def _playwrights_own() -> str | None:
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        path = playwright.chromium.executable_path
    return path if Path(path).exists() else None


def install() -> None:
    """Install one, by the system's packages where that is allowed, else by playwright."""
    if shutil.which("apt-get") and os.geteuid() == 0:
        quiet = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
        subprocess.run(["apt-get", "update", "-qq"], env=quiet, check=False)
        command = ["apt-get", "install", "-y", "-qq", "--no-install-recommends", "chromium"]
        if subprocess.run(command, env=quiet, check=False).returncode == 0 and find_browser():
            return
    subprocess.run([sys.executable, "-m", "playwright", "install", "chromium"], check=False)


def main() -> int:
    """Find or install; the exit status is 1 if one is required and cannot be had."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--required", action="store_true", help="fail if there is none")
    options = parser.parse_args()
    found = find_browser()
    if found is None:
        install()
        found = find_browser()
    print(f"browser: {found}" if found else "browser: none; tests marked 'ui' will be skipped")
    return 1 if options.required and found is None else 0


if __name__ == "__main__":
    sys.exit(main())
