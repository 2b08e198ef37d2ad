"""What all tests share: offline libraries, few threads, and the way to the scene images."""

import os
from pathlib import Path

import pytest

# Before any library reads them: no test may reach the network or report home.
os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("HF_DATASETS_OFFLINE", "1")
os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
if "PYTEST_XDIST_WORKER" in os.environ:
    # Before torch reads it: test processes side by side share the cores.
    os.environ.setdefault("OMP_NUM_THREADS", "1")

SHARED_DATA = Path(__file__).parents[2] / "shared" / "data"


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Folder with UCMerced_LandUse and EuroSAT_RGB; it is not part of the project."""
    if not (SHARED_DATA / "UCMerced_LandUse").is_dir():
        pytest.skip("the scene images are not beside this checkout (../shared/data)")
    return SHARED_DATA
