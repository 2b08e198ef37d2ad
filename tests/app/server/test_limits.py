"""What strangers may and may not do, asked of the parts that every tab goes through."""

from __future__ import annotations

import gzip
import io
import json
import os
import re
import shutil
import tarfile
import time
import zipfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import psutil
import pytest
from PIL import Image

from app.dataset import service as dataset
from app.server import janitor
from app.server import uploads as service
from app.server.jobs import JobQueue
from app.server.limits import Limits, folder_size
from app.server.pictures import ImageServer
from app.server.settings import MB, Settings
from app.server.waiting_list import Entry, WaitingList, fair_order
from app.server.workspaces import SEEN, Workspace, new_visitor
from app.ui.context import Context
from dpd_core import STAGES, storage
from dpd_core.config import CONFIGS, DatasetConfig, TrainConfig, resolve
from dpd_core.dataset import images
from dpd_core.dataset.index import load_index
from dpd_core.dataset.stage import run
from dpd_core.errors import ConfigError, DatasetError, DPDError, ProjectError
from dpd_core.project import Project
from dpd_core.settings import settings_of


@pytest.fixture
def hosted(tmp_path: Path) -> Settings:
    return Settings(home=tmp_path / "home", quota=5 * MB).served_to_strangers()


def visit(settings: Settings, name: str = "mine") -> Project:
    """A new visitor's project."""
    workspace = Workspace.of(settings, new_visitor())
    project = workspace.create(name)
    (workspace.root / SEEN).touch()
    return project


def image_bytes(colour: tuple[int, int, int] = (20, 90, 40)) -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (8, 8), colour).save(file, "PNG")
    return file.getvalue()


@pytest.mark.parametrize(
    ("stage", "name", "value"),
    [
        ("dataset", "data", "/etc"),
        ("dataset", "data", "~/pictures"),
        ("dataset", "data", "../x"),
        ("dataset", "data", "assets/base"),
        ("dataset", "data", "."),
        ("dataset", "data", "a/../b"),
        ("dataset", "test_data", "/etc"),
        ("dataset", "test_data", "owner/name"),
        ("prototypes", "file", "/etc/passwd"),
        ("prototypes", "file", "prototypes.json"),
        ("captions", "captioner", "/srv/model"),
        ("captions", "captioner", "assets/captioner"),
        ("evaluate", "student", "/srv/model"),
        ("export", "output", "/tmp/out"),
        ("export", "output", "out"),
        ("export", "push", "owner/name"),
    ],
)
def test_a_stranger_cannot_name_a_path_of_the_server(
    hosted: Settings, stage: str, name: str, value: str
) -> None:
    project, queue = visit(hosted), JobQueue(hosted)
    with pytest.raises(ConfigError, match=f"{stage}.{name}"):
        queue.start(project, stage, resolve(stage, **{name: value}))
    assert queue.list.entries() == []
    # On one's own machine the same setting is fine.
    local = Limits(replace(hosted, hosted=False))
    local.check_start(project, stage, resolve(stage, **{name: value}))


@pytest.mark.parametrize("stage", [*STAGES, "preview", "resample"])
def test_check_paths_refuses_every_setting_that_may_be_a_path(hosted: Settings, stage: str) -> None:
    project, limits = visit(hosted), Limits(hosted)
    limits.check_paths(project, stage, resolve(stage))
    for known in settings_of(CONFIGS[stage]).values():
        if known.path:
            with pytest.raises(ConfigError, match=known.name):
                limits.check_paths(project, stage, resolve(stage, **{known.name: "/etc"}))


def test_a_setting_whose_help_speaks_of_files_says_that_it_may_be_a_path() -> None:
    inside = ("push", "layout")  # a Hub id, and folders within the data
    words = re.compile(r"folder|\bfile\b|\bpath\b|hub id|Hub data set id")
    for stage, config in CONFIGS.items():
        for known in settings_of(config).values():
            if known.kind is str and words.search(known.help) and known.name not in inside:
                assert known.path, f"{stage}.{known.name}"


def test_a_stranger_cannot_start_a_benchmark(hosted: Settings) -> None:
    project = visit(hosted)
    with pytest.raises(ConfigError, match="cannot be started"):
        Limits(hosted).check_paths(project, "benchmark", resolve("benchmark"))


