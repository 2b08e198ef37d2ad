"""The app behind a proxy of its own that shows it under a path, as nginx does; real sockets."""

from __future__ import annotations

import http.server
import json
import re
import shutil
import threading
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.studio_app import ROOT, App, free_port


@pytest.fixture
def shown(tmp_path: Path) -> Iterator[tuple[App, str]]:
    """The running app with the demo project, and the address at which the proxy shows it."""
    app = App(tmp_path / "home", free_port(), {"GRADIO_ROOT_PATH": "/dpd"})
    shutil.copytree(ROOT / "assets" / "demo", app.home / "projects" / "demo")

    class Proxy(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.pass_on(None)

        def do_POST(self) -> None:
            self.pass_on(self.rfile.read(int(self.headers["Content-Length"])))

        def pass_on(self, body: bytes | None) -> None:
            if not self.path.startswith("/dpd/"):
                self.send_error(404)
                return
            asked = urllib.request.Request(
                app.url + self.path.removeprefix("/dpd"),
                data=body,
                headers={
                    "X-Forwarded-Host": self.headers["Host"],
                    "X-Forwarded-Proto": "http",
                    "Content-Type": self.headers.get("Content-Type", "text/plain"),
                },
            )
            try:
                with urllib.request.urlopen(asked, timeout=60) as reply:
                    status, content = reply.status, reply.read()
                    kind = reply.headers.get("Content-Type", "")
            except urllib.error.HTTPError as error:
                status, content, kind = error.code, error.read(), "text/plain"
            self.send_response(status)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *_: object) -> None:
            pass

    proxy = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Proxy)
    threading.Thread(target=proxy.serve_forever, daemon=True).start()
    try:
        app.start(240)
        yield app, f"http://127.0.0.1:{proxy.server_port}"
    finally:
        app.stop()
        proxy.shutdown()
        proxy.server_close()


def ask(address: str, body: object = None) -> bytes:
    data = None if body is None else json.dumps(body).encode()
    headers = {"Content-Type": "application/json"}
    asked = urllib.request.Request(address, data=data, headers=headers)
    with urllib.request.urlopen(asked, timeout=60) as reply:
        return reply.read()


@pytest.mark.slow
def test_page_scripts_and_pictures_are_found_below_the_path(shown: tuple[App, str]) -> None:
    _, front = shown
    page = ask(f"{front}/dpd/").decode()
    scripts = re.findall(r'(?:src|href)="([^"]+\.(?:js|css))"', page)
    assert scripts
    for script in scripts:
        place = script if script.startswith("/") else f"/dpd/{script.removeprefix('./')}"
        if not script.startswith("http"):
            assert ask(front + place)
    for name in ("list_projects", "list_prototypes"):
        values = [""] if name == "list_projects" else ["demo", ""]
        begun = json.loads(ask(f"{front}/dpd/gradio_api/call/{name}", {"data": values}))
        told = ask(f"{front}/dpd/gradio_api/call/{name}/{begun['event_id']}").decode()
        assert "event: complete" in told, told
    links = re.findall(r'"(/[^"]*/studio/[^"]+)"', told)
    assert links and all(link.startswith("/dpd/studio/") for link in links)
    assert ask(front + links[0])[:3] in (b"\xff\xd8\xff", b"\x89PN")
    with pytest.raises(urllib.error.HTTPError):
        ask(front + links[0].removeprefix("/dpd"))
