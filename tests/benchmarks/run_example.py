"""Runs the diffusers example script unchanged and prints when each of its steps ended.

``python tests/benchmarks/run_example.py SCRIPT ARGUMENTS…``. The script needs torchvision's image
transforms, and torchvision's compiled part does not load beside the CPU build of torch. So the
package is entered without it: only ``torchvision.transforms`` is imported, from SCRIPT's folder.
"""

from __future__ import annotations

import importlib
import importlib.util
import json
import runpy
import sys
import time
import types
from pathlib import Path


def main() -> None:
    """Run the script; the last line is a list of wall clocks and processor times in seconds."""
    script = Path(sys.argv[1])
    # Imported before torchvision seems to be there: they would build on its compiled part.
    importlib.import_module("datasets")
    importlib.import_module("diffusers").StableDiffusionPipeline  # noqa: B018
    importlib.import_module("transformers").CLIPTextModel  # noqa: B018
    if importlib.util.find_spec("torchvision") is None:
        package = types.ModuleType("torchvision")
        package.__path__ = [str(script.parent / "torchvision")]
        sys.modules["torchvision"] = package
    from torch.optim.optimizer import register_optimizer_step_post_hook

    ends: list[tuple[float, float]] = []
    register_optimizer_step_post_hook(
        lambda *_: ends.append((time.perf_counter(), time.process_time()))
    )
    sys.argv = sys.argv[1:]
    runpy.run_path(str(script), run_name="__main__")
    print()
    print(json.dumps(ends))


if __name__ == "__main__":
    main()
