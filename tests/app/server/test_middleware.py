"""What no request gets past: foreign hosts and pages, floods, large bodies, a missing token."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.routing import Route
from starlette.testclient import TestClient

from app.server import middleware
from app.server.arrivals import free_bytes
from app.server.middleware import MAX_BODY, UPLOAD, guards
from app.server.pace import Pace, network
from app.server.settings import MB, Settings


@pytest.fixture
def hosted(tmp_path: Path) -> Settings:
    return Settings(home=tmp_path, port=7860).served_to_strangers()


def client(
    settings: Settings,
    *,
    token: str | None = None,
    at: str = "http://localhost:7860",
    **options: Any,
) -> TestClient:
    """An application that says what came through."""

    async def answer(request: Request) -> PlainTextResponse:
        body = await request.body()
        scope = request.scope
        heard = [scope["client"][0], scope["scheme"], request.headers.get("x-forwarded-host", "-")]
        return PlainTextResponse(f"{len(body)} " + " ".join(heard))

    routes = [Route("/{path:path}", answer, methods=["GET", "POST", "PUT"])]
    app = Starlette(routes=routes, middleware=guards(settings, token=token))
    return TestClient(app, base_url=at, **options)


@pytest.mark.parametrize("hosted_mode", [False, True])
@pytest.mark.parametrize(
    "host", ["evil.example", "evil.example:7860", "localhost.evil.example", "", "127.0.0.1.nip.io"]
)
def test_a_foreign_name_for_this_machine_is_not_answered(
    tmp_path: Path, host: str, hosted_mode: bool
) -> None:
    settings = Settings(home=tmp_path)
    browser = client(settings.served_to_strangers() if hosted_mode else settings)
    for method in ("GET", "POST"):
        reply = browser.request(method, "/config", headers={"Host": host})
        assert reply.status_code == 403, host
        assert "access-control-allow-origin" not in reply.headers


@pytest.mark.parametrize(
    "host",
    ["localhost", "LOCALHOST:7860", "127.0.0.1:7860", "[::1]:7860", "192.0.2.4", "lab.example"],
)
def test_its_own_names_and_addresses_are(tmp_path: Path, host: str) -> None:
    browser = client(Settings(home=tmp_path, allowed_hosts=("lab.example",)))
    assert browser.get("/", headers={"Host": host}).status_code == 200


@pytest.mark.parametrize(
    "origin",
    [
        "http://evil.example",
        "http://localhost:3000",
        "https://localhost:7860.evil.example",
        "null",
        "http://127.0.0.1:7860",
        "http://[::1",
    ],
)
@pytest.mark.parametrize("path", ["/gradio_api/run/predict", UPLOAD, "/gradio_api/queue/join"])
def test_a_page_of_another_site_may_not_ask(tmp_path: Path, origin: str, path: str) -> None:
    browser = client(Settings(home=tmp_path))
    assert browser.post(path, headers={"Origin": origin}).status_code == 403
    assert browser.get(path, headers={"Origin": origin}).status_code == 403
    cross = {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "no-cors"}
    assert browser.get(path, headers=cross).status_code == 403


def test_its_own_page_and_programs_may(tmp_path: Path) -> None:
    browser = client(Settings(home=tmp_path))
    own = {"Origin": "http://localhost:7860", "Sec-Fetch-Site": "same-origin"}
    assert browser.post("/x", headers=own).status_code == 200
    assert browser.post("/x").status_code == 200  # a program sends no origin
    space = Settings(home=tmp_path, space="me-it.hf.space").served_to_strangers()
    at_space = client(space, at="https://me-it.hf.space")
    assert at_space.post("/x", headers={"Origin": "https://me-it.hf.space"}).status_code == 200
    assert at_space.post("/x", headers={"Origin": "https://other.hf.space"}).status_code == 403


def test_only_a_known_proxy_says_who_asks(tmp_path: Path) -> None:
    told = {
        "X-Forwarded-For": "203.0.113.66, 198.51.100.7, 10.0.0.2",
        "X-Forwarded-Proto": "https",
        "X-Forwarded-Host": "evil.example",
    }
    stranger = client(Settings(home=tmp_path), client=("192.0.2.9", 5))
    assert stranger.get("/", headers=told).text == "0 192.0.2.9 http -"
    settings = Settings(home=tmp_path, proxies=("10.0.0.0/8",))
    behind = client(settings, client=("10.0.0.1", 5))
    # The one nearest to our proxies; what stands before it anybody may have written.
    assert behind.get("/", headers=told).text == "0 198.51.100.7 https evil.example"
    assert client(settings, client=("192.0.2.9", 5)).get("/", headers=told).text.split()[1] == (
        "192.0.2.9"
    )


@pytest.mark.parametrize("length_said", [True, False])
def test_large_bodies_are_refused(tmp_path: Path, length_said: bool) -> None:
    browser = client(Settings(home=tmp_path))
    body = b"[" + b"{}," * (MAX_BODY // 3 + 1)
    pieces = body if length_said else (body[k : k + 65536] for k in range(0, len(body), 65536))
    assert browser.post("/gradio_api/run/predict", content=pieces).status_code == 413
    fits = bytes(MAX_BODY)
    reply = browser.post("/x", content=iter([fits[:1000], fits[1000:]]))
    assert reply.text.startswith(f"{MAX_BODY} ")


def test_uploads_are_limited_by_their_own_size_and_the_disk(tmp_path: Path) -> None:
    settings = Settings(home=tmp_path, max_upload=2 * MB, min_free=1)
    browser = client(settings)
    assert browser.post(UPLOAD, content=bytes(3 * MB)).text.startswith(f"{3 * MB} ")
    assert browser.post(UPLOAD, content=bytes(7 * MB)).status_code == 413
    assert browser.post(UPLOAD, content=iter([b"x"])).status_code == 411
    full = client(replace(settings, min_free=free_bytes(settings) * 2))
    assert full.post(UPLOAD, content=b"x").status_code == 507


def test_a_flood_from_one_address_does_not_stop_another(
    hosted: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(middleware, "_REQUESTS", (0.01, 20.0))
    settings = replace(hosted, proxies=("127.0.0.0/8",))
    browser = client(settings, client=("127.0.0.1", 5))
    replies = [
        browser.get("/", headers={"X-Forwarded-For": "203.0.113.1"}).status_code for _ in range(21)
    ]
    assert replies == [200] * 20 + [429]
    assert browser.get("/", headers={"X-Forwarded-For": "203.0.113.2"}).status_code == 200
    refused = browser.get("/", headers={"X-Forwarded-For": "203.0.113.1"})
    assert int(refused.headers["retry-after"]) >= 1


def test_the_token_is_asked_for_once(tmp_path: Path) -> None:
    browser = client(Settings(home=tmp_path), token="k" * 32, follow_redirects=False)
    for path in ("/", "/config", "/studio/x/file/y", "/?token=", "/?token=wrong", "/?token=%C3%A9"):
        assert browser.get(path).status_code == 401, path
    assert browser.post("/?token=" + "k" * 32).status_code == 401
    assert browser.get("/", headers={"X-DPD-Token": "k" * 32}).status_code == 200
    reply = browser.get(f"/?a=b&token={'k' * 32}")
    assert reply.status_code == 303
    assert reply.headers["location"] == "/?a=b"
    assert "httponly" in reply.headers["set-cookie"].lower()
    assert "samesite=strict" in reply.headers["set-cookie"].lower()
    assert browser.get("/").status_code == 200
    assert browser.post("/x").status_code == 200


def test_every_answer_tells_the_browser_to_be_careful(tmp_path: Path) -> None:
    for settings, framed in (
        (Settings(home=tmp_path), "frame-ancestors 'self'"),
        (
            Settings(home=tmp_path, space="localhost"),
            "frame-ancestors 'self' https://huggingface.co",
        ),
    ):
        browser = client(settings)
        for reply in (browser.get("/"), browser.get("/", headers={"Host": "evil.example"})):
            policy = reply.headers["content-security-policy"].split("; ")
            assert framed in policy
            assert "object-src 'none'" in policy
            assert reply.headers["x-content-type-options"] == "nosniff"
            assert reply.headers["referrer-policy"] == "same-origin"


def test_routes_that_nobody_needs_are_closed(tmp_path: Path) -> None:
    browser = client(Settings(home=tmp_path))
    for path in (
        "/gradio_api/proxy=http://x",
        "/monitoring/summary",
        "/gradio_api/deep_link",
        "/docs",
    ):
        assert browser.get(path).status_code == 404, path


def test_a_bucket_fills_again_and_holds_no_more() -> None:
    pace = Pace(1.0, 3.0)
    assert [pace.take("a", now=0.0) for _ in range(4)] == [0.0, 0.0, 0.0, 1.0]
    assert pace.take("b", now=0.0) == 0.0
    assert pace.take("a", now=1.5) == 0.0
    assert pace.take("a", now=1.5) == pytest.approx(0.5)
    assert [pace.take("a", now=1e6) > 0 for _ in range(4)] == [False, False, False, True]
    assert pace.take("c", 50.0, now=0.0) == 0.0  # more than it holds: all that it holds


def test_one_customer_of_a_provider_is_one_place() -> None:
    assert network("2001:db8:0:1::5") == network("2001:db8:0:1:ffff::9")
    assert network("2001:db8:0:2::5") != network("2001:db8:0:1::5")
    assert network("::ffff:192.0.2.1") == "192.0.2.1"
    assert network("fe80::1%eth0") == "fe80::/64"
    assert network("testclient") == "testclient"


def test_a_body_that_is_no_text_is_refused(tmp_path: Path) -> None:
    browser = client(Settings(home=tmp_path))
    assert browser.post("/gradio_api/run/predict", content=b"\xb4\x99\xab").status_code == 400
    assert browser.post("/gradio_api/run/predict", content="ü".encode()).status_code == 200


def test_a_fault_is_a_line_and_its_story_is_told_a_few_times(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async def fail(request: Request) -> PlainTextResponse:
        raise KeyError("x" * 100_000)

    app = Starlette(
        routes=[Route("/{path:path}", fail)], middleware=guards(Settings(home=tmp_path))
    )
    browser = TestClient(app, base_url="http://localhost:7860")
    for _ in range(50):
        reply = browser.get("/config")
        assert reply.status_code == 500 and "failed at this request" in reply.text
    assert caplog.text.count("GET /config: KeyError") == 50
    assert caplog.text.count("Traceback") + caplog.text.count("xxxx\n") <= 20
    assert len(caplog.text) < 60_000
