"""Malformed images, archives and folders, as people bring them and as attackers would."""

from __future__ import annotations

import io
import os
import stat
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import tifffile
from PIL import Image

from dpd_core.config import DatasetConfig
from dpd_core.dataset import stage as dataset
from dpd_core.project import Project
from tests.robustness.cases import Case, Outcomes
from tests.robustness.mutations import spoilt_bytes
from tests.support.finished_stage import finish

SUFFIXES = {
    "PNG": ".png",
    "JPEG": ".jpg",
    "GIF": ".gif",
    "WEBP": ".webp",
    "BMP": ".bmp",
    "PPM": ".ppm",
    "JPEG2000": ".jp2",
    "CMYK JPEG": ".jpg",
    "animated GIF": ".gif",
    "TIFF": ".tif",
    "16-bit TIFF": ".tif",
    "float TIFF with NaN": ".tif",
    "13-band TIFF": ".tif",
    "palette PNG": ".png",
    "16-bit PNG": ".png",
}
SPOILT = 26
"""Cut or flipped versions of each format."""


def picture(number: int, size: int = 12) -> Image.Image:
    """A picture of noise, another for each number."""
    noise = np.random.default_rng(number).integers(0, 256, (size, size, 3), dtype=np.uint8)
    return Image.fromarray(noise)


def _encoded(image: Image.Image, kind: str, **options: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def _tiff(values: np.ndarray, **options: Any) -> bytes:
    buffer = io.BytesIO()
    tifffile.imwrite(buffer, values, photometric="minisblack", **options)
    return buffer.getvalue()


def sound_images() -> dict[str, bytes]:
    """One file of each format in :data:`SUFFIXES`, all of them readable."""
    image = picture(1)
    deep = np.random.default_rng(0).integers(0, 60000, (13, 12, 12)).astype(np.uint16)
    floats = deep[:3].astype(np.float32)
    floats[0, :4] = np.nan
    floats[1, 5] = np.inf
    return {
        "PNG": _encoded(image, "PNG"),
        "JPEG": _encoded(image, "JPEG"),
        "GIF": _encoded(image, "GIF"),
        "WEBP": _encoded(image, "WEBP"),
        "BMP": _encoded(image, "BMP"),
        "PPM": _encoded(image, "PPM"),
        "JPEG2000": _encoded(image, "JPEG2000"),
        "CMYK JPEG": _encoded(image.convert("CMYK"), "JPEG"),
        "animated GIF": _encoded(image, "GIF", save_all=True, append_images=[picture(2)] * 3),
        "TIFF": _encoded(image, "TIFF"),
        "16-bit TIFF": _tiff(deep[:3]),
        "float TIFF with NaN": _tiff(floats),
        "13-band TIFF": _tiff(deep),
        "palette PNG": _encoded(image.convert("P"), "PNG"),
        "16-bit PNG": _encoded(Image.fromarray(deep[0]), "PNG"),
    }


def image_files() -> Iterator[tuple[str, str, bytes]]:
    """Kind, file name and content of malformed image files."""
    sound = sound_images()
    for name, content in sound.items():
        for number, (_, spoilt) in enumerate(spoilt_bytes(content, SPOILT, seed=number_of(name))):
            yield "cut or flipped image", f"{name} {number}{SUFFIXES[name]}", spoilt
        for suffix in (".png", ".jpg", ".tif", ".webp"):
            yield "wrong ending", f"{name} as{suffix}", content
        yield "sound image of a rare kind", f"{name} whole{SUFFIXES[name]}", content
    for number, (width, height) in enumerate(
        [(2**31 - 1, 2**31 - 1), (100_000, 100_000), (0, 5), (5, 0), (2**31 - 1, 1), (70_000, 1000)]
    ):
        yield "huge or no size", f"claims {number}.png", _png_of(width, height, b"")
        yield "huge or no size", f"bomb {number}.png", _png_of(width, height, bytes(10**6))
        yield "huge or no size", f"ppm {number}.ppm", f"P6 {width} {height} 255\n".encode()
        yield "huge or no size", f"bmp {number}.bmp", _bmp_of(width, height)
        yield "huge or no size", f"tiff {number}.tif", _tiff_of(width, height)
    texts: dict[str, bytes] = {
        "empty": b"",
        "text": b"hello\n" * 50,
        "html": b"<html><script>alert(1)</script>",
        "svg": b"<svg xmlns='http://www.w3.org/2000/svg'/>",
        "zip": b"PK\x03\x04" + bytes(40),
        "pickle": b"\x80\x04cos\nsystem\n.",
        "postscript": b"%!PS-Adobe-3.0 EPSF-3.0\n",
        "elf": b"\x7fELF" + bytes(60),
        "signature only": b"\x89PNG\r\n\x1a\n",
    }
    for name, content in texts.items():
        for suffix in (".png", ".jpg", ".tif", ".gif"):
            yield "not an image", f"{name}{suffix}", content
    for suffix in (".eps", ".svg", ".txt", ".exe", ".npy", ".pkl", ".mat", ".psd", "", ".png.exe"):
        yield "ending that is no image's", f"file{suffix}", sound["PNG"]


def number_of(name: str) -> int:
    """A seed for a name."""
    return zlib.crc32(name.encode())


def _png_of(width: int, height: int, data: bytes) -> bytes:
    def chunk(kind: bytes, content: bytes) -> bytes:
        sum_ = zlib.crc32(kind + content)
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", sum_)

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + chunk(b"IDAT", zlib.compress(data))
        + chunk(b"IEND", b"")
    )


