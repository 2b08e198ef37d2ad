"""The command line: light, and clear about mistakes."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from dpd_core.cli import main

ROOT = Path(__file__).parents[2]


def test_help_is_instant_and_needs_no_torch() -> None:
    code = (
        "import sys, dpd_core.cli\n"
        "try: dpd_core.cli.main(['train', '--help'])\n"
        "except SystemExit: pass\n"
        "heavy = {'torch', 'diffusers', 'transformers', 'sklearn', 'umap', 'gradio', 'PIL'}\n"
        "sys.exit(', '.join(sorted(heavy & set(sys.modules))) or 0)"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT)
    assert result.returncode == 0, result.stderr
    assert "--consistency-weight" in result.stdout


def test_engine_imports_no_user_interface() -> None:
    code = (
        "import sys, pkgutil, importlib, dpd_core\n"
        "for module in pkgutil.walk_packages(dpd_core.__path__, 'dpd_core.'):\n"
        "    if not module.name.endswith('__main__'): importlib.import_module(module.name)\n"
        "sys.exit(', '.join(sorted({'gradio', 'app', 'spaces'} & set(sys.modules))) or 0)"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT)
    assert result.returncode == 0, result.stderr


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["run", "--project", "{p}", "--data", "nowhere"], "nowhere"),
        (["train", "--project", "{p}"], "there is no project in this folder"),
        (["run", "--project", "{p}", "--demo", "--ipc", "0"], "prototypes.ipc: got 0"),
        (["run", "--project", "{p}", "--demo", "--set", "steps=3"], "STAGE.NAME=VALUE"),
        (["run", "--project", "{p}", "--demo", "--set", "train.stepz=3"], "unknown setting"),
        (["run", "--project", "{p}", "--demo", "--model", "./none"], "no such folder"),
    ],
)
def test_main_explains_a_mistake_without_a_traceback(
    tmp_path: Path, words: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    words = [word.replace("{p}", str(tmp_path / "p")) for word in words]
    assert main([*words, "--json", "--quiet"]) == 1
    output = capsys.readouterr()
    failure = json.loads(output.out.splitlines()[-1])
    assert not failure["ok"]
    assert message in output.err
    assert "Traceback" not in output.err
    assert failure["error"]["fix"], "every error names the way out"
