"""What Gradio fails at: an event that is not there, a body of another form. Each would be a hundred
lines in the log, with which anybody could fill the disk."""

from __future__ import annotations

import logging
import traceback

from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app.server.pace import Pace

log = logging.getLogger(__name__)

_STORIES, _STORY = 10.0, 4000
"""Faults that are logged with their story within an hour, and characters of each."""


class Faults:
    """Answer plainly what the application fails at, and log a line; with the whole story a few
    times an hour."""

    def __init__(self, app: ASGIApp):
        self.app = app
        self._told = Pace(_STORIES / 3600.0, _STORIES)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        begun = False

        async def noting(message: Message) -> None:
            nonlocal begun
            begun = True
            await send(message)

        try:
            await self.app(scope, receive, noting)
        except Exception as error:
            if scope["type"] != "http":
                raise
            said = f"{scope['method']} {scope['path'][:100]}: {type(error).__name__}"
            if not self._told.take("fault"):
                said += f"\n{traceback.format_exc()[-_STORY:]}"
            log.error("%s", said)
            if not begun:
                text = "the server failed at this request."
                answer = JSONResponse({"error": text, "detail": text}, 500)
                await answer(scope, receive, send)
