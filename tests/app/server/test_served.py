"""What a stranger can get out of the served app by speaking to it directly."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import pytest
from gradio.routes import App
from PIL import Image
from starlette.testclient import TestClient

from app.build import build
from app.launch import app_arguments
from app.server.settings import Settings
from app.server.workspaces import Workspace, new_visitor
from app.ui.context import Context
from dpd_core import storage
from dpd_core.project import Project


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> tuple[TestClient, Context, Any]:
    """The hosted page behind its real routes, without a socket."""
    settings = Settings(home=tmp_path_factory.mktemp("served")).served_to_strangers()
    page, ctx = build(settings)
    app = App.create_app(page, app_kwargs=app_arguments(settings, ctx))
    client = TestClient(app, base_url="http://localhost", raise_server_exceptions=False)
    return client, ctx, page


def visit(ctx: Context, name: str) -> Project:
    """A visitor's project with one result."""
    project = Workspace.of(ctx.settings, new_visitor()).create(name)
    file = io.BytesIO()
    Image.new("RGB", (4, 4)).save(file, "PNG")
    storage.write_bytes(project.path("distilled", "a", "x.png"), file.getvalue())
    return project


def test_links_lead_to_the_own_project_only(served: tuple[TestClient, Context, Any]) -> None:
    client, ctx, _ = served
    mine, theirs = visit(ctx, "mine"), visit(ctx, "theirs")
    link = ctx.images.file(mine, mine.path("distilled", "a", "x.png"))
    reply = client.get(link)
    assert reply.status_code == 200
    assert reply.headers["x-content-type-options"] == "nosniff"
    base = ctx.images.base(mine)
    up = f"{theirs.root.parent.name}/theirs/distilled/a/x.png"
    for bad in (
        f"{base}/file/project.json",
        f"{base}/file/..%2F..%2F{up}",
        f"{base}/file/../../{up}",
        f"{base}/file/%2Fetc%2Fpasswd",
        f"{base}/thumb/..%2Fproject.json",
        f"{base}/other/x",
        f"/studio/{'0' * 40}/file/distilled/a/x.png",
        "/studio//file/distilled/a/x.png",
    ):
        assert client.get(bad).status_code == 404, bad


def test_gradios_own_file_route_gives_nothing_of_the_server(
    served: tuple[TestClient, Context, Any],
) -> None:
    client, ctx, _ = served
    project = visit(ctx, "files")
    result = project.path("distilled", "a", "x.png")
    assert ctx.settings.secret
    for path in (
        ctx.settings.home / "secret",
        project.manifest_path,
        result,
        Path("/etc/passwd"),
        Path(__file__),
        Path("app.py"),
        Path("README.md"),
    ):
        for address in (f"/gradio_api/file={path}", f"/file={path}"):
            assert client.get(address).status_code in (403, 404), address


def test_the_page_tells_nothing_of_where_the_server_keeps_things(
    served: tuple[TestClient, Context, Any],
) -> None:
    client, ctx, _ = served
    text = client.get("/config").text
    assert str(ctx.settings.home) not in text
    assert ctx.settings.secret not in text
    assert "Folder on this computer" not in text


@pytest.mark.parametrize(
    "session",
    [
        None,
        [],
        "x",
        7,
        {},
        {"visitor": "../../etc"},
        {"visitor": {"a": 1}, "project": ["b"]},
        {"visitor": "0" * 32, "project": "../x"},
        {"visitor": "0" * 32, "project": "demo"},
    ],
)
def test_made_up_sessions_get_no_data_and_no_traceback(
    served: tuple[TestClient, Context, Any], session: Any
) -> None:
    """Every handler that answers outside the queue, called with a session nobody was given."""
    client, ctx, page = served
    before = sorted((ctx.settings.home).rglob("*"))
    called = 0
    for number, function in page.fns.items():
        names = [name for _, name in function.targets]
        if function.queue is not False or not function.inputs or "load" in names:
            continue
        if type(function.inputs[0]).__name__ != "BrowserState":
            continue
        data = [session, *[None] * (len(function.inputs) - 1)]
        reply = client.post(
            "/gradio_api/run/predict",
            json={
                "data": data,
                "fn_index": number,
                "session_hash": "made-up",
            },
        )
        called += 1
        assert "Traceback" not in reply.text
        assert str(ctx.settings.home) not in reply.text
        assert "site-packages" not in reply.text
    assert called > 10
    assert sorted((ctx.settings.home).rglob("*")) == before


