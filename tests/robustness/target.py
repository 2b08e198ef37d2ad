"""The server that is attacked, and how it is talked to."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import httpx
import psutil

from tests.robustness.space import Provider
from tests.support.studio_app import App


@dataclass
class Target:
    """A running server and who attacks it."""

    app: App
    provider: Provider | None = None

    def client(self, address: str = "203.0.113.66", **options: Any) -> httpx.Client:
        """A caller at an address, as the proxy before the server would say."""
        headers = {"X-Forwarded-For": address, **options.pop("headers", {})}
        return httpx.Client(base_url=self.app.url, headers=headers, timeout=60, **options)

    def call(self, client: httpx.Client, name: str, *values: Any) -> tuple[bool, str]:
        """Call an endpoint of the API: whether it worked, and everything that was answered."""
        reply = client.post(f"/gradio_api/call/{name}", json={"data": list(values)})
        if reply.status_code != 200:
            return False, reply.text
        answer = client.get(f"/gradio_api/call/{name}/{reply.json()['event_id']}").text
        return "event: complete" in answer, answer

    def visitors(self) -> int:
        """How many visitors have folders."""
        return len(list((self.app.home / "visitors").glob("*")))

    def workers(self) -> list[psutil.Process]:
        """Runs at work."""
        assert self.app.process is not None
        return psutil.Process(self.app.process.pid).children()

    def rss(self) -> int:
        """Bytes of memory that the server holds."""
        assert self.app.process is not None
        return psutil.Process(self.app.process.pid).memory_info().rss


Attack = Callable[[Target], str | None]
"""Returns what it got, or ``None``."""
