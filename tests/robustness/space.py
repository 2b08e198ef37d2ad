"""What a Hugging Face Space brings for signing in, on loopback: the Hub's OpenID provider."""

from __future__ import annotations

import base64
import hashlib
import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs

import itsdangerous

SPACE = "someone-dpd-studio.hf.space"
CLIENT, SECRET = "client-of-the-space", "secret_of_the_owner"


class Provider:
    """A running provider.

    Attributes:
        codes: The codes that were exchanged for a token.
        token: That token.
    """

    def __init__(self) -> None:
        self.codes: list[str] = []
        self.token = "hf_of_a_visitor"
        provider = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                names = {"authorization": "authorize", "token": "token", "userinfo": "userinfo"}
                known = {f"{name}_endpoint": f"{provider.url}/{at}" for name, at in names.items()}
                self.tell({"issuer": provider.url, "jwks_uri": f"{provider.url}/jwks", **known})

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"])).decode()
                provider.codes += parse_qs(body).get("code", [])
                self.tell(
                    {"access_token": provider.token, "token_type": "bearer", "expires_in": 900}
                )

            def tell(self, content: dict[str, Any]) -> None:
                body = json.dumps(content).encode()
                self.send_response(200)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: Any) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def close(self) -> None:
        """End it."""
        self._server.shutdown()
        self._server.server_close()


def forged_session(secret: str, content: dict[str, Any]) -> str:
    """A session cookie as Gradio would sign it with this secret of the Space."""
    key = hashlib.sha256(f"{secret}-v4".encode()).hexdigest()
    text = base64.b64encode(json.dumps(content).encode())
    return itsdangerous.TimestampSigner(key).sign(text).decode()