def test_no_handler_is_public_but_the_documented_endpoints(
    served: tuple[TestClient, Context, Any],
) -> None:
    client, _, page = served
    public = client.get("/gradio_api/info").json()["named_endpoints"]
    assert len(public) <= 12
    undocumented = [
        function.api_name
        for function in page.fns.values()
        if function.api_visibility == "public" and f"/{function.api_name}" not in public
    ]
    assert undocumented == []


def test_look_tells_a_tab_of_a_change_only_while_it_is_looked_at(
    served: tuple[TestClient, Context, Any],
) -> None:
    client, ctx, page = served
    token = new_visitor()
    project = Workspace.of(ctx.settings, token).create("tabs")
    number, look = next(
        (number, function)
        for number, function in page.fns.items()
        if ctx.revision["job"] in function.inputs
    )
    keys = [block.elem_id.removeprefix("revision-") for block in look.inputs[1:]]
    every = {"project", "all", "job"}

    def changed(tab: str, known: dict[str, str]) -> dict[str, str]:
        """What the page is told, having been told ``known``."""
        session = {"visitor": token, "project": "tabs", "tab": tab}
        reply = client.post(
            "/gradio_api/run/predict",
            json={
                "data": [session, *known.values()],
                "fn_index": number,
                "session_hash": "tabs",
            },
        )
        told = dict(zip(keys, reply.json()["data"], strict=False))
        return {key: value for key, value in told.items() if isinstance(value, str)}

    first = changed("dataset", dict.fromkeys(keys, ""))
    assert set(first) == {*every, "dataset"}, "only what is looked at is filled"
    assert changed("dataset", {**dict.fromkeys(keys, ""), **first}) == {}
    for tab in ("prototypes", "captions", "export"):
        first |= changed(tab, {**dict.fromkeys(keys, ""), **first})
    assert {"map", "captions", "pulse-captions", "export"} <= set(first)
    first = {key: first.get(key, "") for key in keys}
    storage.append_json_line(project.path("captions", "log.jsonl"), {"text": "a beach"})
    assert set(changed("dataset", first)) == {"all"}
    assert set(changed("captions", first)) == {"all", "captions"}
    assert set(changed("prototypes", first)) == {"all", "map"}, "its map tells the captions"
    assert set(changed("export", first)) == {"all", "export"}


def test_no_two_components_share_an_id(served: tuple[TestClient, Context, Any]) -> None:
    ids = [block.elem_id for block in served[2].blocks.values() if block.elem_id]
    assert len(ids) > 100
    assert sorted(ids) == sorted(set(ids))


@pytest.mark.parametrize("root", ["/dpd", "https://localhost/dpd/"])
def test_links_behind_a_proxy_carry_its_prefix(tmp_path: Path, root: str) -> None:
    environment = {"DPD_HOME": str(tmp_path), "DPD_HOSTED": "1", "GRADIO_ROOT_PATH": root}
    settings = Settings.from_environment(environment)
    page, ctx = build(settings)
    app = App.create_app(page, app_kwargs=app_arguments(settings, ctx))
    project = visit(ctx, "mine")
    link = ctx.images.file(project, project.path("distilled", "a", "x.png"))
    assert link.startswith("/dpd/studio/")

    async def proxy(scope: Any, receive: Any, send: Any) -> None:
        """Takes the prefix away, as nginx does, and knows nothing outside it."""
        if scope["type"] == "http":
            assert scope["path"].startswith("/dpd/"), scope["path"]
            path = scope["path"].removeprefix("/dpd")
            scope = {**scope, "path": path, "raw_path": path.encode()}
        await app(scope, receive, send)

    client = TestClient(proxy, base_url="http://localhost", raise_server_exceptions=False)
    answer = client.get(link)
    assert answer.status_code == 200 and answer.content.startswith(b"\x89PNG")
