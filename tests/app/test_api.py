"""The public endpoints, asked by ``gradio_client`` of a real server."""

import re
import secrets
import shutil
import urllib.request
from pathlib import Path

import pytest

from app.api import ENDPOINTS, Api
from dpd_core import STAGES
from dpd_core.evaluate.report import save_report
from tests.support.distilled_project import make_project
from tests.support.evaluation_report import make_report
from tests.support.studio_app import ROOT, App, free_port

pytestmark = pytest.mark.slow


def serve(home: Path, **environment: str) -> App:
    app = App(home, free_port(), environment)
    app.home.mkdir()
    return app


def connect(app: App):
    from gradio_client import Client

    return Client(app.url, verbose=False)


@pytest.fixture(scope="module")
def app(tmp_path_factory):
    """A server on one's own machine, with a project that has a set and a report."""
    folder = tmp_path_factory.mktemp("api")
    project = make_project(folder)
    save_report(project, make_report(classes=("desert", "forest", "river")))
    running = serve(folder / "home")
    shutil.copytree(project.root, running.project("small"))
    running.start(300)
    yield running
    running.stop()


@pytest.fixture(scope="module")
def client(app):
    return connect(app)


def test_nothing_else_is_public(client):
    schema = client.view_api(return_format="dict", print_info=False)
    assert sorted(schema["named_endpoints"]) == sorted(f"/{name}" for name in ENDPOINTS)
    assert schema["unnamed_endpoints"] == {}
    for name, endpoint in schema["named_endpoints"].items():
        assert endpoint["description"], name
        for value in (*endpoint["parameters"], *endpoint["returns"]):
            assert value["python_type"]["type"] != "Any", (name, value)


def test_private_handlers_cannot_be_called_by_name(client):
    for name in ("/predict", "/start", "/_change", "/look"):
        with pytest.raises(ValueError, match="api_name"):
            client.predict(api_name=name)


def test_every_endpoint_documents_its_arguments():
    for name in ENDPOINTS:
        text = getattr(Api, name).__doc__
        arguments = getattr(Api, name).__code__.co_varnames
        count = getattr(Api, name).__code__.co_argcount
        for argument in arguments[1:count]:
            assert f"{argument}:" in text, (name, argument)
        assert "Returns:" in text, name


def test_reading_a_project(client, app):
    (project,) = client.predict(api_name="/list_projects")
    assert project["name"] == "small"
    assert list(project["stages"]) == list(STAGES)
    summary = client.predict("small", api_name="/dataset_summary")
    assert summary["classes"][0] == {"name": "desert", "readable": "desert", "train": 6, "test": 4}
    (distilled,) = client.predict("small", api_name="/list_distilled")
    assert (distilled["name"], distilled["ipc"], distilled["evaluated"]) == ("dpd-1", 2, True)
    with urllib.request.urlopen(app.url + distilled["images"][0]["image"]) as answer:
        assert answer.read(4) == b"\x89PNG"
    report = client.predict("small", api_name="/evaluation_report")
    assert report["set"] == "dpd-1"
    assert len(report["accuracy"]["random"]["runs"]) == 3


def test_captions_are_read_and_written(client):
    before = client.predict("small", api_name="/list_prototypes")
    assert [row["caption"] for row in before] == [None] * 6
    made = client.predict(
        project="small",
        class_name="river",
        cluster=1,
        text="A <b>wide</b> bend",
        api_name="/set_caption",
    )
    assert made == {"text": "A <b>wide</b> bend", "author": "human", "version": 1}
    after = client.predict("small", api_name="/list_prototypes")
    assert [row["caption"] for row in after if row["caption"]] == ["A <b>wide</b> bend"]


@pytest.mark.parametrize(
    ("arguments", "name", "message"),
    [
        (("nothing",), "/dataset_summary", "no project"),
        (("../small",), "/dataset_summary", "no project"),
        (("small", "river", 99, "text"), "/set_caption", "no cluster"),
        (("small", "paint"), "/start_stage", "unknown stage"),
        (("small", "train", {"stepz": 3}), "/start_stage", "stepz"),
        (("small", "train", {"steps": -3}), "/start_stage", "at least"),
        (("small", "../../secret"), "/job_status", "no job"),
        (("small", "other"), "/evaluation_report", "no report"),
        (("small",), "/export_link", "not been exported"),
    ],
)
def test_mistakes_are_answered_with_the_way_out(client, arguments, name, message):
    with pytest.raises(Exception, match=message):
        client.predict(*arguments, api_name=name)


def test_strangers_see_only_their_own(tmp_path):
    app = serve(tmp_path / "home", DPD_HOSTED="1")
    try:
        app.start(300)
        client, mine, yours = connect(app), secrets.token_hex(16), secrets.token_hex(16)
        client.predict("secret plans", mine, api_name="/create_project")
        assert [p["name"] for p in client.predict(mine, api_name="/list_projects")] == [
            "secret plans"
        ]
        assert client.predict(yours, api_name="/list_projects") == []
        with pytest.raises(Exception, match="no project"):
            client.predict("secret plans", yours, api_name="/dataset_summary")
        for token in ("", "local", "../" + mine, mine.upper() + "x"):
            with pytest.raises(Exception, match="visitor"):
                client.predict(token, api_name="/list_projects")
        for settings in ({"data": "/etc"}, {"test_data": "../other"}):
            with pytest.raises(Exception, match="server"):
                client.predict(
                    "secret plans", "dataset", settings, visitor=mine, api_name="/start_stage"
                )
    finally:
        app.stop()


def test_the_example_of_the_documentation_runs(app):
    text = (ROOT / "docs" / "api.md").read_text()
    (code,) = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    names: dict = {}
    exec(code.replace("http://127.0.0.1:7860", app.url), names)
    assert names["export"]["size"] > 1000
    with urllib.request.urlopen(app.url + names["export"]["link"]) as answer:
        assert answer.read(2) == b"PK"
    captions = {
        (row["class"], row["cluster"]): row["caption"]
        for row in names["studio"].predict("from python", api_name="/list_prototypes")
    }
    assert captions["highway", 0] == "A wide highway with white surf"


def test_the_documentation_lists_every_endpoint():
    text = (ROOT / "docs" / "api.md").read_text()
    assert re.findall(r"^\| `/(\w+)`", text, re.MULTILINE) == list(ENDPOINTS)
