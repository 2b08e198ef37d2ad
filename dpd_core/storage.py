"""Files that are either whole or absent: atomic writes, checked reads, digests.

What is being written lies beside its target as ``.part-<process>-…`` until it is whole. A process
killed while it writes leaves such a part behind; :func:`tidy` removes the parts of the dead.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import os
import re
import shutil
import tempfile
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, BinaryIO

import psutil

from dpd_core.errors import ProjectError

_DISK_FAULTS = {
    errno.ENOSPC: ("the disk is full.", "Free some space and start again; nothing was damaged."),
    errno.EDQUOT: ("the disk quota is used up.", "Free some space and start again."),
    errno.EFBIG: (
        "the file is larger than this server allows.",
        "Use fewer or smaller images.",
    ),
    errno.EROFS: ("the folder is on a read-only file system.", "Use a folder you can write to."),
    errno.EACCES: ("no permission to write here.", "Use a folder you can write to."),
    errno.EPERM: ("no permission to write here.", "Use a folder you can write to."),
}

_PART = re.compile(r"\.part-(?:(\d+)-)?\w+?(?:-old-(.+))?(?:\.\w+)?")
"""A temporary name: its process and, for a folder that was moved aside, the name it had."""

PART_SECONDS = 3600.0
"""Age from which the part of a dead process is removed. A process of another machine on the same
disk looks dead from here; one that has written nothing for so long is."""


@contextlib.contextmanager
def writable(path: Path) -> Iterator[None]:
    """Turn the disk's faults (full, read-only, forbidden) into a :class:`ProjectError`."""
    try:
        yield
    except Exception as error:
        number = _error_number(error)
        if number not in _DISK_FAULTS:
            raise
        what, fix = _DISK_FAULTS[number]
        raise ProjectError(what, where=path, fix=fix) from error


def _error_number(error: Exception) -> int | None:
    """The system's error number; safetensors writes it into its message only, and copying a folder
    into a list of messages."""
    if isinstance(error, shutil.Error):
        found = re.search(r"\[Errno (\d+)\]", str(error))
        return int(found[1]) if found else None
    if isinstance(error, OSError):
        return error.errno
    if type(error).__name__ == "SafetensorError":
        found = re.search(r"\(os error (\d+)\)", str(error))
        return int(found[1]) if found else None
    return None