def _bmp_of(width: int, height: int) -> bytes:
    return b"BM" + struct.pack(
        "<IHHIIiiHHIIiiII", 54, 0, 0, 54, 40, width, height, 1, 24, 0, 0, 0, 0, 0, 0
    )


def _tiff_of(width: int, height: int) -> bytes:
    tags = [
        (256, width),
        (257, height),
        (258, 16),
        (259, 1),
        (262, 1),
        (273, 8),
        (277, 3),
        (278, height),
        (279, 10),
    ]
    body = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in tags)
    return b"II*\0" + struct.pack("<IH", 8, len(tags)) + body + bytes(4)


def run_images(folder: Path) -> Outcomes:
    """All malformed image files in one collection, through the stage ``dataset``."""
    outcomes = Outcomes()
    kinds: dict[str, str] = {}
    for name in ("one", "two"):
        (folder / "input" / name).mkdir(parents=True)
        for number in range(4):
            picture(number_of(name) + number).save(folder / "input" / name / f"good{number}.png")
    for kind, name, content in image_files():
        (folder / "input" / "one" / name).write_bytes(content)
        kinds[f"one/{name}"] = kind
    index = collection(folder, folder / "input")
    refused = {entry.file: entry.reason for entry in index.refused}
    used = {record.id: record for record in index.images}
    for file, kind in kinds.items():
        if file in refused:
            outcomes.listed[kind] += 1
            outcomes.messages.setdefault(kind, f"{file}: {refused[file]}")
            if not refused[file].endswith("."):
                outcomes.faults.append(f"{kind}: {file}: no reason: {refused[file]!r}")
        elif file in used:
            outcomes.accepted[kind] += 1
            if dataset.open_record(used[file]).mode != "RGB":
                outcomes.faults.append(f"{kind}: {file}: used, but not as RGB")
        else:
            outcomes.accepted[kind] += 1
            outcomes.faults.append(f"{kind}: {file}: neither used nor refused")
    return outcomes


def collection(folder: Path, data: Path) -> dataset.DatasetIndex:
    """The index of a collection in a project of its own below ``folder``."""
    project = Project.create(folder / "project")
    config = DatasetConfig(data=str(data))
    finish(project, "dataset", config, dataset.run(project, config))
    index = dataset.load_index(project)
    for record in index.images:
        assert record.path.exists()
    return index


GOOD = {
    f"set/{name}/{k}.png": _encoded(picture(10 * i + k), "PNG")
    for i, name in enumerate(("forest", "river"))
    for k in range(3)
}

HOSTILE_NAMES = (
    "../evil.png",
    "../../../../tmp/dpd-evil.png",
    "set/forest/../../../evil.png",
    "/tmp/dpd-evil.png",
    "//tmp/dpd-evil.png",
    "C:\\evil.png",
    "C:/evil.png",
    "..\\..\\evil.png",
    "\\\\server\\share\\evil.png",
    "set/forest/..",
    "set/./../../evil.png",
    "....//evil.png",
    "~/evil.png",
    "$HOME/evil.png",
    "set/forest/" + "x" * 300 + ".png",
    "set/" + "d" * 300 + "/a.png",
    "/".join(["deep"] * 300) + "/a.png",
    "set/forest/0.PNG",
    "SET/FOREST/0.png",
    "set/forest/0.png/a.png",
    "set/forest/\x01\x02.png",
    "set/forest/a\nb.png",
    "set/forest/\u202egnp.exe.png",
    "set/森林/a.png",
    "set/fore\u0301t/a.png",
    "set/CON/a.png",
    "set/nul/a.png",
    "set/aux.png/a.png",
    "set/forest /a.png",
    "set/forest./a.png",
    "set/<img src=x onerror=alert(1)>/a.png",
    "set/forest/a.png.exe",
    "set/forest/script.py",
    "set/forest/.hidden.png",
    "",
    "/",
    ".",
    "..",
    "set/forest/a.png\0.txt",
    "dataset/index.json",
    "../project/project.json",
    "../project/dataset/index.json",
    "set/../x/a.png",
)
"""Member names that an archive may carry."""


