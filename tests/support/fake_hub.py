"""A Hub on this machine that takes pushes: what huggingface_hub asks for, and nothing more."""

from __future__ import annotations

import base64
import contextlib
import json
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


@dataclass
class FakeHub:
    """What has been pushed.

    Attributes:
        url: Its address, for ``HF_ENDPOINT``.
        token: The token it accepts.
        repositories: Ids of the data sets that were made, with whether they are private.
        files: Content by path.
        asked: Method and path of every request.
    """

    url: str = ""
    token: str = ""
    repositories: dict[str, bool] = field(default_factory=dict)
    files: dict[str, bytes] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)


@contextlib.contextmanager
def fake_hub(token: str) -> Iterator[FakeHub]:
    """Run one."""
    hub = FakeHub(token=token)

    class Handler(BaseHTTPRequestHandler):
        def log_message(self, *arguments: Any) -> None:
            pass

        def do_GET(self) -> None:
            self._answer(b"")

        def do_POST(self) -> None:
            if "chunked" in self.headers.get("Transfer-Encoding", ""):
                body = b""
                while size := int(self.rfile.readline(), 16):
                    body += self.rfile.read(size)
                    self.rfile.readline()
                self.rfile.readline()
            else:
                body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            self._answer(body)

        def _answer(self, body: bytes) -> None:
            hub.asked.append(f"{self.command} {self.path}")
            if self.headers.get("Authorization") != f"Bearer {hub.token}":
                return self._send({"error": "Invalid username or password."}, 401)
            return self._send(answer(hub, self.path.split("?")[0], body))

        def _send(self, value: Any, status: int = 200) -> None:
            data = json.dumps(value).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    hub.url = f"http://127.0.0.1:{server.server_address[1]}"
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield hub
    finally:
        server.shutdown()
        server.server_close()


def answer(hub: FakeHub, path: str, body: bytes) -> Any:
    """The answer to a request that is allowed."""
    if path == "/api/repos/create":
        asked = json.loads(body)
        name = "/".join(filter(None, (asked.get("organization"), asked["name"])))
        # Versions of huggingface_hub say it in either way.
        private = asked.get("private") or asked.get("visibility") == "private"
        hub.repositories[name] = bool(private)
        return {"url": f"{hub.url}/datasets/{name}", "name": name, "id": name}
    if path == "/api/validate-yaml":
        return {"errors": [], "warnings": []}
    if "/preupload/" in path:
        return {
            "files": [
                {"path": file["path"], "uploadMode": "regular", "shouldIgnore": False, "oid": None}
                for file in json.loads(body)["files"]
            ]
        }
    if "/commit/" in path:
        for line in filter(None, body.splitlines()):
            record = json.loads(line)
            if record["key"] == "file":
                value = record["value"]
                hub.files[value["path"]] = base64.b64decode(value["content"])
        name = "/".join(path.split("/")[3:5])
        return {
            "success": True,
            "commitOid": "0" * 40,
            "hookOutput": "",
            "commitUrl": f"{hub.url}/datasets/{name}/commit/{'0' * 40}",
        }
    return {"name": "me", "type": "user", "siblings": [], "sha": "0" * 40, "id": "me/x"}
