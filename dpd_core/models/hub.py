"""Models of the Hugging Face Hub, as folders on this machine."""

from __future__ import annotations

from functools import cache
from pathlib import Path

from huggingface_hub import snapshot_download
from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

from dpd_core.errors import ModelError, first_line


@cache
def hub_snapshot(source: str, patterns: tuple[str, ...], ignore: tuple[str, ...]) -> Path:
    """The folder with a Hub repository's files, downloaded if they are not there.

    Raises:
        ModelError: the Hub does not give it.
    """
    try:
        return Path(
            snapshot_download(source, allow_patterns=list(patterns), ignore_patterns=list(ignore))
        )
    except (HfHubHTTPError, HFValidationError, LocalEntryNotFoundError, OSError) as error:
        raise ModelError(
            f"the Hub did not give this model ({first_line(error)}).",
            where=source,
            fix="Check the id and the network, or download it and give its folder.",
        ) from error
