"""Lists of records in a JSON file that lie in a Parquet file beside it once they are long.

A million entries in one JSON file take minutes and gigabytes to read; a few hundred are better read
by people. The Parquet file is named by its digest, so the JSON file that names it is what makes
both valid: it is written last.
"""

from __future__ import annotations

import hashlib
import io
import itertools
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pyarrow
import pyarrow.parquet

from dpd_core import storage

MOST_IN_JSON = 10_000
"""Records that are kept in the JSON file itself."""

_ROWS = 50_000
"""Records that are turned into a table at once, which bounds the memory."""

_NAME = re.compile(r"([a-z]+)-([0-9a-f]{64})\.parquet")


def keep(
    folder: Path, name: str, count: int, records: Callable[[], Iterable[dict[str, Any]]]
) -> list[dict[str, Any]] | str:
    """What goes into the JSON file: the records, or the name of the Parquet file that has them.

    Args:
        folder: Folder of the JSON file.
        name: What they are, in lower-case letters; the file's name begins with it.
        count: How many there are.
        records: Makes them anew at each call. A member that a record lacks is null in its row.
    """
    if count <= MOST_IN_JSON:
        return list(records())
    columns: dict[str, Any] = {}
    for record in records():
        columns |= {member: value for member, value in record.items() if member not in columns}
    schema = pyarrow.Table.from_pylist([columns]).schema
    with storage.atomic_path(folder / f"{name}.parquet") as temporary:
        with pyarrow.parquet.ParquetWriter(temporary, schema, compression="zstd") as writer:
            rest = iter(records())
            while part := list(itertools.islice(rest, _ROWS)):
                writer.write_table(pyarrow.Table.from_pylist(part, schema=schema))
        digest = storage.file_digest(temporary)
    path = folder / f"{name}-{digest}.parquet"
    (folder / f"{name}.parquet").replace(path)
    return path.name


def read(folder: Path, kept: Any) -> Iterator[dict[str, Any]]:
    """The records again; members that are null are left out.

    Raises:
        ValueError, OSError: it is not what :func:`keep` returned, or the Parquet file is missing
            or not the one that was written.
    """
    if isinstance(kept, list):
        yield from kept
        return
    found = _NAME.fullmatch(kept) if isinstance(kept, str) else None
    if found is None:
        raise ValueError("neither a list nor the name of a table")
    content = (folder / kept).read_bytes()
    if hashlib.sha256(content).hexdigest() != found[2]:
        raise ValueError(f"{kept} is damaged")
    with pyarrow.parquet.ParquetFile(io.BytesIO(content)) as table:
        for batch in table.iter_batches(batch_size=_ROWS):
            for row in batch.to_pylist():
                yield {member: value for member, value in row.items() if value is not None}


def remove_others(folder: Path, names: Sequence[str], kept: Iterable[Any]) -> None:
    """Delete the Parquet files of these names that no longer belong to the JSON file."""
    used = {name for name in kept if isinstance(name, str)}
    for path in folder.glob("*.parquet"):
        found = _NAME.fullmatch(path.name)
        name = found[1] if found else path.stem
        if name in names and path.name not in used:
            path.unlink(missing_ok=True)
