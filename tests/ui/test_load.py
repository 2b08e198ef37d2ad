"""Several visitors at once, one of whom trains: the short form of the load in docs/hosting.md."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.studio_app import ROOT

pytestmark = [pytest.mark.ui, pytest.mark.slow]


def test_visitors_browse_and_edit_while_one_trains(small_project: Path, tmp_path: Path) -> None:
    result = subprocess.run(
        [
            sys.executable,
            "-m",
            "tests.benchmarks.load",
            str(small_project),
            "--home",
            str(tmp_path / "home"),
            "--visitors",
            "6",
            "--seconds",
            "60",
            "--p95",
            "60",
        ],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    assert result.returncode == 0, result.stdout + result.stderr
    told = json.loads(result.stdout)
    assert told["training_steps"] > 0
    for kind in ("tick", "thumbnails", "image", "open caption", "save caption"):
        assert told["requests"][kind]["count"] > 0, kind
