"""Opening zip and tar archives from anyone without trusting them.

Only ordinary image files and tables of labels are written, only below the folder meant for them,
and never more than the limits. Every other member is listed with the reason.

Names that are not marked as UTF-8 are read in the code page that fits them best, and that is said.
"""

from __future__ import annotations

import contextlib
import lzma
import os
import stat
import tarfile
import zipfile
import zlib
from collections.abc import Generator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path, PurePosixPath
from typing import IO, Any

from dpd_core import storage
from dpd_core.dataset import tables, text
from dpd_core.dataset.found import Refusal
from dpd_core.dataset.images import IMAGE_SUFFIXES, MAX_FILE_BYTES
from dpd_core.dataset.words import is_rubbish
from dpd_core.errors import DatasetError
from dpd_core.events import Emit, Log, Progress
from dpd_core.project import Project

MAX_TOTAL_BYTES = 64 << 30
"""Most that is unpacked from one archive; ``DPD_UNPACK_BYTES`` sets less."""

FILE_BYTES = 4096
"""What the smallest file takes on a disk; a flood of empty ones fills it too."""

_PACKED = {b"\x1f\x8b": "gz", b"BZh": "bz2", b"\xfd7zXZ\x00": "xz"}
"""How a compressed tar begins."""

MAX_MEMBERS = 2_000_000
"""Most members of one archive."""

MAX_RATIO = 200
"""Compression ratio above which a large member is taken for a bomb. Images hardly shrink;
only blank ones do, and those are small."""

RATIO_FROM_BYTES = 32 << 20

TEXT_SUFFIXES = (tables.SUFFIXES | {".cls", ".caption"}) - {".parquet"}
TABLE_SUFFIXES = TEXT_SUFFIXES | {".parquet"}
"""Endings of what may say the classes of the images, or hold them."""

_VERSION = 2
_UTF8_FLAG = 0x800
_MAX_NAME_BYTES = 255
_BLOCK = 1 << 20

_DAMAGE = (zipfile.BadZipFile, tarfile.TarError, zlib.error, lzma.LZMAError, EOFError, OSError)


def extract(
    project: Project, archive: Path, emit: Emit, *, encoding: str = ""
) -> tuple[Path, list[Refusal]]:
    """Unpack the images and tables of an archive into the project, once.

    Args:
        project: Where to.
        archive: A zip or tar.
        emit: Progress, and which code page names were read in.
        encoding: Code page of names that are not marked as UTF-8; empty: recognised.

    Returns:
        The folder of the images, and the members that were refused.

    Raises:
        DatasetError: not an archive, damaged, or larger than the limits.
    """
    kind = _kind(archive)
    key = storage.digest(_VERSION, storage.file_digest(archive), encoding)
    target = project.path("dataset", "archive", key)
    report = target / "report.json"
    if not report.exists():
        with storage.atomic_folder(target) as folder:
            writer = _Writer(folder / "files", archive, emit)
            (folder / "files").mkdir()
            try:
                names = _Names(encoding)
                with contextlib.closing(_members(archive, kind, names)) as members:
                    for member in members:
                        writer.take(member)
            except _DAMAGE as error:
                if isinstance(error, OSError) and error.errno is not None:
                    raise
                raise DatasetError(
                    f"the archive is damaged ({error}).", where=archive, fix="Get it again."
                ) from error
            refused = [asdict(entry) for entry in writer.refused]
            storage.write_json(folder / report.name, {"refused": refused, "note": names.note})
    content = storage.read_json(report, fix=f"Delete the folder {target} and start again.")
    if content["note"]:
        emit(Log("dataset", content["note"], "warning"))
    return target / "files", [Refusal(**entry) for entry in content["refused"]]


@dataclass(frozen=True)
class _Member:
    """One member: ``open`` gives its content, ``fault`` says why it must not be read."""

    name: str
    size: int
    packed_size: int | None
    fault: str | None
    open: Any


