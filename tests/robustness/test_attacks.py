"""All attacks of :mod:`tests.robustness.attacks` on servers that are started for it."""

from pathlib import Path

import pytest

from tests.robustness import attacks


@pytest.mark.slow
def test_nothing_gets_in(tmp_path: Path) -> None:
    assert attacks.run(tmp_path) == []
