"""Pushing an exported folder to the Hub."""

from __future__ import annotations

import os
from pathlib import Path

from huggingface_hub import HfApi
from huggingface_hub.errors import HfHubHTTPError, HFValidationError, OfflineModeIsEnabled

from dpd_core.errors import ConfigError, DPDError

TOKEN_VARIABLES = ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN")


def push(folder: Path, repository: str, *, token: str) -> None:
    """Upload an exported folder to a Hub data set, made private if it does not exist yet.

    Raises:
        DPDError: no network, no such token, no right to write, or a bad repository id.
    """
    api = HfApi(token=token)
    fix = "The export itself is complete; check the network, the id and the token's rights."
    try:
        api.create_repo(repository, repo_type="dataset", private=True, exist_ok=True)
        api.upload_folder(
            folder_path=folder,
            repo_id=repository,
            repo_type="dataset",
            commit_message="Distilled set from DPD Studio",
        )
    except (HFValidationError, HfHubHTTPError, OfflineModeIsEnabled, OSError) as error:
        message = str(error).replace(token, "…").splitlines()[0] if str(error) else ""
        raise DPDError(
            f"the push failed ({type(error).__name__}: {message}).", where=repository, fix=fix
        ) from None
    except Exception as error:  # told apart below
        # The HTTP library's own errors differ between versions of huggingface_hub.
        if not type(error).__module__.startswith(("http", "requests", "urllib3")):
            raise
        raise DPDError(
            f"the Hub cannot be reached ({type(error).__name__}).", where=repository, fix=fix
        ) from None


def hub_token(given: str | None) -> str:
    """The token to push with: the given one, else the environment's.

    Raises:
        ConfigError: there is none.
    """
    token = given or next(
        (os.environ[name] for name in TOKEN_VARIABLES if os.environ.get(name)), ""
    )
    if not token:
        raise ConfigError(
            "there is no Hub token.",
            where="export.push",
            fix=f"Set {TOKEN_VARIABLES[0]} to a token that may write, or leave push empty.",
        )
    return token
