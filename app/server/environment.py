"""What a run for a stranger knows of the server: what it needs to compute, and no secret of it."""

from __future__ import annotations

import fnmatch
import os
from collections.abc import Mapping
from pathlib import Path

from dpd_core.controls import JOB_ID

TOKEN_VARIABLES = ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN", "HUGGINGFACE_HUB_TOKEN")
"""Variables in which the Hub's library looks for a token."""

PASSED = (
    "PATH",
    "HOME",
    "USER",
    "LOGNAME",
    "LANG",
    "LANGUAGE",
    "LC_*",
    "TZ",
    "TMPDIR",
    "TEMP",
    "TMP",
    "SYSTEMROOT",
    "COMSPEC",
    "PATHEXT",
    "WINDIR",
    "LD_LIBRARY_PATH",
    "DYLD_LIBRARY_PATH",
    "VIRTUAL_ENV",
    "CONDA_PREFIX",
    "PYTHONPATH",
    "PYTHONHOME",
    "PYTHONDONTWRITEBYTECODE",
    "PYTHONHASHSEED",
    "PYTHONUTF8",
    "OMP_*",
    "MKL_*",
    "OPENBLAS_*",
    "GOMP_*",
    "NUMBA_*",
    "CUDA_*",
    "CUBLAS_*",
    "NVIDIA_*",
    "HIP_*",
    "ROCR_*",
    "PYTORCH_*",
    "TORCH_*",
    "HTTP_PROXY",
    "HTTPS_PROXY",
    "NO_PROXY",
    "SSL_CERT_FILE",
    "SSL_CERT_DIR",
    "REQUESTS_CA_BUNDLE",
    "CURL_CA_BUNDLE",
    "HF_HUB_OFFLINE",
    "HF_DATASETS_OFFLINE",
    "HF_ENDPOINT",
)
"""Patterns of the variables that a run gets from the server."""

_HUB_SECONDS = "20"
"""A transfer from the Hub that stands still for so long has failed."""


def of_a_run(
    job_id: str,
    *,
    hosted: bool,
    token: str | None = None,
    cache: Path | None = None,
    budget: int | None = None,
    environment: Mapping[str, str] = os.environ,
) -> dict[str, str]:
    """The environment of a run.

    Args:
        job_id: Its job.
        hosted: Whether it is a stranger's; else it has all that the server has.
        token: The Hub token it may use; a stranger's run has no other.
        cache: Folder for what it downloads, instead of the server's own.
        budget: Most bytes that it may unpack.
        environment: The server's.
    """
    kept = {
        name: value
        for name, value in environment.items()
        if not hosted or any(fnmatch.fnmatchcase(name.upper(), pattern) for pattern in PASSED)
    }
    kept |= {JOB_ID: job_id, "HF_HUB_DISABLE_TELEMETRY": "1"}
    for name in ("HF_HUB_DOWNLOAD_TIMEOUT", "HF_HUB_ETAG_TIMEOUT"):
        kept.setdefault(name, _HUB_SECONDS)
    if hosted:
        # Neither the file of `hf auth login` is read, nor anything sent that was not given here.
        kept |= {"HF_TOKEN_PATH": os.devnull, "HF_HUB_DISABLE_IMPLICIT_TOKEN": "1"}
        if cache is not None:
            kept |= {"HF_HOME": str(cache), "XDG_CACHE_HOME": str(cache)}
        if budget is not None:
            kept["DPD_UNPACK_BYTES"] = str(budget)
    if token is not None:
        kept["HF_TOKEN"] = token
    return kept