def archive_cases() -> Iterator[Case]:
    """Zip and tar archives: hostile members, bombs, damage."""
    for name in HOSTILE_NAMES:
        for pack, ending in ((_zip, "zip"), (_tar, "tar")):
            yield Case(f"member name in a {ending}", repr(name), _packed(pack, {name: GOOD_ONE}))
    kinds = {
        "symbolic link": tarfile.SYMTYPE,
        "hard link": tarfile.LNKTYPE,
        "device": tarfile.CHRTYPE,
        "pipe": tarfile.FIFOTYPE,
    }
    for kind, code in kinds.items():
        for target in ("/etc/passwd", "../../../../etc/passwd", "set/forest/0.png", "."):
            yield Case("link or device in a tar", f"{kind} to {target}", _link(code, target))
    for mode in (stat.S_IFLNK, stat.S_IFCHR, stat.S_IFIFO, stat.S_IFDIR):
        yield Case("link or device in a zip", oct(mode), _zip_mode(mode))
    for size in (40 << 20, 400 << 20):
        yield Case("bomb", f"{size >> 20} MiB of zeros", _bomb(size))
    yield Case("bomb", "a zip that claims a small size", _lying_zip)
    yield Case("bomb", "a zip in a zip", _packed(_zip, {"set/forest/in.zip": _zip(GOOD)}))
    packers: dict[str, Callable[[dict[str, bytes]], bytes]] = {
        "zip": _zip,
        "tar": _tar,
        "tar.gz": lambda members: _tar(members, "w:gz"),
        "tar.xz": lambda members: _tar(members, "w:xz"),
        "tar.bz2": lambda members: _tar(members, "w:bz2"),
    }
    for ending, pack in packers.items():
        for name, content in spoilt_bytes(pack(GOOD), 24, seed=number_of(ending)):
            yield Case(f"damaged {ending}", name, _bytes_as(content, ending))
    for ending in ("zip", "tar", "tar.gz", "parquet"):
        for what, content in (("empty", b""), ("text", b"hello " * 200), ("zeros", bytes(2048))):
            yield Case("not an archive", f"{what}.{ending}", _bytes_as(content, ending))


GOOD_ONE = _encoded(picture(99), "PNG")