class _Writer:
    """Writes acceptable members and lists the others."""

    def __init__(self, folder: Path, archive: Path, emit: Emit):
        self.folder, self.archive, self.emit = folder, archive, emit
        self.refused: list[Refusal] = []
        self.total = self.count = 0
        budget = os.environ.get("DPD_UNPACK_BYTES", "")
        self.most = min(MAX_TOTAL_BYTES, int(budget) if budget.isdigit() else MAX_TOTAL_BYTES)
        self._names: set[str] = set()

    def take(self, member: _Member) -> None:
        self.count += 1
        if self.count > MAX_MEMBERS:
            raise self._too_large(f"more than {MAX_MEMBERS} members")
        if self.count % 200 == 1:  # also lets a stop request in
            self.emit(Progress("dataset", 0, 1, None, f"unpacking, {self.count} files"))
        parts = _parts(member.name)
        if any(is_rubbish(part) for part in parts if part != ".."):
            return
        fault = member.fault or self._fault(member, parts)
        if fault is None:
            fault = self._write(member, self.folder.joinpath(*parts))
        if fault is not None:
            self.refused.append(Refusal(_display(member.name), fault))

    def _fault(self, member: _Member, parts: tuple[str, ...]) -> str | None:
        name = member.name.replace("\\", "/")
        if name.startswith("/") or ".." in parts or (parts and parts[0].endswith(":")):
            return "its name leads out of the archive's folder."
        if not parts or "\0" in name or any(_too_long(part) for part in parts):
            return "its name cannot be a file name."
        suffix = PurePosixPath(parts[-1]).suffix.lower()
        if suffix not in IMAGE_SUFFIXES and suffix not in TABLE_SUFFIXES:
            return f"not an image but a {suffix or 'nameless'} file."
        if suffix in TEXT_SUFFIXES and member.size > tables.MAX_BYTES:
            return f"not an image but a {suffix} file of {member.size} bytes."
        if "/".join(parts).casefold() in self._names:
            return "the archive holds a file of this name already."
        self._names.add("/".join(parts).casefold())
        if member.size > MAX_FILE_BYTES:
            return f"it has {member.size} bytes unpacked; the limit is {MAX_FILE_BYTES}."
        packed = member.packed_size
        if packed is not None and member.size > max(RATIO_FROM_BYTES, MAX_RATIO * packed):
            return f"it unpacks to {member.size / max(packed, 1):.0f} times its size."
        return None

    def _write(self, member: _Member, path: Path) -> str | None:
        """Copy at most the declared size; the reason if it cannot be had."""
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
        except (FileExistsError, NotADirectoryError):
            return "its folder has the name of a file in the archive."
        written = 0
        self._count(FILE_BYTES)
        try:
            with member.open() as source, path.open("xb") as file:
                while block := source.read(_BLOCK):
                    written += len(block)
                    if written > member.size:
                        raise zipfile.BadZipFile("larger than it says")
                    self._count(len(block))
                    file.write(block)
        except (
            zipfile.BadZipFile,
            zlib.error,
            lzma.LZMAError,
            EOFError,
            RuntimeError,
            NotImplementedError,
        ) as error:
            path.unlink(missing_ok=True)
            return f"damaged in the archive ({error})."
        except FileExistsError:
            return "the archive holds a file of this name already."
        return None

    def _count(self, size: int) -> None:
        """Take bytes off what may be unpacked in all, before they are written."""
        self.total += size
        if self.total > self.most:
            raise self._too_large(f"more than {self.most / 2**30:.3g} GiB")

    def _too_large(self, what: str) -> DatasetError:
        return DatasetError(
            f"the archive unpacks to {what}.",
            where=self.archive,
            fix="Unpack it yourself if you trust it, and give the folder.",
        )


def packing(archive: Path) -> str:
    """How a tar is compressed: ``gz``, ``bz2``, ``xz``, or not (empty).

    Raises:
        DatasetError: it could be read in two ways, as what it is said to be and as something else.
    """
    with archive.open("rb") as file:
        begin = file.read(16)
    packed = next((kind for magic, kind in _PACKED.items() if begin.startswith(magic)), "")
    if packed:
        with contextlib.suppress(tarfile.TarError, EOFError, ValueError):
            tarfile.open(archive, "r:").close()
            raise DatasetError(
                f"the file is a tar and begins like a .{packed} as well.",
                where=archive,
                fix="Pack the images anew.",
            )
    return packed


def _kind(archive: Path) -> str:
    try:
        if zipfile.is_zipfile(archive):
            return "zip"
        packed = packing(archive)
        if tarfile.is_tarfile(archive):
            return f"tar|{packed}"
    except OSError as error:
        raise DatasetError(
            f"cannot be read ({error.strerror}).",
            where=archive,
            fix="Check its permissions, or copy it elsewhere.",
        ) from error
    except _DAMAGE:
        pass
    raise DatasetError(
        "this file is no zip or tar archive.",
        where=archive,
        fix="Give a folder, a .zip, .tar, .tar.gz, .tar.bz2 or .tar.xz archive, or a Hub id.",
    )