def test_the_models_folder_of_a_project_is_refused_too(hosted: Settings) -> None:
    project = visit(hosted)
    project.configure(resolve("project", model="/srv/model"))  # as if put there by other means
    with pytest.raises(ConfigError, match=r"project\.model"):
        Limits(hosted).check_start(project, "train", TrainConfig())


def test_hub_ids_and_own_uploads_are_accepted_but_nobody_elses(hosted: Settings) -> None:
    project, other, limits = visit(hosted), visit(hosted), Limits(hosted)
    for mine in (project, other):
        storage.write_bytes(mine.path("uploads", "scenes.zip"), b"x")
    for data in ("eurosat", "owner/name", str(project.path("uploads", "scenes.zip"))):
        limits.check_paths(project, "dataset", DatasetConfig(data=data))
    for data in (
        str(other.path("uploads", "scenes.zip")),
        str(project.path("uploads")),
        str(project.path("uploads", "..", "project.json")),
    ):
        with pytest.raises(ConfigError):
            limits.check_paths(project, "dataset", DatasetConfig(data=data))
    project.path("uploads", "link.zip").symlink_to("/etc/passwd")
    with pytest.raises(ConfigError):
        limits.check_paths(
            project, "dataset", DatasetConfig(data=str(project.root / "uploads" / "link.zip"))
        )


def test_starts_are_paced_for_each_visitor_alone(hosted: Settings) -> None:
    settings = replace(hosted, starts_per_hour=3)
    project, other, limits = visit(settings), visit(settings), Limits(settings)
    for _ in range(3):
        limits.check_start(project, "train", TrainConfig())
    with pytest.raises(ProjectError, match="within an hour"):
        limits.check_start(project, "train", TrainConfig())
    limits.check_start(other, "train", TrainConfig())


def test_a_full_quota_stops_uploads_and_runs(hosted: Settings, tmp_path: Path) -> None:
    project, limits = visit(hosted), Limits(hosted)
    upload = tmp_path / "big.zip"
    upload.write_bytes(os.urandom(6 * MB))
    with pytest.raises(ProjectError, match="would add 6 MB"):
        service.take_upload(project, [str(upload)], "", limits)
    assert not upload.exists()
    assert not service.uploaded(project)
    project.path("cache.bin").write_bytes(bytes(6 * MB))
    with pytest.raises(ProjectError, match="Delete a project"):
        Limits(hosted).check_start(project, "train", TrainConfig())