def _zip(members: dict[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as file:
        for name, content in members.items():
            file.writestr(zipfile.ZipInfo(name), content)
    return buffer.getvalue()


def _tar(members: dict[str, bytes], mode: Any = "w") -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode=mode) as file:
        for name, content in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            file.addfile(info, io.BytesIO(content))
    return buffer.getvalue()


def _bytes_as(content: bytes, ending: str) -> Callable[[Path], Any]:
    def act(folder: Path) -> int:
        path = folder / f"input.{ending}"
        path.write_bytes(content)
        return len(collection(folder, path).refused)

    return act


def _packed(
    pack: Callable[[dict[str, bytes]], bytes], more: dict[str, bytes]
) -> Callable[[Path], Any]:
    return _bytes_as(pack({**GOOD, **more}), "archive")


def _link(code: bytes, target: str) -> Callable[[Path], Any]:
    def act(folder: Path) -> int:
        path = folder / "input.tar"
        path.write_bytes(_tar(GOOD))
        with tarfile.open(path, "a") as file:
            for name in ("set/forest/link.png", "set/linked"):
                info = tarfile.TarInfo(name)
                info.type, info.linkname = code, target
                file.addfile(info)
        return len(collection(folder, path).refused)

    return act


def _zip_mode(mode: int) -> Callable[[Path], Any]:
    def act(folder: Path) -> int:
        path = folder / "input.zip"
        path.write_bytes(_zip(GOOD))
        with zipfile.ZipFile(path, "a") as file:
            info = zipfile.ZipInfo("set/forest/link.png")
            info.external_attr = (mode | 0o777) << 16
            file.writestr(info, "/etc/passwd")
        return len(collection(folder, path).refused)

    return act


def _bomb(size: int) -> Callable[[Path], Any]:
    def act(folder: Path) -> int:
        path = folder / "input.zip"
        path.write_bytes(_zip(GOOD))
        with (
            zipfile.ZipFile(path, "a", zipfile.ZIP_DEFLATED) as file,
            file.open("set/forest/bomb.png", "w") as member,
        ):
            for _ in range(size >> 20):
                member.write(bytes(1 << 20))
        return len(collection(folder, path).refused)

    return act


def _lying_zip(folder: Path) -> int:
    """The central directory says ten bytes where ten million are."""
    path = folder / "input.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file:
        for name, content in GOOD.items():
            file.writestr(name, content)
        file.writestr("set/forest/bomb.png", bytes(10_000_000))
    content = path.read_bytes().replace(struct.pack("<I", 10_000_000), struct.pack("<I", 10))
    path.write_bytes(content)
    return len(collection(folder, path).refused)


CLASS_NAMES = (
    "CON",
    "nul",
    "com1",
    "森林",
    "<img src=x onerror=alert(1)>",
    "a b",
    "x" * 200,
    "..forest",
    "forest;rm -rf",
    "$(id)",
    "`id`",
    "a\nb",
    "\u202eabc",
    "forêt",
    "-rf",
    "null",
    "class",
    "0",
    "*",
    "?",
    "%2e%2e%2f",
    "{class}",
    "'\"",
    "test",
    "train",
)
"""Folder names that are somebody's classes."""


def folder_cases() -> Iterator[Case]:
    """Folders: names, links, too few images, nothing at all."""
    for name in CLASS_NAMES:
        yield Case("class name", repr(name), _folder({name: 4, "river": 4}))
    yield Case("too few images", "a class of one", _folder({"forest": 1, "river": 4}))
    yield Case("too few images", "an empty class", _folder({"forest": 0, "river": 4, "sea": 4}))
    yield Case("too few images", "one class", _folder({"forest": 4}))
    yield Case("too few images", "nothing", _folder({}))
    yield Case("too few images", "images outside of classes", _loose)
    yield Case("names alike", "by case", _folder({"Forest": 4, "forest": 4}))
    yield Case("names alike", "by accents", _folder({"for\u00eat": 4, "fore\u0302t": 4}))
    yield Case("names alike", "files by case", _files_by_case)
    for target in ("/etc", "..", "."):
        yield Case("links in a folder", f"a folder to {target}", _linked_folder(target))
    for target in ("/etc/passwd", "/dev/zero", "nowhere"):
        yield Case("links in a folder", f"a file to {target}", _linked_file(target))
    yield Case("names on the disk", "not UTF-8", _bytes_name)
    yield Case("names on the disk", "255 bytes", _long_name)
    yield Case("no such data", "a missing folder", lambda f: collection(f, f / "none"))
    yield Case("no such data", "a name too long", lambda f: collection(f, f / ("x" * 5000)))
    yield Case("no such data", "a NUL", lambda f: collection(f, f / "a\0b"))
    yield Case("no such data", "a device", lambda f: collection(f, Path("/dev/null")))


def _folder(counts: dict[str, int]) -> Callable[[Path], Any]:
    def act(folder: Path) -> int:
        root = folder / "input"
        root.mkdir()
        for name, count in counts.items():
            _fill(root / name, count)
        index = collection(folder, root)
        for record in index.images[:3]:
            dataset.thumbnail(Project(folder / "project"), record)
        return len(index.refused)

    return act


def _fill(folder: Path, count: int) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for number in range(count):
        picture(number_of(folder.name) + number).save(folder / f"input{number}.png")


def _two(folder: Path) -> Path:
    root = folder / "input"
    for name in ("forest", "river"):
        _fill(root / name, 4)
    return root


def _loose(folder: Path) -> int:
    _fill(folder / "input", 4)
    return len(collection(folder, folder / "input").refused)


def _files_by_case(folder: Path) -> int:
    root = _two(folder)
    picture(5).save(root / "forest" / "input0.PNG")
    return len(collection(folder, root).refused)


def _linked_folder(target: str) -> Callable[[Path], Any]:
    def act(folder: Path) -> int:
        root = _two(folder)
        (root / "forest" / "input-link").symlink_to(target)
        return len(collection(folder, root).refused)

    return act


def _linked_file(target: str) -> Callable[[Path], Any]:
    def act(folder: Path) -> int:
        root = _two(folder)
        (root / "forest" / "input-link.png").symlink_to(target)
        return len(collection(folder, root).refused)

    return act


def _bytes_name(folder: Path) -> int:
    root = _two(folder)
    (root / "forest" / os.fsdecode(b"input\xff\xfe.png")).write_bytes(GOOD_ONE)
    return len(collection(folder, root).refused)


def _long_name(folder: Path) -> int:
    root = _two(folder)
    (root / "forest" / ("input" + "n" * 246 + ".png")).write_bytes(GOOD_ONE)
    return len(collection(folder, root).refused)
