"""Files made to cost whoever reads them time, memory or disk."""

from __future__ import annotations

import io
import struct
import tarfile
import zipfile

from PIL import Image


def hostile_files() -> dict[str, bytes]:
    """Hostile archives by name, each a data set with something in it."""
    image = io.BytesIO()
    Image.new("RGB", (16, 16), (30, 90, 60)).save(image, "PNG")
    scenes = {f"{name}/{n}.png": image.getvalue() for name in "ab" for n in range(4)}
    inner = _zip({**scenes, "a/zeros.png": bytes(4 << 20)})
    for _ in range(6):
        inner = _zip({f"a/{k}.zip": inner for k in range(2)} | scenes)
    pages = _zip({**scenes, "a/pages.tif": _endless_tiff(200_000)})
    return {
        "nested.zip": inner,
        "overlapping.zip": _overlapping(),
        "zeros.tar.gz": _zeros(),
        "inodes.zip": _zip({**scenes, **{f"a/x{n}.png": b"" for n in range(20_000)}}),
        "pages.zip": pages,
    }


def _zip(members: dict[str, bytes]) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return file.getvalue()


def _overlapping() -> bytes:
    """A zip whose thousand members are all the same bytes of the file."""
    plain = _zip({"a/0.png": bytes(8 << 20)})
    end = plain.rindex(b"PK\x05\x06")
    start = struct.unpack("<I", plain[end + 16 : end + 20])[0]
    entry = plain[start:end]
    count = 1000
    entries = b"".join(entry.replace(b"a/0.png", b"a/%03d.p" % n) for n in range(count))
    tail = struct.pack("<4s4H2IH", b"PK\x05\x06", 0, 0, count, count, len(entries), start, 0)
    return plain[:start] + entries + tail


def _zeros() -> bytes:
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w:gz") as archive:
        for n in range(40):
            info = tarfile.TarInfo(f"a/{n}.png")
            info.size = 2 << 20
            archive.addfile(info, io.BytesIO(bytes(info.size)))
    return file.getvalue()


def _endless_tiff(pages: int) -> bytes:
    """A TIFF of many pages of one pixel, each with a directory of its own."""
    tags = [
        (256, 1),
        (257, 1),
        (258, 8),
        (259, 1),
        (262, 1),
        (273, 8),
        (277, 1),
        (278, 1),
        (279, 1),
    ]
    size = 2 + 12 * len(tags) + 4
    found = bytearray(struct.pack("<2sHI", b"II", 42, 10) + b"\x07\x00")
    for page in range(pages):
        following = 10 + (page + 1) * size if page + 1 < pages else 0
        found += struct.pack("<H", len(tags))
        found += b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in tags)
        found += struct.pack("<I", following)
    return bytes(found)
