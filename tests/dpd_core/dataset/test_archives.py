"""Archives: what is unpacked, and what never is."""

import shutil
import stat
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from dpd_core.config import DatasetConfig
from dpd_core.dataset import archives
from dpd_core.dataset.index import load_index
from dpd_core.dataset.pixels import open_record
from dpd_core.dataset.stage import run
from dpd_core.errors import DatasetError
from dpd_core.events import Event, Log
from dpd_core.project import Project
from tests.support.image_folders import GOOD, fill, picture, prepare, reasons, tar_of, zip_of


@pytest.mark.parametrize(
    ("name", "pack"),
    [
        ("a.zip", zip_of),
        ("a.tar", tar_of),
        ("a.tar.gz", lambda p, m: tar_of(p, m, "w:gz")),
        ("a.tar.xz", lambda p, m: tar_of(p, m, "w:xz")),
        ("noending", zip_of),
    ],
)
def test_archives(
    project: Project, tmp_path: Path, name: str, pack: Callable[[Path, dict[str, bytes]], Path]
) -> None:
    index = prepare(project, pack(tmp_path / name, GOOD))
    assert index.source["kind"] == "archive" and index.source["root"] is None
    assert len(index.images) == 6 and list(index.classes) == ["forest", "river"]
    assert all(record.path.is_relative_to(project.root) for record in index.images)
    # the archive may go; the project may move
    (tmp_path / name).unlink()
    shutil.move(project.root, tmp_path / "moved")
    moved = load_index(Project.open(tmp_path / "moved"))
    assert open_record(moved.images[0]).size == (8, 8)


EVIL = {
    "../evil.png": "leads out",
    "set/forest/../../../evil.png": "leads out",
    "/tmp/dpd-evil.png": "leads out",
    "C:\\evil.png": "leads out",
    "..\\evil.png": "leads out",
    "set/river/readme.md": "not an image",
    "set/forest/0.PNG": "of this name already",
    "set/forest/" + "x" * 300 + ".png": "cannot be a file name",
    "set/forest/1.png/a.png": "name of a file",
}


@pytest.mark.parametrize("pack", [zip_of, tar_of])
def test_nothing_leaves_the_archive_folder(
    project: Project, tmp_path: Path, pack: Callable[[Path, dict[str, bytes]], Path]
) -> None:
    evil = {name: picture(500 + k) for k, name in enumerate(EVIL)}
    hidden = {"__MACOSX/set/._0.png": b"x", "set/.hidden/a.png": b"x"}
    before = {path for path in tmp_path.rglob("*") if "project" not in path.parts}
    archive = pack(tmp_path / "evil.bin", {**GOOD, **evil, **hidden})
    index = prepare(project, archive)
    assert len(index.images) == 6
    found = reasons(index)
    assert set(found) == set(EVIL)
    for name, reason in EVIL.items():
        assert reason in found[name]
    after = {path for path in tmp_path.rglob("*") if project.root not in (path, *path.parents)}
    assert after - before <= {archive}
    assert not Path("/tmp/dpd-evil.png").exists()
    assert not list(project.root.rglob("*evil*"))


def test_links_in_archives_are_refused(project: Project, tmp_path: Path) -> None:
    archive = tar_of(tmp_path / "a.tar", GOOD)
    with tarfile.open(archive, "a") as file:
        for name, kind in (
            ("s.png", tarfile.SYMTYPE),
            ("h.png", tarfile.LNKTYPE),
            ("d.png", tarfile.CHRTYPE),
        ):
            info = tarfile.TarInfo(f"set/forest/{name}")
            info.type, info.linkname = kind, "/etc/passwd"
            file.addfile(info)
    found = reasons(prepare(project, archive))
    assert set(found) == {"set/forest/s.png", "set/forest/h.png", "set/forest/d.png"}
    assert all("link" in reason for reason in found.values())

    archive = zip_of(tmp_path / "b.zip", GOOD)
    with zipfile.ZipFile(archive, "a") as file:
        info = zipfile.ZipInfo("set/forest/s.png")
        info.external_attr = (stat.S_IFLNK | 0o777) << 16
        file.writestr(info, "/etc/passwd")
    assert "link" in reasons(prepare(project, archive))["set/forest/s.png"]


