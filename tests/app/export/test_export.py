"""What the tab Export shows, and a push whose token is nowhere afterwards."""

import os
import time
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from app.export import service
from app.export import view as views
from app.server.jobs import JobQueue
from app.server.pictures import ImageServer
from app.server.settings import Settings
from app.synthesize.service import read_set
from app.synthesize.view import summary
from dpd_core import storage
from dpd_core.config import ExportConfig
from dpd_core.errors import ConfigError
from dpd_core.evaluate.report import save_report
from dpd_core.export import stage as export
from dpd_core.export.plan import plan_export
from dpd_core.export.push import TOKEN_VARIABLES
from dpd_core.synthesize.sets import DistilledSet
from tests.support.distilled_project import make_project
from tests.support.evaluation_report import make_report
from tests.support.fake_hub import fake_hub

TOKEN = "hf_ThisIsTheVisitorsSecret0123456789"


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    return make_project(tmp_path_factory.mktemp("export"))


@pytest.mark.parametrize(
    ("count", "text"),
    [
        (0, "0 B"),
        (999, "999 B"),
        (1000, "1 KB"),
        (12_300, "12 KB"),
        (999_600, "1.0 MB"),
        (3_440_000, "3.4 MB"),
        (52_000_000, "52 MB"),
        (7_300_000_000, "7.3 GB"),
    ],
)
def test_sizes_are_for_people(count, text):
    assert views.size(count) == text


def test_the_plan_names_files_and_what_to_think_of(project):
    value = views.plan(plan_export(project, ExportConfig()))
    names = [row["name"] for row in value["rows"]]
    assert names[0] == "train/<class>/*.png"
    assert value["rows"][0]["count"] == "6"
    assert "6 images of 3 classes" in value["caption"]
    notes = " ".join(note["text"] for note in value["notes"])
    assert "licence of the real images is unknown" in notes
    assert "has not been evaluated" in notes
    assert views.plan(None, problem="why")["empty"] == "why"


def test_the_copy_figure_is_the_same_at_synthesize_export_and_in_the_card(tmp_path):
    project = make_project(tmp_path)
    distilled = DistilledSet.load(project)
    report = replace(make_report(distilled.name), manifest=distilled.digest)
    save_report(project, report)
    assert report.privacy is not None
    sentence = report.privacy.sentence
    assert f"{report.privacy.features.share:.0%} of the images" in sentence
    planned = plan_export(project, ExportConfig())
    assert sentence in [note["text"] for note in views.plan(planned)["notes"]]
    assert sentence in planned.card
    queue = JobQueue(Settings(tmp_path))

    def at_synthesize() -> str:
        shown = read_set(project, queue, distilled.name)
        assert shown is not None
        return summary(shown)

    assert at_synthesize().endswith(sentence)
    with (distilled.root / "manifest.json").open("a") as file:
        file.write("\n")
    assert "evaluate it again" in at_synthesize()


def test_the_card_shows_text_and_header_apart(project):
    config = ExportConfig(title="<img src=x onerror=alert(1)>", licence="cc-by-4.0")
    text = views.card(plan_export(project, config))
    assert text.startswith("# &lt;img src=x")
    assert "<img" not in text.split("```yaml")[0]
    assert "license: cc-by-4.0" in text.split("```yaml")[1]
    assert views.card(None) == ""


def test_exports_are_listed_with_their_links(tmp_path):
    project = make_project(tmp_path)
    assert views.downloads(service.exports(project), str, None)["rows"] == []
    export.run(project, ExportConfig(licence="mit"))
    (found,) = service.exports(project)
    assert (found.set_name, found.images, found.licence) == ("dpd-1", 6, "mit")
    assert not found.outdated
    (row,) = views.downloads([found], lambda finished: f"/link/{finished.set_name}", None)["rows"]
    assert (row["link"], row["file"], row["warning"]) == ("/link/dpd-1", "dpd-1.zip", "")
    manifest = project.path("distilled", "dpd-1", "manifest.json")
    record = storage.read_json(manifest)
    record["slots"][0]["chosen"] = 0
    storage.write_json(manifest, record)
    (found,) = service.exports(project)
    assert found.outdated


def test_only_listed_licences(project):
    config = service.config_of("dpd-1", " A   title ", "cc0-1.0", True, False, True)
    assert (config.title, config.licence, config.adapter) == ("A title", "cc0-1.0", False)
    with pytest.raises(ConfigError, match="licence"):
        service.config_of("dpd-1", "", "mine: all", True, True, False)


@pytest.mark.parametrize("text", ["", "name", "a/b/c", "../x", "a/../b", "a b/c", "/a", None])
def test_a_data_set_id_has_an_owner_and_a_name(text):
    with pytest.raises(ConfigError, match="owner/name"):
        service.checked_repository(text)