@contextlib.contextmanager
def atomic_path(path: Path) -> Iterator[Path]:
    """Yield a temporary path beside ``path``; on success it is flushed and takes its place.

    Readers see the old file or the new one, never a half-written one, also after ``kill -9``.
    Keeps the suffix, because some writers choose their format by it.
    """
    with writable(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(
            dir=path.parent, prefix=f".part-{os.getpid()}-", suffix=path.suffix
        )
        os.close(handle)
        temporary = Path(name)
        try:
            yield temporary
            with temporary.open("rb+") as file:
                os.fsync(file.fileno())
            temporary.chmod(0o644)
            temporary.replace(path)
        finally:
            temporary.unlink(missing_ok=True)


@contextlib.contextmanager
def atomic_folder(path: Path) -> Iterator[Path]:
    """Like :func:`atomic_path` for a folder: filled aside, then put in place of the old one.

    No file system swaps two folders in one step everywhere, so for an instant there is none.
    A process killed in that instant leaves the old one aside; it is put back here and by
    :func:`tidy`.
    """
    with writable(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        _put_back(path)
        temporary = Path(tempfile.mkdtemp(dir=path.parent, prefix=f".part-{os.getpid()}-"))
        old = temporary.with_name(f"{temporary.name}-old-{path.name}")
        try:
            yield temporary
            temporary.chmod(0o755)
            if path.exists():
                path.replace(old)
            temporary.replace(path)
        finally:
            if old.exists() and not path.exists():
                old.replace(path)
            shutil.rmtree(old, ignore_errors=True)
            shutil.rmtree(temporary, ignore_errors=True)


def whole(folder: Path, pattern: str) -> list[Path]:
    """What matches a pattern below a folder, sorted, without what is being written (``glob`` finds
    names that begin with a dot)."""
    return sorted(
        path
        for path in folder.glob(pattern)
        if not any(part.startswith(".part-") for part in path.relative_to(folder).parts)
    )


def tidy(root: Path, *, older_than: float = PART_SECONDS) -> list[Path]:
    """Remove what killed processes left half-written below a folder.

    Call it while the project is held, so that no other stage is writing. Parts of processes
    that are alive, and young ones, stay. A folder that was moved aside to make place for a new
    one that never came is put back, whatever its age.

    Args:
        root: The project folder. Copies of data sets below it are not searched.
        older_than: Age in seconds from which a part is removed.

    Returns:
        What was removed or put back.
    """
    treated = []
    for folder, folders, files in os.walk(root):
        here = Path(folder)
        parts = [name for name in (*folders, *files) if name.startswith(".part-")]
        folders[:] = [
            name for name in folders if name not in parts and not _is_data(here / name, root)
        ]
        for name in parts:
            found = _PART.fullmatch(name)
            part = here / name
            with contextlib.suppress(OSError):  # another process may be faster
                if found is None or _is_written(part, found[1]):
                    continue
                if found[2] and not (here / found[2]).exists():
                    part.replace(here / found[2])
                elif time.time() - part.stat().st_mtime <= older_than:
                    continue
                elif part.is_dir():
                    shutil.rmtree(part)
                else:
                    part.unlink()
                treated.append(part)
    return treated


def _put_back(path: Path) -> None:
    """Undo the first half of a swap that a killed process did not finish."""
    if path.exists():
        return
    for part in path.parent.glob(".part-*-old-*"):
        found = _PART.fullmatch(part.name)
        if found and found[2] == path.name and not _is_written(part, found[1]):
            part.replace(path)
            return


def _is_data(folder: Path, root: Path) -> bool:
    """Whether it holds copied or cached images only, too many to look through."""
    parts = folder.relative_to(root).parts
    return parts[:1] == ("dataset",) and (
        len(parts) > 2 or parts[1:] in (("demo",), ("thumbnails",))
    )


def _is_written(part: Path, process: str | None) -> bool:
    """Whether the process that began the part is still there, and is not a later one of the
    same number (a container gives the same numbers at each start)."""
    if process is None:
        return False
    try:
        started = psutil.Process(int(process)).create_time()
    except psutil.NoSuchProcess:
        return False
    return started <= part.stat().st_ctime + 1.0


def write_bytes(path: Path, data: bytes) -> None:
    """Write a file atomically."""
    with atomic_path(path) as temporary:
        temporary.write_bytes(data)


def write_json(path: Path, value: Any) -> None:
    """Write a JSON file atomically, readable for people and stable for diffs."""
    text = json.dumps(value, ensure_ascii=False, indent=1, allow_nan=False)
    write_bytes(path, (text + "\n").encode())


def read_json(path: Path, *, fix: str = "Run the stage that writes it again.") -> Any:
    """Read a JSON file.

    Raises:
        ProjectError: it is missing, unreadable or not JSON.
    """
    try:
        return parse_json(path.read_bytes())
    except FileNotFoundError:
        raise ProjectError("the file is missing.", where=path, fix=fix) from None
    except (OSError, ValueError) as error:
        raise ProjectError(f"not readable as JSON ({error}).", where=path, fix=fix) from error


def parse_json(content: str | bytes) -> Any:
    """JSON that may come from anyone.

    Raises:
        ValueError: not JSON in UTF-8, or something that could not be written again: a number
            without end, NaN, half a surrogate pair, a nesting too deep.
    """
    text = content.decode("utf-8-sig") if isinstance(content, bytes) else content
    try:
        value = json.loads(text, parse_constant=_refuse_constant)
        if "\\u" in text:
            json.dumps(value, ensure_ascii=False).encode()
    except RecursionError:
        raise ValueError("it is nested too deeply") from None
    return value


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is not a number")


def read_record(path: Path, kinds: dict[str, Any], *, fix: str) -> dict[str, Any]:
    """Read a JSON object that has members of these kinds.

    Args:
        path: The file.
        kinds: Type, or union of types, by member.
        fix: The way out if it is something else.

    Raises:
        ProjectError: it is missing, not JSON, or lacks such a member.
    """
    content = read_json(path, fix=fix)
    if not isinstance(content, dict):
        raise ProjectError("the file is damaged: no JSON object.", where=path, fix=fix)
    for name, kind in kinds.items():
        if not isinstance(content.get(name), kind) or (
            isinstance(content[name], bool) and kind is not bool
        ):
            raise ProjectError(
                f"the file is damaged: {name} is missing or of another kind.", where=path, fix=fix
            )
    return content


def append_json_line(path: Path, value: Any) -> None:
    """Append one JSON line in a single write, so that concurrent readers see whole lines."""
    append_json_lines(path, [value])


def append_json_lines(path: Path, values: Iterable[Any], *, sync: bool = False) -> None:
    """Append JSON lines in a single write.

    A last line cut off by a crash is taken away first: written behind it, the new lines would
    become part of it and be lost with it.

    Args:
        path: The file; made if it is not there.
        values: One JSON-able value a line.
        sync: Wait until the disk has them, for what cannot be computed again.
    """
    with writable(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        lines = [json.dumps(value, ensure_ascii=False, allow_nan=False) for value in values]
        with path.open("a+b") as file:
            missing_newline = _mend_end(file)
            file.write((missing_newline + "".join(line + "\n" for line in lines)).encode())
            file.flush()
            if sync:
                os.fsync(file.fileno())


def read_json_lines(path: Path) -> list[Any]:
    """All whole lines of a JSON-lines file; a last line cut off by a crash is left out.

    Raises:
        ProjectError: a line before the last is not JSON.
    """
    if not path.exists():
        return []
    lines = path.read_bytes().split(b"\n")
    if not lines[-1]:
        lines.pop()
    records = []
    for number, line in enumerate(lines, start=1):
        try:
            records.append(parse_json(line))
        except ValueError as error:
            if number == len(lines):
                break
            raise ProjectError(
                f"line {number} is not JSON ({error}).",
                where=path,
                fix="Restore the file from a copy or delete that line.",
            ) from error
    return records


def _mend_end(file: BinaryIO) -> str:
    """Cut a torn last line off; say what must come before the next line ("" or a newline)."""
    end = file.seek(0, os.SEEK_END)
    start, last = end, b""
    while start and b"\n" not in last[:-1]:
        start = max(0, start - 4096)
        file.seek(start)
        last = file.read(end - start)
    line = last[last[:-1].rfind(b"\n") + 1 :]
    if not line:
        return ""
    try:
        json.loads(line)
    except (ValueError, RecursionError):
        file.truncate(end - len(line))
        return ""
    return "" if line.endswith(b"\n") else "\n"


def sort_metadata(path: Path) -> None:
    """Bring the metadata of a safetensors file into order, so that equal content is equal bytes;
    the library writes them in an order of chance."""
    with path.open("rb+") as file:
        length = int.from_bytes(file.read(8), "little")
        text = file.read(length)
        header = json.loads(text)
        header["__metadata__"] = dict(sorted(header.get("__metadata__", {}).items()))
        ordered = json.dumps(header, ensure_ascii=False, separators=(",", ":")).encode()
        # The same content takes the same room; the format pads with blanks.
        if len(ordered) <= length:
            file.seek(8)
            file.write(ordered.ljust(length))


def safe_name(name: str) -> str:
    """A file name for any text: readable, unique, and legal on every file system.

    Names that need no change stay as they are. Others keep their harmless characters and get
    a digest of the original, so that two names never meet in one file name.
    """
    plain = "".join(
        char if char.isascii() and (char.isalnum() or char in "-_ ") else "_" for char in name
    ).strip(" _")[:60]
    reserved = re.fullmatch(r"(con|prn|aux|nul|(com|lpt)\d)", plain, re.IGNORECASE)
    if plain == name and plain and not reserved:
        return name
    return f"{plain or 'name'}-{digest(name, length=8)}"


def digest(*parts: Any, length: int = 16) -> str:
    """A short hexadecimal SHA-256 of JSON-able values (dicts by sorted keys)."""
    text = json.dumps(parts, sort_keys=True, ensure_ascii=False, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:length]


def file_digest(path: Path) -> str:
    """The hexadecimal SHA-256 of a file's bytes."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
