"""Dependencies have bounds, fit together, and have licences that are listed."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support import supply


@pytest.mark.parametrize("path", supply.FILES, ids=lambda path: path.name)
def test_every_requirement_has_an_upper_bound_and_is_met(path: Path) -> None:
    assert supply.unbounded(path) == []
    assert supply.outside(path) == []


def test_the_installed_packages_fit_together() -> None:
    result = subprocess.run(
        [sys.executable, "-m", "pip", "check"],
        capture_output=True,
        text=True,
        env={**os.environ, "PIP_DISABLE_PIP_VERSION_CHECK": "1"},
    )
    assert result.returncode == 0, result.stdout + result.stderr


def test_the_lock_file_is_inside_the_bounds_and_binds_no_platform() -> None:
    lines = [line for line in supply.LOCK.read_text().splitlines() if not line.startswith("#")]
    locked = dict(line.split("==") for line in lines)
    for path in supply.FILES:
        for requirement in supply.requirements(path):
            assert requirement.specifier.contains(
                locked[supply.canonicalize_name(requirement.name)]
            ), requirement.name
    assert not [line for line in lines if "+" in line or line.startswith(supply.PLATFORM)]


def test_the_licences_of_all_direct_dependencies_are_listed() -> None:
    listed = set(re.findall(r"^\| ([\w.\-]+) \|", supply.LICENCES.read_text(), re.MULTILINE))
    wanted = {
        requirement.name for path in supply.FILES for requirement in supply.requirements(path)
    }
    assert wanted <= listed
    assert "not stated" not in supply.LICENCES.read_text()


def test_nothing_reports_home() -> None:
    """The engine switches the libraries' telemetry off or has none of its own."""
    code = (
        "import os, dpd_core.cli as cli\n"
        "try: cli.main(['--version'])\n"
        "except SystemExit: pass\n"
        "print(os.environ.get('HF_HUB_DISABLE_TELEMETRY'))"
    )
    clean = {name: value for name, value in os.environ.items() if not name.startswith("HF_")}
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env=clean, cwd=supply.ROOT
    )
    assert result.stdout.strip().splitlines()[-1] == "1", result.stderr
