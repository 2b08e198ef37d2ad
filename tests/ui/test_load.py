"""Several visitors at once, one of whom trains: the short form of the load in docs/hosting.md."""

from pathlib import Path

import pytest

from tests.benchmarks.load import run

pytestmark = [pytest.mark.ui, pytest.mark.slow]


def test_visitors_browse_and_edit_while_one_trains(small_project: Path, tmp_path: Path) -> None:
    result = run(small_project, tmp_path / "home", visitors=6, seconds=30)
    assert result["first_errors"] == []
    assert result["server_faults"] == 0
    assert result["training_steps"] > 0
    for kind in ("tick", "thumbnails", "image", "open caption", "save caption"):
        assert result["requests"][kind]["count"] > 0, kind