def test_a_good_data_set_id():
    assert service.checked_repository(" me/tiny-landuse ") == "me/tiny-landuse"


@pytest.mark.parametrize("text", [TOKEN + " x", TOKEN + "\x00", "ü" + TOKEN, TOKEN * 100])
def test_what_is_no_token_is_not_quoted(text):
    with pytest.raises(ConfigError) as refused:
        service.checked_token(text)
    assert TOKEN not in str(refused.value)


def test_without_a_token_the_environments_is_used(monkeypatch):
    for name in TOKEN_VARIABLES:
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(ConfigError, match="paste it"):
        service.checked_token("")
    monkeypatch.setenv("HF_TOKEN", "hf_mine")
    assert service.checked_token(" ") is None
    assert service.checked_token(TOKEN) == TOKEN


@dataclass
class OAuth:
    token: str
    expires_at: float


def test_a_sign_in_is_checked():
    assert service.signed_in_token(OAuth(TOKEN, time.time() + 60)) == TOKEN
    for bad in (None, OAuth("", time.time() + 60), OAuth(TOKEN, time.time() - 1)):
        with pytest.raises(ConfigError) as refused:
            service.signed_in_token(bad)
        assert TOKEN not in str(refused.value)


def test_a_large_zip_is_served_in_parts(project):
    from starlette.applications import Starlette
    from starlette.testclient import TestClient

    images = ImageServer("secret")
    path = project.path("export", "large.zip")
    path.parent.mkdir(exist_ok=True)
    size = 5 * 2**30
    with path.open("wb") as file:  # takes no room on the disk
        file.truncate(size)
        file.seek(size - 3)
        file.write(b"end")
    client = TestClient(Starlette(routes=[images.route]))
    answer = client.get(images.file(project, path), headers={"Range": "bytes=-3"})
    path.unlink()
    assert answer.status_code == 206
    assert answer.content == b"end"
    assert answer.headers["content-range"] == f"bytes {size - 3}-{size - 1}/{size}"


def run_push(project, home: Path, token: str | None, *, hosted: bool = False):
    """Push through the waiting list and a real worker; returns the job's view."""
    settings = Settings(home=home)
    queue = JobQueue(settings.served_to_strangers() if hosted else settings)
    config = ExportConfig(push="me/tiny", parquet=False)
    job_id = queue.start(project, "export", config, token=token)
    end = time.monotonic() + 300
    while time.monotonic() < end:
        queue.dispatch()
        job = queue.current(project)
        assert job is not None
        assert job.id == job_id
        if not job.active:
            return job
        time.sleep(0.3)
    raise AssertionError("the push did not end")


def everything_below(folder: Path) -> bytes:
    return b"\n".join(path.read_bytes() for path in folder.rglob("*") if path.is_file())


@pytest.mark.slow
def test_a_push_uses_the_token_and_leaves_it_nowhere(tmp_path, monkeypatch):
    project = make_project(tmp_path)
    monkeypatch.setenv("HF_HUB_OFFLINE", "0")
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hf"))
    monkeypatch.setenv("DPD_HOME", str(tmp_path / "home"))
    for name in TOKEN_VARIABLES:
        monkeypatch.delenv(name, raising=False)
    with fake_hub(TOKEN) as hub:
        monkeypatch.setenv("HF_ENDPOINT", hub.url)
        job = run_push(project, tmp_path / "home", TOKEN, hosted=True)
        assert job.status == "done", job.error
        assert hub.repositories == {"me/tiny": True}
        folder = project.path("export", "dpd-1")
        written = {
            path.relative_to(folder).as_posix(): path.read_bytes()
            for path in folder.rglob("*")
            if path.is_file()
        }
        assert hub.files.items() >= written.items()
        assert service.pushed_to(project) == "me/tiny"
        assert TOKEN not in job.command
        refused = run_push(project, tmp_path / "home", "hf_WrongSecret987654321", hosted=True)
        assert refused.status == "failed"
        assert "hf_WrongSecret987654321" not in refused.error
    left = everything_below(tmp_path)
    assert b"me/tiny" in left
    assert TOKEN.encode() not in left
    assert b"hf_WrongSecret987654321" not in left
    assert TOKEN not in os.environ.values()


def test_strangers_push_with_their_own_token_or_not_at_all(tmp_path, monkeypatch):
    project = make_project(tmp_path)
    monkeypatch.setenv("HF_TOKEN", "hf_of_the_server")
    with pytest.raises(ConfigError, match="own account"):
        run_push(project, tmp_path / "home", None, hosted=True)
