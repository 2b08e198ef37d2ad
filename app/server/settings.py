"""Where the application keeps its state, whom it serves, and the limits it sets them."""

from __future__ import annotations

import os
import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from urllib.parse import quote, urlsplit

import psutil

from dpd_core import storage

LOCAL_HOSTS = ("127.0.0.1", "localhost", "::1")
MB = 2**20
TEMPORARY = "tmp"
"""Folder in ``home`` for what was uploaded and not yet taken."""
DOWNLOADS = "dpd-captions-"
"""What temporary folders of files for a download begin with."""
PRIVATE = "10.0.0.0/8,172.16.0.0/12,192.168.0.0/16,127.0.0.0/8"
"""Where the proxies of a Space stand; nobody else reaches it."""


@dataclass(frozen=True)
class Settings:
    """Decided once at start.

    Attributes:
        home: Root of all state.
        host, port: Where the server listens.
        hosted: Whether strangers are served: every visitor gets projects of their own, folders of
            the server cannot be read, and the limits below hold.
        heavy_jobs: Stage runs computed at the same time, over all visitors.
        max_upload: Largest upload, in bytes.
        quota: Most bytes that one visitor's projects may take, if hosted.
        keep_days: Days after which an unused visitor's projects are deleted, if hosted.
        max_projects: Most projects a visitor, if hosted.
        tick_seconds: How often an open page asks what is new.
        max_files: Most files in one upload.
        starts_per_hour: Most runs that a visitor may start within an hour, if hosted.
        run_seconds: A run is stopped after this time, if hosted; its progress is kept.
        pause_seconds: A paused run is stopped after this time when others wait, if hosted.
        max_visitors: Most visitors whose projects are kept at the same time, if hosted.
        visitors_per_hour: Most new visitors from one address within an hour, if hosted.
        min_free: Bytes of free disk space below which no new work is taken.
        slice_seconds: A run that has worked for so long is stopped when others wait, and started
            again after them, if hosted.
        max_waiting, max_waiting_here: Most runs that wait, in all and from one address, if hosted.
        run_memory: Most bytes of memory that a run may hold, if hosted.
        allowed_hosts: Names under which the server is reached, besides ``localhost``, ``host`` and
            plain addresses.
        proxies: Networks of the proxies before the server, whose ``X-Forwarded-*`` is believed.
        space: Host name of the Hugging Face Space it runs on, else empty.
        token: Whether a browser must bring a token; by default where strangers could reach a server
            that is not meant for them.
        sessions: Most open pages whose state is kept in memory.
    """

    home: Path
    host: str = "127.0.0.1"
    port: int = 7860
    hosted: bool = False
    heavy_jobs: int = 1
    max_upload: int = 500 * MB
    quota: int = 2000 * MB
    keep_days: float = 7.0
    max_projects: int = 10
    tick_seconds: float = 1.0
    max_files: int = 5000
    starts_per_hour: int = 60
    run_seconds: float = 3 * 3600.0
    pause_seconds: float = 300.0
    max_visitors: int = 500
    visitors_per_hour: int = 60
    min_free: int = 500 * MB
    slice_seconds: float = 1200.0
    max_waiting: int = 100
    max_waiting_here: int = 20
    run_memory: int = field(default_factory=lambda: int(0.75 * psutil.virtual_memory().total))
    allowed_hosts: tuple[str, ...] = ()
    proxies: tuple[str, ...] = ()
    space: str = ""
    prefix: str = ""
    token: bool = False
    sessions: int = 300

    @classmethod
    def from_environment(cls, environment: Mapping[str, str] = os.environ) -> Settings:
        """Read ``DPD_HOME``, ``DPD_HOSTED``, ``DPD_ALLOWED_HOSTS``, ``DPD_PROXIES``,
        ``GRADIO_ROOT_PATH`` and what Hugging Face Spaces sets.

        On a Space (``SPACE_ID``) the application is hosted; its state is in ``/data`` where the
        Space has persistent storage.
        """
        space = bool(environment.get("SPACE_ID"))
        persistent = Path("/data")
        default = Path.home() / ".dpd-studio"
        if space and persistent.is_dir() and os.access(persistent, os.W_OK):
            default = persistent / "dpd-studio"
        hosted = environment.get("DPD_HOSTED", "1" if space else "0").lower() in (
            "1",
            "true",
            "yes",
        )
        settings = cls(
            home=Path(environment.get("DPD_HOME") or default).expanduser().resolve(),
            host=environment.get("GRADIO_SERVER_NAME", "0.0.0.0" if space else "127.0.0.1"),
            port=int(environment.get("GRADIO_SERVER_PORT", "7860")),
            allowed_hosts=_words(environment.get("DPD_ALLOWED_HOSTS", "")),
            proxies=_words(environment.get("DPD_PROXIES", PRIVATE if space else "")),
            space=environment.get("SPACE_HOST", "").split(",")[0] if space else "",
            prefix=_prefix(environment.get("GRADIO_ROOT_PATH", "")),
        )
        return settings.served_to_strangers() if hosted else settings

    def served_to_strangers(self) -> Settings:
        """The same with hosted mode on: smaller uploads, and pages that ask half as often."""
        return replace(
            self,
            hosted=True,
            max_upload=min(self.max_upload, 200 * MB),
            tick_seconds=max(self.tick_seconds, 2.0),
        )

    @property
    def secret(self) -> str:
        """Key of this installation, made at the first start; signs links to images."""
        path = self.home / "secret"
        if not path.exists():
            storage.write_bytes(path, secrets.token_hex(32).encode())
            path.chmod(0o600)
        return path.read_text()


def _prefix(root_path: str) -> str:
    """The path in a root path, which may be a whole address: ``/dpd`` of
    ``https://host.org/dpd/``."""
    path = urlsplit(root_path).path.strip("/")
    return f"/{quote(path)}" if path else ""


def _words(text: str) -> tuple[str, ...]:
    return tuple(word.strip() for word in text.split(",") if word.strip())
