"""What makes the first page quick."""

from __future__ import annotations

import subprocess
import sys

from studio_app import ROOT


def test_the_page_is_built_without_the_heavy_libraries() -> None:
    """Each of them takes seconds to import; what needs them imports them when it is used."""
    heavy = ["torch", "diffusers", "transformers", "peft", "sklearn", "umap", "datasets"]
    code = f"import sys, app.build; print(*[name for name in {heavy} if name in sys.modules])"
    found = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True,
                           check=True)  # fmt: skip
    assert found.stdout.split() == []
