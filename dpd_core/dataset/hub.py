"""Data sets from the Hugging Face Hub.

Nothing is executed: the ``datasets`` library no longer runs loading scripts. What it gives is
understood as Parquet files are (:mod:`dpd_core.dataset.parquet`).
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dpd_core import storage
from dpd_core.dataset import parquet, words
from dpd_core.dataset.found import Found
from dpd_core.dataset.parquet_columns import choose_columns
from dpd_core.errors import DatasetError, first_line
from dpd_core.events import Emit, Log
from dpd_core.project import Project

if TYPE_CHECKING:
    import datasets


@dataclass(frozen=True)
class Preset:
    """A well-known data set under a short name."""

    hub_id: str
    title: str
    licence: str | None


PRESETS: dict[str, Preset] = {
    "eurosat": Preset("timm/eurosat-rgb", "EuroSAT (RGB)", "mit"),
    "ucmerced": Preset("blanchon/UC_Merced", "UC Merced Land Use", None),
    "aid": Preset("blanchon/AID", "Aerial Image Dataset", None),
    "nwpu-resisc45": Preset("timm/resisc45", "NWPU-RESISC45", None),
}
"""Short name → Hub data set. The licences are those the authors state; ``None``: none."""

_ALIASES = {
    "ucm": "ucmerced",
    "nwpu": "nwpuresisc45",
    "resisc45": "nwpuresisc45",
    "eurosatrgb": "eurosat",
    "ucmercedlanduse": "ucmerced",
}

_BATCH = 64


def preset(name: str) -> Preset | None:
    """The preset of that name in any spelling (``UC Merced``, ``nwpu_resisc45``), or ``None``."""
    plain = _plain(name)
    plain = _ALIASES.get(plain, plain)
    return next((entry for key, entry in PRESETS.items() if _plain(key) == plain), None)


def load(project: Project, name: str, *, emit: Emit, column: str = "") -> Found:
    """Fetch a Hub data set (a preset's name or ``owner/name``) and write its images.

    ``datasets`` keeps the download in its own cache, shared by all projects.

    Args:
        project: The rows become files in it.
        name: Of the data set.
        emit: Progress.
        column: The column of the classes, if it was chosen.

    Raises:
        DatasetError: it cannot be had, or has no image or no class column.
    """
    known = preset(name)
    hub_id = known.hub_id if known else name
    emit(Log("dataset", f"Getting {hub_id} from the Hugging Face Hub."))
    with _quiet() as library:
        try:
            tables = library.load_dataset(hub_id)
        except Exception as error:
            # Network, authentication, parsing: a dozen libraries' errors end here.
            raise DatasetError(
                f"the data set '{hub_id}' cannot be had from the Hub: "
                f"{first_line(error).rstrip('.')}.",
                where=name,
                fix="Check the id and the network, or give a local folder or archive "
                "(there is no local one of this name).",
            ) from error
        parts = [_part(split, table, name, column) for split, table in tables.items()]
        if len(parts) == 1:  # a data set of one split is split by us
            parts = [parquet.Part(p.name, None, p.columns, p.rows, p.batches) for p in parts]
        key = storage.digest(hub_id, _origin(tables), column)
        target = project.path("dataset", "hub", key)
        if not (target / parquet.REPORT).exists():
            parquet.write(target, parts, data=name, emit=emit, downloads=_download_folders())
    licence = known.licence if known else next(iter(tables.values())).info.license
    return parquet.found(target, parts, data=name, licence=licence or None)


def _part(split: str, table: datasets.Dataset, data: str, column: str) -> parquet.Part:
    columns = choose_columns(table.features.arrow_schema, data, column)
    wanted = [c for c in (columns.image, columns.label, columns.caption) if c]
    plain = table.select_columns(wanted).with_format("arrow")

    def batches() -> Iterator[Any]:
        for batch in plain.iter(batch_size=_BATCH):
            yield from batch.to_batches()

    return parquet.Part(split, words.split_file(split), columns, len(table), batches())


def _origin(tables: datasets.DatasetDict) -> dict[str, list[str]]:
    """What tells one state of a Hub data set from another: its files, with their commits."""
    return {
        name: [str(len(table)), *sorted(table.info.download_checksums or {})]
        for name, table in tables.items()
    }


def _download_folders() -> tuple[Path, ...]:
    """Where the Hub's libraries keep what they download."""
    import datasets
    from huggingface_hub import constants

    caches = (datasets.config.HF_DATASETS_CACHE, constants.HF_HUB_CACHE)
    return tuple(Path(cache).resolve() for cache in caches)


def _plain(name: str) -> str:
    return re.sub(r"[^a-z0-9]", "", name.lower())


@contextlib.contextmanager
def _quiet() -> Iterator[Any]:
    """The ``datasets`` library without its progress bars: our events tell the progress."""
    import datasets

    shown = not datasets.utils.are_progress_bars_disabled()
    datasets.disable_progress_bars()
    try:
        yield datasets
    finally:
        if shown:
            datasets.enable_progress_bars()