def test_a_bomb_is_refused_before_it_is_unpacked(hosted: Settings, tmp_path: Path) -> None:
    project = visit(hosted)
    bomb = tmp_path / "bomb.zip"
    with zipfile.ZipFile(bomb, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a/zeros.png", bytes(8 * MB))
    assert bomb.stat().st_size < MB
    with pytest.raises(ProjectError, match="would add 8 MB"):
        service.take_upload(project, [str(bomb)], "", Limits(hosted))
    packed = tmp_path / "packed.tar.gz"
    with tarfile.open(packed, "w:gz"):
        pass
    with pytest.raises(DatasetError, match="uncompressed tar"):
        service.take_upload(project, [str(packed)], "", Limits(hosted))


def test_a_tar_that_is_a_gzip_as_well_is_refused(hosted: Settings, tmp_path: Path) -> None:
    """The header of a tar without a single NUL is the name in the head of a gzip file."""
    inner = io.BytesIO()
    with tarfile.open(fileobj=inner, mode="w") as archive:
        info = tarfile.TarInfo("a/zeros.png")
        info.size = 8 * MB
        archive.addfile(info, io.BytesIO(bytes(8 * MB)))
    content = b"\0" + gzip.compress(inner.getvalue())[10:]
    head = bytearray(b"x" * 512)
    head[:10] = b"\x1f\x8b\x08\x08" + b"xxxxxx"
    head[100:157] = (
        b"0000644 " + b"0000000 " * 2 + b"%011o " % len(content) + b"0" * 11 + b" " * 9 + b"0"
    )
    head[257:345] = b" " * 88
    head[148:156] = b" " * 8
    head[148:156] = b"%06o  " % sum(head)
    double = tmp_path / "double.tar"
    double.write_bytes(bytes(head) + content + bytes(-len(content) % 512 + 1024))
    tarfile.open(double, "r:").close()  # it passes for a plain one
    with tarfile.open(double, "r|gz") as archive:
        assert next(iter(archive)).size == 8 * MB  # and for a packed one
    project = visit(hosted)
    upload = tmp_path / "upload.tar"
    upload.write_bytes(double.read_bytes())
    with pytest.raises(DatasetError, match="begins like a .gz"):
        service.take_upload(project, [str(upload)], "", Limits(hosted))
    with pytest.raises(DatasetError, match="begins like a .gz"):
        run(project, DatasetConfig(data=str(double)))


def test_a_run_unpacks_no_more_than_its_budget(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    project = Project.create(tmp_path / "p")
    for name, files in (
        ("large", {"a/0.png": bytes(3 * MB)}),
        ("many", dict.fromkeys((f"a/{n}.png" for n in range(600)), b"")),
    ):
        path = tmp_path / f"{name}.tar.gz"
        with tarfile.open(path, "w:gz") as archive:
            for member, content in files.items():
                info = tarfile.TarInfo(member)
                info.size = len(content)
                archive.addfile(info, io.BytesIO(content))
        monkeypatch.setenv("DPD_UNPACK_BYTES", str(2 * MB))
        with pytest.raises(DatasetError, match="unpacks to more than"):
            run(project, DatasetConfig(data=str(path)))
        assert folder_size(project.path("dataset")) < MB


def test_many_empty_files_fill_a_quota_too(hosted: Settings) -> None:
    project = visit(hosted)
    project.path("cache").mkdir()
    for number in range(5 * MB // 4096 + 1):
        project.path("cache", str(number)).touch()
    with pytest.raises(ProjectError, match="Delete a project"):
        Limits(hosted).check_quota(project.root.parent)


def test_uploads_that_nobody_took_go(hosted: Settings) -> None:
    files = [hosted.home / "tmp" / "abc" / name for name in ("old.zip", "new.zip")]
    for file in files:
        storage.write_bytes(file, b"x")
    os.utime(files[0], (0, 0))
    assert janitor.empty_temporary(hosted) >= 1
    assert [file.exists() for file in files] == [False, True]


def test_the_server_decodes_no_image(hosted: Settings, tmp_path: Path, monkeypatch: Any) -> None:
    """Thumbnails are made by the run; what it has not made is not there."""
    source = tmp_path / "scenes"
    for name in ("a", "b"):
        for number in range(4):
            path = source / name / f"{number}.tif"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.new("RGB", (420, 420), (40 * number, 60, len(name))).save(path)
            Image.new("RGB", (64, 64), (40 * number, 60, ord(name))).save(path.with_suffix(".png"))
    project = visit(hosted)
    run(project, DatasetConfig(data=str(source)))

    def decoded(*_: Any, **__: Any) -> None:
        raise AssertionError("an image is decoded in the server")

    monkeypatch.setattr(images, "open_rgb", decoded)
    monkeypatch.setattr(Image, "open", decoded)
    server, index = ImageServer(hosted.secret), load_index(project)
    for record in index.images:
        for kind in ("thumb", "large"):
            found = server._find(project, kind, record.id)
            own = (record.path.read_bytes(), ".png")
            assert found is not None
            assert (found == own) == (record.path.suffix == ".png")
    shutil.rmtree(project.path("dataset", "thumbnails"))
    tiff = next(record for record in index.images if record.path.suffix == ".tif")
    assert server._find(project, "thumb", tiff.id) is None


@pytest.mark.skipif(os.name != "posix", reason="links need rights on other systems")
def test_a_link_in_an_images_place_is_not_followed(hosted: Settings, tmp_path: Path) -> None:
    source, secret = tmp_path / "scenes", tmp_path / "secret"
    secret.write_bytes(b"of the owner")
    for name in ("a", "b"):
        for number in range(4):
            path = source / name / f"{number}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.new("RGB", (64, 64), (40 * number, 60, ord(name))).save(path)
    project = visit(hosted)
    run(project, DatasetConfig(data=str(source)))
    server = ImageServer(hosted.secret)
    assert server._find(project, "thumb", "a/0.png") is not None
    (source / "a" / "0.png").unlink()
    (source / "a" / "0.png").symlink_to(secret)
    assert server._find(project, "thumb", "a/0.png") is None
    place = project.path("distilled", "one", "x.png")
    place.parent.mkdir(parents=True)
    place.symlink_to(secret)
    assert server._find(project, "file", "distilled/one/x.png") is None


def test_too_many_files_at_once_are_refused(hosted: Settings, tmp_path: Path) -> None:
    files = [tmp_path / f"{number}.png" for number in range(4)]
    for file in files:
        file.write_bytes(image_bytes())
    limits = Limits(replace(hosted, max_files=3))
    with pytest.raises(ProjectError, match="4 files"):
        service.take_upload(visit(hosted), [str(file) for file in files], "forest", limits)


def test_images_uploaded_class_by_class_become_a_data_set(hosted: Settings, tmp_path: Path) -> None:
    project, limits = visit(hosted), Limits(hosted)
    for shade, name in ((40, "forest"), (200, "river bank")):
        files = []
        for number in range(4):
            files.append(tmp_path / name / f"{number}.png")
            files[-1].parent.mkdir(exist_ok=True)
            files[-1].write_bytes(image_bytes((shade, 10 * number, 0)))
        service.take_upload(project, [str(file) for file in files], name, limits)
    # The same names once more do not replace what is there.
    again = tmp_path / "0.png"
    again.write_bytes(image_bytes((1, 2, 3)))
    service.take_upload(project, [str(again)], "forest", limits)
    choice = dataset.choose(project, "upload", folder="", hub="")
    config = DatasetConfig(**choice)
    limits.check_paths(project, "dataset", config)
    run(project, config)
    index = load_index(project)
    assert set(index.classes) == {"forest", "river bank"}
    assert len(index.images) == 9


@pytest.mark.parametrize("name", ["", "../up", "a/b", "<img src=x onerror=alert(1)>", "x" * 61])
def test_a_class_that_is_no_folder_name_is_refused(
    hosted: Settings, tmp_path: Path, name: str
) -> None:
    file = tmp_path / "0.png"
    file.write_bytes(image_bytes())
    project = visit(hosted)
    with pytest.raises(DatasetError):
        service.take_upload(project, [str(file)], name, Limits(hosted))
    assert not service.uploaded(project)


@pytest.mark.parametrize("token", ["", "local", "../../etc", "g" * 32, "a" * 31, "A" * 32])
def test_a_made_up_visitor_opens_nothing(hosted: Settings, token: str) -> None:
    with pytest.raises(ProjectError):
        Workspace.of(hosted, token)


def test_visitors_cannot_open_each_others_projects(hosted: Settings) -> None:
    mine, theirs = visit(hosted, "mine"), visit(hosted, "theirs")
    workspace = Workspace(mine.root.parent)
    assert workspace.names() == ["mine"]
    for name in ("theirs", f"../{theirs.root.parent.name}/theirs", str(theirs.root), "..", ""):
        with pytest.raises(ProjectError):
            workspace.open(name)


def test_links_open_one_project_and_only_what_is_shown(hosted: Settings) -> None:
    mine, theirs = visit(hosted, "mine"), visit(hosted, "theirs")
    server = ImageServer(hosted.secret)
    for project in (mine, theirs):
        storage.write_bytes(project.path("distilled", "a", "x.png"), image_bytes())
    assert server._find(mine, "file", "distilled/a/x.png") is not None
    other = f"../../{theirs.root.parent.name}/theirs/distilled/a/x.png"
    for key in ("project.json", "../x.png", other, "/etc/passwd", "distilled/../project.json"):
        assert server._find(mine, "file", key) is None, key
    assert server.base(mine) != server.base(theirs)
    assert ImageServer("another key").base(mine) != server.base(mine)


def entry(settings: Settings, project: Project, *, started: float | None, **more: Any) -> Path:
    """A run on the waiting list, as the queue writes it; at work, it is this process."""
    job = f"20260101-000000-000000-train-{project.root.parent.name[:4]}"
    made = {"stage": "train", "settings": TrainConfig().to_dict(), "command": "python"}
    folder = project.path("jobs", job)
    storage.write_json(folder / "config.json", made)
    me = psutil.Process()
    own = {"pid": me.pid, "born": me.create_time()} if started is not None else {}
    WaitingList(settings.home / "queue").put(
        Entry(job, str(project.root), ["train"], time.time(), started=started, **own, **more)
    )
    if started is not None:
        state = {"status": "running", "pid": me.pid, "process_started": me.create_time()}
        storage.write_json(folder / "state.json", {**state, "started": 0})
    return folder


def test_a_run_that_takes_too_long_is_asked_to_stop(hosted: Settings) -> None:
    settings = replace(hosted, run_seconds=30.0)
    project, queue = visit(settings), JobQueue(settings)
    folder = entry(settings, project, started=time.time() - 31)
    queue.dispatch()
    assert (folder / "stop").exists()


def test_a_paused_run_gives_way_only_when_others_wait(hosted: Settings) -> None:
    project, other, queue = visit(hosted), visit(hosted), JobQueue(hosted)
    folder = entry(hosted, project, started=time.time())
    (folder / "pause").touch()
    os.utime(folder / "pause", (0, 0))
    queue.dispatch()
    assert not (folder / "stop").exists()
    entry(hosted, other, started=None)
    queue.dispatch()
    assert (folder / "stop").exists()


def test_a_run_makes_way_for_others_and_goes_on_after_them(hosted: Settings) -> None:
    project, other, queue = visit(hosted), visit(hosted), JobQueue(hosted)
    folder = entry(hosted, project, started=time.time() - 60, slice_seconds=30.0)
    queue.dispatch()
    assert not (folder / "stop").exists(), "nobody waits"
    entry(hosted, other, started=None)
    queue.dispatch()
    assert (folder / "stop").read_bytes() == b"slice"
    state = storage.read_json(folder / "state.json")
    storage.write_json(folder / "state.json", {**state, "status": "stopped"})
    # What the queue would start now is not to be computed here.
    queue.settings = replace(hosted, heavy_jobs=0)
    queue.dispatch()
    waiting = {entry.project: entry for entry in queue.list.entries()}
    again = waiting[str(project.root)]
    assert again.started is None
    assert again.job != folder.name
    assert again.slice_seconds == 60.0
    assert fair_order(list(waiting.values()))[0].project == str(other.root)


def test_made_up_visitors_wait_behind_themselves_only(tmp_path: Path) -> None:
    made_up = [
        Entry(f"a{n}", f"/x/v{n}/p", entered=float(n), address="203.0.113.6") for n in range(50)
    ]
    honest = Entry("h", "/x/honest/p", entered=1000.0, address="198.51.100.1")
    assert fair_order([*made_up, honest]).index(honest) == 1
    assert fair_order([*made_up, honest], {"203.0.113.6": 7})[0] is honest
    # Without addresses, on one's own machine, it is first come, first served.
    plain = [Entry(f"{n}", f"/x/v/p{n}", entered=float(n)) for n in range(5)]
    assert fair_order(plain) == plain


def test_the_waiting_list_has_an_end(hosted: Settings) -> None:
    settings = replace(hosted, max_waiting_here=2, heavy_jobs=0, min_free=0)
    queue = JobQueue(settings, whence=lambda: "203.0.113.6")
    for _ in range(2):
        queue.start(visit(settings), "train", TrainConfig())
    with pytest.raises(ProjectError, match="from your address"):
        queue.start(visit(settings), "train", TrainConfig())


def test_one_broken_record_stops_nobody_else(hosted: Settings) -> None:
    settings = replace(hosted, heavy_jobs=0)
    broken, other, queue = visit(settings), visit(settings), JobQueue(settings)
    folder = entry(settings, broken, started=time.time())
    for content in (b"", b"{", b"[]", b'{"status": 5}', b"\xff\xfe"):
        (folder / "state.json").write_bytes(content)
        queue.dispatch()
        view = queue.current(broken)
        assert view is not None
        assert view.status == "failed"
        assert "cannot be read" in view.error
        assert broken.root.parent.name not in view.error
    for name, content in (
        ("a", b"{"),
        ("b", b"[]"),
        ("c", b'{"job": "c", "project": 5}'),
        ("d", b""),
    ):
        (queue.list.folder / f"{name}.json").write_bytes(content)
    waits = entry(settings, other, started=None)
    queue.dispatch()
    view = queue.current(other)
    assert view is not None
    assert (view.id, view.status) == (waits.name, "queued")
    assert len(list((queue.list.folder / ".broken").iterdir())) == 4


def test_the_janitor_removes_the_unused_and_spares_those_at_work(hosted: Settings) -> None:
    old, busy, fresh = visit(hosted), visit(hosted), visit(hosted)
    for project in (old, busy):
        os.utime(project.root.parent / SEEN, (0, 0))
    entry(hosted, busy, started=None)
    assert janitor.sweep(hosted) == [old.root.parent.name]
    assert not old.root.exists()
    assert busy.root.exists()
    assert fresh.root.exists()


def test_where_there_are_too_many_visitors_the_longest_unused_goes(hosted: Settings) -> None:
    settings = replace(hosted, max_visitors=2)
    visitors = [visit(settings) for _ in range(3)]
    now = time.time()
    for project, hours in zip(visitors, (30, 20, 0), strict=True):
        stamp = now - 3600 * hours
        os.utime(project.root.parent / SEEN, (stamp, stamp))
    assert janitor.is_full(settings)
    assert janitor.sweep(settings) == [visitors[0].root.parent.name]


def test_the_clock_makes_nobody_older(hosted: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    projects = [visit(hosted) for _ in range(5)]
    janitor.sweep(hosted)
    plain = time.time
    monkeypatch.setattr(time, "time", lambda: plain() + 30 * 86_400)
    assert janitor.sweep(hosted) == []
    assert janitor.sweep(hosted) == []
    monkeypatch.setattr(time, "time", plain)
    assert janitor.sweep(hosted) == []
    assert all(project.root.exists() for project in projects)


def test_one_sweep_removes_a_few_only(hosted: Settings) -> None:
    for _ in range(10):
        os.utime(visit(hosted).root.parent / SEEN, (0, 0))
    assert len(janitor.sweep(hosted)) == 3


def test_a_run_that_outgrows_the_quota_is_stopped(hosted: Settings) -> None:
    project, queue = visit(hosted), JobQueue(hosted)
    folder = entry(hosted, project, started=time.time())
    queue.dispatch()
    assert not (folder / "stop").exists()
    project.path("cache.bin").write_bytes(bytes(8 * MB))
    JobQueue(hosted).dispatch()
    assert (folder / "stop").exists()


def test_deleted_projects_give_way_before_the_quota_does(hosted: Settings) -> None:
    project = visit(hosted)
    workspace = Workspace(project.root.parent)
    doomed = workspace.create("large")
    doomed.path("cache.bin").write_bytes(bytes(6 * MB))
    workspace.delete("large")
    Limits(hosted).check_quota(workspace.root)
    assert workspace.deleted() == []


def test_sizes_count_what_is_there(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "x").write_bytes(bytes(100))
    (tmp_path / "y").write_bytes(bytes(23))
    assert folder_size(tmp_path) >= 123


def test_a_fault_of_ours_is_told_without_its_traceback(hosted: Settings) -> None:
    import gradio as gr

    ctx = Context(hosted, JobQueue(hosted), ImageServer("k"), None, Limits(hosted))  # type: ignore[arg-type]
    token = new_visitor()
    Workspace.of(hosted, token).create("mine")
    session = {"visitor": token, "project": "mine"}

    def broken(project: Project) -> None:
        raise KeyError("/srv/secret/place")

    with pytest.raises(gr.Error) as told:
        ctx.handler(broken)(session)
    assert "secret" not in str(told.value)
    assert not told.value.print_exception
    for made_up in (None, [], "x", 7, {"visitor": 3}, {"visitor": ["a"], "project": {}}):
        with pytest.raises((gr.Error, DPDError)):
            ctx.handler(broken)(made_up)  # type: ignore[arg-type]


def test_what_a_space_sets_is_heeded(tmp_path: Path) -> None:
    settings = Settings.from_environment({"SPACE_ID": "a/b", "DPD_HOME": str(tmp_path)})
    assert settings.hosted
    assert settings.host == "0.0.0.0"
    assert settings.home == tmp_path
    assert not Settings.from_environment({"DPD_HOME": str(tmp_path)}).hosted
    assert json.dumps(str(settings.home))
