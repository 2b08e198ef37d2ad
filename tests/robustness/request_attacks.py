"""Attacks by single requests: foreign pages and names, sign-in, closed routes, headers, requests
that are broken off. They are made by :mod:`tests.robustness.attacks`."""

from __future__ import annotations

import contextlib
import socket
import time

import httpx
import psutil

from tests.robustness.space import CLIENT, SECRET, SPACE, forged_session
from tests.robustness.target import Target


def rebinding(target: Target) -> str | None:
    """A foreign name for this machine, and a foreign page, read or send something."""
    asked = ("GET", "/config"), ("POST", "/gradio_api/run/predict"), ("POST", "/gradio_api/upload")
    for headers in (
        {"Host": "evil.example"},
        {"Host": "evil.example", "Origin": "http://evil.example"},
        {"Origin": "http://evil.example"},
        {"Origin": "http://localhost:1"},
        {"Origin": "null"},
    ):
        with target.client(headers=headers) as client:
            for method, path in asked:
                reply = client.request(method, path, content=b"{}" if method == "POST" else None)
                if reply.status_code != 403 or "components" in reply.text:
                    return f"{method} {path} with {headers}: {reply.status_code}"
    return None


def preflights(target: Target) -> str | None:
    """A foreign page asks beforehand whether it may (CORS), and is told yes."""
    wants = {"Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": "x"}
    for origin in ("http://evil.example", "http://localhost:1", "null", "https://huggingface.co"):
        with target.client(headers={"Origin": origin, **wants}) as client:
            for path in (
                "/",
                "/config",
                "/gradio_api/upload",
                "/gradio_api/queue/join",
                "/studio/x",
            ):
                for method in ("OPTIONS", "GET"):
                    reply = client.request(method, path)
                    told = [name for name in reply.headers if name.startswith("access-control-")]
                    if told or reply.status_code != 403:
                        return f"{method} {path} from {origin}: {reply.status_code} {told}"
    return None


def sign_in(target: Target) -> str | None:
    """Somebody signs in with another one's code or a cookie of their own making, or is led away."""
    assert target.provider is not None
    forms = "//evil.example", "https://evil.example", "/\\evil.example", "////evil.example"
    with target.client(follow_redirects=False) as client:
        for path in ("/logout", "/login/callback"):
            for form in forms:
                to = client.get(path, params={"_target_url": form}).headers.get("location", "/")
                if not to.startswith("/") or to[1:2] in ("/", "\\"):
                    return f"{path} leads to {to}"
        for guess in ("", "none", CLIENT, "secret"):
            cookie = forged_session(guess, {"oauth_info": {"access_token": "mine"}})
            reply = client.get("/logout", headers={"Cookie": f"session={cookie}"})
            if "set-cookie" in reply.headers:
                return f"a cookie signed with {guess!r} is taken"
        begun = client.get("/login/huggingface")
        there = httpx.URL(begun.headers["location"])
        back = httpx.URL(there.params["redirect_uri"])
        if back.host != SPACE or not str(there).startswith(target.provider.url):
            return f"signing in leads to {there}"
        query = {"state": there.params["state"], "code": "of-another"}
        client.cookies.clear()
        reply = client.get("/login/callback", params=query)
        if reply.status_code >= 500 or "oauth_info" in reply.headers.get("set-cookie", ""):
            return f"a code without its cookie: {reply.status_code}"
        if target.provider.codes:
            return "a code without its cookie was exchanged"
        own = begun.headers["set-cookie"].partition(";")[0]
        query["code"] = "mine"
        reply = client.get("/login/callback", params=query, headers={"Cookie": own})
        if target.provider.codes != ["mine"]:
            return f"the honest one could not sign in: {reply.status_code} {reply.text[:200]}"
        session = reply.headers["set-cookie"].partition(";")[0]
        text = client.get("/config", headers={"Cookie": session}).text
        flags = reply.headers["set-cookie"].lower()
        if "httponly" not in flags or "secure" not in flags:
            return f"the cookie of a sign-in may be read: {flags}"
        if target.provider.token in text or SECRET in text:
            return "the token of a sign-in is in the page"
    return None


