"""Taking what a visitor has uploaded into a project: one archive, or images of one class."""

from __future__ import annotations

import shutil
import tarfile
import zipfile
from collections.abc import Sequence
from pathlib import Path, PurePath

from app.server.limits import UPLOADS, Limits
from dpd_core import storage
from dpd_core.dataset.archives import FILE_BYTES, packing
from dpd_core.dataset.images import IMAGE_SUFFIXES
from dpd_core.errors import DatasetError
from dpd_core.project import Project

ARCHIVE_SUFFIXES = (".zip", ".tar", ".tgz", ".gz", ".bz2", ".xz", ".parquet")
IMAGES_ZIP = "images.zip"
"""Single images are gathered in this archive, so that they are read with the same care."""

MANY_FILES = 200_000


def uploaded(project: Project) -> list[Path]:
    """What was uploaded into the project, newest first."""
    folder = project.path(UPLOADS)
    files = [path for path in folder.glob("*") if path.is_file() and path.name[0] != "."]
    return sorted(files, key=lambda path: path.stat().st_mtime_ns, reverse=True)


def take_upload(project: Project, files: Sequence[str], class_name: str, limits: Limits) -> str:
    """Move uploaded files into the project; returns what is there now, for the visitor.

    One archive replaces what was there. Images are gathered in one archive, below a folder of
    their class, so that uploading class after class makes a collection.

    Args:
        project: The project.
        files: Where the server put them; they are moved away from there.
        class_name: Class of the images, if they are images.
        limits: Asked for number, size and quota.

    Raises:
        DatasetError: neither an archive nor images, or images without a class.
        ProjectError: more than the limits allow.
    """
    paths = [Path(file) for file in files]
    try:
        sizes = [path.stat().st_size for path in paths]
        limits.check_upload(sizes)
        limits.check_quota(project.root.parent, sum(sizes))
        kinds = {path.suffix.lower() for path in paths}
        if not paths:
            raise DatasetError("nothing was uploaded.", fix="Choose a zip, a tar or images.")
        with project.lock():
            if kinds <= set(ARCHIVE_SUFFIXES) and len(paths) == 1:
                if limits.settings.hosted:
                    _check_archive(paths[0], project, limits)
                return _take_archive(project, paths[0])
            if kinds <= set(IMAGE_SUFFIXES):
                return _take_images(project, paths, class_name)
    finally:
        for path in paths:
            path.unlink(missing_ok=True)
    wrong = sorted(kinds - set(IMAGE_SUFFIXES))
    raise DatasetError(
        f"cannot use {', '.join(wrong) or 'several archives'}.",
        where="upload",
        fix="Upload one zip or tar with a folder for each class, or images of one class.",
    )


def remove_uploads(project: Project) -> None:
    """Delete what was uploaded; what the stage made of it stays."""
    with project.lock():
        shutil.rmtree(project.path(UPLOADS), ignore_errors=True)


def _check_archive(path: Path, project: Project, limits: Limits) -> None:
    """Refuse what would unpack to more than the visitor's quota, before anything is unpacked.

    The members of a zip cannot unpack to more than they declare (the core sees to that), and those
    of a plain tar are as large as they are; of a compressed tar only unpacking tells.
    """
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            limits.check_quota(
                project.root.parent,
                sum(max(info.file_size, FILE_BYTES) for info in archive.filelist),
            )
        return
    try:
        if packing(path):
            raise tarfile.ReadError("it is compressed")
        tarfile.open(path, "r:").close()
    except tarfile.TarError as error:
        raise DatasetError(
            "this server takes zip archives and uncompressed tar archives only.",
            where=path.name,
            fix="Pack the folders of the classes into a zip.",
        ) from error


def _take_archive(project: Project, path: Path) -> str:
    name = _safe_file(path.name)
    folder = project.path(UPLOADS)
    with storage.atomic_folder(folder) as fresh:
        shutil.move(path, fresh / name)
    return name


def _take_images(project: Project, paths: list[Path], class_name: str) -> str:
    name = " ".join(class_name.split())
    if not name or len(name) > 60 or storage.safe_name(name) != name:
        raise DatasetError(
            f"got {class_name!r} as the class of these images.",
            where="upload",
            fix="Give the class of the images: up to 60 letters, digits, spaces, '-' or '_'.",
        )
    target = project.path(UPLOADS, IMAGES_ZIP)
    with storage.atomic_path(target) as fresh:
        if target.exists():
            shutil.copyfile(target, fresh)
        # An empty file is no zip to append to.
        with zipfile.ZipFile(fresh, "a" if target.exists() else "w") as archive:
            taken = {name.casefold() for name in archive.namelist()}
            if len(taken) + len(paths) > MANY_FILES:
                raise DatasetError(f"more than {MANY_FILES} images.", fix="Upload a zip instead.")
            for path in paths:
                archive.write(path, _free(f"{name}/{_safe_file(path.name)}", taken))
            counts = len(taken)
    return f"{IMAGES_ZIP}: {counts} images"


def _free(name: str, taken: set[str]) -> str:
    """The name, with a number if an image of another upload has it already."""
    path, number, free = PurePath(name), 1, name
    while free.casefold() in taken:
        number += 1
        free = path.with_stem(f"{path.stem}-{number}").as_posix()
    taken.add(free.casefold())
    return free


def _safe_file(name: str) -> str:
    """A harmless file name with the same ending."""
    path = PurePath(name)
    suffixes = "".join(
        suffix
        for suffix in path.suffixes[-2:]
        if suffix.lower() in (*ARCHIVE_SUFFIXES, *IMAGE_SUFFIXES)
    )
    return storage.safe_name(path.name.removesuffix(suffixes) or "upload") + suffixes.lower()