class _Names:
    """Decodes names that are not marked as UTF-8."""

    def __init__(self, encoding: str):
        self.encoding, self.note = encoding, ""

    def learn(self, names: Sequence[bytes]) -> None:
        """Choose the code page by all the names, and note it if it had to be guessed.

        Raises:
            DatasetError: there is no such code page, or it does not fit.
        """
        foreign = [name for name in names if not name.isascii()]
        if not foreign:
            return
        page = self.encoding or text.guess(foreign)
        try:
            shown = foreign[0].decode(page or "ascii")
        except (LookupError, UnicodeDecodeError) as error:
            if not self.encoding:
                self.note = "Names in the archive are in an unknown code page; --encoding says it."
                return
            raise DatasetError(
                f"the archive's names cannot be read in {self.encoding}.",
                where="dataset.encoding",
                fix="Leave it empty, or give another code page, like gbk, shift_jis or cp1251.",
            ) from error
        if page != "utf-8" and not self.encoding:
            self.note = (
                f"Names in the archive are not marked as UTF-8; they were read as {page}, like "
                f"'{shown}'. If that is wrong, give the code page with --encoding."
            )
        self.encoding = page or ""

    def decode(self, name: bytes, otherwise: str) -> str:
        """The name, or ``otherwise`` if no code page is known or fits."""
        try:
            return name.decode(self.encoding) if self.encoding else otherwise
        except UnicodeDecodeError:
            return otherwise


def _members(archive: Path, kind: str, names: _Names) -> Generator[_Member]:
    if kind == "zip":
        return _zip_members(archive, names)
    return _tar_members(archive, names, kind.replace("tar", "r"))


def _raw_name(info: zipfile.ZipInfo) -> bytes:
    """The bytes of a name that is not marked as UTF-8 (zipfile reads those as code page 437)."""
    return b"" if info.flag_bits & _UTF8_FLAG else info.orig_filename.encode("cp437", "replace")


def _zip_members(archive: Path, names: _Names) -> Generator[_Member]:
    with zipfile.ZipFile(archive) as file:
        names.learn([_raw_name(info) for info in file.infolist()])
        for info in file.infolist():
            # is_dir() looks at the last letter of the name, also where there is none.
            if info.filename and info.is_dir():
                continue
            mode = info.external_attr >> 16
            fault = None
            if stat.S_IFMT(mode) not in (0, stat.S_IFREG):
                fault = "it is a link or a device, not a file."
            elif info.flag_bits & 1:
                fault = "it is encrypted."
            yield _Member(
                names.decode(_raw_name(info), info.filename) or info.filename,
                info.file_size,
                info.compress_size,
                fault,
                lambda info=info: file.open(info),
            )


def _tar_members(archive: Path, names: _Names, mode: Any) -> Generator[_Member]:
    # A stream is read once from front to back: no seeking back through a compressed file. So the
    # code page is chosen by the first name that needs one.
    with tarfile.open(archive, mode) as file:
        for info in file:
            if info.isdir():
                continue
            raw = info.name.encode("utf-8", "surrogateescape")
            if not _is_utf8(info.name):
                if not names.note:
                    names.learn([raw])
                info.name = names.decode(raw, info.name)
            fault = None if info.isreg() else "it is a link or a device, not a file."
            yield _Member(info.name, info.size, None, fault, lambda info=info: _opened(file, info))


def _is_utf8(name: str) -> bool:
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True


def _opened(file: tarfile.TarFile, info: tarfile.TarInfo) -> IO[bytes]:
    source = file.extractfile(info)
    if source is None:
        raise EOFError("no content")
    return source


def _parts(name: str) -> tuple[str, ...]:
    """Folders and file of a member's name; archives made on Windows may use backslashes."""
    return tuple(part for part in name.replace("\\", "/").split("/") if part not in ("", "."))


def _too_long(part: str) -> bool:
    try:
        return len(part.encode()) > _MAX_NAME_BYTES
    except UnicodeEncodeError:  # bytes that are not UTF-8
        return True


def _display(name: str) -> str:
    return name.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