def junk(target: Target) -> str | None:
    """Bodies that are no requests make faults, and fill the log."""
    before = target.app.log.stat().st_size
    deep = b'{"data":' + b"[" * 100_000 + b"]" * 100_000 + b"}"
    unknown = b'{"data":[],"fn_index":99999,"session_hash":"x"}'
    with target.client() as client:
        for _ in range(6):
            for body in (b"\xb4\x99\xab", b"{", b"null", deep, unknown):
                for path in ("/gradio_api/run/predict", "/gradio_api/queue/join"):
                    told = client.post(path, content=body).text
                    if "Traceback" in told or ".py" in told:
                        return f"{path} tells {told[:200]}"
    grown = target.app.log.stat().st_size - before
    return f"the log grew by {grown >> 10} kB" if grown > 100_000 else None


def left_open(target: Target) -> str | None:
    """Requests that are broken off keep files, sockets or memory of the server."""
    assert target.app.process is not None
    server = psutil.Process(target.app.process.pid)
    _break_off(target, 20)
    time.sleep(2)
    files, memory = server.num_fds(), target.rss()
    _break_off(target, 150)
    end = time.monotonic() + 20
    while server.num_fds() > files + 20 and time.monotonic() < end:
        time.sleep(0.5)
    if server.num_fds() > files + 20:
        return f"{server.num_fds()} open files, {files} before"
    grown = (target.rss() - memory) / 2**20
    return f"the server grew by {grown:.0f} MB" if grown > 100 else None


def _break_off(target: Target, count: int) -> None:
    """Begin requests of several kinds and go away."""
    upload = b"POST /gradio_api/upload HTTP/1.1\r\nHost: localhost\r\nContent-Length: 9999\r\n"
    upload += b"Content-Type: multipart/form-data; boundary=x\r\n"
    stream = b"GET /gradio_api/queue/data?session_hash=s%d HTTP/1.1\r\nHost: localhost\r\n"
    for number in range(count):
        address = b"X-Forwarded-For: 198.51.100.%d\r\n" % (number % 200)
        for head in (
            b"GET /config HTT",
            upload + address + b"\r\n--x\r\nContent-Disposition: form-data; name=files; ",
            stream % number + address + b"\r\n",
            b"POST /gradio_api/call/list_projects HTTP/1.1\r\nHost: localhost\r\n" + address,
        ):
            with (
                contextlib.suppress(OSError),
                socket.create_connection(("127.0.0.1", target.app.port), 5) as connection,
            ):
                connection.sendall(head)


def closed_routes(target: Target) -> str | None:
    """Gradio's own routes give files or reach other servers."""
    with target.client() as client:
        for path in (
            "/gradio_api/file=/etc/passwd",
            f"/gradio_api/file={target.app.home}/secret",
            f"/file={target.app.home}/secret",
            "/gradio_api/proxy=http://127.0.0.1/",
            "/gradio_api/deep_link?session_hash=x",
            f"/studio/{'0' * 40}/file/project.json",
            "/monitoring/summary",
        ):
            reply = client.get(path)
            if reply.status_code not in (403, 404):
                return f"{path}: {reply.status_code}"
    return None


def headers(target: Target) -> str | None:
    """The page can be framed, or an answer taken for another kind."""
    with target.client() as client:
        for path in ("/", "/config", "/studio/x/y/z"):
            found = client.get(path).headers
            policy = found.get("content-security-policy", "")
            if "frame-ancestors 'self'" not in policy or "object-src 'none'" not in policy:
                return f"{path} may be framed"
            if found.get("x-content-type-options") != "nosniff":
                return f"{path} may be sniffed"
    return None
