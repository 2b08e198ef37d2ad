"""The app as Hugging Face Spaces runs it: its variables, an ordinary user, nothing to write but its
own home."""

from __future__ import annotations

import importlib.util
import json
import os
import re
import shutil
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import gradio
import pytest
import yaml

from tests.support.studio_app import ROOT, free_port

USER = 1000


def front_matter() -> dict[str, object]:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    found = re.match(r"---\n(.*?)\n---\n", text, re.DOTALL)
    assert found is not None, "the README has no front matter for Spaces"
    return yaml.safe_load(found[1])


def test_the_front_matter_says_what_a_space_needs() -> None:
    front = front_matter()
    assert front["sdk"] == "gradio"
    assert front["app_file"] == "app.py"
    assert (ROOT / str(front["app_file"])).exists()
    assert len(str(front["short_description"])) <= 60  # the Hub refuses longer ones
    assert front["hf_oauth"] is True
    requirement = next(
        line
        for line in (ROOT / "requirements.txt").read_text().splitlines()
        if line.startswith("gradio")
    )
    wanted = requirement.partition(">=")[2].split(",")[0]
    assert str(front["sdk_version"]).startswith(f"{wanted}.")
    assert gradio.__version__ == front["sdk_version"]


@pytest.mark.slow
def test_it_starts_as_an_ordinary_user_who_can_write_only_at_home(tmp_path: Path) -> None:
    """No network is needed, no file is written elsewhere, and the page answers."""
    home, port = tmp_path / "user", free_port()
    home.mkdir()
    as_user = _as_user(tmp_path)
    if as_user:
        shutil.chown(home, USER, USER)
        tmp_path.chmod(0o755)
    environment = {
        "PATH": os.environ["PATH"],
        "HOME": str(home),
        "SPACE_ID": "someone/dpd-studio",
        "SPACE_HOST": "someone-dpd-studio.hf.space",
        "SYSTEM": "spaces",
        "GRADIO_SERVER_NAME": "0.0.0.0",
        "GRADIO_SERVER_PORT": str(port),
        "GRADIO_TEMP_DIR": str(home / "gradio"),
        "HF_HUB_OFFLINE": "1",
        "PYTHONDONTWRITEBYTECODE": "1",
    }
    if all(importlib.util.find_spec(name) for name in ("itsdangerous", "authlib")):
        # A Space installs gradio[oauth], which brings these two; without them signing in is off.
        environment |= {
            "OAUTH_CLIENT_ID": "none",
            "OAUTH_CLIENT_SECRET": "none",
            "OAUTH_SCOPES": "openid profile",
            "OPENID_PROVIDER_URL": "https://huggingface.co",
        }
    output = tmp_path / "log.txt"
    begun = time.monotonic()
    with output.open("wb") as log:
        app = subprocess.Popen(
            [*as_user, sys.executable, "app.py"], cwd=ROOT, env=environment, stdout=log, stderr=log
        )
    try:
        config = _wait(f"http://127.0.0.1:{port}/config", app, output)
        seconds = time.monotonic() - begun
        print(f"usable after {seconds:.1f} s, as {'uid 1000' if as_user else 'this user'}")
        titles = [part["props"].get("label") for part in config["components"]]
        assert {"Dataset", "Prototypes", "Train", "Export"} <= set(titles)
        assert "Folder on this computer" not in json.dumps(config)
        state = home / ".dpd-studio"
        assert (state / "secret").stat().st_mode & 0o077 == 0
        if as_user:
            assert (state / "secret").stat().st_uid == USER
    finally:
        app.terminate()
        app.wait(30)


def _wait(url: str, app: subprocess.Popen[bytes], output: Path) -> dict:
    for _ in range(600):
        assert app.poll() is None, output.read_text()[-3000:]
        try:
            with urllib.request.urlopen(url, timeout=10) as reply:
                return json.load(reply)
        except OSError:
            time.sleep(0.5)
    raise AssertionError(output.read_text()[-3000:])


def _as_user(folder: Path) -> list[str]:
    """What to put before a command to run it as user 1000, who may read everything (this Python may
    lie in a home that is closed to others) but write nothing of others; empty if not root."""
    if os.geteuid() != 0 or shutil.which("setpriv") is None:
        return []
    for above in (folder, *folder.parents):  # pytest closes its folders to other users
        if above.name.startswith("pytest-") or above == folder:
            above.chmod(0o755)
    words = [
        "setpriv",
        "--reuid",
        str(USER),
        "--regid",
        str(USER),
        "--clear-groups",
        "--inh-caps",
        "+dac_read_search",
        "--ambient-caps",
        "+dac_read_search",
    ]
    tried = subprocess.run([*words, sys.executable, "-c", ""], capture_output=True, check=False)
    return words if tried.returncode == 0 else []