def test_bombs_in_archives_are_refused(
    project: Project, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(archives, "RATIO_FROM_BYTES", 1 << 16)
    with zipfile.ZipFile(tmp_path / "a.zip", "w", zipfile.ZIP_DEFLATED) as file:
        for name, content in GOOD.items():
            file.writestr(name, content)
        file.writestr("set/forest/bomb.png", bytes(1 << 20))
    assert "times its size" in reasons(prepare(project, tmp_path / "a.zip"))["set/forest/bomb.png"]

    monkeypatch.setattr(archives, "MAX_TOTAL_BYTES", 500)
    with pytest.raises(DatasetError, match="unpacks to more than"):
        prepare(project, tar_of(tmp_path / "b.tar.gz", GOOD, "w:gz"))
    monkeypatch.setattr(archives, "MAX_TOTAL_BYTES", 1 << 30)
    monkeypatch.setattr(archives, "MAX_MEMBERS", 1)
    with pytest.raises(DatasetError, match="more than 1 members"):
        prepare(project, zip_of(tmp_path / "c.zip", {**GOOD, "more": b""}))
    assert not list(project.path("dataset", "archive").glob(".part-*"))


def test_a_damaged_member_and_a_damaged_archive(project: Project, tmp_path: Path) -> None:
    archive = zip_of(tmp_path / "a.zip", {**GOOD, "set/river/bad.png": b"0123456789" * 9})
    content = archive.read_bytes().replace(b"0123456789" * 9, b"9876543210" * 9)
    archive.write_bytes(content)
    assert "damaged" in reasons(prepare(project, archive))["set/river/bad.png"]
    packed = tar_of(tmp_path / "b.tar.gz", GOOD, "w:gz").read_bytes()
    (tmp_path / "b.tar.gz").write_bytes(packed[: len(packed) // 2])
    with pytest.raises(DatasetError, match="damaged"):
        prepare(project, tmp_path / "b.tar.gz")


def test_only_the_copy_in_use_is_kept(project: Project, tmp_path: Path, folder: Path) -> None:
    prepare(project, zip_of(tmp_path / "a.zip", GOOD))
    prepare(project, zip_of(tmp_path / "b.zip", {**GOOD, "set/river/9.png": picture(77)}))
    assert len(list(project.path("dataset", "archive").iterdir())) == 1
    prepare(project, folder)
    assert list(project.path("dataset", "archive").iterdir()) == []


@pytest.mark.parametrize(
    ("code_page", "names"),
    [
        ("gbk", ("森林", "河流", "机场")),
        ("shift_jis", ("森林", "みなと", "空港")),
        ("big5", ("森林", "河流", "機場")),
        ("cp1251", ("Лес", "река", "поле")),
        ("cp866", ("Лес", "река", "поле")),
        ("cp437", ("Forêt", "Rivière", "Wälder")),
        ("utf-8", ("森林", "Forêt", "река")),
    ],
)
def test_names_in_other_code_pages(
    project: Project, tmp_path: Path, code_page: str, names: tuple[str, ...]
) -> None:
    class Unmarked(zipfile.ZipInfo):
        def _encodeFilenameFlags(self) -> tuple[bytes, int]:
            return self.filename.encode(code_page), 0

    number = 0
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as file:
        for name in names:
            for _ in range(3):
                number += 1
                file.writestr(Unmarked(f"{name}/{number}.png"), picture(number))
    events: list[Event] = []
    run(project, DatasetConfig(data=str(tmp_path / "a.zip")), events.append)
    assert set(load_index(project).classes) == set(names)
    said = [event for event in events if isinstance(event, Log) and "--encoding" in event.message]
    assert bool(said) == (code_page != "utf-8")
    if code_page == "gbk":
        index = prepare(project, tmp_path / "a.zip", encoding="cp437")
        assert not set(index.classes) & set(names)
        with pytest.raises(DatasetError, match="cannot be read in nonsense"):
            prepare(project, tmp_path / "a.zip", encoding="nonsense")


def test_tables_in_archives_are_read(project: Project, tmp_path: Path) -> None:
    members = {f"images/{k}.png": picture(k) for k in range(8)}
    rows = "".join(f"{k}.png,{'forest' if k % 2 else 'river'}\n" for k in range(8))
    members["labels.csv"] = f"file_name,label\n{rows}".encode()
    index = prepare(project, zip_of(tmp_path / "a.zip", members))
    assert index.source["layout"] == "table" and list(index.classes) == ["forest", "river"]
    assert index.by_id["forest/images/1.png"].path.read_bytes() == picture(1)


def test_shards_with_a_class_beside_each_image(project: Project, tmp_path: Path) -> None:
    members = {}
    for k in range(8):
        members[f"{k:06d}.png"] = picture(k)
        members[f"{k:06d}.cls"] = str(k % 2).encode()
    members["classnames.txt"] = b"river\nforest\n"
    index = prepare(project, tar_of(tmp_path / "train-000.tar", members))
    assert index.source["layout"] == "sidecars" and list(index.classes) == ["forest", "river"]


def test_class_names_with_commas_can_be_chosen(project: Project, tmp_path: Path) -> None:
    data = fill(tmp_path / "d", {"river, lake": 4, "forest": 4, "roof": 4})
    for given in ("forest,river, lake", 'forest,"river, lake"'):
        assert list(prepare(project, data, classes=given).classes) == ["forest", "river, lake"]
