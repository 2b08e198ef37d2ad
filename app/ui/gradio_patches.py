"""Where this application reaches into Gradio: every place, with the reason and the version.

Each was found on Gradio 6.31.0 (the range is in ``requirements.txt``) and is ours to drop when
upstream mends it. What a subclass can do is no patch: see :class:`app.ui.html.HTML`.

=====================================  ==========================================================
``SessionState.__setitem__``           :func:`keep_ids`: a session grows by 50 kB with each event
``Queue.sleep_when_free``              :func:`ask_queue_seldom`: a tenth of a core for ever
``Blocks.launch(_frontend=False)``     :data:`LAUNCH`: gives up where the page is slow to answer
``create_or_modify_pyi``               :func:`write_no_stubs`: a subclass writes beside its source
``routes.CustomCORSMiddleware``        :func:`answer_no_preflights`: it stands before our guards
=====================================  ==========================================================
"""

from __future__ import annotations

import functools
from typing import Any

import gradio as gr
from gradio import component_meta, routes
from gradio.blocks import Block
from gradio.state_holder import SessionState
from starlette.types import ASGIApp, Receive, Scope, Send

LAUNCH: dict[str, Any] = {"_frontend": False}
"""For ``launch``: Gradio (6.31.0) would give up where the page does not answer itself within three
seconds, on a busy machine and where a proxy stands before this machine's own address."""


def keep_ids() -> None:
    """Give each component that a session puts in place of another the other's id.

    A handler that leaves an output as it is makes Gradio (6.31.0) build a new component for the
    session, with an id of its own, which the next event files under that id beside the one before:
    50 kB with each look for what is new, for as long as the session lasts (measured with
    ``tests/benchmarks/load.py``).
    """
    plain = SessionState.__setitem__
    if hasattr(plain, "__wrapped__"):
        return

    @functools.wraps(plain)
    def set_item(state: SessionState, key: int, value: Any) -> None:
        if isinstance(value, Block):
            value._id = key
        plain(state, key, value)

    SessionState.__setitem__ = set_item  # type: ignore[method-assign]


def write_no_stubs() -> None:
    """Let components be subclassed without a file.

    Gradio (6.31.0) writes a stub (``.pyi``) beside the source of each subclass when it is imported,
    which a type checker then believes instead of the source.
    """
    component_meta.create_or_modify_pyi = lambda *_: None  # type: ignore[assignment]


class _PassOn:
    """Middleware that does nothing."""

    def __init__(self, app: ASGIApp, **_: Any):
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self.app(scope, receive, send)


def answer_no_preflights() -> None:
    """Leave questions of foreign pages whether they may (CORS) to :mod:`app.server.middleware`,
    which refuses them.

    Gradio (6.31.0) puts a middleware of its own before those that it is given; it answers each
    preflight with 200, and names the page's origin where both are of this machine, whatever the
    port. No page of ours is of another origin.
    """
    routes.CustomCORSMiddleware = _PassOn  # type: ignore[assignment,misc]


def ask_queue_seldom(page: gr.Blocks) -> None:
    """Look twenty times a second, and not a thousand times, whether somebody waits.

    Gradio (6.31.0) does so on Windows only, and takes a tenth of a core elsewhere.
    """
    page._queue.sleep_when_free = 0.05
